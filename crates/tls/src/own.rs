//! The certificate that a port shows, which is exchanged while the port is open.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Facts, TlsError, facts};

/// The certificate that is shown now. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Own(Arc<ArcSwap<Shown>>);

#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

impl Shown {
    fn new(certified: CertifiedKey) -> Result<Self, TlsError> {
        let facts = facts(certified.end_entity_cert()?)?;
        Ok(Self { certified: Arc::new(certified), facts })
    }
}

impl Own {
    /// Shows this one first.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`].
    pub fn new(certified: CertifiedKey) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Shown::new(certified)?))))
    }

    /// Shows this one from now on; connections that are open stay.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`]; the one before is shown on.
    pub fn replace(&self, certified: CertifiedKey) -> Result<(), TlsError> {
        self.0.store(Arc::new(Shown::new(certified)?));
        Ok(())
    }

    /// What the one that is shown says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.0.load().facts.clone()
    }

    /// How long until it is to be renewed: when a third of its time is left. Zero when that is now, and when the time
    /// is not within its own.
    #[must_use]
    pub fn renew_in(&self, now: Duration) -> Duration {
        let shown = self.0.load();
        let Facts { not_before, not_after, .. } = shown.facts;
        if now < not_before {
            return Duration::ZERO;
        }
        let third = not_after.saturating_sub(not_before) / 3;
        not_after.saturating_sub(third).saturating_sub(now)
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
