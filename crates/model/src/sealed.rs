//! Secret material as the model may hold it: sealed, opaque, never printed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::caps;

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
