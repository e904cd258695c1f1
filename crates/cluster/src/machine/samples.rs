//! Digests of the state at entries that all nodes choose alike. Replicas that differ there differ in what they hold.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use model::State;

/// Entries from one sample to the next.
const EVERY: u64 = 64;
/// Samples that are kept: a node that is behind by less than all of them can be compared.
const KEPT: usize = 256;

/// The last samples, by the index of the entry.
#[derive(Default)]
pub(super) struct Samples(Mutex<BTreeMap<u64, [u8; 32]>>);

impl Samples {
    /// `state` is what the entry at `index` has led to.
    pub(super) fn take(&self, index: u64, state: &State) {
        if !index.is_multiple_of(EVERY) {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(index, state.digest().to_bytes());
        while held.len() > KEPT {
            held.pop_first();
        }
    }

    pub(super) fn all(&self) -> BTreeMap<u64, [u8; 32]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
