//! The folder of a node: its layout, its storage identity, and the few file operations that must be durable.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// The places in a node's data folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// Makes the folder when there is none.
    pub(crate) fn make(root: PathBuf) -> io::Result<Self> {
        make_folder(&root)?;
        Ok(Self(root))
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.clone()
    }

    /// Raft's log and vote.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The materialised state.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The newest snapshot.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// Where damaged files are kept for whoever wants to look at them; the last of each kind.
    pub(crate) fn damaged(&self) -> PathBuf {
        self.0.join("damaged")
    }

    /// Marks the folder as one whose content is wrong.
    pub(crate) fn quarantine(&self, reason: &str) -> io::Result<()> {
        write_durably(&self.quarantined(), reason.as_bytes())
    }

    /// Why the content of the folder is wrong, when it is known to be.
    pub(crate) fn quarantine_reason(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.quarantined()) {
            Ok(reason) => Ok(Some(reason)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn quarantined(&self) -> PathBuf {
        self.0.join("quarantined")
    }

    /// Gives up what this node holds: the storage is a new one from here on. Nothing is deleted but what was set aside
    /// before.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        // First of all: a node that ends half way must not be taken for the one that made the promises.
        self.renew_identity()?;
        let aside = self.damaged();
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        make_folder(&aside)?;
        for folder in [self.log(), self.state(), self.snapshots()] {
            if let Some(name) = folder.file_name().filter(|_| folder.exists()) {
                fs::rename(&folder, aside.join(name))?;
            }
        }
        sync_folder(&aside)?;
        match fs::remove_file(self.quarantined()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        sync_folder(&self.0)
    }

    /// The UUID of this storage, written when it is first used. A folder that was wiped or replaced has another one.
    pub(crate) fn identity(&self) -> io::Result<Uuid> {
        let path = self.0.join("identity");
        match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.renew_identity(),
            Err(error) => Err(error),
        }
    }

    /// Gives this storage another UUID: what it had promised under the old one is void.
    pub(crate) fn renew_identity(&self) -> io::Result<Uuid> {
        let identity = Uuid::new_v4();
        write_durably(&self.0.join("identity"), format!("{identity}\n").as_bytes())?;
        Ok(identity)
    }

    /// The UUID of a storage on which no node has run yet, as a new node needs it before it is let in.
    pub(crate) fn fresh_identity(&self) -> io::Result<Uuid> {
        if self.log().exists() {
            let message = format!("`{}` holds the data of a node already", self.0.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        self.identity()
    }

    /// What the other nodes are known to have promised.
    pub(crate) fn promises(&self) -> PathBuf {
        self.0.join("promises")
    }
}

/// A data folder held by this process: no two nodes may write to one. Given back when dropped, or when the process ends
/// in whatever way.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Layout {
    /// Takes the folder for this process.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let file = File::options().create(true).truncate(false).write(true).open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "another process uses this folder"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether there was no room: then what was written before is as good as ever, and it may be tried again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a folder whose name survives power loss.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|level| !level.as_os_str().is_empty() && !level.exists());
    let missing: Vec<_> = missing.collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().chain([folder]).filter_map(Path::parent).try_for_each(sync_folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Writes a small file so that either the old or the new content survives.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path().to_path_buf()).unwrap();
        let held = layout.lock().unwrap();
        assert_eq!(layout.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        layout.lock().unwrap();
    }

    #[test]
    fn the_identity_of_a_storage_stays_and_a_wiped_one_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path().join("a/b")).unwrap();
        let first = layout.identity().unwrap();
        assert_eq!(layout.identity().unwrap(), first);
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        let layout = Layout::make(folder.path().join("a/b")).unwrap();
        assert_ne!(layout.identity().unwrap(), first);
    }
}
