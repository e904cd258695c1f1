//! Log stores: [`DiskLog`] for nodes, and one in memory with a volatile and a durable half for simulations.

mod codec;
mod disk;
mod flusher;
pub(crate) mod mark;
#[cfg(any(test, feature = "sim"))]
mod memory;
mod mend;
#[cfg(test)]
mod tests;

use std::ops::{Bound, RangeBounds};

pub(crate) use disk::{DiskLog, EntryDigests};
#[cfg(feature = "sim")]
pub(crate) use memory::MemoryLog;

/// Most bytes of entries that one read for replication returns; tonic's default limit for a message is 4 MiB.
const READ_BYTES: usize = 2 * 1024 * 1024;

/// The half-open range that `range` stands for.
fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end.max(start))
}
