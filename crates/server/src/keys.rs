//! The keyring of one node: opens what the state holds sealed, with the data key that the root key unwraps.

use std::sync::{Arc, Mutex, PoisonError};

use model::{State, sealed::Sealed};
use secrecy::SecretString;
use workers::{DataKey, RootKey, seal::SealError};

/// The only data key there is so far.
const FIRST: u32 = 1;

/// The root key of this node, and the data key once it is unwrapped.
#[derive(Debug)]
pub struct Keyring {
    root: RootKey,
    opened: Mutex<Option<Arc<DataKey>>>,
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The cluster has just been formed.
    #[error("the cluster has no data key yet")]
    NotYet,
    /// The key does not fit.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Keyring {
    /// A keyring around the root key.
    #[must_use]
    pub const fn new(root: RootKey) -> Self {
        Self { root, opened: Mutex::new(None) }
    }

    /// The root key, from which keys for other purposes are derived.
    pub(crate) const fn root(&self) -> &RootKey {
        &self.root
    }

    /// The data key that `state` names, unwrapped once and kept.
    ///
    /// # Errors
    /// When there is none yet, or the root key is another cluster's.
    pub fn data_key(&self, state: &State) -> Result<Arc<DataKey>, KeyError> {
        let named = state.data_key().ok_or(KeyError::NotYet)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = opened.as_ref().filter(|key| key.id() == named.id) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(DataKey::unwrap(named.id, &named.wrapped, &self.root)?);
        *opened = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Seals a secret for the place that `associated` names.
    ///
    /// # Errors
    /// See [`Keyring::data_key`]; also when the secret is too long.
    pub fn seal(
        &self,
        state: &State,
        plaintext: &SecretString,
        associated: &[u8],
    ) -> Result<Sealed, KeyError> {
        Ok(self.data_key(state)?.seal(plaintext, associated)?)
    }

    /// Opens a secret sealed for the place that `associated` names.
    ///
    /// # Errors
    /// See [`Keyring::data_key`]; also when it was altered or moved.
    pub fn open(&self, state: &State, sealed: &Sealed, associated: &[u8]) -> Result<SecretString, KeyError> {
        Ok(self.data_key(state)?.open(sealed, associated)?)
    }

    /// A new data key, wrapped, for a cluster that has none: its id and the wrapped key.
    #[must_use]
    pub fn new_data_key(&self) -> (u32, Vec<u8>) {
        (FIRST, DataKey::generate(FIRST).wrap(&self.root))
    }
}
