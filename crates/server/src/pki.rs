//! What opens the client port to whoever holds the root key: made from it, without asking the cluster. The first operator
//! keeps it in files; a node that joins, and one that is asked how it is, make it for a moment.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::name::NodeId;
use secrecy::SecretString;
use tls::{Authority, Clock, Issued, Leaf, TlsError, facts};
use workers::RootKey;

use crate::{
    config::Config,
    join,
    keys::files::{KeyFileError, KeyFiles},
    port::{authority, host_name},
};

/// The certificate of the client authority: what clients check servers against.
pub const CA_FILE: &str = "ca.pem";

/// How long a certificate is good that is made for a few calls.
const PASS_LIFETIME: Duration = Duration::from_secs(600);

/// What opens the client port for a few calls.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The certificate of the authority, which servers are checked against.
    pub ca: String,
    /// The certificate to show.
    pub certificate: String,
    /// Its key.
    pub key: SecretString,
}

/// Makes a client certificate for `name` that is over soon. Nothing is written.
///
/// # Errors
/// When it cannot be made.
pub fn pass(root: &RootKey, name: &str) -> Result<Pass, PkiError> {
    let authority = authority(root)?;
    let issued = issue(&authority, name, PASS_LIFETIME)?;
    let (certificate, key) = (issued.pem.clone(), issued.key_pem.as_str().into());
    Ok(Pass { ca: authority.pem().to_owned(), certificate, key })
}

/// What opens the client port of the node with this configuration, as its root keys say: one pass for each, for while a key is
/// replaced the cluster may believe either. All of them check the node against either.
///
/// # Errors
/// When the root key cannot be read.
pub fn passes(config: &Config, name: &str) -> Result<Vec<Pass>, PkiError> {
    let roots = KeyFiles::of(config).read()?;
    let mut passes = roots.iter().map(|root| pass(root, name)).collect::<Result<Vec<_>, _>>()?;
    let all: String = passes.iter().map(|pass| pass.ca.as_str()).collect();
    for pass in &mut passes {
        pass.ca.clone_from(&all);
    }
    Ok(passes)
}

/// The name in the certificate that the node with this configuration issues itself; none while it has no number.
#[must_use]
pub fn name_of(config: &Config) -> Option<String> {
    let node = if config.node > 0 { Some(NodeId(config.node)) } else { join::given(&config.data) };
    node.map(host_name)
}

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
    /// There is no root key to make it with.
    #[error(transparent)]
    RootKey(#[from] KeyFileError),
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
    let issued = issue(&authority, name, lifetime)?;
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

fn issue(authority: &Authority, name: &str, lifetime: Duration) -> Result<Issued, TlsError> {
    let leaf = Leaf { name: name.to_owned(), hosts: Vec::new(), serves: false, calls: true, lifetime };
    let clock = Clock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    authority.issue(&leaf, &clock)
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

    #[test]
    fn a_pass_is_of_the_authority_and_shows_no_key() {
        let root = RootKey::generate();
        let pass = pass(&root, "joiner").unwrap();
        // A signature is another each time; the key that is certified is not.
        let key_of = |pem: &str| pem.lines().skip(3).take(3).map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(key_of(&pass.ca), key_of(authority(&root).unwrap().pem()));
        assert_ne!(key_of(&pass.ca), key_of(authority(&RootKey::generate()).unwrap().pem()));
        let key = secrecy::ExposeSecret::expose_secret(&pass.key).to_owned();
        assert!(key.contains("PRIVATE KEY"));
        assert!(!format!("{pass:?}").contains(key.lines().nth(1).unwrap()));
    }
}
