//! The node's own copy of the ledger: append-only files beside log and state, which nothing that is restored takes
//! back. Entries are made by applying the log, so a node writes them before its state is written: what the state has
//! applied is in the ledger, and what the ledger lacks is made again from the log, or fetched from a peer.

mod catch_up;
mod files;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use model::ledger::{LedgerEntry, LedgerHead};

pub(crate) use catch_up::CatchingUp;
use files::Files;

use crate::disk::make_folder;

/// Entries that may wait for the disk; beyond them they are fetched from a peer later.
const PENDING_MAX: usize = 200_000;

/// The ledger of one node.
pub(crate) struct Ledger {
    folder: PathBuf,
    files: Mutex<Files>,
    memory: Mutex<Memory>,
}

/// What was made and is not in the files yet.
#[derive(Default)]
struct Memory {
    /// The last entry held, in files or here.
    head: LedgerHead,
    pending: VecDeque<LedgerEntry>,
}

impl Ledger {
    /// Opens the ledger under `folder`. Whatever is torn or damaged, and whatever does not lead to `state`, the head of
    /// the state that this node goes on from, is moved to `aside` and must be had anew.
    pub(crate) fn open(folder: PathBuf, aside: &Path, state: LedgerHead) -> io::Result<Self> {
        make_folder(&folder)?;
        let mut files = Files::open(&folder, aside)?;
        let held = files::entry(&folder, state.sequence)?;
        if held.is_some_and(|held| held.hash != state.hash) {
            tracing::error!(
                sequence = state.sequence,
                "the ledger is not that of the state: it was set aside"
            );
            files = Files::set_aside(&folder, aside)?;
        }
        let memory = Memory { head: files.head(), pending: VecDeque::new() };
        Ok(Self { folder, files: Mutex::new(files), memory: Mutex::new(memory) })
    }

    /// Takes entries that were made by applying the log. Those that are held already are passed over; those that do not
    /// follow what is held are left to be fetched.
    pub(crate) fn push(&self, entries: Vec<LedgerEntry>) {
        let mut memory = self.memory();
        for entry in entries {
            if memory.pending.len() < PENDING_MAX && entry.check_behind(memory.head).is_ok() {
                memory.head = entry.head();
                memory.pending.push_back(entry);
            }
        }
    }

    /// Makes everything taken so far durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut files)?;
        files.sync()
    }

    /// Writes everything taken so far: it outlives this process, though not yet a power loss.
    pub(crate) fn spill(&self) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut files)
    }

    /// Whether something waits to be written.
    pub(crate) fn waits(&self) -> bool {
        !self.memory().pending.is_empty()
    }

    fn write(&self, files: &mut Files) -> io::Result<()> {
        let pending: Vec<LedgerEntry> = self.memory().pending.iter().cloned().collect();
        files.append(&self.folder, &pending)?;
        self.memory().pending.drain(..pending.len());
        Ok(())
    }

    /// The last entry held.
    pub(crate) fn head(&self) -> LedgerHead {
        self.memory().head
    }

    /// Entries with numbers above `after`, about so many bytes of them; there may be gaps where nobody had more.
    pub(crate) fn read(&self, after: u64, bytes: usize) -> io::Result<Vec<LedgerEntry>> {
        let pending: Vec<LedgerEntry> = {
            let memory = self.memory();
            let first = memory.pending.front().map_or(u64::MAX, |entry| entry.sequence);
            let from_memory = after.saturating_add(1) >= first;
            memory.pending.iter().filter(|entry| from_memory && entry.sequence > after).cloned().collect()
        };
        let mut size = 0;
        let short = |entry: &LedgerEntry| {
            let fits = size < bytes;
            size += entry.body.len() + 80;
            fits
        };
        if !pending.is_empty() {
            return Ok(pending.into_iter().take_while(short).collect());
        }
        files::read(&self.folder, after, bytes)
    }

    /// Takes entries that a peer has sent. With `over_gap` the first of them may leave some out, since no node has them.
    pub(crate) fn fill(&self, entries: Vec<LedgerEntry>, over_gap: bool) -> io::Result<()> {
        self.flush()?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = self.memory();
        // What was made meanwhile must stay behind what the files end with.
        let mut taken = Vec::new();
        let mut head = memory.head;
        for entry in entries.into_iter().filter(|entry| entry.sequence > memory.head.sequence) {
            let sound = match entry.check_behind(head) {
                Err(model::ledger::BrokenLedger::Gap { .. }) if over_gap && taken.is_empty() => entry.check(),
                checked => checked,
            };
            if sound.is_err() || !memory.pending.is_empty() {
                break;
            }
            head = entry.head();
            taken.push(entry);
        }
        files.append(&self.folder, &taken)?;
        files.sync()?;
        memory.head = head;
        Ok(())
    }

    /// Goes on behind `head` although nothing is held of what leads to it: no node has it.
    pub(crate) fn skip_to(&self, head: LedgerHead) {
        let mut memory = self.memory();
        if memory.pending.is_empty() && memory.head.sequence < head.sequence {
            memory.head = head;
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes entries as the ledger of a new data folder.
pub(crate) fn write_new(
    folder: &Path,
    entries: impl Iterator<Item = io::Result<LedgerEntry>>,
) -> io::Result<()> {
    make_folder(folder)?;
    let mut files = Files::open(folder, folder)?;
    let mut some = Vec::new();
    for entry in entries {
        some.push(entry?);
        if some.len() == 1_000 {
            files.append(folder, &some)?;
            some.clear();
        }
    }
    files.append(folder, &some)?;
    files.sync()
}

/// Reads a ledger folder without changing it: entries in order, up to the first that cannot be read.
///
/// # Errors
/// The folder or a file in it cannot be read, or is damaged.
pub(crate) fn read_folder(
    folder: &Path,
) -> io::Result<impl Iterator<Item = io::Result<LedgerEntry>> + use<>> {
    files::entries(folder)
}
