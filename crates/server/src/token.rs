//! Bearer tokens: `rvlt_<name>.<secret>`, the secret being 32 random bytes as 43 characters of base64url. The
//! cluster keeps the SHA-256 of the 32 bytes and nothing else.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use model::name::TokenName;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

/// How every token begins, so that scanners of code and logs find one that leaked.
const PREFIX: &str = "rvlt_";
const SECRET_BYTES: usize = 32;
const SECRET_TEXT_BYTES: usize = 43;
/// Longest text that can be a token.
const TEXT_BYTES: usize = PREFIX.len() + model::caps::NAME_BYTES + 1 + SECRET_TEXT_BYTES;

/// A token as its holder has it.
pub struct Bearer {
    name: TokenName,
    secret: SecretBox<[u8; SECRET_BYTES]>,
}

/// The text is not a token; tells nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token: a token looks like `rvlt_<name>.<43 characters>`")]
pub struct NotABearer;

impl Bearer {
    /// A new token of that name.
    #[must_use]
    pub fn generate(name: TokenName) -> Self {
        let mut secret = SecretBox::new(Box::new([0; SECRET_BYTES]));
        aws_lc_rs::rand::fill(secret.expose_secret_mut()).expect("the system's random generator answers");
        Self { name, secret }
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`NotABearer`] for anything that [`Bearer::to_text`] would not have written.
    pub fn parse(text: &str) -> Result<Self, NotABearer> {
        if text.len() > TEXT_BYTES {
            return Err(NotABearer);
        }
        let (name, encoded) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('.')).ok_or(NotABearer)?;
        let name = name.parse().map_err(|_| NotABearer)?;
        let mut secret = SecretBox::new(Box::new([0; SECRET_BYTES]));
        match URL_SAFE_NO_PAD.decode_slice(encoded, secret.expose_secret_mut()) {
            Ok(SECRET_BYTES) => Ok(Self { name, secret }),
            Ok(_) | Err(_) => Err(NotABearer),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &TokenName {
        &self.name
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose_secret()).into()
    }

    /// The token as its holder is given it.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let mut text = String::with_capacity(TEXT_BYTES);
        text.push_str(PREFIX);
        text.push_str(self.name.as_str());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(self.secret.expose_secret(), &mut text);
        text.into()
    }

    /// Whether it is the token of which `hash` was kept. Takes the same time when there is none.
    #[must_use]
    pub fn matches(&self, hash: Option<&[u8; 32]>) -> bool {
        let equal = verify_slices_are_equal(&self.hash(), hash.unwrap_or(&[0; 32])).is_ok();
        equal && hash.is_some()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearer({}, [redacted])", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer() -> Bearer {
        Bearer::generate("ci.deploy-1".parse().unwrap())
    }

    #[test]
    fn a_token_is_read_back_as_written() {
        for _ in 0..100 {
            let bearer = bearer();
            let text = bearer.to_text();
            let read = Bearer::parse(text.expose_secret()).unwrap();
            assert_eq!(read.name().as_str(), "ci.deploy-1");
            assert!(read.matches(Some(&bearer.hash())));
        }
    }

    #[test]
    fn no_other_text_is_the_same_token() {
        let text = bearer().to_text();
        let text = text.expose_secret();
        for at in 0..text.len() {
            for other in [b'A', b'_', b'.', b'=', b' ', 0x7f] {
                let mut bytes = text.as_bytes().to_vec();
                if std::mem::replace(&mut bytes[at], other) == other {
                    continue;
                }
                let changed = String::from_utf8(bytes).unwrap();
                let same = Bearer::parse(&changed).is_ok_and(|read| read.to_text().expose_secret() == text);
                assert!(!same, "byte {at}");
            }
            assert!(Bearer::parse(&text[..at]).is_err(), "cut at {at}");
        }
        for extra in ["A", "=", "\n", ".", " "] {
            assert!(Bearer::parse(&format!("{text}{extra}")).is_err());
        }
    }

    #[test]
    fn only_the_very_token_matches() {
        let bearer = bearer();
        let other = Bearer::generate(bearer.name().clone());
        assert!(!bearer.matches(Some(&other.hash())));
        assert!(!bearer.matches(None));
        assert!(!bearer.matches(Some(&[0; 32])));
    }

    #[test]
    fn a_token_is_never_printed() {
        let bearer = bearer();
        let secret = bearer.to_text().expose_secret().rsplit_once('.').unwrap().1.to_owned();
        assert!(!format!("{bearer:?}").contains(&secret));
    }
}
