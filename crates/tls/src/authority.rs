//! The two authorities of a cluster. Nothing of them is kept but their certificates: the root key is the trust anchor,
//! and whoever holds it derives their keys anew.

use std::time::Duration;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    signature::Ed25519KeyPair,
};
use rand::RngExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{Clock, TlsError};

const SEED_BYTES: usize = 32;
/// Bytes of a serial; RFC 5280 allows 20 and wants them positive.
const SERIAL_BYTES: usize = 16;
/// A certificate is good from a little before it is made: clocks of different machines differ. One that is short is
/// good from no earlier than its own length before.
const BACKDATED: Duration = Duration::from_secs(300);
/// How many seeds are tried for an authority; one in 2^32 is no private key of the curve.
const SEEDS: u8 = 4;
/// PKCS #8 (RFC 5208) around an ECPrivateKey (RFC 5915) of P-256, up to the 32 bytes of the private key.
const P256_PKCS8: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

/// Which port an authority speaks for. A certificate of one is worth nothing at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Among nodes: Ed25519.
    Peer,
    /// Between clients and nodes: P-256, which browsers and every library know.
    Client,
}

impl Kind {
    /// The name of its authority.
    #[must_use]
    pub const fn authority(self) -> &'static str {
        match self {
            Self::Peer => "revolve peer authority",
            Self::Client => "revolve client authority",
        }
    }

    const fn info(self) -> &'static [u8] {
        match self {
            Self::Peer => b"revolve peer ca v1",
            Self::Client => b"revolve client ca v1",
        }
    }

    const fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::Peer => &PKCS_ED25519,
            Self::Client => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

/// An authority with its key in memory.
pub struct Authority {
    kind: Kind,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    fingerprint: [u8; 32],
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.kind.authority())
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Whose it is; also its common name.
    pub name: String,
    /// Host names and IP addresses that it is good for.
    pub hosts: Vec<String>,
    /// Whether it is shown by who accepts connections.
    pub serves: bool,
    /// Whether it is shown by who opens them.
    pub calls: bool,
    /// How long it is good.
    pub lifetime: Duration,
}

/// A certificate with its key.
pub struct Issued {
    /// As it is shown.
    pub certificate: CertificateDer<'static>,
    /// As text.
    pub pem: String,
    /// Its key as text.
    pub key_pem: Zeroizing<String>,
    key: PrivateKeyDer<'static>,
}

impl Issued {
    /// As rustls shows it.
    ///
    /// # Errors
    /// [`TlsError::Use`].
    pub fn certified(&self) -> Result<CertifiedKey, TlsError> {
        let chain = vec![self.certificate.clone()];
        Ok(CertifiedKey::from_der(chain, self.key.clone_key(), &default_provider())?)
    }
}

impl Authority {
    /// The authority of `kind` under a root key.
    ///
    /// # Errors
    /// [`TlsError::Derive`], [`TlsError::Issue`].
    pub fn derive(root_key: &[u8; 32], kind: Kind) -> Result<Self, TlsError> {
        let key = authority_key(root_key, kind)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named(kind.authority());
        let certificate = params.self_signed(&key)?;
        let spki = digest(&SHA256, &key.subject_public_key_info());
        let fingerprint = spki.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Ok(Self { kind, issuer: Issuer::new(params, key), certificate, pem, fingerprint })
    }

    /// Its certificate, which those who check others are given.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The SHA-256 of its public key (SubjectPublicKeyInfo, RFC 7469 section 2.4). The certificate is signed anew each
    /// time that it is made; the key stays.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The same as text.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate with a new key.
    ///
    /// # Errors
    /// [`TlsError::Issue`], [`TlsError::Time`].
    pub fn issue(&self, leaf: &Leaf, clock: &Clock) -> Result<Issued, TlsError> {
        let key = KeyPair::generate_for(self.kind.algorithm())?;
        let certificate = params(leaf, &new_serial(), clock)?.signed_by(&key, &self.issuer)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Issued {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            key: der,
        })
    }

    /// Issues a certificate for the key that a request (PKCS #10, PEM) was signed with. Nothing else of the request counts:
    /// who asks does not say what it is.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when the request is not signed by its own key; [`TlsError::Time`].
    pub fn sign(&self, request: &str, leaf: &Leaf, serial: &[u8], clock: &Clock) -> Result<String, TlsError> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        Ok(self.signed(&request.public_key, leaf, serial, clock)?.pem())
    }

    fn signed(
        &self,
        key: &impl PublicKeyData,
        leaf: &Leaf,
        serial: &[u8],
        clock: &Clock,
    ) -> Result<rcgen::Certificate, TlsError> {
        Ok(params(leaf, serial, clock)?.signed_by(key, &self.issuer)?)
    }
}

