//! The files that the first operator of a cluster needs to reach its client port: made from the root key, before there is
//! a cluster that could be asked.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tls::{Authority, Clock, Leaf, TlsError, facts};
use workers::RootKey;

use crate::port::authority;

/// The certificate of the client authority: what clients check servers against.
pub const CA_FILE: &str = "ca.pem";

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key; mode 0600.
    pub key: PathBuf,
    /// The serial of the certificate, by which it can be revoked.
    pub serial: String,
}

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file could not be written, or exists.
    #[error("cannot create `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `ca.pem` into `folder`, and a client certificate for `name` that is good for `lifetime`, as `NAME.pem` and
/// `NAME.key`. A `ca.pem` that is there already stays; nothing else is overwritten.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn issue_files(root: &RootKey, folder: &Path, name: &str, lifetime: Duration) -> Result<Files, PkiError> {
    let authority = authority(root)?;
    let leaf = Leaf { name: name.to_owned(), hosts: Vec::new(), serves: false, calls: true, lifetime };
    let clock = Clock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let issued = authority.issue(&leaf, &clock)?;
    let files = Files {
        ca: write_ca(&authority, folder)?,
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
        serial: facts(&issued.certificate)?.serial,
    };
    write_new(&files.key, 0o600, issued.key_pem.as_bytes())?;
    write_new(&files.certificate, 0o644, issued.pem.as_bytes())?;
    Ok(files)
}

fn write_ca(authority: &Authority, folder: &Path) -> Result<PathBuf, PkiError> {
    let path = folder.join(CA_FILE);
    if !path.exists() {
        write_new(&path, 0o644, authority.pem().as_bytes())?;
    }
    Ok(path)
}

fn write_new(path: &Path, mode: u32, text: &[u8]) -> Result<(), PkiError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text)?;
        file.sync_all()
    };
    write().map_err(|source| PkiError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_made_fits_together_is_private_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKey::generate();
        let hour = Duration::from_secs(3_600);
        let made = issue_files(&root, folder.path(), "admin", hour).unwrap();
        let mode = std::fs::metadata(&made.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        tls::Files { certificate: made.certificate.clone(), key: made.key.clone() }.load().unwrap();
        assert!(matches!(issue_files(&root, folder.path(), "admin", hour), Err(PkiError::File { .. })));
        let second = issue_files(&root, folder.path(), "ops", hour).unwrap();
        assert!(second.ca == made.ca && second.serial != made.serial);
    }
}
