//! What each storage is known to have promised. A node whose disk was rolled back has forgotten its votes and the
//! entries it acknowledged; the others remember, and tell it when it starts.
//!
//! The file is postcard and a SHA-256 of it. It is advice from before the last start: one that is damaged is left
//! aside, for the other nodes hold the same.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use model::{
    name::NodeId,
    planted::{Bug, is_planted},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    disk::write_durably,
    raft::{LogId, damaged, term_and_index},
};

const CHECKSUM_BYTES: usize = 32;

/// How far a storage goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The term of its vote.
    pub(crate) term: u64,
    /// The last entry it holds or has applied, term and index.
    pub(crate) last: Option<(u64, u64)>,
}

impl Stand {
    /// What a storage that durably stands here has promised. Entries of earlier terms are none of it: the leader of
    /// this term may still remove them.
    pub(crate) fn promise(self, node: NodeId) -> Promise {
        let last = self.last.filter(|(term, _)| *term == self.term);
        Promise { node: node.0, term: self.term, last }
    }
}

/// The furthest that a storage is known to have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// The node whose storage made it.
    pub(crate) node: u64,
    /// It gave its vote in this term.
    pub(crate) term: u64,
    /// It acknowledged entries up to this one, term and index, to the leader of [`Promise::term`].
    pub(crate) last: Option<(u64, u64)>,
}

impl Promise {
    /// Whether a storage that stands here has forgotten what it promised.
    ///
    /// A later leader may have removed entries that were not committed, hence the log is compared only within the term
    /// of the promise: there it never shrinks.
    pub(crate) fn is_forgotten_at(&self, stand: Stand) -> bool {
        let went_back = stand.term < self.term || stand.term == self.term && stand.last < self.last;
        went_back && !is_planted(Bug::PromiseForgotten)
    }

    fn extends(&self, other: &Self) -> bool {
        (self.term, self.last) > (other.term, other.last)
    }
}

/// What is known of all storages.
pub(crate) struct Promises {
    path: PathBuf,
    held: Mutex<BTreeMap<Uuid, Promise>>,
    changed: AtomicBool,
}

impl Promises {
    /// Reads what was known before the last start.
    pub(crate) fn open(path: PathBuf) -> Self {
        let held = read(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "what other nodes promised cannot be read; it is asked of them again");
            BTreeMap::new()
        });
        Self { path, held: Mutex::new(held), changed: AtomicBool::new(false) }
    }

    /// `storage` of `node` gave its vote, or acknowledged entries, in `term`.
    pub(crate) fn note(&self, node: NodeId, storage: Uuid, term: u64, last: Option<LogId>) {
        self.learn(storage, Promise { node: node.0, term, last: last.map(term_and_index) });
    }

    /// Somebody else knows of a promise.
    pub(crate) fn learn(&self, storage: Uuid, promise: Promise) {
        let mut held = self.lock();
        let known = held.entry(storage).or_insert(Promise { node: promise.node, ..Promise::default() });
        if promise.extends(known) {
            *known = promise;
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether `storage` has acknowledged the entry at `index` to the leader of `term`.
    pub(crate) fn covers(&self, storage: Uuid, term: u64, index: u64) -> bool {
        let held = self.lock();
        let last = held.get(&storage).filter(|promise| promise.term == term).and_then(|promise| promise.last);
        last.is_some_and(|(_, last)| last >= index)
    }

    /// Forgets storages that are of no member any more.
    pub(crate) fn keep(&self, is_member: impl Fn(Uuid) -> bool) {
        self.lock().retain(|storage, _| is_member(*storage));
    }

    /// What is known of all storages.
    pub(crate) fn all(&self) -> BTreeMap<Uuid, Promise> {
        self.lock().clone()
    }

    /// Keeps what is known for the next start, when it has changed.
    pub(crate) fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut bytes = postcard::to_stdvec(&self.all()).map_err(damaged)?;
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        // What was not written is written the next time.
        write_durably(&self.path, &bytes).inspect_err(|_| self.changed.store(true, Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Promise>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &PathBuf) -> io::Result<BTreeMap<Uuid, Promise>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    decode(&bytes)
}

/// The content of the file: the promises, and behind them their checksum.
pub(crate) fn decode(bytes: &[u8]) -> io::Result<BTreeMap<Uuid, Promise>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(short)?;
    if Sha256::digest(body)[..] != checksum[..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum does not match"));
    }
    postcard::from_bytes(body).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log_id;

    const ONE: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_storage_that_went_back_has_forgotten() {
        let promise = Promise { node: 1, term: 3, last: Some((3, 50)) };
        let at = |term, last| promise.is_forgotten_at(Stand { term, last });
        assert!(at(2, Some((2, 90))), "its vote went back");
        assert!(at(3, Some((3, 49))), "its log went back");
        assert!(at(0, None), "it is empty");
        assert!(!at(3, Some((3, 50))));
        assert!(!at(4, Some((2, 10))), "a later leader may shorten the log");
    }

    #[test]
    fn entries_of_an_earlier_term_are_not_promised() {
        let stand = Stand { term: 3, last: Some((2, 50)) };
        assert_eq!(stand.promise(NodeId(1)).last, None);
        let stand = Stand { term: 3, last: Some((3, 51)) };
        assert_eq!(stand.promise(NodeId(1)).last, Some((3, 51)));
    }

    #[test]
    fn the_furthest_promise_is_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("promises");
        let promises = Promises::open(path.clone());
        promises.note(NodeId(1), ONE, 3, Some(log_id(3, 50)));
        promises.note(NodeId(1), ONE, 2, Some(log_id(2, 90)));
        promises.note(NodeId(1), ONE, 3, None);
        promises.save().unwrap();
        let expected = Promise { node: 1, term: 3, last: Some((3, 50)) };
        assert_eq!(Promises::open(path).all(), BTreeMap::from([(ONE, expected)]));
    }

    #[test]
    fn each_storage_of_a_node_has_its_own_promises() {
        let folder = tempfile::tempdir().unwrap();
        let promises = Promises::open(folder.path().join("promises"));
        let two = Uuid::from_u128(2);
        promises.note(NodeId(1), ONE, 3, Some(log_id(3, 50)));
        promises.note(NodeId(1), two, 1, None);
        assert_eq!(promises.all()[&two].term, 1);
        promises.keep(|storage| storage == two);
        assert!(!promises.all().contains_key(&ONE));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("promises");
        let promises = Promises::open(path.clone());
        promises.note(NodeId(1), ONE, 3, None);
        promises.save().unwrap();
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(Promises::open(path.clone()).all().is_empty());
        }
    }
}
