//! Keeps the log short in bytes. Raft makes a snapshot after so many entries and keeps so many behind it, whatever their
//! size; where entries are large, this asks for a snapshot earlier and lets Raft purge more of what that covers.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{log::DiskLog, machine::SnapshotFolder, raft::Raft, space::Space};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At rest, so many times what is kept, or this part of what a snapshot takes, may lie beyond it in log and store.
const QUIET_KEPT: u64 = 2;
const QUIET_SHARE: u64 = 2;
/// While much is written, a snapshot takes its processor time from the writers: so many times what is kept, or twice what
/// a snapshot takes, may lie beyond it.
const BUSY_KEPT: u64 = 4;
const BUSY_SNAPSHOTS: u64 = 2;

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The index of its last entry.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
}

/// What is asked of Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    snapshot: bool,
    /// Up to this index, which a snapshot covers.
    purge: Option<u64>,
}

/// The task.
pub(crate) struct Trimming {
    pub(crate) raft: Raft,
    pub(crate) log: DiskLog,
    pub(crate) snapshots: Arc<SnapshotFolder>,
    pub(crate) space: Arc<Space>,
    /// Bytes kept behind a snapshot, for followers that lag a little.
    pub(crate) kept_bytes: u64,
    pub(crate) shutdown: CancellationToken,
}

impl Trimming {
    /// Looks until the node stops.
    pub(crate) async fn run(self) {
        let (mut asked, mut seen) = (None, 0);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let snapshot = self.snapshots.current();
            let snapshot = snapshot.and_then(|file| Some((file.meta().last_log_id?.index, file.bytes())));
            let chunks = self.log.chunks();
            let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
            let is_quiet = std::mem::replace(&mut seen, bytes) == bytes;
            let wish = wish(&chunks, snapshot, self.space.stored(), self.kept_bytes, is_quiet);
            let trigger = self.raft.trigger();
            // An error says that Raft has ended.
            if wish.snapshot && trigger.snapshot().await.is_err() {
                return;
            }
            // Once: Raft may have to wait until a follower has what it is being sent.
            if let Some(upto) = wish.purge.filter(|_| wish.purge > asked) {
                asked = wish.purge;
                if trigger.purge_log(upto).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// `chunks` are in order. `snapshot` says up to which index it reaches, and how many bytes it takes; `stored`, how many what
/// has changed since takes in the store.
fn wish(
    chunks: &[Chunk],
    snapshot: Option<(u64, u64)>,
    stored: u64,
    kept_bytes: u64,
    is_quiet: bool,
) -> Wish {
    let (reach, taken) = snapshot.map_or((None, 0), |(index, bytes)| (Some(index), bytes));
    let is_covered = |chunk: &&Chunk| Some(chunk.last) <= reach;
    let beyond: u64 = chunks.iter().filter(|chunk| !is_covered(chunk)).map(|chunk| chunk.bytes).sum();
    let mut kept = 0;
    let purge = chunks.iter().rev().filter(is_covered).find(|chunk| {
        kept += chunk.bytes;
        kept > kept_bytes
    });
    // A snapshot costs as much as it is long.
    let is_due = if is_quiet {
        beyond + stored > (kept_bytes * QUIET_KEPT).max(taken / QUIET_SHARE)
    } else {
        beyond > (kept_bytes * BUSY_KEPT).max(taken * BUSY_SNAPSHOTS)
    };
    Wish { snapshot: is_due, purge: purge.map(|chunk| chunk.last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(lasts: &[u64]) -> Vec<Chunk> {
        lasts.iter().map(|last| Chunk { last: *last, bytes: 10 }).collect()
    }

    #[test]
    fn at_rest_a_snapshot_is_made_when_much_or_half_of_what_it_takes_lies_beyond_it() {
        let log = chunks(&[10, 20, 30]);
        assert_eq!(wish(&log, None, 0, 15, true), Wish::default());
        assert!(wish(&log, None, 0, 14, true).snapshot);
        assert!(wish(&log, None, 1, 15, true).snapshot, "what is stored counts");
        assert!(wish(&log, Some((10, 39)), 0, 1, true).snapshot, "two chunks are beyond");
        assert!(!wish(&log, Some((10, 40)), 0, 1, true).snapshot, "it is large");
        assert!(!wish(&log, Some((20, 20)), 0, 1, true).snapshot, "one chunk is beyond");
        assert!(wish(&log, Some((20, 20)), 1, 1, true).snapshot);
        assert!(!wish(&[], None, 0, 0, true).snapshot);
    }

    #[test]
    fn while_much_is_written_a_snapshot_is_made_later() {
        let log = chunks(&[10, 20, 30]);
        assert!(wish(&log, None, 0, 7, false).snapshot);
        assert!(!wish(&log, None, 100, 8, false).snapshot);
        assert!(wish(&log, Some((10, 9)), 0, 1, false).snapshot, "two chunks are beyond");
        assert!(!wish(&log, Some((10, 10)), 0, 1, false).snapshot, "it is large");
    }

    #[test]
    fn only_what_a_snapshot_covers_is_purged_and_the_newest_of_it_is_kept() {
        let log = chunks(&[10, 20, 30, 40]);
        let purge = |reach, kept| wish(&log, Some((reach, 1_000)), 0, kept, true).purge;
        assert_eq!(wish(&log, None, 0, 0, true).purge, None);
        assert_eq!(purge(9, 0), None);
        assert_eq!(purge(10, 0), Some(10));
        assert_eq!(purge(39, 0), Some(30), "the last chunk is not wholly covered");
        assert_eq!(purge(40, 0), Some(40));
        assert_eq!(purge(40, 10), Some(30));
        assert_eq!(purge(40, 39), Some(10));
        assert_eq!(purge(40, 40), None);
    }
}