/// A new random serial: positive, and of the same length each time.
#[must_use]
pub fn new_serial() -> [u8; SERIAL_BYTES] {
    let mut serial: [u8; SERIAL_BYTES] = rand::rng().random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn params(leaf: &Leaf, serial: &[u8], clock: &Clock) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(leaf.hosts.clone())?;
    params.distinguished_name = named(&leaf.name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let uses = [
        (leaf.serves, ExtendedKeyUsagePurpose::ServerAuth),
        (leaf.calls, ExtendedKeyUsagePurpose::ClientAuth),
    ];
    params.extended_key_usages =
        uses.into_iter().filter_map(|(used, purpose)| used.then_some(purpose)).collect();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let now = clock.now();
    params.not_before = instant(now.saturating_sub(BACKDATED.min(leaf.lifetime)))?;
    params.not_after = instant(now.saturating_add(leaf.lifetime))?;
    Ok(params)
}

fn instant(since_epoch: Duration) -> Result<OffsetDateTime, TlsError> {
    let seconds = i64::try_from(since_epoch.as_secs()).map_err(|_| TlsError::Time)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TlsError::Time)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority_key(root_key: &[u8; 32], kind: Kind) -> Result<KeyPair, TlsError> {
    match kind {
        Kind::Peer => {
            let seed = seed(root_key, &[kind.info()])?;
            let key = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| TlsError::Derive)?;
            let pkcs8 = key.to_pkcs8v1().map_err(|_| TlsError::Derive)?;
            Ok(KeyPair::from_pkcs8_der_and_sign_algo(
                &PrivatePkcs8KeyDer::from(pkcs8.as_ref()),
                kind.algorithm(),
            )?)
        }
        Kind::Client => (0..SEEDS)
            .find_map(|turn| {
                let seed = seed(root_key, &[kind.info(), &[turn]]).ok()?;
                let pkcs8 = Zeroizing::new([P256_PKCS8, &*seed].concat());
                let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
                KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, kind.algorithm()).ok()
            })
            .ok_or(TlsError::Derive),
    }
}

fn seed(root_key: &[u8; 32], info: &[&[u8]]) -> Result<Zeroizing<[u8; SEED_BYTES]>, TlsError> {
    struct Seed;
    impl KeyType for Seed {
        fn len(&self) -> usize {
            SEED_BYTES
        }
    }
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    let derived = Salt::new(HKDF_SHA256, &[]).extract(root_key);
    derived.expand(info, Seed).and_then(|key| key.fill(&mut *seed)).map_err(|_| TlsError::Derive)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts;

    fn at(seconds: u64) -> Clock {
        Clock::new(move || Duration::from_secs(seconds))
    }

    fn leaf() -> Leaf {
        Leaf {
            name: "ci".into(),
            hosts: vec!["node-1.client.revolve".into(), "127.0.0.1".into()],
            serves: true,
            calls: false,
            lifetime: Duration::from_secs(60),
        }
    }

    #[test]
    fn equal_root_keys_give_equal_authorities_and_others_do_not() {
        for kind in [Kind::Peer, Kind::Client] {
            let public = |root: [u8; 32]| authority_key(&root, kind).unwrap().public_key_pem();
            let fingerprint = |root: [u8; 32]| Authority::derive(&root, kind).unwrap().fingerprint();
            assert_eq!(fingerprint([7; 32]), fingerprint([7; 32]));
            assert_ne!(fingerprint([7; 32]), fingerprint([8; 32]));
            assert_eq!(public([7; 32]), public([7; 32]));
            assert_ne!(public([7; 32]), public([8; 32]));
        }
    }

    #[test]
    fn a_certificate_says_what_it_was_asked_to() {
        for kind in [Kind::Peer, Kind::Client] {
            let authority = Authority::derive(&[7; 32], kind).unwrap();
            let issued = authority.issue(&leaf(), &at(1_800_000_000)).unwrap();
            issued.certified().unwrap();
            let found = facts(&issued.certificate).unwrap();
            assert_eq!(
                (found.name.as_str(), found.hosts.as_slice()),
                ("ci", &["node-1.client.revolve".to_owned()][..])
            );
            assert_eq!(found.not_after, Duration::from_secs(1_800_000_060));
            assert_eq!(found.serial.len(), 2 * SERIAL_BYTES);
            assert_ne!(
                found.serial,
                facts(&authority.issue(&leaf(), &at(1)).unwrap().certificate).unwrap().serial
            );
        }
    }

    #[test]
    fn a_request_brings_its_key_and_nothing_else() {
        let authority = Authority::derive(&[7; 32], Kind::Client).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["node-1.client.revolve".to_owned()]).unwrap();
        wish.distinguished_name = named("root");
        let request = wish.serialize_request(&key).unwrap().pem().unwrap();
        let leaf = Leaf { hosts: Vec::new(), serves: false, calls: true, ..leaf() };
        let pem = authority.sign(&request, &leaf, &new_serial(), &at(1_800_000_000)).unwrap();
        let der = crate::files::certificates(pem.as_bytes()).unwrap().remove(0);
        let found = facts(&der).unwrap();
        assert_eq!((found.name.as_str(), found.hosts.len()), ("ci", 0));
        let altered = request.replace('A', "B");
        assert!(authority.sign(&altered, &leaf, &new_serial(), &at(1)).is_err());
    }
}
