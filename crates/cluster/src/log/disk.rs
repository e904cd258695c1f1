//! The log and the vote on disk, in the `raft-log` crate: checksummed, chunked, made durable with `fdatasync`.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::{self, File},
    io,
    ops::RangeBounds,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use model::planted::{Bug, is_planted};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use raft_log::{Config, RaftLog, api::raft_log_writer::RaftLogWriter as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::{
    READ_BYTES,
    codec::{Ballot, LogTypes},
    flusher::{Flusher, Waiter},
    half_open,
    mark::Mark,
    mend,
};
use crate::{
    disk::{is_full, make_folder, sync_folder},
    promise::Stand,
    raft::{Entry, LogId, Packed, Types, Vote, entry, log_id, term_and_index},
    space::Space,
    trace,
    trim::Chunk,
};

/// A chunk file is closed at this size; a purge deletes whole chunks.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Payloads kept in memory beside those of the open chunk, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Payloads kept in memory beside those of the open chunk, in entries.
const CACHE_ENTRIES: usize = 100_000;
/// Buffer for reading a chunk when the log is opened.
const REPLAY_BYTES: usize = 1024 * 1024;

/// Term and digest of entries, by index.
pub(crate) type EntryDigests = BTreeMap<u64, (u64, [u8; 32])>;

/// The log and the vote of this node. Clones share it.
#[derive(Clone)]
pub(crate) struct DiskLog {
    files: Arc<Files>,
    flusher: Flusher,
    note: Arc<Note>,
    /// What the mark said when the log was opened.
    noted: Option<Stand>,
    /// Asked before each write.
    space: Option<Arc<Space>>,
}

/// The open log. Fields are dropped in order: when the token is gone, the files are closed and unlocked.
pub(super) struct Files {
    log: Mutex<RaftLog<LogTypes>>,
    token: Arc<()>,
}

/// How far the log is durable, in memory and beside it.
pub(super) struct Note {
    durable: Mutex<Stand>,
    mark: Mark,
}

impl Note {
    pub(super) fn set_durable(&self, durable: Stand) -> io::Result<()> {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = durable;
        match self.mark.write(durable) {
            // It may lag.
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "how far the log is durable was not noted");
                Ok(())
            }
            written => written,
        }
    }
}

impl Files {
    pub(super) fn lock(&self) -> MutexGuard<'_, RaftLog<LogTypes>> {
        // A panic while the lock was held is an error of this crate; the WAL's own state is written record by record.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the log stands.
pub(super) fn end(log: &RaftLog<LogTypes>) -> Stand {
    let state = log.log_state();
    Stand { term: state.vote().map_or(0, Ballot::term), last: state.last().copied() }
}

impl DiskLog {
    /// Opens the log under `folder`, or makes one.
    ///
    /// # Errors
    /// The folder cannot be used, another process holds it, or a record is damaged. An incomplete record at the very
    /// end is no error: it was never acknowledged, and is cut off.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let config = config(folder)?;
        let log = RaftLog::open(config)?;
        // What an earlier process wrote and did not sync was acknowledged to nobody, but it will be built upon.
        sync_all(folder)?;
        let (mark, noted) = Mark::open(folder)?;
        let note = Arc::new(Note { durable: Mutex::new(end(&log)), mark });
        let files = Arc::new(Files { log: Mutex::new(log), token: Arc::new(()) });
        let flusher = Flusher::start(Arc::clone(&files), Arc::clone(&note))?;
        Ok(Self { files, flusher, note, noted, space: None })
    }

    /// The same; but the reserve of the disk is given back before a write that needs it.
    pub(crate) fn within(self, space: Arc<Space>) -> Self {
        Self { space: Some(space), ..self }
    }

    /// Cuts the log under `folder` before its first damaged record, copies what was there to `aside`, and gives the
    /// damage. `None` when no record is damaged, and when the cut would lose what is known to have been durable and
    /// `may_lose` does not allow that.
    pub(crate) fn mend(folder: &Path, aside: &Path, may_lose: bool) -> io::Result<Option<io::Error>> {
        let (_, noted) = Mark::open(folder)?;
        mend::cut(&config(folder)?, aside, if may_lose { None } else { noted })
    }

    /// Turns true when nothing holds the files any more.
    pub(crate) fn released(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let token = Arc::downgrade(&self.files.token);
        move || token.strong_count() == 0
    }

    /// What of it is known to be durable.
    pub(crate) fn durable(&self) -> Stand {
        *self.note.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the flush that is under way has taken so far.
    pub(crate) fn flushing_for(&self) -> Option<Duration> {
        self.flusher.flushing_for()
    }

    /// What was known to be durable before it was opened, as far as that was noted.
    pub(crate) fn noted(&self) -> Option<Stand> {
        self.noted
    }

    /// Reads term and digest of each entry that it holds, by index; none when it was closed.
    pub(crate) fn digests(&self) -> impl Fn() -> io::Result<EntryDigests> + Send + Sync + use<> {
        let files = Arc::downgrade(&self.files);
        move || {
            let Some(files) = files.upgrade() else { return Ok(EntryDigests::new()) };
            let log = files.lock();
            let first = log.log_state().purged().map_or(0, |(_, index)| index + 1);
            let end = log.log_state().last().map_or(0, |(_, index)| index + 1);
            let digest = |read: io::Result<((u64, u64), Packed)>| {
                let ((term, index), packed) = read?;
                let mut bytes = Vec::with_capacity(packed.len());
                packed.write(&mut bytes)?;
                Ok((index, (term, Sha256::digest(&bytes).into())))
            };
            log.read(first, end.max(first)).map(digest).collect()
        }
    }

    /// The files it lies in that hold entries which were not purged, in order.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        let log = self.lock();
        let purged = log.log_state().purged().map(|(_, index)| *index);
        let stat = log.stat();
        let chunks = stat.closed_chunks.iter().chain([&stat.open_chunk]);
        let chunks =
            chunks.filter_map(|chunk| Some(Chunk { last: chunk.log_state.last()?.1, bytes: chunk.size }));
        chunks.filter(|chunk| Some(chunk.last) > purged).collect()
    }

