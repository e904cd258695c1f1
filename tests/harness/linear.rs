//! Whether what clients of one register saw can be told as a story in which every operation took effect at one
//! instant between its call and its answer: linearizability, checked by the search of Wing and Gong with Lowe's
//! memory of what was tried before.
//!
//! A register holds a value or nothing. An operation whose outcome nobody knows may take effect at any instant after
//! its call, or never. Such operations would make the search explode, were they not used lazily: one is only ever
//! needed directly before an operation that saw its effect, because whatever it did is gone with the next write.
//!
//! See J. Wing and C. Gong, "Testing and verifying concurrent objects" (1993), and G. Lowe, "Testing for
//! linearizability" (2017).

use std::collections::HashSet;

/// What a register holds.
pub type Value = u64;

/// One call of one client, from just before it was sent until its answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called; one client has one call under way at a time.
    pub client: usize,
    /// The node that was called.
    pub node: u64,
    /// When it was sent, in nanoseconds of one monotonic clock.
    pub start: u64,
    /// When its outcome, or that it stays unknown, became known.
    pub end: u64,
    /// What it was, and what is known of it.
    pub effect: Effect,
}

/// What an operation was, and what is known of its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An acknowledged write.
    Wrote(Value),
    /// A read, and what it saw.
    Read(Option<Value>),
    /// An acknowledged removal of what there was.
    Removed,
    /// A removal that found nothing to remove.
    FoundNothing,
    /// A write that may take effect at any time from its call on, or never.
    MayHaveWritten(Value),
    /// A removal that may take effect at any time from its call on, or never.
    MayHaveRemoved,
    /// A write that was answered with the promise that it has no effect.
    NotWritten(Value),
    /// A removal that was answered with the same promise.
    NotRemoved,
    /// A read without an answer.
    NotRead,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such a story.
    Linearizable,
    /// There is none.
    Violation {
        /// The longest story that could be begun, in operations.
        told: usize,
        /// The operation with the earliest end that it had no place for.
        stuck: Operation,
    },
    /// The search was given up: nobody knows.
    Unknown,
}

/// Looks for a story of one register that holds nothing at first; gives up after `steps` distinct beginnings of one.
#[must_use]
pub fn check(history: &[Operation], steps: usize) -> Verdict {
    Search::new(history).run(steps)
}

/// The operations of a history by what the search does with them; each list by the start of the calls.
#[derive(Debug, Default)]
struct Search {
    /// Those that have taken effect.
    certain: Vec<Operation>,
    writes: Vec<Possible>,
    /// Starts of the removals that may take effect. One is as good as the other once both were called.
    removals: Vec<u64>,
}

/// A write that may take effect.
#[derive(Debug)]
struct Possible {
    start: u64,
    value: Value,
    /// Whether any read saw its value. Those that none saw are interchangeable.
    seen: bool,
}

/// A beginning of the story: what has been told, and what the register holds then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Beginning {
    /// Every certain operation below this index has been told.
    low: usize,
    /// Those above it that have been told, in order.
    beyond: Vec<usize>,
    /// Writes that may take effect, and have, in order.
    writes: Vec<usize>,
    /// How many of the removals that may take effect have.
    removals: usize,
    value: Option<Value>,
}

impl Search {
    fn new(history: &[Operation]) -> Self {
        let mut search = Self::default();
        let seen: HashSet<Value> = history
            .iter()
            .filter_map(|operation| match operation.effect {
                Effect::Read(value) => value,
                Effect::Wrote(_)
                | Effect::Removed
                | Effect::FoundNothing
                | Effect::MayHaveWritten(_)
                | Effect::MayHaveRemoved
                | Effect::NotWritten(_)
                | Effect::NotRemoved
                | Effect::NotRead => None,
            })
            .collect();
        for operation in history {
            let start = operation.start;
            match operation.effect {
                Effect::Wrote(_) | Effect::Read(_) | Effect::Removed | Effect::FoundNothing => {
                    search.certain.push(*operation);
                }
                Effect::MayHaveWritten(value) => {
                    search.writes.push(Possible { start, value, seen: seen.contains(&value) });
                }
                Effect::MayHaveRemoved => search.removals.push(start),
                Effect::NotWritten(_) | Effect::NotRemoved | Effect::NotRead => {}
            }
        }
        search.certain.sort_by_key(|operation| operation.start);
        search.writes.sort_by_key(|write| write.start);
        search.removals.sort_unstable();
        search
    }

    fn run(&self, steps: usize) -> Verdict {
        let mut tried = HashSet::new();
        let mut open = vec![Beginning::default()];
        let mut best = Beginning::default();
        while let Some(mut beginning) = open.pop() {
            self.tell_what_changes_nothing(&mut beginning);
            if beginning.low == self.certain.len() {
                return Verdict::Linearizable;
            }
            if !tried.insert(beginning.clone()) {
                continue;
            }
            if tried.len() > steps {
                return Verdict::Unknown;
            }
            if beginning.told() > best.told() {
                best.clone_from(&beginning);
            }
            self.continue_into(&beginning, &mut open);
        }
        let (_, next) = self.next_of(&best);
        let stuck = next.into_iter().map(|index| self.certain[index]).min_by_key(|operation| operation.end);
        let stuck = stuck.expect("a story that is not complete has a next operation");
        Verdict::Violation { told: best.told(), stuck }
    }

