//! Whose certificates are good no more, although their time has not come.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use crate::facts;

/// The revoked certificates, as one port knows them now. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Revoked(Arc<ArcSwap<Listed>>);

/// What is revoked.
#[derive(Debug, Default)]
struct Listed {
    serials: BTreeSet<String>,
    hosts: BTreeSet<String>,
}

impl Revoked {
    /// Takes the place of what was revoked before: serials in hexadecimal, and host names whose every certificate is.
    pub(crate) fn set(&self, serials: BTreeSet<String>, hosts: BTreeSet<String>) {
        self.0.store(Arc::new(Listed { serials, hosts }));
    }

    /// Whether this certificate is among them. One that cannot be read is.
    #[must_use]
    pub fn covers(&self, certificate: &CertificateDer<'_>) -> bool {
        let listed = self.0.load();
        facts(certificate).map_or(true, |found| {
            listed.serials.contains(&found.serial)
                || found.hosts.iter().any(|host| listed.hosts.contains(host))
        })
    }
}
