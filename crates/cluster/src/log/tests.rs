//! openraft's own suite on both stores, and what it does not test: what is there after a reopening, a torn tail, a
//! crash.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::FutureExt as _;
use openraft::{
    RaftLogReader as _, StorageError,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt as _,
};
use tempfile::TempDir;

use super::{DiskLog, memory::MemoryLog};
use crate::{
    batch::Batch,
    fatal::Fatal,
    ledger::Ledger,
    machine::{Machine, Persister, SnapshotFolder},
    raft::{Entry, LogId, Payload, Types, Vote, entry, log_id},
    space::Space,
    store::Store,
};

fn machine(folder: &Path) -> Machine {
    let (store, state, position) = Store::open(folder.join("state"), None).unwrap();
    let space = Space::open(folder.to_path_buf()).unwrap();
    let ledger = Ledger::open(folder.join("ledger"), &folder.join("damaged"), state.ledger_head());
    let ledger = Arc::new(ledger.unwrap());
    let (persister, _) =
        Persister::start(store, position.clone(), ledger, space, Arc::new(Fatal::new())).unwrap();
    let snapshots = SnapshotFolder::open(folder.join("snapshots")).unwrap();
    Machine::new(state, position, persister, Arc::new(snapshots)).0
}

struct OnDisk;

impl StoreBuilder<Types, DiskLog, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, DiskLog, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let log = DiskLog::open(&folder.path().join("log")).unwrap();
        let machine = machine(folder.path());
        Ok((folder, log, machine))
    }
}

struct InMemory;

impl StoreBuilder<Types, MemoryLog, Machine, TempDir> for InMemory {
    async fn build(&self) -> Result<(TempDir, MemoryLog, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        Ok((folder, MemoryLog::default(), machine))
    }
}

/// The folder of a log, in another one: what the log keeps beside its folder goes with it.
struct LogFolder {
    log: PathBuf,
    _outer: TempDir,
}

impl LogFolder {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let log = outer.path().join("log");
        fs::create_dir(&log).unwrap();
        Self { log, _outer: outer }
    }

    fn path(&self) -> &Path {
        &self.log
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_on_disk_passes_the_suite_of_openraft() {
    Suite::test_all(OnDisk).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_in_memory_passes_the_suite_of_openraft() {
    Suite::test_all(InMemory).await.unwrap();
}

fn commands(term: u64, index: u64) -> Entry {
    entry(log_id(term, index), Payload::Normal(Batch::from_bytes(format!("{term}/{index}").into())))
}

/// Appends and waits until that is durable.
async fn append(log: &mut impl RaftLogStorage<Types>, entries: Vec<Entry>) {
    let (sender, flushed) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: Vec<Entry>,
}

async fn see(log: &mut impl RaftLogStorage<Types>) -> Seen {
    let state = log.get_log_state().await.unwrap();
    let mut reader = log.get_log_reader().await;
    Seen {
        vote: reader.read_vote().await.unwrap(),
        purged: state.last_purged_log_id,
        last: state.last_log_id,
        entries: reader.try_get_log_entries(..).await.unwrap(),
    }
}

/// Opens the log when the last holder has let go of it.
async fn reopen(log: DiskLog, folder: &Path) -> DiskLog {
    let released = log.released();
    drop(log);
    while !released() {
        tokio::task::yield_now().await;
    }
    DiskLog::open(folder).unwrap()
}

#[tokio::test]
async fn every_write_is_there_after_a_reopening() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    let mut expected = Seen::default();
    for step in 0..6 {
        match step {
            0 => {
                expected.vote = Some(Vote::new(1, 2));
                log.save_vote(&Vote::new(1, 2)).await.unwrap();
            }
            1 => {
                expected.entries = (0..20).map(|index| commands(1, index)).collect();
                expected.last = Some(log_id(1, 19));
                append(&mut log, expected.entries.clone()).await;
            }
            2 => {
                expected.vote = Some(Vote::new_committed(2, 1));
                log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
            }
            3 => {
                log.truncate_after(Some(log_id(1, 14))).await.unwrap();
                append(&mut log, vec![commands(2, 15)]).await;
                expected.entries.truncate(15);
                expected.entries.push(commands(2, 15));
                expected.last = Some(log_id(2, 15));
            }
            4 => {
                log.purge(log_id(1, 4)).await.unwrap();
                expected.entries.drain(..5);
                expected.purged = Some(log_id(1, 4));
            }
            _ => {
                // As after a snapshot that is ahead of the log.
                log.purge(log_id(2, 40)).await.unwrap();
                append(&mut log, vec![commands(2, 41)]).await;
                expected.entries = vec![commands(2, 41)];
                expected.purged = Some(log_id(2, 40));
                expected.last = Some(log_id(2, 41));
            }
        }
        assert_eq!(see(&mut log).await, expected, "step {step}, before");
        log = reopen(log, folder.path()).await;
        assert_eq!(see(&mut log).await, expected, "step {step}, after");
    }
}

#[tokio::test]
async fn many_chunks_survive_a_reopening_and_purged_ones_are_deleted() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    let long = Batch::from_bytes(vec![7; 1024 * 1024].into());
    for index in 0..100 {
        append(&mut log, vec![entry(log_id(1, index), Payload::Normal(long.clone()))]).await;
    }
    let mut log = reopen(log, folder.path()).await;
    let some = log.limited_get_log_entries(10, 100).await.unwrap();
    assert!(!some.is_empty() && some.len() < 4, "{} entries of a mebibyte in one read", some.len());
    assert_eq!(log.try_get_log_entries(0..100).await.unwrap().len(), 100);
    let before = chunks(folder.path()).len();
    log.purge(log_id(1, 98)).await.unwrap();
    let log = reopen(log, folder.path()).await;
    assert!(before >= 3 && chunks(folder.path()).len() < before);
    drop(log);
}

