//! What happened, line by line, in virtual time. Two runs of one seed must write the same bytes.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cluster::sim::time;
use sha2::{Digest as _, Sha256};

/// Lines kept for the report of a failure when not all are.
const KEPT: usize = 60;

/// Where lines go. Clones are the same.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Lines>>);

struct Lines {
    whole: bool,
    kept: VecDeque<String>,
    count: u64,
    hash: Sha256,
}

/// A finished trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The lines kept: all of them, or the last ones.
    pub lines: Vec<String>,
    /// How many there were.
    pub count: u64,
    /// The SHA-256 of all of them.
    pub hash: [u8; 32],
}

impl Trace {
    /// Keeps every line when `whole`, and the last ones otherwise.
    pub(crate) fn new(whole: bool) -> Self {
        let lines = Lines { whole, kept: VecDeque::new(), count: 0, hash: Sha256::new() };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Adds a line.
    pub(crate) fn line(&self, text: impl Display) {
        let at = time::elapsed();
        let line = format!("{:>4}.{:06} {text}", at.as_secs(), at.subsec_micros());
        let mut lines = self.lock();
        lines.hash.update(line.as_bytes());
        lines.hash.update(b"\n");
        lines.count += 1;
        if !lines.whole && lines.kept.len() >= KEPT {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
    }

    /// The trace so far.
    pub(crate) fn record(&self) -> Record {
        let lines = self.lock();
        Record {
            lines: lines.kept.iter().cloned().collect(),
            count: lines.count,
            hash: lines.hash.clone().finalize().into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.0)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
