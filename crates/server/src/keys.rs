//! The keyring of one node: opens what the state holds sealed, with the data keys that its root keys unwrap.

pub(crate) mod files;
pub(crate) mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{
    State,
    command::{AddDataKey, RewrapDataKeys},
    key::{DataKey as Row, DataKeyState, RootKeyId, RootKeyState},
    name::NodeId,
    sealed::{Place, Sealed},
};
use secrecy::SecretString;
use workers::{DataKey, RootKey, seal::SealError};

/// The number of the data key that a cluster is formed with.
const FIRST: u32 = 1;

/// The root keys of this node, and the data keys as far as they were unwrapped.
#[derive(Debug)]
pub struct Keyring {
    roots: Mutex<Vec<Arc<RootKey>>>,
    opened: Mutex<BTreeMap<u32, Arc<DataKey>>>,
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The cluster has just been formed.
    #[error("the cluster has no data key yet")]
    NotYet,
    /// It is sealed under a key that is not there any more.
    #[error("data key {0} is not there any more")]
    Gone(u32),
    /// None of the root keys of this node is the one that is needed.
    #[error(
        "data key {data_key} is wrapped by root key {}, and this node holds {held}",
        wanted.map_or_else(|| "(of an older version, without an id)".to_owned(), |id| id.to_string())
    )]
    WrongRootKey {
        /// The data key.
        data_key: u32,
        /// The root key that wraps it, where that is known.
        wanted: Option<RootKeyId>,
        /// The ids of those that this node holds.
        held: String,
    },
    /// The key does not fit.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::WrongRootKey { .. } => {
                "set `root_key_file` to the file with that root key; if it is lost, restore it from where it is kept \
                 apart from the data: without it nothing that the cluster holds sealed can be opened"
            }
            Self::NotYet | Self::Gone(_) | Self::Seal(_) => "see the keys with `revolve key status`",
        }
    }

    /// Whether another node, or this one a little later, may well be able to do what this one cannot.
    pub(crate) const fn is_of_this_node(&self) -> bool {
        matches!(self, Self::NotYet | Self::Gone(_) | Self::WrongRootKey { .. })
    }
}

impl Keyring {
    /// A keyring around the root keys of this node, its own first.
    #[must_use]
    pub fn new(roots: Vec<RootKey>) -> Self {
        Self { roots: Mutex::new(roots.into_iter().map(Arc::new).collect()), opened: Mutex::default() }
    }

    /// The ids of the root keys that this node holds.
    #[must_use]
    pub fn held(&self) -> BTreeSet<RootKeyId> {
        self.roots().iter().map(|root| root.id()).collect()
    }

    /// The root keys that are good, best first: the one that wraps the data keys, then the others in the order they are
    /// configured in. One that was retired is not among them.
    #[must_use]
    pub fn root_keys(&self, state: &State) -> Vec<Arc<RootKey>> {
        let standing = |root: &Arc<RootKey>| state.root_keys().get(&root.id()).map(|row| row.state);
        let mut roots = self.roots().clone();
        roots.retain(|root| standing(root) != Some(RootKeyState::Retired));
        roots.sort_by_key(|root| standing(root) != Some(RootKeyState::Active));
        roots
    }

    /// The same for the certificates of the peer port: a root key that is being replaced goes before its successor until
    /// that is finished. A node that holds the former key alone must still be reached, to learn that it is no use.
    #[must_use]
    pub fn peer_root_keys(&self, state: &State) -> Vec<Arc<RootKey>> {
        let leaving = state.leaving_root_key().map(|row| row.id);
        let mut roots = self.root_keys(state);
        roots.sort_by_key(|root| Some(root.id()) != leaving);
        roots
    }

    /// Takes other root keys in the place of those there are, unless they do not open what `state` holds.
    ///
    /// # Errors
    /// When they do not; those of before stay.
    pub fn replace(&self, roots: Vec<RootKey>, state: &State) -> Result<(), KeyError> {
        let roots: Vec<Arc<RootKey>> = roots.into_iter().map(Arc::new).collect();
        check(&roots, state)?;
        *self.roots() = roots;
        Ok(())
    }

