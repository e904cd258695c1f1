//! Room on the disk. Before it runs out, this node stops to take on more: it refuses proposals, and as a follower
//! entries, while votes, cleaning up, reads and the feed go on. A reserve file is given back to the file system at the
//! end, so that there is room for those; when there is room again, everything goes on by itself.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use tokio_util::sync::CancellationToken;

use crate::machine::blocking;

/// Bytes kept for votes and cleaning up.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// With less than this beside the reserve, nothing more is taken on: more than all entries that may be under way.
const LOW_BYTES: u64 = 16 * 1024 * 1024;
/// With less than this, the reserve is given back.
const EMPTY_BYTES: u64 = 4 * 1024 * 1024;
/// How often it is looked when nothing is written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is known of the room on the disk of this node.
pub(crate) struct Space {
    folder: PathBuf,
    reserve: PathBuf,
    full: AtomicBool,
}

impl Space {
    /// Looks at the file system of `folder`, in which the reserve is kept.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Arc<Self>> {
        let space = Self { reserve: folder.join("reserve"), folder, full: AtomicBool::new(false) };
        space.look()?;
        Ok(Arc::new(space))
    }

    /// Whether nothing more may be taken on. A file system that cannot be asked is found out by whoever writes to it.
    pub(crate) fn is_full(&self) -> bool {
        match self.look() {
            Ok(full) => full,
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                self.full.load(Ordering::Relaxed)
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

    fn look(&self) -> io::Result<bool> {
        let seen = statvfs(&self.folder).map_err(io::Error::from)?;
        let available = seen.blocks_available() * seen.fragment_size();
        let full = available < LOW_BYTES;
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(available, folder = %self.folder.display(), "the disk is full: nothing more is taken on");
            } else {
                tracing::info!(available, folder = %self.folder.display(), "there is room on the disk again");
            }
        }
        if available < EMPTY_BYTES {
            self.give_back()?;
        } else if available >= LOW_BYTES + RESERVE_BYTES {
            self.keep()?;
        }
        Ok(full)
    }

    fn give_back(&self) -> io::Result<()> {
        match fs::remove_file(&self.reserve) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the reserve when there is none. A file system that cannot allocate keeps none.
    fn keep(&self) -> io::Result<()> {
        if self.reserve.exists() {
            return Ok(());
        }
        let length = i64::try_from(RESERVE_BYTES).map_err(io::Error::other)?;
        let file = File::create(&self.reserve)?;
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            Err(error) => {
                self.give_back()?;
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_reserve_and_it_can_be_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::open(folder.path().to_path_buf()).unwrap();
        assert!(!space.is_full());
        assert!(space.reserve.exists());
        space.give_back().unwrap();
        space.give_back().unwrap();
        assert!(!space.reserve.exists());
        assert!(!space.is_full() && space.reserve.exists(), "with room there is one again");
    }
}
