//! Changes of the membership, made by the leader: nodes that were let in are taken in as learners and vote when they have
//! caught up, nodes that were turned out are taken out, and a node whose storage is a new one is taken out and in again.
//!
//! What is to be done is read from the state and the membership each time, never remembered: a leader that is lost half
//! way leaves nothing behind that the next one would not finish.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::name::NodeId;
use openraft::{
    ChangeMembers, RaftMetrics, ServerState,
    errors::{ClientWriteError, RaftError},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    handover::Lead,
    machine::View,
    raft::{Member, Raft, Types},
    status,
    steer::Unheeded,
};

/// A learner that lacks at most this many entries may vote.
const CAUGHT_UP_ENTRIES: u64 = 256;
/// How often the leader looks whether a change is owed.
const TIDY_EVERY: Duration = Duration::from_millis(500);
/// How long another voter may take to take over from a leader that is to be removed.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// What became of a node that wants to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejoined {
    /// It votes.
    Voter,
    /// It is a learner and lacks this many entries.
    Learner {
        /// How many.
        lag: u64,
        /// Whether it stays one until an operator promotes it.
        stays: bool,
    },
    /// Not this node's to decide; the leader, when it is known.
    NotLeader(Option<NodeId>),
    /// It cannot be done now, and why.
    Refused(String),
}

/// Takes nodes in and out. Changes of the membership are made one after another.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) raft: Raft,
    pub(crate) view: Arc<View>,
    pub(crate) lead: Lead,
    /// Peer addresses of the nodes in the settings.
    pub(crate) addresses: BTreeMap<NodeId, String>,
    pub(crate) heartbeat: Duration,
    /// Longest time one change may take.
    pub(crate) timeout: Duration,
    pub(crate) changing: Arc<Mutex<()>>,
}

impl Membership {
    /// Brings `node` with `storage` a step closer to voting. Each call looks at the membership anew.
    pub(crate) async fn rejoin(&self, node: NodeId, storage: Uuid) -> Rejoined {
        let Ok(_changing) = self.changing.try_lock() else {
            return Rejoined::Refused("another change of the membership is under way".into());
        };
        match tokio::time::timeout(self.timeout, self.step(node, storage)).await {
            Ok(Ok(rejoined)) => rejoined,
            Ok(Err(error)) => match error.forward_to_leader() {
                Some(forward) => Rejoined::NotLeader(forward.leader_id.map(NodeId)),
                None => Rejoined::Refused(error.to_string()),
            },
            Err(_) => Rejoined::Refused("the change of the membership was not committed in time".into()),
        }
    }

