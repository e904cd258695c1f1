//! Sealing: how a secret travels through the log and rests in the state. AES-256-GCM under a data key of the
//! cluster; the data key itself is wrapped by the root key, which the cluster never holds.
//!
//! A sealed blob is `format 1 byte | key id 4 bytes big-endian | nonce 12 bytes | ciphertext | tag 16 bytes`. Format
//! and key id are authenticated together with the place the blob is bound to ([`model::sealed::associated`]).
//! Nonces are random: one data key is good for 2^32 seals (NIST SP 800-38D, section 8.3).

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use model::sealed::Sealed;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};
use zeroize::{Zeroize, Zeroizing};

use crate::root_key::RootKey;

/// The only format there is.
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 5;
const KEY_BYTES: usize = 32;
/// What the key that wraps data keys is derived for.
const WRAPPING: &str = "wrap-data-key";

/// A key of the cluster that seals secrets.
pub struct DataKey {
    id: u32,
    bytes: SecretBox<[u8; KEY_BYTES]>,
}

/// Why something could not be sealed or opened. None of them tells anything of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The secret does not fit.
    #[error("the secret is too long to be sealed")]
    TooLong,
    /// The blob is cut short, or of a format this version does not know.
    #[error("a sealed secret has an unknown format")]
    Format,
    /// It was sealed under another data key.
    #[error("the secret was sealed under data key {needed}, not {given}")]
    OtherKey {
        /// The key it was sealed under.
        needed: u32,
        /// The key it was tried with.
        given: u32,
    },
    /// The root key is not the one the data key was wrapped with, or the wrapped key was altered.
    #[error("the root key does not open data key {0}: is it the root key of this cluster?")]
    WrongRootKey(u32),
    /// It was altered, or moved from the place it was bound to.
    #[error("a sealed secret does not open here: it was altered or moved from its place")]
    Altered,
}

impl DataKey {
    /// A new random key with the number `id`.
    #[must_use]
    pub fn generate(id: u32) -> Self {
        let mut bytes = SecretBox::new(Box::new([0; KEY_BYTES]));
        aws_lc_rs::rand::fill(bytes.expose_secret_mut()).expect("the system's random generator answers");
        Self { id, bytes }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The key, wrapped for the log: bound to its number.
    #[must_use]
    pub fn wrap(&self, root: &RootKey) -> Vec<u8> {
        encrypt(&root.derive(WRAPPING), self.id, self.bytes.expose_secret(), b"data-key")
            .expect("a data key is short enough")
    }

    /// Opens a wrapped key.
    ///
    /// # Errors
    /// When `root` is another root key, or `wrapped` is not data key `id`.
    pub fn unwrap(id: u32, wrapped: &[u8], root: &RootKey) -> Result<Self, SealError> {
        let opened =
            decrypt(&root.derive(WRAPPING), id, wrapped, b"data-key").map_err(|error| match error {
                SealError::Altered => SealError::WrongRootKey(id),
                SealError::TooLong
                | SealError::Format
                | SealError::OtherKey { .. }
                | SealError::WrongRootKey(_) => error,
            })?;
        let mut bytes = SecretBox::new(Box::new([0; KEY_BYTES]));
        if opened.len() != KEY_BYTES {
            return Err(SealError::Format);
        }
        bytes.expose_secret_mut().copy_from_slice(&opened);
        Ok(Self { id, bytes })
    }

    /// Seals `plaintext` and binds it to the place named by `associated`.
    ///
    /// # Errors
    /// [`SealError::TooLong`] when it exceeds what the model keeps.
    pub fn seal(&self, plaintext: &SecretString, associated: &[u8]) -> Result<Sealed, SealError> {
        let blob =
            encrypt(self.bytes.expose_secret(), self.id, plaintext.expose_secret().as_bytes(), associated)?;
        Sealed::try_from(blob).map_err(|_| SealError::TooLong)
    }

    /// Opens what was sealed for the place named by `associated`.
    ///
    /// # Errors
    /// When it was sealed under another key, altered, or for another place.
    pub fn open(&self, sealed: &Sealed, associated: &[u8]) -> Result<SecretString, SealError> {
        let mut bytes = decrypt(self.bytes.expose_secret(), self.id, sealed.as_bytes(), associated)?;
        String::from_utf8(std::mem::take(&mut *bytes)).map(SecretString::from).map_err(|error| {
            error.into_bytes().zeroize();
            SealError::Format
        })
    }

    /// The number of the data key that `sealed` needs.
    ///
    /// # Errors
    /// [`SealError::Format`] when the blob names none.
    pub fn needed(sealed: &Sealed) -> Result<u32, SealError> {
        header(sealed.as_bytes()).map(|(id, _)| id)
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({}, [REDACTED])", self.id)
    }
}

pub(crate) fn encrypt(
    key: &[u8; KEY_BYTES],
    id: u32,
    plaintext: &[u8],
    place: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut blob = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
    blob.push(FORMAT);
    blob.extend(id.to_be_bytes());
    let authenticated = [&blob[..], place].concat();
    // With room for the tag: it is appended in place, so no copy of the plaintext stays behind.
    let mut body = Zeroizing::new(Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len()));
    body.extend_from_slice(plaintext);
    let nonce = cipher(key)
        .seal_in_place_append_tag(Aad::from(authenticated), &mut *body)
        .map_err(|_| SealError::TooLong)?;
    blob.extend_from_slice(nonce.as_ref());
    blob.extend_from_slice(&body);
    Ok(blob)
}

