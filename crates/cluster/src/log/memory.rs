//! A log store in memory with a volatile and a durable half: what was not flushed is lost in a [`MemoryLog::crash`].

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io, mem,
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::planted::{Bug, is_planted};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{READ_BYTES, half_open};
use crate::raft::{Config, Entry, LogId, Packed, Types, Vote, entry, log_id, term_and_index};

/// Log and vote as they stand in one half.
#[derive(Clone, Default)]
struct Image {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Term and payload by index.
    entries: BTreeMap<u64, (u64, Packed)>,
}

/// One write, as the durable half takes it over.
#[derive(Clone)]
enum Write {
    Vote(Vote),
    Committed(LogId),
    Append(LogId, Packed),
    TruncateFrom(u64),
    Purge(LogId),
}

impl Image {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(vote),
            Write::Committed(id) => self.committed = Some(id),
            Write::Append(id, packed) => {
                let (term, index) = term_and_index(id);
                self.entries.insert(index, (term, packed));
            }
            Write::TruncateFrom(index) => drop(self.entries.split_off(&index)),
            Write::Purge(id) => {
                self.entries = self.entries.split_off(&(id.index + 1));
                self.purged = self.purged.max(Some(id));
            }
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(index, (term, _))| log_id(*term, *index)).or(self.purged)
    }
}

struct Halves<C: Config> {
    volatile: Image,
    durable: Image,
    unflushed: Vec<Write>,
    waiting: Vec<IOFlushed<C>>,
    /// Appends wait for [`MemoryLog::flush`] instead of being flushed at once.
    held: bool,
}

impl<C: Config> Halves<C> {
    fn write(&mut self, write: Write) {
        self.volatile.apply(write.clone());
        self.unflushed.push(write);
    }

    fn flush(&mut self) {
        for write in mem::take(&mut self.unflushed) {
            self.durable.apply(write);
        }
        for callback in mem::take(&mut self.waiting) {
            callback.io_completed(Ok(()));
        }
    }
}

/// The log store. Clones share it.
pub(crate) struct MemoryLog<C: Config = Types>(Arc<Mutex<Halves<C>>>);

impl<C: Config> Clone for MemoryLog<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Config> Default for MemoryLog<C> {
    fn default() -> Self {
        Self::holding(Image::default(), Image::default())
    }
}

impl<C: Config> MemoryLog<C> {
    fn holding(volatile: Image, durable: Image) -> Self {
        let halves = Halves { volatile, durable, unflushed: Vec::new(), waiting: Vec::new(), held: false };
        Self(Arc::new(Mutex::new(halves)))
    }

    /// Whether appends wait for [`MemoryLog::flush`].
    pub(crate) fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&self) {
        self.lock().flush();
    }

    /// How many writes are not durable.
    #[cfg(feature = "sim")]
    pub(crate) fn unflushed(&self) -> usize {
        self.lock().unflushed.len()
    }

    /// The store as a restarted node finds it: unflushed writes are gone, and nobody is told.
    #[cfg(test)]
    pub(crate) fn crash(&self) -> Self {
        self.crash_keeping(0)
    }

    /// The same, where the first `survivors` of the unflushed writes have reached the disk.
    pub(crate) fn crash_keeping(&self, survivors: usize) -> Self {
        let halves = self.lock();
        let mut durable = halves.durable.clone();
        for write in halves.unflushed.iter().take(survivors) {
            durable.apply(write.clone());
        }
        Self::holding(durable.clone(), durable)
    }

    /// Removes the entries that contradict an applied one, if there are any, as a log on disk does.
    #[cfg(feature = "sim")]
    pub(crate) fn agree_with(&self, applied: LogId) {
        let mut halves = self.lock();
        let (term, index) = term_and_index(applied);
        if halves.volatile.entries.get(&index).is_some_and(|(held, _)| *held != term) {
            halves.write(Write::TruncateFrom(index));
            halves.flush();
        }
    }

    /// The term of an entry, or of the last purged one.
    #[cfg(feature = "sim")]
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        let halves = self.lock();
        let purged = halves.volatile.purged.map(term_and_index).filter(|(_, last)| *last == index);
        halves.volatile.entries.get(&index).map(|(term, _)| *term).or(purged.map(|(term, _)| term))
    }

    /// The entries from `from` to `to`, both included, as far as they are kept.
    #[cfg(feature = "sim")]
    pub(crate) fn entries(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        self.read(from, to.saturating_add(1), usize::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Halves<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, start: u64, end: u64, budget: usize) -> io::Result<Vec<Entry>> {
        let halves = self.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, (term, packed)) in halves.volatile.entries.range(start..end) {
            bytes += packed.len();
            if bytes > budget && !entries.is_empty() {
                break;
            }
            entries.push(entry(log_id(*term, *index), packed.clone().unpack()?));
        }
        Ok(entries)
    }
}

impl<C: Config> RaftLogReader<C> for MemoryLog<C> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().volatile.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES)
    }
}

impl<C: Config> RaftLogStorage<C> for MemoryLog<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let halves = self.lock();
        Ok(LogState { last_purged_log_id: halves.volatile.purged, last_log_id: halves.volatile.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let mut halves = self.lock();
        halves.write(Write::Vote(*vote));
        if !is_planted(Bug::VoteUnflushed) {
            halves.flush();
        }
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.lock().write(Write::Committed(committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().volatile.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut halves = self.lock();
        for entry in entries {
            halves.write(Write::Append(entry.log_id, Packed::pack(&entry.payload)));
        }
        halves.waiting.push(callback);
        if is_planted(Bug::AckBeforeFlush) {
            mem::take(&mut halves.waiting).into_iter().for_each(|early| early.io_completed(Ok(())));
        }
        if !halves.held {
            halves.flush();
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.lock().write(Write::TruncateFrom(last.map_or(0, |last| last.index + 1)));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.lock().write(Write::Purge(upto));
        Ok(())
    }
}
