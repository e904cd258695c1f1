//! What the commands about keys carry. The fields and their order are persisted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    key::RootKeyId,
    name::NodeId,
    sealed::{Place, Sealed},
};

/// See [`Command::AddDataKey`](super::Command::AddDataKey).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddDataKey {
    /// Its number: the one after the last, else it is refused.
    pub id: u32,
    /// The key, wrapped by the root key.
    pub wrapped: Vec<u8>,
    /// The root key that wraps it: the active one, else it is refused.
    pub root: RootKeyId,
    /// Why.
    pub reason: String,
}

/// See [`Command::Reseal`](super::Command::Reseal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reseal {
    /// The retiring key that the values are sealed under.
    pub from: u32,
    /// The values; one whose place no longer holds what was read is left as it is.
    pub values: Vec<Resealed>,
}

/// One value, sealed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// Where it rests.
    pub place: Place,
    /// The digest of the blob that was read there.
    pub was: [u8; 32],
    /// The same value, sealed under the active key for the same place.
    pub sealed: Sealed,
}

/// See [`Command::DestroyDataKey`](super::Command::DestroyDataKey).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyDataKey {
    /// Its number.
    pub id: u32,
}

/// See [`Command::RewrapDataKeys`](super::Command::RewrapDataKeys).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapDataKeys {
    /// The root key that wraps them so far.
    pub from: RootKeyId,
    /// The root key that wraps them from now on.
    pub to: RootKeyId,
    /// Every data key that is not destroyed, by number, wrapped by the new root key.
    pub keys: Vec<(u32, Vec<u8>)>,
    /// The nodes of the cluster: each must hold the new root key.
    pub nodes: BTreeSet<NodeId>,
    /// Why.
    pub reason: String,
}

/// See [`Command::AnnounceKeys`](super::Command::AnnounceKeys).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceKeys {
    /// The node.
    pub node: NodeId,
    /// The root keys that it holds now.
    pub held: BTreeSet<RootKeyId>,
}

/// See [`Command::FinishRootKey`](super::Command::FinishRootKey).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishRootKey {
    /// The root key that was replaced.
    pub id: RootKeyId,
    /// The nodes of the cluster: each must hold the active root key.
    pub nodes: BTreeSet<NodeId>,
    /// Why.
    pub reason: String,
}
