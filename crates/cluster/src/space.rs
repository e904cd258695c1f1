//! Room on the disk. Before it runs out, this node stops to take on more: it refuses proposals, then as a follower
//! commands too, while votes, changes of the leader, cleaning up, reads and the feed go on. A reserve file is given back
//! to the file system at the end, so that there is room for those; when there is room again, everything goes on by
//! itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use model::name::NodeId;
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use tokio_util::sync::CancellationToken;

use crate::machine::blocking;

/// Bytes kept for votes and cleaning up.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// With less room than this, the reserve counted in, nothing more is taken on.
const LOW_BYTES: u64 = 32 * 1024 * 1024;
/// With less than this, nothing is taken from a leader either but what makes it the leader. Between the two there is
/// room for more than all entries that may be under way, so that none of them stands between a new leader and its term.
const SCARCE_BYTES: u64 = 12 * 1024 * 1024;
/// With less than this beside the reserve, the reserve is given back.
const EMPTY_BYTES: u64 = 4 * 1024 * 1024;
/// With more than this, a look is good for [`FRESH`]: far less is written meanwhile.
const AMPLE_BYTES: u64 = 256 * 1024 * 1024;
/// How long a look at ample room is good for: several are asked for with every entry.
const FRESH: Duration = Duration::from_millis(20);
/// How often it is looked when nothing is written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is known of the room on the disk of this node, and of the others.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    reserve: PathBuf,
    /// The room that was seen last.
    room: AtomicU64,
    /// When, in microseconds after `opened`.
    looked: AtomicU64,
    opened: Instant,
    /// Bytes of the store that holds what has changed since the snapshot.
    stored: AtomicU64,
    /// Whether the others have said that their disks are full.
    others: Mutex<BTreeMap<NodeId, bool>>,
}

