//! What the commands about nodes that come and go carry. The fields and their order are persisted.

use serde::{Deserialize, Serialize};

use crate::{
    name::{JoinTokenName, NodeId},
    time::Span,
};

/// See [`Command::AdmitNode`](super::Command::AdmitNode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitNode {
    /// What lets it in; none where the root key alone does.
    pub invitation: Option<Invitation>,
    /// The UUID of its storage.
    pub storage: [u8; 16],
    /// Where the other nodes reach it.
    pub peer_address: String,
    /// Whether it stays a learner until it is promoted.
    pub learner: bool,
    /// The highest id that Raft's membership holds: nodes of the first configuration have no row.
    pub highest: NodeId,
}

/// A join token as far as it may be known.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its name.
    pub token: JoinTokenName,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invitation({})", self.token)
    }
}

/// See [`Command::RemoveNode`](super::Command::RemoveNode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// The node.
    pub node: NodeId,
    /// Why.
    pub reason: String,
    /// The highest id that Raft's membership holds.
    pub highest: NodeId,
}

/// See [`Command::CreateJoinToken`](super::Command::CreateJoinToken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateJoinToken {
    /// Its name.
    pub name: JoinTokenName,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// How long it works.
    pub ttl: Span,
    /// Why.
    pub reason: String,
}

/// See [`Command::RevokeJoinToken`](super::Command::RevokeJoinToken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeJoinToken {
    /// Its name.
    pub name: JoinTokenName,
    /// Why.
    pub reason: String,
}
