//! Chance, drawn from the seed. Everyone who draws has a stream of their own, so that one more draw here does not
//! change everything there.

use std::{ops::RangeInclusive, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// One stream.
pub(crate) struct Chance(SmallRng);

impl Chance {
    /// The stream `name` of a seed.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        Self(SmallRng::seed_from_u64(derive(seed, name)))
    }

    /// A number.
    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// Yes, so many times of a thousand.
    pub(crate) fn permille(&mut self, share: u64) -> bool {
        self.0.random_range(0..1_000) < share
    }

    /// A number of milliseconds.
    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    /// One of several, if there are any.
    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(self.0.random_range(0..all.len())) }
    }
}

/// Another seed, made from `seed` for `name`: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) const fn derive(seed: u64, name: u64) -> u64 {
    let x = (seed ^ name.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
