//! Join tokens: `rvj_<name>.<secret>.<authority>`. The secret is 32 random bytes as 43 characters of base64url, of which
//! the cluster keeps the SHA-256 and nothing else. The authority is the SHA-256 of the public key of the authority that
//! the client port is to be checked against, in the same form, or `-` where the port has none. It follows from the root
//! key: a new node with another root key is told so before it has asked anyone.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use model::name::JoinTokenName;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

/// How every join token begins, so that scanners of code and logs find one that leaked.
const PREFIX: &str = "rvj_";
const BYTES: usize = 32;
const ENCODED_BYTES: usize = 43;
/// Stands for a client port without a certificate.
const PLAIN: &str = "-";
/// Longest text that can be a join token.
const TEXT_BYTES: usize = PREFIX.len() + model::caps::NAME_BYTES + 2 * (1 + ENCODED_BYTES);

/// A join token as its holder has it.
pub struct JoinToken {
    name: JoinTokenName,
    secret: SecretBox<[u8; BYTES]>,
    authority: Option<[u8; BYTES]>,
}

/// The text is not a join token; tells nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: one looks like `rvj_<name>.<43 characters>.<43 characters or ->`")]
pub struct NotAJoinToken;

impl JoinToken {
    /// A new token of that name for a cluster whose client ports are checked against `authority`.
    #[must_use]
    pub fn generate(name: JoinTokenName, authority: Option<[u8; BYTES]>) -> Self {
        let mut secret = SecretBox::new(Box::new([0; BYTES]));
        aws_lc_rs::rand::fill(secret.expose_secret_mut()).expect("the system's random generator answers");
        Self { name, secret, authority }
    }

    /// Reads a join token.
    ///
    /// # Errors
    /// [`NotAJoinToken`] for anything that [`JoinToken::to_text`] would not have written.
    pub fn parse(text: &str) -> Result<Self, NotAJoinToken> {
        if text.len() > TEXT_BYTES {
            return Err(NotAJoinToken);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(NotAJoinToken)?;
        let (rest, authority) = rest.rsplit_once('.').ok_or(NotAJoinToken)?;
        let (name, encoded) = rest.rsplit_once('.').ok_or(NotAJoinToken)?;
        let name = name.parse().map_err(|_| NotAJoinToken)?;
        let mut secret = SecretBox::new(Box::new([0; BYTES]));
        decode(encoded, secret.expose_secret_mut())?;
        let authority = if authority == PLAIN {
            None
        } else {
            let mut bytes = [0; BYTES];
            decode(authority, &mut bytes)?;
            Some(bytes)
        };
        Ok(Self { name, secret, authority })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &JoinTokenName {
        &self.name
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; BYTES] {
        Sha256::digest(self.secret.expose_secret()).into()
    }

    /// The SHA-256 of the public key of the client ports' authority; none where they have none.
    #[must_use]
    pub const fn authority(&self) -> Option<[u8; BYTES]> {
        self.authority
    }

    /// The token as its holder is given it.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let mut text = String::with_capacity(TEXT_BYTES);
        text.push_str(PREFIX);
        text.push_str(self.name.as_str());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(self.secret.expose_secret(), &mut text);
        text.push('.');
        match self.authority {
            Some(authority) => URL_SAFE_NO_PAD.encode_string(authority, &mut text),
            None => text.push_str(PLAIN),
        }
        text.into()
    }
}

fn decode(text: &str, into: &mut [u8; BYTES]) -> Result<(), NotAJoinToken> {
    match URL_SAFE_NO_PAD.decode_slice(text, into) {
        Ok(BYTES) if text.len() == ENCODED_BYTES => Ok(()),
        Ok(_) | Err(_) => Err(NotAJoinToken),
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, [redacted])", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_is_read_back_as_written() {
        for authority in [None, Some([7; BYTES])] {
            let token = JoinToken::generate("rack.4".parse().unwrap(), authority);
            let text = token.to_text();
            let read = JoinToken::parse(text.expose_secret()).unwrap();
            assert_eq!((read.name(), read.hash(), read.authority()), (token.name(), token.hash(), authority));
            assert!(!format!("{token:?}").contains(text.expose_secret().split('.').nth_back(1).unwrap()));
        }
    }

    #[test]
    fn nothing_else_is_a_join_token() {
        let token = JoinToken::generate("a".parse().unwrap(), Some([7; BYTES])).to_text();
        let text = token.expose_secret();
        for at in 0..text.len() {
            assert!(JoinToken::parse(&text[..at]).is_err(), "cut at {at}");
        }
        for extra in ["A", "=", "\n", ".", ".-"] {
            assert!(JoinToken::parse(&format!("{text}{extra}")).is_err(), "{extra}");
        }
        assert!(JoinToken::parse(&text.replace("rvj_", "rvlt_")).is_err());
    }
}