    /// The last purged log id.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.lock().log_state().purged().map(|(term, index)| log_id(*term, *index))
    }

    /// Removes the entries that contradict an applied one, if there are any: they were never committed. A node has
    /// them when it was given a snapshot and ended before its log was cleaned.
    pub(crate) fn agree_with(&self, applied: LogId) -> io::Result<()> {
        let mut log = self.lock_to_write();
        let held = log.read(applied.index, applied.index + 1).next().transpose()?;
        if held.is_some_and(|(held, _)| held != term_and_index(applied)) {
            log.truncate(applied.index)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, RaftLog<LogTypes>> {
        self.files.lock()
    }

    /// As [`Self::lock`], to write.
    fn lock_to_write(&self) -> MutexGuard<'_, RaftLog<LogTypes>> {
        if let Some(space) = &self.space {
            space.make_room();
        }
        self.lock()
    }

    fn read(&self, start: u64, end: u64, budget: usize) -> io::Result<Vec<Entry>> {
        let log = self.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for read in log.read(start, end) {
            let ((term, index), packed) = read?;
            bytes += packed.len();
            if bytes > budget && !entries.is_empty() {
                break;
            }
            entries.push(entry(log_id(term, index), packed.unpack()?));
        }
        Ok(entries)
    }

    async fn flush(&self) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.flusher.flush(&self.files, Waiter::Caller(sender));
        receiver.await.map_err(|_| io::Error::other("the log's flush thread has ended"))?
    }
}

fn config(folder: &Path) -> io::Result<Arc<Config>> {
    let folder = folder.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path of the log is not valid UTF-8")
    })?;
    let mut config = Config::new(folder);
    config.log_cache_capacity = Some(CACHE_BYTES);
    config.log_cache_max_items = Some(CACHE_ENTRIES);
    config.wal.read_buffer_size = Some(REPLAY_BYTES);
    config.wal.chunk_max_size = Some(CHUNK_BYTES);
    config.wal.truncate_incomplete_record = Some(true);
    config.wal.flush_batch_wait = Some(Duration::ZERO);
    Ok(Arc::new(config))
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_folder(folder)
}

impl RaftLogReader<Types> for DiskLog {
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        let log = self.clone();
        let chunks = stream::try_unfold(start, move |start| {
            let log = log.clone();
            async move {
                let entries = log.read(start, end, READ_BYTES)?;
                let next = entries.last().map(|last| last.log_id.index + 1);
                Ok::<_, io::Error>(next.map(|next| (stream::iter(entries.into_iter().map(Ok)), next)))
            }
        });
        Box::pin(chunks.flat_map(|chunk| match chunk {
            Ok(entries) => entries.left_stream(),
            Err(error) => stream::once(async { Err(error) }).right_stream(),
        }))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().log_state().vote().map(Vote::from))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES)
    }
}

impl RaftLogStorage<Types> for DiskLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.lock();
        let id = |id: &(u64, u64)| log_id(id.0, id.1);
        Ok(LogState {
            last_purged_log_id: log.log_state().purged().map(id),
            last_log_id: log.log_state().last().map(id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.lock_to_write().save_vote(Ballot::from(vote))?;
        if is_planted(Bug::VoteUnflushed) { Ok(()) } else { self.flush().await }
    }

    /// Written without waiting: it spares a restarted node from showing an older state than it had shown, and is no
    /// part of what Raft promises.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed.map(term_and_index) else { return Ok(()) };
        let mut log = self.lock_to_write();
        // After a snapshot was installed, what is committed lies beyond the log, which does not take it.
        let known =
            log.log_state().committed() < Some(&committed) && Some(&committed) <= log.log_state().last();
        if known {
            log.commit(committed)?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().log_state().committed().map(|(term, index)| log_id(*term, *index)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut spans = Vec::new();
        let packed = entries.into_iter().map(|entry| {
            spans.extend(trace::append(&entry.payload, entry.log_id.index));
            (term_and_index(entry.log_id), Packed::pack(&entry.payload))
        });
        self.lock_to_write().append(packed)?;
        if is_planted(Bug::AckBeforeFlush) {
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.flusher.flush(&self.files, Waiter::Append(callback, spans));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first_removed = last.map_or(0, |last| last.index + 1);
        let mut log = self.lock_to_write();
        let reaches = log.log_state().last().is_some_and(|(_, index)| *index >= first_removed);
        if reaches {
            log.truncate(first_removed)?;
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.lock_to_write().purge(term_and_index(upto))?;
        // Chunks are deleted only after the record of the purge is durable.
        self.flush().await
    }
}
