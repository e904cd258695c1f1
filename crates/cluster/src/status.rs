//! What a node knows about itself and its cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::{name::NodeId, table::Digest, time::Time};
use openraft::Instant as _;
use tokio::sync::watch;

use crate::{admission::Admission, raft::Types};

/// A peer counts as reachable while it has answered within this many heartbeats.
const REACHABLE_HEARTBEATS: u32 = 10;

/// How far this node is and who leads. It wakes those who watch, and carries no data: look at the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The index of the last applied entry.
    pub applied: Option<u64>,
    /// The leader, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// Whether this node leads.
    pub is_leader: bool,
}

impl Progress {
    /// Waits for something new, but for no less than `rest`: where entries follow each other, one look is enough for many.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn next(
        progress: &mut watch::Receiver<Self>,
        rest: Duration,
    ) -> Result<(), watch::error::RecvError> {
        tokio::time::sleep(rest).await;
        progress.changed().await
    }
}

/// What a node knows about itself and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// The UUID of its storage.
    pub storage: String,
    /// Whether it takes part with that storage.
    pub admission: Admission,
    /// The leader, as far as this node knows and while it is heard.
    pub leader: Option<NodeId>,
    /// Whether this node leads.
    pub is_leader: bool,
    /// Raft's term.
    pub term: u64,
    /// The index of the last entry in its log.
    pub last_log: Option<u64>,
    /// The index of the last entry it knows to be committed.
    pub committed: Option<u64>,
    /// The index of the last entry it has applied.
    pub applied: Option<u64>,
    /// The index up to which its newest snapshot reaches.
    pub snapshot: Option<u64>,
    /// The index up to which its log was purged.
    pub purged: Option<u64>,
    /// Frames of other nodes' snapshots that it has taken in since it was started.
    pub snapshot_frames: u64,
    /// The digest of its state with all entries up to `applied`; equal on all nodes there.
    pub digest: Digest,
    /// The nodes that vote; while they are changed, the old and the new ones.
    pub voters: BTreeSet<NodeId>,
    /// Whether a change of the voters is under way, as far as this node knows: the old and the new ones must both agree.
    pub changing: bool,
    /// The peer addresses of all members.
    pub members: BTreeMap<NodeId, String>,
    /// The storages that the membership knows the members with.
    pub storages: BTreeMap<NodeId, String>,
    /// What the leader said last, when this node does not lead: see [`Status::peers`].
    pub leader_hears: BTreeMap<NodeId, PeerStatus>,
    /// Known to the leader alone: what it hears from the others.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// The bytes free on its disk.
    pub room: u64,
    /// Whether its disk is full: it takes on nothing more.
    pub full: bool,
    /// How far this node's wall clock is off what it takes the time to be, in milliseconds, when it is not followed.
    pub clock_off: Option<i64>,
    /// When the certificate that this node shows to the others ends.
    pub certificate_expires: Time,
    /// Why this node must stop, when it must.
    pub fatal: Option<String>,
}

/// Someone who was not let in on the peer port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedPeer {
    /// From where, when that is known.
    pub address: Option<IpAddr>,
    /// Why, as a stable code.
    pub code: &'static str,
}

/// What the leader hears from another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whether it has answered lately.
    pub reachable: bool,
    /// The index up to which its log is known to match.
    pub matched: Option<u64>,
    /// How long ago it answered; none when it never did since this node leads.
    pub silent_for: Option<Duration>,
}

/// What the leader said last of what it hears, for the nodes that do not lead.
#[derive(Default)]
pub(crate) struct LeaderHears(Mutex<BTreeMap<NodeId, PeerStatus>>);

impl LeaderHears {
    /// Takes over what was said; nothing when there is no leader.
    pub(crate) fn take(&self, said: BTreeMap<NodeId, PeerStatus>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// What was said last.
    pub(crate) fn said(&self) -> BTreeMap<NodeId, PeerStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn peers(
    metrics: &openraft::RaftMetrics<Types>,
    heartbeat: Duration,
) -> BTreeMap<NodeId, PeerStatus> {
    let patience = heartbeat * REACHABLE_HEARTBEATS;
    let replication = metrics.replication.iter().flatten();
    replication
        .filter(|(node, _)| **node != metrics.id)
        .map(|(node, matched)| {
            let answered = metrics.heartbeat.as_ref().and_then(|answered| answered.get(node)?.as_ref());
            let silent_for = answered.map(|at| at.into_inner().elapsed());
            let reachable = silent_for.is_some_and(|silence| silence < patience);
            (NodeId(*node), PeerStatus { reachable, matched: matched.map(|id| id.index), silent_for })
        })
        .collect()
}