#[tokio::test]
async fn entries_that_contradict_the_applied_state_are_removed() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    append(&mut log, (0..10).map(|index| commands(1, index)).collect()).await;
    log.agree_with(log_id(1, 5)).unwrap();
    log.agree_with(log_id(3, 40)).unwrap();
    assert_eq!(see(&mut log).await.last, Some(log_id(1, 9)));
    log.agree_with(log_id(2, 6)).unwrap();
    assert_eq!(see(&mut log).await.last, Some(log_id(1, 5)));
}

fn chunks(folder: &Path) -> Vec<PathBuf> {
    let mut chunks: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    chunks.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    chunks.sort();
    chunks
}

#[tokio::test]
async fn a_torn_tail_opens_as_a_prefix_and_never_as_something_else() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    append(&mut log, (0..5).map(|index| commands(1, index)).collect()).await;
    let chunk = chunks(folder.path()).pop().unwrap();
    let before = fs::metadata(&chunk).unwrap().len();
    append(&mut log, vec![commands(1, 5)]).await;
    let whole = fs::read(&chunk).unwrap();
    let whole_seen = see(&mut log).await;
    drop(log);
    assert!(whole.len() as u64 > before, "the last record stands in the same chunk");
    for length in before..=whole.len() as u64 {
        let copy = LogFolder::new();
        fs::write(copy.path().join(chunk.file_name().unwrap()), &whole[..usize::try_from(length).unwrap()])
            .unwrap();
        let mut log = DiskLog::open(copy.path()).unwrap();
        let seen = see(&mut log).await;
        let kept = if length == whole.len() as u64 { 6 } else { 5 };
        assert_eq!(seen.entries, whole_seen.entries[..kept], "cut at {length}");
        // What was cut off can be written again.
        append(&mut log, vec![commands(2, kept as u64)]).await;
        let mut log = reopen(log, copy.path()).await;
        assert_eq!(see(&mut log).await.last, Some(log_id(2, kept as u64)), "cut at {length}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_never_served() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    append(&mut log, (0..3).map(|index| commands(1, index)).collect()).await;
    let chunk = chunks(folder.path()).pop().unwrap();
    let whole = fs::read(&chunk).unwrap();
    let whole_seen = see(&mut log).await;
    drop(log);
    let mut refused = 0;
    for place in 0..whole.len() {
        let copy = LogFolder::new();
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(copy.path().join(chunk.file_name().unwrap()), &damaged).unwrap();
        match DiskLog::open(copy.path()) {
            Err(_) => refused += 1,
            Ok(mut log) => {
                let seen = see(&mut log).await;
                assert!(whole_seen.entries.starts_with(&seen.entries), "flipped at {place}");
                assert!(seen.vote.is_none() || seen.vote == whole_seen.vote, "flipped at {place}");
            }
        }
    }
    assert!(refused * 10 > whole.len() * 8, "{refused} of {} refused", whole.len());
}

#[tokio::test]
async fn a_crash_keeps_what_was_flushed_and_nothing_else() {
    let mut log = MemoryLog::default();
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut log, vec![commands(1, 0)]).await;
    log.hold(true);
    let (sender, mut flushed) = Types::oneshot();
    log.append(vec![commands(1, 1)], IOFlushed::signal(sender)).await.unwrap();
    assert_eq!(see(&mut log).await.last, Some(log_id(1, 1)), "readable before it is durable");
    assert!((&mut flushed).now_or_never().is_none(), "not acknowledged before it is durable");
    assert_eq!(see(&mut log.crash()).await.last, Some(log_id(1, 0)));
    log.flush();
    flushed.await.unwrap().unwrap();
    let mut restarted = log.crash();
    assert_eq!(see(&mut restarted).await.last, Some(log_id(1, 1)));
    assert_eq!(see(&mut restarted).await.vote, Some(Vote::new(1, 1)));
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let folder = LogFolder::new();
    let mut log = DiskLog::open(folder.path()).unwrap();
    for term in 1..20 {
        log.save_vote(&Vote::new(term, 1)).await.unwrap();
        assert_eq!(log.durable().term, term);
        append(&mut log, vec![commands(term, term - 1)]).await;
        assert_eq!(log.durable().last, Some((term, term - 1)));
    }
}