impl Space {
    /// Looks at the file system of `folder`, in which the reserve is kept.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Arc<Self>> {
        let reserve = folder.join("reserve");
        let space = Self {
            reserve,
            folder,
            room: AtomicU64::new(u64::MAX),
            looked: AtomicU64::new(0),
            opened: Instant::now(),
            stored: AtomicU64::new(0),
            others: Mutex::default(),
        };
        space.look()?;
        Ok(Arc::new(space))
    }

    /// Whether nothing more may be taken on: here, or by so many of the others that it could not be committed.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full_here() || self.is_full_elsewhere()
    }

    /// Whether nothing more may be taken on by this node.
    pub(crate) fn is_full_here(&self) -> bool {
        self.room() < LOW_BYTES
    }

    /// Whether there is no room left for commands that a leader sends.
    pub(crate) fn is_scarce(&self) -> bool {
        self.room() < SCARCE_BYTES
    }

    /// How many bytes what has changed since the snapshot takes in the store.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Takes note of that.
    pub(crate) fn note_stored(&self, bytes: u64) {
        self.stored.store(bytes, Ordering::Relaxed);
    }

    /// What another node has said of its disk.
    pub(crate) fn hear(&self, node: NodeId, full: bool) {
        self.others().insert(node, full);
    }

    /// Whether another node has said that its disk is full.
    pub(crate) fn is_full_at(&self, node: NodeId) -> bool {
        self.others().get(&node).is_some_and(|full| *full)
    }

    /// Refuses when nothing more may be taken on here, with the error that the file system would give a little later.
    pub(crate) fn claim(&self) -> io::Result<()> {
        if self.is_full_here() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Gives the reserve back when what is about to be written may need it. The log asks before each write, for its
    /// writer does not survive the first one that has no room.
    pub(crate) fn make_room(&self) {
        if self.is_ample() {
            return;
        }
        let made =
            self.available().and_then(|room| if room < EMPTY_BYTES { self.give_back() } else { Ok(()) });
        if let Err(error) = made {
            tracing::warn!(%error, "the reserve of the disk was not given back");
        }
    }

    /// Waits until there is room, or `until` says that nobody needs it any more; gives whether there is.
    pub(crate) fn wait(&self, until: impl Fn() -> bool) -> bool {
        loop {
            thread::sleep(LOOK_EVERY);
            if !self.is_full_here() {
                return true;
            }
            if until() {
                return false;
            }
        }
    }

    /// Waits until there is room.
    pub(crate) async fn room_again(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let space = Arc::clone(self);
            if !blocking(move || Ok(space.is_full_here())).await.unwrap_or(true) {
                return;
            }
        }
    }

    /// Looks now and then, until the node stops: room may come and go while nothing is written.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let space = Arc::clone(&self);
            let looked = blocking(move || space.look()).await;
            if let Err(error) = looked {
                tracing::warn!(%error, "the room on the disk is not known");
            }
        }
    }

    fn is_full_elsewhere(&self) -> bool {
        let others = self.others();
        let full = others.values().filter(|full| **full).count();
        // A majority of all needs half of the others, rounded up, beside this node.
        full > others.len() / 2
    }

    /// The bytes free. A file system that cannot be asked is found out by whoever writes to it.
    pub(crate) fn room(&self) -> u64 {
        if self.is_ample() {
            return self.room.load(Ordering::Relaxed);
        }
        self.look().unwrap_or_else(|error| {
            tracing::warn!(%error, "the room on the disk is not known");
            self.room.load(Ordering::Relaxed)
        })
    }

    fn others(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, bool>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was seen a moment ago that there is far more room than can have been used since.
    fn is_ample(&self) -> bool {
        let age = self.age().saturating_sub(self.looked.load(Ordering::Acquire));
        age < micros(FRESH) && self.room.load(Ordering::Relaxed) >= AMPLE_BYTES
    }

    /// Microseconds since it was opened.
    fn age(&self) -> u64 {
        micros(self.opened.elapsed())
    }

    /// The room there is, the reserve counted in: otherwise giving it back would look like room for more.
    fn look(&self) -> io::Result<u64> {
        let available = self.available()?;
        let kept = match fs::metadata(&self.reserve) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let room = available.saturating_add(kept);
        let before = self.room.swap(room, Ordering::Relaxed);
        self.looked.store(self.age(), Ordering::Release);
        if (before < LOW_BYTES) != (room < LOW_BYTES) {
            if room < LOW_BYTES {
                tracing::error!(room, folder = %self.folder.display(), "the disk is full: nothing more is taken on");
            } else {
                tracing::info!(room, folder = %self.folder.display(), "there is room on the disk again");
            }
        }
        if available < EMPTY_BYTES {
            self.give_back()?;
        } else if room >= LOW_BYTES && kept == 0 {
            self.keep()?;
        }
        Ok(room)
    }

    /// The room there is beside the reserve.
    fn available(&self) -> io::Result<u64> {
        let seen = statvfs(&self.folder).map_err(io::Error::from)?;
        Ok(seen.blocks_available() * seen.fragment_size())
    }

    fn give_back(&self) -> io::Result<()> {
        match fs::remove_file(&self.reserve) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the reserve when there is none. A file system that cannot allocate keeps none.
    fn keep(&self) -> io::Result<()> {
        let length = i64::try_from(RESERVE_BYTES).map_err(io::Error::other)?;
        let file = File::options().write(true).create(true).truncate(false).open(&self.reserve)?;
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            Err(error) => {
                self.give_back()?;
                Err(error.into())
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ample_room_is_believed_for_a_moment_and_little_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut space = Arc::into_inner(Space::open(folder.path().to_path_buf()).unwrap()).unwrap();
        let now = space.age();
        space.looked.store(now + micros(FRESH), Ordering::Release);
        space.room.store(AMPLE_BYTES, Ordering::Relaxed);
        assert_eq!(space.room(), AMPLE_BYTES, "nobody looks");
        space.room.store(AMPLE_BYTES - 1, Ordering::Relaxed);
        assert_ne!(space.room(), AMPLE_BYTES - 1, "somebody looks");
        space.room.store(AMPLE_BYTES + 1, Ordering::Relaxed);
        space.opened -= 2 * FRESH;
        space.looked.store(0, Ordering::Release);
        assert_ne!(space.room(), AMPLE_BYTES + 1, "that was long ago");
    }

    #[test]
    fn there_is_a_reserve_and_it_can_be_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::open(folder.path().to_path_buf()).unwrap();
        assert!(!space.is_full());
        assert!(space.reserve.exists());
        space.give_back().unwrap();
        space.give_back().unwrap();
        assert!(!space.reserve.exists());
        space.look().unwrap();
        assert!(!space.is_full() && space.reserve.exists(), "with room there is one again");
    }

    #[test]
    fn what_could_not_be_committed_is_not_taken_on() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::open(folder.path().to_path_buf()).unwrap();
        space.hear(NodeId(2), true);
        space.hear(NodeId(3), false);
        assert!(!space.is_full() && space.is_full_at(NodeId(2)), "this node and the third are a majority");
        space.hear(NodeId(3), true);
        assert!(space.is_full() && !space.is_full_here());
        space.hear(NodeId(2), false);
        assert!(!space.is_full());
    }
}