pub(crate) fn decrypt(
    key: &[u8; KEY_BYTES],
    id: u32,
    blob: &[u8],
    place: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (needed, rest) = header(blob)?;
    if needed != id {
        return Err(SealError::OtherKey { needed, given: id });
    }
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Format)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Format)?;
    let authenticated = [&blob[..HEADER_BYTES], place].concat();
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher(key)
        .open_in_place(nonce, Aad::from(authenticated), &mut body)
        .map_err(|_| SealError::Altered)?
        .len();
    body.truncate(length);
    Ok(body)
}

fn header(blob: &[u8]) -> Result<(u32, &[u8]), SealError> {
    match blob.split_first_chunk::<HEADER_BYTES>() {
        Some(([FORMAT, id @ ..], rest)) => Ok((u32::from_be_bytes(*id), rest)),
        _ => Err(SealError::Format),
    }
}

fn cipher(key: &[u8; KEY_BYTES]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &[u8] = b"credential/orders-db/version/1";

    fn secret() -> SecretString {
        "correct-horse".into()
    }

    #[test]
    fn what_is_sealed_is_opened_in_its_place() {
        let key = DataKey::generate(7);
        let sealed = key.seal(&secret(), PLACE).unwrap();
        assert_eq!(key.open(&sealed, PLACE).unwrap().expose_secret(), "correct-horse");
        assert_eq!(DataKey::needed(&sealed), Ok(7));
        assert_ne!(sealed, key.seal(&secret(), PLACE).unwrap(), "nonces differ");
    }

    #[test]
    fn a_blob_that_was_moved_does_not_open() {
        let key = DataKey::generate(1);
        let sealed = key.seal(&secret(), PLACE).unwrap();
        let elsewhere = key.open(&sealed, b"credential/orders-db/version/2");
        assert_eq!(elsewhere.map(drop), Err(SealError::Altered));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let key = DataKey::generate(1);
        let whole = key.seal(&secret(), PLACE).unwrap().as_bytes().to_vec();
        for bit in 0..whole.len() * 8 {
            let mut altered = whole.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&Sealed::try_from(altered).unwrap(), PLACE).is_err(), "bit {bit}");
        }
        for length in 1..whole.len() {
            let cut = Sealed::try_from(whole[..length].to_vec()).unwrap();
            assert!(key.open(&cut, PLACE).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn another_key_is_named_or_refused() {
        let sealed = DataKey::generate(1).seal(&secret(), PLACE).unwrap();
        let named = DataKey::generate(2).open(&sealed, PLACE);
        assert_eq!(named.map(drop), Err(SealError::OtherKey { needed: 1, given: 2 }));
        let same_number = DataKey::generate(1).open(&sealed, PLACE);
        assert_eq!(same_number.map(drop), Err(SealError::Altered));
    }

    #[test]
    fn a_data_key_comes_back_under_its_root_key_and_its_number_alone() {
        let (root, key) = (RootKey::generate(), DataKey::generate(3));
        let wrapped = key.wrap(&root);
        let sealed = key.seal(&secret(), PLACE).unwrap();
        let again = DataKey::unwrap(3, &wrapped, &root).unwrap();
        assert_eq!(again.open(&sealed, PLACE).unwrap().expose_secret(), "correct-horse");
        assert_eq!(
            DataKey::unwrap(3, &wrapped, &RootKey::generate()).map(drop),
            Err(SealError::WrongRootKey(3))
        );
        assert!(DataKey::unwrap(4, &wrapped, &root).is_err());
        assert!(DataKey::unwrap(3, &[], &root).is_err());
        assert!(!wrapped.windows(8).any(|part| key.bytes.expose_secret().windows(8).any(|own| own == part)));
    }

    #[test]
    fn nothing_readable_is_left_in_a_blob_or_printed() {
        let key = DataKey::generate(1);
        let sealed = key.seal(&secret(), PLACE).unwrap();
        assert!(!sealed.as_bytes().windows(5).any(|part| part == b"horse"));
        assert_eq!(format!("{key:?}"), "DataKey(1, [REDACTED])");
    }

    #[test]
    fn a_secret_longer_than_the_model_keeps_is_refused() {
        let long = SecretString::from("x".repeat(model::caps::SEALED_BYTES));
        assert_eq!(DataKey::generate(1).seal(&long, PLACE), Err(SealError::TooLong));
    }
}
