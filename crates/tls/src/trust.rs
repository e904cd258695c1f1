//! Who is believed: authorities that are exchanged while the port is open, and nobody that is revoked.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{Authority, Revoked, TlsError};

/// Checks the certificates of others, on either end. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    revoked: Revoked,
    checks: ArcSwap<Checks>,
    /// The names of the authorities, which are the same whatever the root key.
    hints: Vec<DistinguishedName>,
}

#[derive(Debug)]
struct Checks {
    of_servers: Arc<WebPkiServerVerifier>,
    of_clients: Arc<dyn ClientCertVerifier>,
}

impl Checks {
    fn new(roots: &RootCertStore) -> Result<Self, TlsError> {
        let (roots, provider) = (Arc::new(roots.clone()), Arc::new(default_provider()));
        Ok(Self {
            of_servers: WebPkiServerVerifier::builder_with_provider(
                Arc::clone(&roots),
                Arc::clone(&provider),
            )
            .build()?,
            of_clients: WebPkiClientVerifier::builder_with_provider(roots, provider).build()?,
        })
    }
}

impl Trust {
    /// Believes what these authorities have issued and `revoked` does not name.
    ///
    /// # Errors
    /// [`TlsError::Trust`], when there is none.
    pub fn new(authorities: &[Authority], revoked: Revoked) -> Result<Self, TlsError> {
        let roots = roots(authorities)?;
        let checks = ArcSwap::from_pointee(Checks::new(&roots)?);
        Ok(Self(Arc::new(Inner { revoked, checks, hints: roots.subjects() })))
    }

    /// Believes these authorities from now on, and no others.
    ///
    /// # Errors
    /// [`TlsError::Trust`]; those before are believed on.
    pub fn replace(&self, authorities: &[Authority]) -> Result<(), TlsError> {
        self.0.checks.store(Arc::new(Checks::new(&roots(authorities)?)?));
        Ok(())
    }

    fn refuse_revoked(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.0.revoked.covers(certificate) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(())
    }
}

fn roots(authorities: &[Authority]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.certificate().clone())?;
    }
    Ok(roots)
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checks = self.0.checks.load();
        let verified = checks.of_servers.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.refuse_revoked(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.checks.load().of_servers.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.checks.load().of_servers.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.checks.load().of_servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.checks.load().of_clients.verify_client_cert(end_entity, intermediates, now)?;
        self.refuse_revoked(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.checks.load().of_clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.checks.load().of_clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.checks.load().of_clients.supported_verify_schemes()
    }
}
