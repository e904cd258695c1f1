//! The files that root keys are read from: this node's own, and the one that is to take its place. They are looked at again
//! while the node runs, so that a key can be replaced without a restart.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use workers::{RootKey, root_key::RootKeyError};
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError};

/// The variables that take the place of the files.
const OWN: &str = "REVOLVE_ROOT_KEY";
const NEXT: &str = "REVOLVE_NEXT_ROOT_KEY";

/// Where this node's root keys come from.
pub(crate) struct KeyFiles {
    own: Option<PathBuf>,
    next: Option<PathBuf>,
    /// What the files looked like when they were last read.
    seen: [Option<Looks>; 2],
}

/// Device, inode, length, and time of change: what differs when a file was written or replaced.
type Looks = (u64, u64, u64, i64, i64);

/// Why there are no root keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// None is configured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// One cannot be used.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
}

impl KeyFiles {
    /// The files that the configuration names. The one of the next key may not be there yet.
    pub(crate) fn of(config: &Config) -> Self {
        let beside = |own: &PathBuf| {
            let mut name = own.clone().into_os_string();
            name.push(".next");
            PathBuf::from(name)
        };
        let next = config.next_root_key_file.clone().or_else(|| config.root_key_file.as_ref().map(beside));
        Self { own: config.root_key_file.clone(), next, seen: [None, None] }
    }

    /// Reads the keys: this node's own first, then the next one if there is one.
    ///
    /// # Errors
    /// When this node's own is missing, or a file cannot be used.
    pub(crate) fn read(&mut self) -> Result<Vec<RootKey>, KeyFileError> {
        self.seen = self.look();
        let own = match (&self.own, std::env::var(OWN)) {
            (Some(path), _) => RootKey::read_from(path)?,
            (None, Ok(text)) => RootKey::from_text(&Zeroizing::new(text))?,
            (None, Err(_)) => return Err(ConfigError::NoRootKey.into()),
        };
        let next = match (&self.next, std::env::var(NEXT)) {
            (Some(path), _) if is_there(path) => Some(RootKey::read_from(path)?),
            (_, Ok(text)) => Some(RootKey::from_text(&Zeroizing::new(text))?),
            (_, Err(_)) => None,
        };
        let next = next.filter(|next| next.id() != own.id());
        Ok([own].into_iter().chain(next).collect())
    }

    /// Whether a file was written, replaced or removed since the keys were read.
    pub(crate) fn have_changed(&self) -> bool {
        self.look() != self.seen
    }

    fn look(&self) -> [Option<Looks>; 2] {
        [&self.own, &self.next].map(|path| looks(path.as_deref()?))
    }
}

/// Anything but "there is no such file" counts as there: whatever is wrong with it is said when it is read.
fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn looks(path: &Path) -> Option<Looks> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino(), about.len(), about.ctime(), about.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> KeyFiles {
        let own = folder.join("root.key");
        let text = format!(
            "node = 1\ndata = \"data\"\nroot_key_file = \"{}\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
             peer = \"127.0.0.1:2\"\n[peers]\n1 = \"127.0.0.1:2\"\n",
            own.display()
        );
        KeyFiles::of(&toml::from_str(&text).unwrap())
    }

    #[test]
    fn the_next_key_may_come_later_and_take_the_place_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (own, next) = (folder.path().join("root.key"), folder.path().join("root.key.next"));
        let mut files = files(folder.path());
        assert!(matches!(files.read(), Err(KeyFileError::RootKey(RootKeyError::Unreadable { .. }))));
        let old = RootKey::generate_to(&own).unwrap().id();
        assert!(files.have_changed());
        assert_eq!(files.read().unwrap().iter().map(RootKey::id).collect::<Vec<_>>(), [old]);
        assert!(!files.have_changed());
        let new = RootKey::generate_to(&next).unwrap().id();
        assert!(files.have_changed());
        assert_eq!(files.read().unwrap().iter().map(RootKey::id).collect::<Vec<_>>(), [old, new]);
        fs::rename(&next, &own).unwrap();
        assert!(files.have_changed());
        assert_eq!(files.read().unwrap().iter().map(RootKey::id).collect::<Vec<_>>(), [new]);
        // The same key twice is one key.
        fs::copy(&own, &next).unwrap();
        assert_eq!(files.read().unwrap().len(), 1);
    }

    #[test]
    fn a_next_key_that_cannot_be_used_is_an_error_and_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        RootKey::generate_to(&folder.path().join("root.key")).unwrap();
        fs::create_dir(folder.path().join("root.key.next")).unwrap();
        let read = files(folder.path()).read();
        assert!(matches!(read, Err(KeyFileError::RootKey(RootKeyError::NotAFile(_)))), "{read:?}");
    }
}
