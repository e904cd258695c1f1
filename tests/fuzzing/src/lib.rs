//! Runs the bodies of the fuzz targets as ordinary tests: many inputs, each a valid one that was changed a little. It
//! refuses to replace the fuzzer, which is led by coverage and runs for hours (`fuzz/`); it keeps what the fuzzer would
//! find in its first seconds from coming back.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Inputs that every target is given in the default test run.
pub const INPUTS: u32 = 20_000;

/// Changes of one input.
const CHANGES: usize = 6;
/// Bytes put in at once.
const INSERTED: usize = 12;
/// An input of which nothing was valid is this long at most.
const RANDOM_BYTES: usize = 200;

/// Gives `target` so many inputs that were made of `seeds`, the same ones in every run.
///
/// # Panics
///
/// When the target does, with the smallest input for which it was seen.
pub fn survives(inputs: u32, seeds: Vec<Vec<u8>>, target: impl Fn(&[u8])) {
    for seed in &seeds {
        target(seed);
    }
    let config = Config { cases: inputs, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, random).run(&input(seeds), |input| {
        target(&input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// The same for targets that read text.
///
/// # Panics
///
/// As [`survives`].
pub fn survives_text(inputs: u32, seeds: &[&str], target: impl Fn(&str)) {
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    survives(inputs, seeds, |input| target(&String::from_utf8_lossy(input)));
}

fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let others = seeds.clone();
    let changed = (select(seeds), select(others), prop::collection::vec(change(), 0..CHANGES)).prop_map(
        |(mut input, other, changes)| {
            for change in changes {
                change.make(&mut input, &other);
            }
            input
        },
    );
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..RANDOM_BYTES)]
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    /// One bit is the other.
    Flip(Index, u8),
    /// One byte is another: one of those that ends of ranges and lengths are made of, or any.
    Set(Index, u8),
    /// Bytes are put in.
    Insert(Index, Vec<u8>),
    /// A part is missing.
    Remove(Index, Index),
    /// A part stands there twice.
    Repeat(Index, Index),
    /// The rest is that of another input.
    Splice(Index, Index),
    /// It ends early.
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let byte = prop_oneof![select(vec![0, 1, 0x7f, 0x80, 0xfe, 0xff]), any::<u8>()];
    prop_oneof![
        (at(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), prop::collection::vec(any::<u8>(), 1..INSERTED))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), at()).prop_map(|(here, there)| Change::Splice(here, there)),
        at().prop_map(Change::Cut),
    ]
}

impl Change {
    fn make(self, input: &mut Vec<u8>, other: &[u8]) {
        let length = input.len();
        // An end is a place, too.
        let place = |at: Index| at.index(length + 1);
        let range = |one: Index, two: Index| place(one).min(place(two))..place(one).max(place(two));
        match self {
            Self::Flip(..) | Self::Set(..) if length == 0 => {}
            Self::Flip(at, bit) => input[at.index(length)] ^= 1 << bit,
            Self::Set(at, byte) => input[at.index(length)] = byte,
            Self::Insert(at, bytes) => drop(input.splice(place(at)..place(at), bytes)),
            Self::Remove(from, to) => drop(input.drain(range(from, to))),
            Self::Repeat(from, to) => {
                let part = input[range(from, to)].to_vec();
                input.splice(place(to)..place(to), part);
            }
            Self::Splice(here, there) => {
                input.truncate(place(here));
                input.extend_from_slice(&other[there.index(other.len() + 1)..]);
            }
            Self::Cut(at) => input.truncate(place(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn inputs_are_near_the_seeds_and_differ() {
        let (seen, near) = (RefCell::new(BTreeSet::new()), Cell::new(0));
        survives_text(1_000, &["0 3 * * 1"], |input| {
            near.set(near.get() + u32::from(input.starts_with("0 3") || input.ends_with("* 1")));
            seen.borrow_mut().insert(input.to_owned());
        });
        assert!(seen.borrow().len() > 500 && near.get() > 300, "{} {}", seen.borrow().len(), near.get());
    }

    #[test]
    #[should_panic(expected = "minimal failing input")]
    fn a_target_that_panics_is_shown_with_its_input() {
        survives_text(5_000, &["abc"], |input| assert!(!input.starts_with("b")));
    }
}
