//! Which nodes the cluster has taken in since it was formed, which it has turned out for good, and the tokens that let
//! new ones in. Who votes is Raft's business and is kept there.

use serde::{Deserialize, Serialize};

use crate::{
    State,
    name::{JoinTokenName, NodeId},
    table::Row,
    time::Time,
};

/// What the cluster has decided about a node. A node of the first configuration has no row until it is removed; the row
/// of a removed one stays for ever, so that its id is never given to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The node.
    pub id: NodeId,
    /// How it came in; none for a node of the first configuration.
    pub admission: Option<Admission>,
    /// How it was turned out.
    pub removal: Option<Removal>,
}

impl Row for Membership {
    type Key = NodeId;
    const TAG: u8 = 22;
}

/// How a node came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// When.
    pub at: Time,
    /// The UUID of the storage it came with.
    pub storage: [u8; 16],
    /// Where the other nodes reach it, `host:port`.
    pub peer_address: String,
    /// Whether it stays a learner until an operator promotes it.
    pub learner: bool,
    /// The join token it came with; none when the root key alone let it in.
    pub token: Option<JoinTokenName>,
}

/// How a node was turned out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: String,
}

/// A token that lets one node in; only the hash of its secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its name.
    pub name: JoinTokenName,
    /// SHA-256 of the secret, which has 256 random bits.
    pub hash: [u8; 32],
    /// Who made it.
    pub issued_by: String,
    /// When.
    pub issued: Time,
    /// When it stops working by itself.
    pub expires: Time,
    /// The node that was let in with it: it works once.
    pub used_by: Option<NodeId>,
    /// When it was revoked.
    pub revoked: Option<Time>,
}

impl Row for JoinToken {
    type Key = JoinTokenName;
    const TAG: u8 = 23;
}

impl JoinToken {
    /// Whether it lets a node in at `now`.
    #[must_use]
    pub fn is_live(&self, now: Time) -> bool {
        self.used_by.is_none() && self.revoked.is_none() && now < self.expires
    }
}

impl State {
    /// The nodes that were turned out, with when and why: none of them comes back, and no id of theirs is given again.
    pub fn removed_nodes(&self) -> impl Iterator<Item = (NodeId, &Removal)> {
        self.memberships.values().filter_map(|row| Some((row.id, row.removal.as_ref()?)))
    }

    /// Why `node` was turned out, when it was.
    #[must_use]
    pub fn removal_of(&self, node: NodeId) -> Option<&Removal> {
        self.memberships.get(&node)?.removal.as_ref()
    }

    /// How `node` came in, when it was not one of the first configuration and was not turned out.
    #[must_use]
    pub fn admission_of(&self, node: NodeId) -> Option<&Admission> {
        let row = self.memberships.get(&node)?;
        row.admission.as_ref().filter(|_| row.removal.is_none())
    }
}