    async fn step(&self, node: NodeId, storage: Uuid) -> Result<Rejoined, ChangeError> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return Ok(Rejoined::NotLeader(metrics.current_leader.map(NodeId)));
        }
        let state = self.view.state();
        if let Some(removal) = state.removal_of(node) {
            return Ok(Rejoined::Refused(format!("`{node}` was removed: {}", removal.reason)));
        }
        let membership = metrics.membership_config.membership();
        let known = membership.get_node(&node.0);
        let admitted = state.admission_of(node).map(|admission| &admission.peer_address);
        let address = self.addresses.get(&node).or(admitted).or_else(|| known.map(|member| &member.address));
        let Some(address) = address else {
            return Ok(Rejoined::Refused(format!("`{node}` was never let in")));
        };
        let member = Member::new(address.as_str(), storage);
        self.finish_joint(&metrics).await?;
        let votes = membership.voter_ids().any(|id| id == node.0);
        match known {
            Some(known) if known.storage == storage && votes => return Ok(Rejoined::Voter),
            Some(known) if known.storage == storage => {
                if state.admission_of(node).is_some_and(|admission| admission.learner) {
                    return Ok(Rejoined::Learner {
                        lag: lag(node, &metrics).unwrap_or_default(),
                        stays: true,
                    });
                }
                return self.promote_caught_up(node, &metrics).await;
            }
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
        Ok(Rejoined::Learner { lag: metrics.last_log_index.unwrap_or_default(), stays: false })
    }

    async fn promote_caught_up(
        &self,
        node: NodeId,
        metrics: &RaftMetrics<Types>,
    ) -> Result<Rejoined, ChangeError> {
        let lag = match lag(node, metrics) {
            Some(lag) if lag <= CAUGHT_UP_ENTRIES => lag,
            Some(lag) => return Ok(Rejoined::Learner { lag, stays: false }),
            None => {
                let lag = metrics.last_log_index.map_or(0, |last| last + 1);
                return Ok(Rejoined::Learner { lag, stays: false });
            }
        };
        self.change(ChangeMembers::AddVoterIds([node.0].into())).await?;
        tracing::info!(%node, lag, "has caught up and votes");
        Ok(Rejoined::Voter)
    }

    /// Lets a learner vote that answers and has caught up.
    pub(crate) async fn promote(&self, node: NodeId) -> Result<(), Unheeded> {
        let _changing = self.changing.lock().await;
        let metrics = self.leading()?;
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().any(|id| id == node.0) {
            return Ok(());
        }
        if membership.get_node(&node.0).is_none() {
            return Err(refused(format!("`{node}` is no member yet: start it, and it comes in by itself")));
        }
        if !self.hears(node, &metrics) {
            return Err(refused(format!(
                "`{node}` does not answer: a voter that is away makes a majority harder"
            )));
        }
        match self.within(self.promote_caught_up(node, &metrics)).await? {
            Rejoined::Voter => Ok(()),
            Rejoined::Learner { lag, .. } => Err(refused(format!(
                "`{node}` lacks {lag} entries; it votes by itself when it has caught up"
            ))),
            Rejoined::NotLeader(leader) => Err(Unheeded::NotLeader(leader)),
            Rejoined::Refused(reason) => Err(refused(reason)),
        }
    }

    /// Whether `node` could be taken out now without harm.
    pub(crate) fn may_remove(&self, node: NodeId) -> Result<(), Unheeded> {
        let metrics = self.leading()?;
        self.lacks_to_remove(node, &metrics).map_or(Ok(()), |reason| Err(refused(reason)))
    }

    /// Takes `node` out. A leader that is to go hands the lead over, and leaves the rest to who takes it.
    pub(crate) async fn remove(&self, node: NodeId) -> Result<(), Unheeded> {
        let _changing = self.changing.lock().await;
        let metrics = self.leading()?;
        let membership = metrics.membership_config.membership();
        if membership.get_node(&node.0).is_none() {
            return Ok(());
        }
        if let Some(reason) = self.lacks_to_remove(node, &metrics) {
            return Err(refused(reason));
        }
        if node.0 == metrics.id {
            self.lead.step_down(HANDOVER_TIMEOUT).await;
            let leader = self.metrics().current_leader.map(NodeId).filter(|leader| *leader != node);
            return Err(Unheeded::NotLeader(leader));
        }
        let votes = membership.voter_ids().any(|id| id == node.0);
        let change = if votes {
            ChangeMembers::RemoveVoters([node.0].into())
        } else {
            ChangeMembers::RemoveNodes([node.0].into())
        };
        self.within(async {
            self.finish_joint(&metrics).await?;
            self.change(change).await
        })
        .await?;
        tracing::warn!(%node, "taken out of the membership");
        Ok(())
    }

    /// While this node leads, finishes what is owed: a change that another leader has left half way, nodes that were
    /// turned out, learners that have caught up. Runs until the node stops.
    pub(crate) async fn tidy(self, shutdown: CancellationToken) {
        let mut told = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(TIDY_EVERY) => {}
            }
            if let Err(Unheeded::Refused(reason)) = self.tidy_once().await
                && told.as_ref() != Some(&reason)
            {
                tracing::warn!(reason, "a change of the membership is owed, and waits");
                told = Some(reason);
            }
        }
    }

    async fn tidy_once(&self) -> Result<(), Unheeded> {
        let metrics = self.leading()?;
        let membership = metrics.membership_config.membership();
        if membership.get_joint_config().len() > 1 {
            let _changing = self.changing.lock().await;
            self.within(self.finish_joint(&metrics)).await?;
        }
        let state = self.view.state();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        for (id, _) in membership.nodes() {
            let node = NodeId(*id);
            if state.removal_of(node).is_some() {
                self.remove(node).await?;
            } else if !voters.contains(id)
                && !state.admission_of(node).is_some_and(|admission| admission.learner)
                && self.hears(node, &metrics)
                && lag(node, &metrics).is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES)
            {
                self.promote(node).await?;
            }
        }
        Ok(())
    }

    /// Left behind by a leader that was lost half way.
    async fn finish_joint(&self, metrics: &RaftMetrics<Types>) -> Result<(), ChangeError> {
        if metrics.membership_config.membership().get_joint_config().len() > 1 {
            self.change(ChangeMembers::AddVoterIds([].into())).await?;
        }
        Ok(())
    }

    /// Without `node`, a majority of the voters must be heard: a change that cannot be committed would stop the
    /// cluster.
    fn lacks_without(&self, node: NodeId, metrics: &RaftMetrics<Types>) -> Option<String> {
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().map(NodeId).collect();
        let others = voters.iter().filter(|id| **id != node && self.hears(**id, metrics)).count();
        let needed = voters.len() / 2 + 1;
        (others < needed).then(|| {
            format!("{others} other voters are heard, and {needed} are needed to change the membership")
        })
    }

    /// Why `node` cannot be taken out now: those that are left must be able to go on, and those that are there now to
    /// agree to it.
    fn lacks_to_remove(&self, node: NodeId, metrics: &RaftMetrics<Types>) -> Option<String> {
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().map(NodeId).collect();
        let heard = |ids: &BTreeSet<NodeId>| ids.iter().filter(|id| self.hears(**id, metrics)).count();
        let left: BTreeSet<NodeId> = voters.iter().copied().filter(|id| *id != node).collect();
        if left.is_empty() {
            return Some(format!("`{node}` is the last voter: the cluster would be gone"));
        }
        let (there, needed) = (heard(&left), left.len() / 2 + 1);
        if there < needed {
            return Some(format!(
                "without `{node}` there are {} voters, of which {there} answer, and {needed} must: bring back or remove \
                 one that does not answer first",
                left.len()
            ));
        }
        let (there, needed) = (heard(&voters), voters.len() / 2 + 1);
        (there < needed).then(|| {
            format!("{there} of {} voters answer, and {needed} must agree to a change", voters.len())
        })
    }

    fn hears(&self, node: NodeId, metrics: &RaftMetrics<Types>) -> bool {
        node.0 == metrics.id
            || status::peers(metrics, self.heartbeat).get(&node).is_some_and(|peer| peer.reachable)
    }

    /// What Raft says of itself, if this node leads.
    fn leading(&self) -> Result<RaftMetrics<Types>, Unheeded> {
        let metrics = self.metrics();
        if metrics.state == ServerState::Leader {
            Ok(metrics)
        } else {
            Err(Unheeded::NotLeader(metrics.current_leader.map(NodeId)))
        }
    }

    /// Gives a change the time it may take.
    async fn within<T>(&self, change: impl Future<Output = Result<T, ChangeError>>) -> Result<T, Unheeded> {
        match tokio::time::timeout(self.timeout, change).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(match error.forward_to_leader() {
                Some(forward) => Unheeded::NotLeader(forward.leader_id.map(NodeId)),
                None => refused(error.to_string()),
            }),
            Err(_) => Err(refused("the change of the membership was not committed in time".into())),
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), ChangeError> {
        self.raft.change_membership(change, false).await.map(drop)
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        use openraft::async_runtime::WatchReceiver as _;
        self.raft.metrics().borrow_watched().clone()
    }
}

/// How many entries `node` lacks, when the leader knows.
fn lag(node: NodeId, metrics: &RaftMetrics<Types>) -> Option<u64> {
    let matched = metrics.replication.as_ref().and_then(|known| known.get(&node.0).copied().flatten())?;
    Some(metrics.last_log_index.map_or(0, |last| last.saturating_sub(matched.index)))
}

const fn refused(reason: String) -> Unheeded {
    Unheeded::Refused(reason)
}

type ChangeError = RaftError<Types, ClientWriteError<Types>>;
