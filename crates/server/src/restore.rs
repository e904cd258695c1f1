//! Putting a cluster back from a backup, offline: the state from the file, what was stated since from the newest ledger
//! that is found, and the data folder of the first node of a new cluster. Nothing that was revoked, rotated, ended or
//! removed after the backup comes back.

mod records;

use std::{
    io,
    path::{Path, PathBuf},
};

use cluster::Found;
use model::{
    Restore, State, Summary,
    ledger::{BrokenLedger, LedgerEntry, LedgerHead, Seen, Unbelievable, What},
    name::NodeId,
    table::{LoadError, Record},
    time::Time,
};
use workers::{
    DataKey, RootKey,
    backup::{About, BackupError, Reader},
};

use records::Records;

use crate::{consumer_file, ledger_file};

pub use records::Kept;

/// Revisions that are left out when it is accepted that some may be lost, so that none is given to another event.
const GAP: u64 = 1_000_000;

/// What is to be put back, and where.
pub struct Order<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// Files and data folders in which a ledger may be; the newest one that continues the backup counts.
    pub ledgers: &'a [PathBuf],
    /// What consumers have kept of the feed: what died in it stays dead, also behind the ledger's end.
    pub consumers: &'a [Kept],
    /// A revision that a consumer or someone else is known to have seen.
    pub seen_revision: u64,
    /// Why it is accepted that what was stated since the backup may be lost.
    pub accept_loss: Option<String>,
    /// Who does it.
    pub by: String,
    /// What time it is.
    pub at: Time,
    /// The data folder of the first node; nothing may be in it.
    pub data: PathBuf,
    /// The first node.
    pub node: NodeId,
    /// Its peer address, `host:port`.
    pub address: String,
    /// The root key of the cluster.
    pub root: &'a RootKey,
}

/// What was put back.
#[derive(Debug)]
pub struct Done {
    /// What the backup says of itself.
    pub about: About,
    /// The ledger that was used.
    pub ledger: Option<PathBuf>,
    /// What it has led to.
    pub summary: Summary,
    /// Whether a loss was accepted.
    pub loss_accepted: bool,
    /// The last revision; what is told next follows it.
    pub revision: u64,
}

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A record in it is not known to this build.
    #[error("the state in the backup cannot be read")]
    Load(#[from] LoadError),
    /// A ledger cannot be read.
    #[error("a ledger cannot be read")]
    Io(#[from] io::Error),
    /// A ledger is damaged.
    #[error(transparent)]
    Ledger(#[from] BrokenLedger),
    /// There is none that continues the backup.
    #[error("no ledger was found that goes on from entry {head}, where the backup stands{looked}")]
    NoLedger {
        /// The ledger's head in the backup.
        head: u64,
        /// What was looked at.
        looked: String,
    },
    /// Somebody has seen more than the ledger tells.
    #[error("the newest ledger ends at revision {found}, and revision {seen} is known to have been seen")]
    TooOld {
        /// The last revision in it.
        found: u64,
        /// What was seen.
        seen: u64,
    },
    /// Consumers have seen more than the ledger and they themselves can tell.
    #[error(
        "the newest ledger ends at revision {found}, consumers have seen revision {seen}, and nobody tells what revision {missing} said"
    )]
    Untold {
        /// The last revision in the ledger.
        found: u64,
        /// What was seen.
        seen: u64,
        /// The first that nobody tells.
        missing: u64,
    },
    /// The record of a consumer cannot be used.
    #[error("the record `{file}` of a consumer cannot be used")]
    Record {
        /// Which.
        file: PathBuf,
        /// Why.
        source: consumer_file::Unreadable,
    },
    /// The records of the consumers are too much together.
    #[error("the records of the consumers cannot be used together")]
    Together(#[source] Unbelievable),
    /// A consumer and something else tell one revision in two ways.
    #[error("`{file}` and {other} contradict each other: each tells revision {revision} in its own way")]
    Contradicted {
        /// The revision.
        revision: u64,
        /// The record of the consumer.
        file: PathBuf,
        /// What else tells of it.
        other: String,
    },
    /// Two ledgers contradict each other.
    #[error(
        "`{0}` is not of this cluster, or has gone another way since entry {1}: its entries contradict the others"
    )]
    Forked(PathBuf, u64),
    /// The data key does not open.
    #[error("the root key does not open the data key in the backup")]
    DataKey,
    /// The data folder cannot be written.
    #[error("the data folder `{folder}` cannot be made")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads the whole of a backup and gives its state.
