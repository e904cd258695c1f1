//! Secret material as the model may hold it: sealed, opaque, never printed.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    caps,
    name::{CredentialName, GrantId, StoreName, TargetName},
};

/// Ciphertext of a secret bundle: key id, nonce and AEAD output, made and opened by `workers::seal`.
/// The associated data is what [`associated`] returns, so a blob cannot be moved to another place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Sealed(Vec<u8>);

/// A sealed blob is empty or longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret of {0} bytes is outside 1 to {max}", max = caps::SEALED_BYTES)]
pub struct SealedSizeError(usize);

impl Sealed {
    /// The ciphertext, header included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number of the data key that it is sealed under, from the header: format 1, then the number, big-endian.
    /// `None` when it has no such header.
    #[must_use]
    pub fn key(&self) -> Option<u32> {
        match self.0.split_first_chunk::<5>() {
            Some(([1, id @ ..], _)) => Some(u32::from_be_bytes(*id)),
            _ => None,
        }
    }

    /// SHA-256 of the ciphertext, by which it is known again.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl TryFrom<Vec<u8>> for Sealed {
    type Error = SealedSizeError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, SealedSizeError> {
        if (1..=caps::SEALED_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SealedSizeError(bytes.len()))
        }
    }
}

impl From<Sealed> for Vec<u8> {
    fn from(sealed: Sealed) -> Self {
        sealed.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Where a sealed secret rests. Displayed as what it is bound to, such as `target/db/admin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The administrative login of a target.
    Target(TargetName),
    /// The access of a store.
    Store(StoreName),
    /// One version of one credential.
    Version(CredentialName, u32),
    /// A break-glass grant.
    Grant(GrantId),
}

impl Place {
    /// What a secret that rests here is bound to.
    #[must_use]
    pub fn associated(&self) -> Vec<u8> {
        match self {
            Self::Target(name) => associated::target(name),
            Self::Store(name) => associated::store(name),
            Self::Version(name, number) => associated::version(name, *number),
            Self::Grant(id) => associated::grant(*id),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.associated()))
    }
}

/// The places a sealed secret can be bound to.
pub mod associated {
    use crate::name::{CredentialName, GrantId, StoreName, TargetName};

    /// Binds a secret to one version of one credential.
    #[must_use]
    pub fn version(credential: &CredentialName, version: u32) -> Vec<u8> {
        format!("credential/{credential}/version/{version}").into_bytes()
    }

    /// Binds a secret to the administrative login of a target.
    #[must_use]
    pub fn target(target: &TargetName) -> Vec<u8> {
        format!("target/{target}/admin").into_bytes()
    }

    /// Binds a secret to the access of a store.
    #[must_use]
    pub fn store(store: &StoreName) -> Vec<u8> {
        format!("store/{store}/access").into_bytes()
    }

    /// Binds a secret to one break-glass grant.
    #[must_use]
    pub fn grant(grant: GrantId) -> Vec<u8> {
        format!("grant/{grant}").into_bytes()
    }
}