    /// Whether every data key that `state` names can be unwrapped here.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self, state: &State) -> Result<(), KeyError> {
        check(&self.roots(), state)
    }

    /// The data key that seals what is sealed now, unwrapped once and kept.
    ///
    /// # Errors
    /// When there is none yet, or the root key is another cluster's.
    pub fn data_key(&self, state: &State) -> Result<Arc<DataKey>, KeyError> {
        self.opened(&state.data_key().ok_or(KeyError::NotYet)?)
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
    /// When its data key cannot be unwrapped; also when it was altered or moved.
    pub fn open(&self, state: &State, sealed: &Sealed, associated: &[u8]) -> Result<SecretString, KeyError> {
        let needed = DataKey::needed(sealed)?;
        let named = state.data_keys().into_iter().find(|row| row.id == needed);
        let named = named.filter(|row| row.state != DataKeyState::Destroyed).ok_or(KeyError::Gone(needed))?;
        Ok(self.opened(&named)?.open(sealed, associated)?)
    }

    /// What rests at `place`, sealed under the data key that seals what is sealed now.
    ///
    /// # Errors
    /// See [`Keyring::open`].
    pub fn reseal(&self, state: &State, place: &Place, sealed: &Sealed) -> Result<Sealed, KeyError> {
        let associated = place.associated();
        self.seal(state, &self.open(state, sealed, &associated)?, &associated)
    }

    /// A new data key, wrapped as the others are.
    ///
    /// # Errors
    /// When this node does not hold the root key that wraps them.
    pub fn new_data_key(&self, state: &State, reason: String) -> Result<AddDataKey, KeyError> {
        let last = state.data_keys().into_iter().next_back();
        let id = last.as_ref().map_or(FIRST, |last| last.id.saturating_add(1));
        let roots = self.roots().clone();
        let root = match state.data_key() {
            Some(active) => unwrap(&roots, &active)?.1,
            None => Arc::clone(roots.first().ok_or(KeyError::NotYet)?),
        };
        Ok(AddDataKey { id, wrapped: DataKey::generate(id).wrap(&root), root: root.id(), reason })
    }

    /// The root key that wraps the active data key, as far as this node holds it.
    ///
    /// # Errors
    /// When it does not.
    pub fn wrapping(&self, state: &State) -> Result<RootKeyId, KeyError> {
        Ok(unwrap(&self.roots(), &state.data_key().ok_or(KeyError::NotYet)?)?.1.id())
    }

    /// All data keys, wrapped by the root key `to`, of which `nodes` are to have a copy.
    ///
    /// # Errors
    /// When this node does not hold the one or the other root key.
    pub fn rewrap(
        &self,
        state: &State,
        to: RootKeyId,
        nodes: BTreeSet<NodeId>,
        reason: String,
    ) -> Result<RewrapDataKeys, KeyError> {
        let roots = self.roots().clone();
        let active = state.data_key().ok_or(KeyError::NotYet)?;
        let from = unwrap(&roots, &active)?.1.id();
        let new = roots.iter().find(|root| root.id() == to).ok_or_else(|| KeyError::WrongRootKey {
            data_key: active.id,
            wanted: Some(to),
            held: listed(&roots),
        })?;
        let living = state.data_keys().into_iter().filter(|row| row.state != DataKeyState::Destroyed);
        let keys = living.map(|row| Ok((row.id, unwrap(&roots, &row)?.0.wrap(new))));
        Ok(RewrapDataKeys { from, to, keys: keys.collect::<Result<_, KeyError>>()?, nodes, reason })
    }

    /// Forgets the data keys that are not in `state` any more.
    pub(crate) fn forget(&self, state: &State) {
        let living = state.data_keys().into_iter().filter(|row| row.state != DataKeyState::Destroyed);
        let living: BTreeSet<u32> = living.map(|row| row.id).collect();
        self.kept().retain(|id, _| living.contains(id));
    }

    fn opened(&self, row: &Row) -> Result<Arc<DataKey>, KeyError> {
        if let Some(key) = self.kept().get(&row.id) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(unwrap(&self.roots(), row)?.0);
        self.kept().insert(row.id, Arc::clone(&key));
        Ok(key)
    }

    fn roots(&self) -> MutexGuard<'_, Vec<Arc<RootKey>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<DataKey>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(roots: &[Arc<RootKey>], state: &State) -> Result<(), KeyError> {
    let rows = state.data_keys();
    let mut living = rows.iter().filter(|row| row.state != DataKeyState::Destroyed);
    living.try_for_each(|row| unwrap(roots, row).map(drop))
}

/// The data key, and the root key that it was wrapped by.
fn unwrap(roots: &[Arc<RootKey>], row: &Row) -> Result<(DataKey, Arc<RootKey>), KeyError> {
    let fitting = roots.iter().filter(|root| row.root.is_none_or(|wanted| root.id() == wanted));
    let opened = fitting.map(|root| Ok((DataKey::unwrap(row.id, &row.wrapped, root)?, Arc::clone(root))));
    let wrong = || KeyError::WrongRootKey { data_key: row.id, wanted: row.root, held: listed(roots) };
    let mut tried = opened.collect::<Vec<Result<_, SealError>>>();
    match tried.iter().position(Result::is_ok) {
        Some(place) => Ok(tried.swap_remove(place)?),
        // A root key of that id that does not open it is the right one for a key that was altered.
        None if row.root.is_some() => {
            Err(tried.into_iter().find_map(Result::err).map_or_else(wrong, Into::into))
        }
        None => Err(wrong()),
    }
}

fn listed(roots: &[Arc<RootKey>]) -> String {
    roots.iter().map(|root| root.id().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
