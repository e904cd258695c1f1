//! Changes of the membership, made by the leader: a node whose storage is a new one is taken out and in again, as a
//! learner first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::name::NodeId;
use openraft::{
    ChangeMembers, RaftMetrics, ServerState,
    errors::{ClientWriteError, RaftError},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    raft::{Member, Raft, Types},
    status,
};

/// A learner that lacks at most this many entries may vote.
const CAUGHT_UP_ENTRIES: u64 = 256;

/// What became of a node that wants to be taken in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejoined {
    /// It votes.
    Voter,
    /// It is a learner and lacks this many entries.
    Learner {
        /// How many.
        lag: u64,
    },
    /// Not this node's to decide; the leader, when it is known.
    NotLeader(Option<NodeId>),
    /// It cannot be done now, and why.
    Refused(String),
}

/// Takes nodes in. Changes of the membership are made one after another.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) raft: Raft,
    /// Peer addresses of all configured nodes.
    pub(crate) addresses: BTreeMap<NodeId, String>,
    pub(crate) heartbeat: Duration,
    /// Longest time one change may take.
    pub(crate) timeout: Duration,
    pub(crate) changing: Arc<Mutex<()>>,
}

impl Membership {
    /// Brings `node` with `storage` a step closer to voting. Each call looks at the membership anew, so that a change
    /// that was cut short by the loss of a leader is taken up by the next.
    pub(crate) async fn rejoin(&self, node: NodeId, storage: Uuid) -> Rejoined {
        let Some(address) = self.addresses.get(&node) else {
            return Rejoined::Refused(format!("`{node}` is not configured on the leader"));
        };
        let Ok(_changing) = self.changing.try_lock() else {
            return Rejoined::Refused("another change of the membership is under way".into());
        };
        let step = self.step(node, Member::new(address.as_str(), storage));
        match tokio::time::timeout(self.timeout, step).await {
            Ok(Ok(rejoined)) => rejoined,
            Ok(Err(error)) => match error.forward_to_leader() {
                Some(forward) => Rejoined::NotLeader(forward.leader_id.map(NodeId)),
                None => Rejoined::Refused(error.to_string()),
            },
            Err(_) => Rejoined::Refused("the change of the membership was not committed in time".into()),
        }
    }

    async fn step(&self, node: NodeId, member: Member) -> Result<Rejoined, ChangeError> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return Ok(Rejoined::NotLeader(metrics.current_leader.map(NodeId)));
        }
        let membership = metrics.membership_config.membership();
        if membership.get_joint_config().len() > 1 {
            // Left behind by a leader that was lost half way.
            self.change(ChangeMembers::AddVoterIds([].into())).await?;
        }
        let votes = membership.voter_ids().any(|id| id == node.0);
        match membership.get_node(&node.0) {
            Some(known) if known.storage == member.storage && votes => return Ok(Rejoined::Voter),
            Some(known) if known.storage == member.storage => return self.promote(node, &metrics).await,
            Some(_) if votes => {
                if let Some(reason) = self.lacks_without(node, &metrics) {
                    return Ok(Rejoined::Refused(reason));
                }
                tracing::warn!(%node, "its storage is another one: it is taken out, and in again as a learner");
                self.change(ChangeMembers::RemoveVoters([node.0].into())).await?;
            }
            Some(_) => self.change(ChangeMembers::RemoveNodes([node.0].into())).await?,
            None => {}
        }
        // In a change of its own: Raft forgets how far the old storage was only once the node is gone.
        self.change(ChangeMembers::AddNodes([(node.0, member)].into())).await?;
        tracing::info!(%node, "taken in as a learner");
        Ok(Rejoined::Learner { lag: metrics.last_log_index.unwrap_or_default() })
    }

    async fn promote(&self, node: NodeId, metrics: &RaftMetrics<Types>) -> Result<Rejoined, ChangeError> {
        let matched = metrics.replication.as_ref().and_then(|known| known.get(&node.0).copied().flatten());
        let reached = matched.map_or(0, |matched| matched.index + 1);
        let lag = metrics.last_log_index.map_or(0, |last| (last + 1).saturating_sub(reached));
        if matched.is_none() || lag > CAUGHT_UP_ENTRIES {
            return Ok(Rejoined::Learner { lag });
        }
        self.change(ChangeMembers::AddVoterIds([node.0].into())).await?;
        tracing::info!(%node, "has caught up and votes");
        Ok(Rejoined::Voter)
    }

    /// Without `node`, a majority of the voters must be heard: a change that cannot be committed would stop the
    /// cluster.
    fn lacks_without(&self, node: NodeId, metrics: &RaftMetrics<Types>) -> Option<String> {
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let heard = status::peers(metrics, self.heartbeat);
        let is_heard =
            |id: &u64| *id == metrics.id || heard.get(&NodeId(*id)).is_some_and(|peer| peer.reachable);
        let others = voters.iter().filter(|id| **id != node.0 && is_heard(id)).count();
        let needed = voters.len() / 2 + 1;
        (others < needed).then(|| {
            format!("{others} other voters are heard, and {needed} are needed to change the membership")
        })
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), ChangeError> {
        self.raft.change_membership(change, false).await.map(drop)
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        use openraft::async_runtime::WatchReceiver as _;
        self.raft.metrics().borrow_watched().clone()
    }
}

type ChangeError = RaftError<Types, ClientWriteError<Types>>;