    /// Operations that saw what the register holds, and leave it, have their place here: none is better.
    fn tell_what_changes_nothing(&self, beginning: &mut Beginning) {
        loop {
            let (_, next) = self.next_of(beginning);
            let before = beginning.told();
            for index in next {
                let fits = match self.certain[index].effect {
                    Effect::Read(value) => value == beginning.value,
                    Effect::FoundNothing => beginning.value.is_none(),
                    Effect::Wrote(_)
                    | Effect::Removed
                    | Effect::MayHaveWritten(_)
                    | Effect::MayHaveRemoved
                    | Effect::NotWritten(_)
                    | Effect::NotRemoved
                    | Effect::NotRead => false,
                };
                if fits {
                    beginning.tell(index);
                }
            }
            if beginning.told() == before {
                return;
            }
        }
    }

    /// The operations that can come next, and the instant by which the story must have come to the first of them:
    /// those called before any other of the rest had ended.
    fn next_of(&self, beginning: &Beginning) -> (u64, Vec<usize>) {
        let (mut by, mut next) = (u64::MAX, Vec::new());
        let mut beyond = beginning.beyond.iter().peekable();
        for (index, operation) in self.certain.iter().enumerate().skip(beginning.low) {
            if operation.start > by {
                break;
            }
            if beyond.next_if(|told| **told == index).is_none() {
                by = by.min(operation.end);
                next.push(index);
            }
        }
        next.retain(|index| self.certain[*index].start <= by);
        (by, next)
    }

    /// Every beginning that is longer by one operation which changes the register, with one of those that may take
    /// effect before it where it needs one. The one that ended first is tried first.
    fn continue_into(&self, beginning: &Beginning, open: &mut Vec<Beginning>) {
        let (by, mut next) = self.next_of(beginning);
        next.sort_by_key(|index| std::cmp::Reverse(self.certain[*index].end));
        for index in next {
            let mut told = beginning.clone();
            told.tell(index);
            match (self.certain[index].effect, beginning.value) {
                (Effect::Wrote(value), _) => open.push(Beginning { value: Some(value), ..told }),
                (Effect::Removed, Some(_)) => open.push(Beginning { value: None, ..told }),
                (Effect::Removed, None) => {
                    for write in self.writes_for_removal(beginning, by) {
                        open.push(told.clone().with_write(write, None));
                    }
                }
                (Effect::Read(Some(value)), _) => {
                    let write = self.unused(beginning, by).find(|write| self.writes[*write].value == value);
                    open.extend(write.map(|write| told.with_write(write, Some(value))));
                }
                (Effect::Read(None) | Effect::FoundNothing, _) => {
                    if self.removals.get(beginning.removals).is_some_and(|start| *start <= by) {
                        open.push(Beginning { value: None, removals: beginning.removals + 1, ..told });
                    }
                }
                (
                    Effect::MayHaveWritten(_)
                    | Effect::MayHaveRemoved
                    | Effect::NotWritten(_)
                    | Effect::NotRemoved
                    | Effect::NotRead,
                    _,
                ) => {}
            }
        }
    }

    /// The writes that may take effect now and have not.
    fn unused<'a>(&'a self, beginning: &'a Beginning, by: u64) -> impl Iterator<Item = usize> + 'a {
        let called = self.writes.iter().take_while(move |write| write.start <= by).count();
        (0..called).filter(|write| beginning.writes.binary_search(write).is_err())
    }

    /// Each write that some read saw might be missed later; of the others one stands for all.
    fn writes_for_removal(&self, beginning: &Beginning, by: u64) -> Vec<usize> {
        let (seen, unseen): (Vec<_>, Vec<_>) =
            self.unused(beginning, by).partition(|write| self.writes[*write].seen);
        // The last is tried first.
        seen.into_iter().chain(unseen.first().copied()).collect()
    }
}

impl Beginning {
    fn told(&self) -> usize {
        self.low + self.beyond.len()
    }

    fn tell(&mut self, index: usize) {
        let place = self.beyond.partition_point(|told| *told < index);
        self.beyond.insert(place, index);
        let run = self.beyond.iter().zip(self.low..).take_while(|(told, low)| *told == low).count();
        self.beyond.drain(..run);
        self.low += run;
    }

    fn with_write(mut self, write: usize, value: Option<Value>) -> Self {
        let place = self.writes.partition_point(|used| *used < write);
        self.writes.insert(place, write);
        Self { value, ..self }
    }
}

#[cfg(test)]
mod tests;