///
/// # Errors
/// Whatever is wrong with it, or with the root key.
pub fn load(backup: &Path, root: &RootKey) -> Result<(About, State), RestoreError> {
    let reader = Reader::open(backup)?;
    let about = reader.about().clone();
    let mut count = 0;
    let records = reader.chunks(root)?.enumerate().flat_map(|(number, chunk)| {
        let damaged = || BackupError::Chunk(u32::try_from(number).unwrap_or(u32::MAX));
        let records =
            chunk.and_then(|chunk| postcard::from_bytes::<Vec<Record>>(&chunk).map_err(|_| damaged()));
        match records {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(RestoreError::Backup(error))],
        }
    });
    let state = State::load::<RestoreError>(records.inspect(|_| count += 1))?;
    if count != about.records || state.digest().to_bytes() != about.digest {
        return Err(BackupError::Content.into());
    }
    if let Some(key) = state.data_key() {
        DataKey::unwrap(key.id, &key.wrapped, root).map_err(|_| RestoreError::DataKey)?;
    }
    Ok((about, state))
}

/// Puts the state back and makes the data folder of the first node.
///
/// # Errors
/// See [`RestoreError`]. Nothing was written, but for the last of them.
pub fn restore(order: &Order<'_>) -> Result<Done, RestoreError> {
    let (about, mut state) = load(order.backup, order.root)?;
    let head = state.ledger_head();
    let newest = newest(order.ledgers, head)?;
    if newest.is_none() && order.accept_loss.is_none() {
        return Err(RestoreError::NoLedger { head: head.sequence, looked: looked_at(order.ledgers) });
    }
    let records = Records::read(order.consumers)?;
    records.check(&state, newest.as_ref())?;
    let known = match &newest {
        Some(newest) => last_revision(newest, head)?.max(about.revision),
        None => about.revision,
    };
    let how = weigh(order, &about, records.all, known, newest.is_some())?;
    let entries: Box<dyn Iterator<Item = Result<LedgerEntry, RestoreError>>> = match &newest {
        Some(newest) => Box::new(newest.entries_behind(head)?.map(|entry| entry.map_err(RestoreError::from))),
        None => Box::new(std::iter::empty()),
    };
    let summary = state.restore(entries, &how)?;
    write(order, &mut state, newest.as_ref())?;
    let ledger = newest.map(|newest| newest.path);
    let loss_accepted = how.accepted_loss.is_some();
    Ok(Done { about, ledger, summary, loss_accepted, revision: state.revision() })
}

/// Whether what is known reaches as far as what was seen, and how to go on.
fn weigh(
    order: &Order<'_>,
    about: &About,
    seen: Seen,
    known: u64,
    has_ledger: bool,
) -> Result<Restore, RestoreError> {
    let told = seen.complete_up_to(known);
    let problem = if told < seen.revision() {
        Some(RestoreError::Untold { found: known, seen: seen.revision(), missing: told + 1 })
    } else if told < order.seen_revision {
        Some(RestoreError::TooOld { found: told, seen: order.seen_revision })
    } else {
        None
    };
    let is_lost = problem.is_some() || !has_ledger;
    match problem {
        Some(problem) if order.accept_loss.is_none() => return Err(problem),
        Some(_) | None => {}
    }
    let reached = known.max(seen.revision());
    Ok(Restore {
        at: order.at,
        by: order.by.clone(),
        backup_at: about.created_at,
        accepted_loss: order.accept_loss.clone().filter(|_| is_lost),
        gap: if is_lost { GAP.max(order.seen_revision.saturating_sub(reached)) } else { 0 },
        seen,
    })
}

