//! A certificate and its key in files that someone else renews.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::TlsError;

/// A pair of files, PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What tells that a file was written anew: its inode, length, and when it was last changed.
pub type Stamp = [(u64, u64, i64, i64); 2];

impl Files {
    /// Reads both and checks that they belong together.
    ///
    /// # Errors
    /// [`TlsError::File`], [`TlsError::Use`].
    pub fn load(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&read(&self.certificate)?)
            .map_err(|_| unusable(&self.certificate, "no certificate"))?;
        let key = zeroize::Zeroizing::new(read(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unusable(&self.key, "no private key"))?;
        Ok(CertifiedKey::from_der(chain, key, &default_provider())?)
    }

    /// What they look like now.
    ///
    /// # Errors
    /// When one is not there.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let of = |path: &Path| {
            let about = fs::metadata(path)?;
            io::Result::Ok((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
        };
        Ok([of(&self.certificate)?, of(&self.key)?])
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, problem: &str) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_owned() }
}

/// The certificates of a text, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Unreadable)
}
