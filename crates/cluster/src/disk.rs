//! The folder of a node: its layout, its storage identity, and the few file operations that must be durable.

use std::{
    fs::{self, File},
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

    /// The UUID of this storage, written when it is first used. A folder that was wiped or replaced has another one.
    pub(crate) fn identity(&self) -> io::Result<Uuid> {
        let path = self.0.join("identity");
        match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Uuid::new_v4();
                write_durably(&path, format!("{identity}\n").as_bytes())?;
                Ok(identity)
            }
            Err(error) => Err(error),
        }
    }
}

/// Makes a folder whose name survives power loss.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