fn write(order: &Order<'_>, state: &mut State, newest: Option<&Source>) -> Result<(), RestoreError> {
    state.drain_changes();
    let stated = state.drain_ledger().into_iter().map(Ok);
    let first = Found { data: order.data.clone(), node: order.node, address: order.address.clone() };
    let failed = |source| RestoreError::Folder { folder: order.data.clone(), source };
    match newest {
        Some(newest) => {
            // From its beginning: what it says stays provable.
            let held = newest.entries_behind(LedgerHead::default())?;
            cluster::found(&first, state, held.chain(stated)).map_err(failed)
        }
        None => cluster::found(&first, state, stated).map_err(failed),
    }
}

/// A ledger that continues a backup.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    last: LedgerHead,
}

impl Source {
    fn entries_behind(
        &self,
        head: LedgerHead,
    ) -> io::Result<impl Iterator<Item = io::Result<LedgerEntry>> + use<>> {
        let last = self.last.sequence;
        let within =
            move |entry: &io::Result<LedgerEntry>| entry.as_ref().is_ok_and(|entry| entry.sequence <= last);
        let old = move |entry: &io::Result<LedgerEntry>| {
            entry.as_ref().is_ok_and(|entry| entry.sequence <= head.sequence)
        };
        // What lies behind the last sound entry does not count, also where it cannot be read.
        Ok(ledger_file::read(&self.path)?.take_while(within).skip_while(old))
    }
}

/// The longest of the ledgers that continue `head`; all of them must tell the same as far as they go.
fn newest(paths: &[PathBuf], head: LedgerHead) -> Result<Option<Source>, RestoreError> {
    let mut sources = Vec::new();
    for path in paths {
        if let Some(last) = scan(path, head)? {
            sources.push(Source { path: path.clone(), last });
        }
    }
    sources.sort_by_key(|source| source.last.sequence);
    let Some(newest) = sources.pop() else { return Ok(None) };
    for entry in newest.entries_behind(head)? {
        let entry = entry?;
        let contradicts =
            |other: &&Source| other.last.sequence == entry.sequence && other.last.hash != entry.hash;
        if let Some(other) = sources.iter().find(contradicts) {
            return Err(RestoreError::Forked(other.path.clone(), entry.sequence));
        }
    }
    Ok(Some(newest))
}

/// The last sound entry of the ledger under `path`, when it leads on from `head` without a gap.
fn scan(path: &Path, head: LedgerHead) -> Result<Option<LedgerHead>, RestoreError> {
    let mut last: Option<LedgerHead> = None;
    let mut continues = head.sequence == 0;
    let mut entries = ledger_file::read(path)?.peekable();
    if head.sequence == 0 && entries.peek().is_none() && ledger_file::is_ledger(path) {
        // Nothing was stated before the backup, and nothing after it.
        return Ok(Some(head));
    }
    for entry in entries {
        // What is torn or damaged ends a ledger; another one may go further.
        let Some(entry) = entry.ok().filter(|entry| entry.check().is_ok()) else { break };
        match last.map_or(Ok(()), |last| entry.check_behind(last)) {
            Ok(()) => {}
            Err(BrokenLedger::Gap { expected, found }) if found > expected && found <= head.sequence + 1 => {}
            Err(_) => break,
        }
        let at_head = entry.sequence == head.sequence;
        let behind = entry.sequence == head.sequence + 1;
        if at_head && entry.hash != head.hash || behind && entry.previous != head.hash {
            return Err(RestoreError::Forked(path.to_owned(), head.sequence));
        }
        if last.is_none() && entry.sequence > head.sequence + 1 {
            return Ok(None);
        }
        continues |= at_head || behind;
        last = Some(entry.head());
    }
    Ok(last.filter(|_| continues))
}

/// The last revision that it tells of, or has left out.
fn last_revision(newest: &Source, head: LedgerHead) -> Result<u64, RestoreError> {
    let mut revision = 0;
    for entry in newest.entries_behind(head)? {
        match entry?.statement()?.what {
            What::Event(event) => revision = event.revision,
            What::Restored { next_revision, .. } => revision = next_revision.saturating_sub(1),
            What::Version(_)
            | What::Current { .. }
            | What::Revocation(_)
            | What::Grant(_)
            | What::TokenRevoked(_)
            | What::Removed { .. }
            | What::Cursors(_) => {}
        }
    }
    Ok(revision)
}

fn looked_at(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "; none was given".to_owned();
    }
    let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    format!(" (looked at {})", names.join(", "))
}

#[cfg(test)]
mod tests;
