//! The root key: 32 bytes given to each node from outside the cluster, which wrap the data keys that are in it.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::hkdf;
use base64::{Engine, engine::general_purpose::STANDARD};
use model::key::RootKeyId;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use zeroize::Zeroizing;

/// Length of a root key, in bytes.
pub const BYTES: usize = 32;
/// Longest text that can hold a key, in bytes; a file beyond it holds something else.
const TEXT_BYTES: u64 = 256;

/// The key that wraps the cluster's data keys, and from which keys for other purposes are derived.
pub struct RootKey {
    key: SecretBox<[u8; BYTES]>,
    /// Derived once: it is asked for often.
    id: RootKeyId,
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be used.
    #[error("cannot read the root key file `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be made.
    #[error("cannot create the root key file `{path}`")]
    NotCreated {
        /// The file.
        path: PathBuf,
        /// Why; an existing key is never overwritten.
        source: std::io::Error,
    },
    /// It is a folder, a device or the like.
    #[error("the root key file `{0}` is not a regular file")]
    NotAFile(PathBuf),
    /// Others may read or write it.
    #[error("the root key file `{path}` is open to others (mode {mode:04o}); run: chmod 600 {path}")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not a key.
    #[error("a root key is 32 bytes as 44 characters of base64 or 64 of hexadecimal")]
    NotAKey,
}

impl RootKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = SecretBox::new(Box::new([0; BYTES]));
        aws_lc_rs::rand::fill(key.expose_secret_mut()).expect("the system's random generator answers");
        Self::new(key)
    }

    /// A new random key, written to a file that only its owner may read.
    ///
    /// # Errors
    /// When the file exists already, whatever is in it, or cannot be written.
    pub fn generate_to(path: &Path) -> Result<Self, RootKeyError> {
        let key = Self::generate();
        let write = || {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
            let mut text = Zeroizing::new(STANDARD.encode(key.key.expose_secret()));
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // The name must last as well: without it everything sealed under the key is lost.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|source| RootKeyError::NotCreated { path: path.into(), source })?;
        Ok(key)
    }

    /// Reads the key from a file that only its owner may read or write.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others or holds no key.
    pub fn read_from(path: &Path) -> Result<Self, RootKeyError> {
        let unreadable = |source| RootKeyError::Unreadable { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        // The open file is asked, not the path: what is checked is what is read.
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(RootKeyError::NotAFile(path.into()));
        }
        let mode = about.mode() & 0o7777;
        if mode & forbidden(about.uid(), nix::unistd::geteuid().as_raw()) != 0 {
            return Err(RootKeyError::OpenToOthers { path: path.into(), mode });
        }
        let capacity = usize::try_from(TEXT_BYTES + 1).expect("a small number");
        let mut text = Zeroizing::new(String::with_capacity(capacity));
        file.take(TEXT_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        Self::from_text(&text)
    }

    /// Reads the key from text, such as an environment variable: base64 or hexadecimal.
    ///
    /// # Errors
    /// When the text is neither, or not of 32 bytes.
    pub fn from_text(text: &str) -> Result<Self, RootKeyError> {
        let text = text.trim();
        let bytes = Zeroizing::new(match text.len() {
            64 => unhex(text).ok_or(RootKeyError::NotAKey)?,
            _ => STANDARD.decode(text).map_err(|_| RootKeyError::NotAKey)?,
        });
        if bytes.len() != BYTES {
            return Err(RootKeyError::NotAKey);
        }
        let mut key = SecretBox::new(Box::new([0; BYTES]));
        key.expose_secret_mut().copy_from_slice(&bytes);
        Ok(Self::new(key))
    }

    /// What the key is known by. It is derived like a key of its own and does not lead back to this one.
    #[must_use]
    pub const fn id(&self) -> RootKeyId {
        self.id
    }

    /// A key of its own for `purpose`: HKDF-SHA256 (RFC 5869) without salt. One purpose's key tells nothing of
    /// another's nor of the root key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; BYTES]> {
        derive(&self.key, purpose)
    }

    fn new(key: SecretBox<[u8; BYTES]>) -> Self {
        let derived = derive(&key, "root-key-id");
        let id = RootKeyId(*derived.first_chunk().expect("32 bytes begin with 8"));
        Self { key, id }
    }
}

fn derive(from: &SecretBox<[u8; BYTES]>, purpose: &str) -> Zeroizing<[u8; BYTES]> {
    let mut key = Zeroizing::new([0; BYTES]);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(from.expose_secret());
    prk.expand(&[b"revolve/", purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut()))
        .expect("HKDF-SHA256 yields 32 bytes");
    key
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey([REDACTED])")
    }
}

/// The permissions that a key file may not grant. One that belongs to root may be read by its group: so it comes from
/// systemd (`LoadCredential=`) and from Kubernetes (a secret, with `fsGroup`) to a process that is not root.
const fn forbidden(owner: u32, reader: u32) -> u32 {
    if owner == 0 && reader != 0 { 0o037 } else { 0o077 }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_file_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let key = RootKey::generate_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(*RootKey::read_from(&path).unwrap().derive("x"), *key.derive("x"));
        let before = fs::read(&path).unwrap();
        assert!(matches!(RootKey::generate_to(&path), Err(RootKeyError::NotCreated { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        RootKey::generate_to(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o622] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = RootKey::read_from(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains("root.key"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        RootKey::read_from(&path).unwrap();
    }

    #[test]
    fn a_key_that_root_hands_over_may_be_read_by_the_group_and_by_nobody_else() {
        let is_refused = |owner, reader, mode: u32| mode & forbidden(owner, reader) != 0;
        for mode in [0o400, 0o440, 0o640] {
            assert!(!is_refused(0, 65_532, mode), "{mode:o}");
        }
        for mode in [0o444, 0o460, 0o450, 0o404, 0o604, 0o622] {
            assert!(is_refused(0, 65_532, mode), "{mode:o}");
        }
        assert!(is_refused(0, 0, 0o440) && is_refused(7, 7, 0o440) && is_refused(8, 7, 0o440));
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(RootKey::read_from(folder.path()), Err(RootKeyError::NotAFile(_))));
        assert!(matches!(RootKey::read_from(Path::new("/nowhere")), Err(RootKeyError::Unreadable { .. })));
        for text in ["", "hunter2", &"zz".repeat(32), &STANDARD.encode([1; 31]), &"a".repeat(300)] {
            assert!(matches!(RootKey::from_text(text), Err(RootKeyError::NotAKey)), "{text}");
        }
    }

    #[test]
    fn the_id_of_a_key_is_fixed_and_tells_nothing_of_it() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let key = RootKey::from_text(hex).unwrap();
        assert_eq!(key.id().to_string(), "f4f1cc44da3fd593");
        assert!(!hex.contains(&key.id().to_string()));
        assert_ne!(RootKey::generate().id(), RootKey::generate().id());
    }

    #[test]
    fn base64_and_hexadecimal_give_the_same_key() {
        let bytes: [u8; BYTES] = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (one, other) =
            (RootKey::from_text(&hex).unwrap(), RootKey::from_text(&STANDARD.encode(bytes)).unwrap());
        assert_eq!(*one.derive("peer-tls"), *other.derive("peer-tls"));
        assert_ne!(*one.derive("peer-tls"), *one.derive("tokens"));
        assert!(!format!("{one:?}").contains(&hex[..8]));
    }
}
