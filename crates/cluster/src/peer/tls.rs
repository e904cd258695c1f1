//! Who may speak on the peer port. Every node derives the same certificate authority from the root key and issues
//! itself a certificate, so whoever holds the root key is admitted, and nobody else.

use std::sync::Arc;

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Salt},
    signature::Ed25519KeyPair,
};
use model::name::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::error::StartError;

const INFO: &[u8] = b"revolve peer ca v1";
const SEED_BYTES: usize = 32;

/// The certificates of this node.
#[derive(Clone)]
pub(crate) struct Keys {
    authority: Certificate,
    identity: Identity,
}

impl Keys {
    /// Derives the authority from the root key and issues a certificate to `node`.
    pub(crate) fn derive(root_key: &[u8; 32], node: NodeId) -> Result<Self, StartError> {
        Self::try_derive(root_key, node).map_err(StartError::Keys)
    }

    fn try_derive(
        root_key: &[u8; 32],
        node: NodeId,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let authority_key = authority_key(root_key)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = named("revolve peer authority");
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);

        // The certificates have no end that matters: they prove that the root key was at hand when this process
        // started, and it is at hand now. To turn a node out, the root key is changed.
        let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut leaf = CertificateParams::new(vec![host_name(node)])?;
        leaf.distinguished_name = named(&host_name(node));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&leaf_key, &issuer)?;
        Ok(Self {
            authority: Certificate::from_pem(authority.pem()),
            identity: Identity::from_pem(certificate.pem(), leaf_key.serialize_pem()),
        })
    }

    /// For the peer port: only nodes with a certificate of this authority get in.
    pub(crate) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(self.identity.clone()).client_ca_root(self.authority.clone())
    }

    /// For a connection to `node`: whoever answers must be that node.
    pub(crate) fn client(&self, node: NodeId) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(self.authority.clone())
            .identity(self.identity.clone())
            .domain_name(host_name(node))
    }
}

/// Whether the certificates that a connection came with are those of `node`. That the authority has signed them was
/// checked when the connection was made.
pub(crate) fn belongs_to(certificates: Option<Arc<Vec<CertificateDer<'static>>>>, node: NodeId) -> bool {
    let Some(certificates) = certificates else { return false };
    let Some(leaf) = certificates.first().and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok()) else {
        return false;
    };
    ServerName::try_from(host_name(node))
        .is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
}

fn host_name(node: NodeId) -> String {
    format!("{node}.peer.revolve")
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority_key(root_key: &[u8; 32]) -> Result<KeyPair, Box<dyn std::error::Error + Send + Sync>> {
    struct Seed;
    impl KeyType for Seed {
        fn len(&self) -> usize {
            SEED_BYTES
        }
    }
    let mut seed = zeroize::Zeroizing::new([0; SEED_BYTES]);
    let derived = Salt::new(HKDF_SHA256, &[]).extract(root_key);
    derived.expand(&[INFO], Seed).and_then(|key| key.fill(&mut *seed)).map_err(|_| "HKDF failed")?;
    let key = Ed25519KeyPair::from_seed_unchecked(&*seed)?;
    let pkcs8 = key.to_pkcs8v1()?;
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()), &PKCS_ED25519)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_root_keys_give_equal_authorities_and_others_do_not() {
        let public = |root: [u8; 32]| authority_key(&root).unwrap().public_key_pem();
        assert_eq!(public([7; 32]), public([7; 32]));
        assert_ne!(public([7; 32]), public([8; 32]));
    }

    #[test]
    fn a_certificate_belongs_to_one_node() {
        let root = [3; 32];
        let key = authority_key(&root).unwrap();
        let issuer = Issuer::new(CertificateParams::default(), key);
        let leaf_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let leaf = CertificateParams::new(vec![host_name(NodeId(1))])
            .unwrap()
            .signed_by(&leaf_key, &issuer)
            .unwrap();
        let presented = Some(Arc::new(vec![leaf.der().clone()]));
        assert!(belongs_to(presented.clone(), NodeId(1)));
        assert!(!belongs_to(presented, NodeId(11)));
        assert!(!belongs_to(None, NodeId(1)));
    }
}
