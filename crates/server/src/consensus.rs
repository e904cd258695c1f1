//! What the services ask of the cluster. A small interface, so that they are proven without one.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use cluster::{Cluster, Progress, ProposeError, ReadError, SteerError};
use futures::future::BoxFuture;
use model::{
    State, command::Command, ledger::LedgerEntry, name::NodeId, outcome::Outcome, table::Digest, time::Time,
};
use tokio::sync::watch;

use crate::health;

/// Agreement with the other nodes, as the services see it.
pub trait Consensus: Send + Sync + 'static {
    /// Commits `command` in the name of `actor` and answers what applying it has led to.
    fn propose(&self, actor: String, command: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>>;

    /// The state with everything that was committed before the call.
    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>>;

    /// The state as this node has it; it may lag behind.
    fn local(&self) -> Arc<State>;

    /// Wakes whenever something was applied here.
    fn watch(&self) -> watch::Receiver<Progress>;

    /// Where this node and the others stand.
    fn standing(&self) -> Standing;

    /// Hands the lead over to `to`, and waits until it leads.
    fn transfer_leader(&self, to: NodeId) -> BoxFuture<'_, Result<(), SteerError>>;

    /// Lets `node`, which does not vote, come back as a learner.
    fn permit_rejoin(&self, node: NodeId) -> BoxFuture<'_, Result<(), SteerError>>;

    /// Carries out a change of the membership, and waits until it is committed.
    fn change_members(&self, change: MemberChange) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(async move { Err(SteerError::Refused(format!("{change:?} is not for this node"))) })
    }

    /// Entries of the ledger above `after`, about so many bytes of them.
    fn ledger(&self, after: u64, bytes: usize) -> BoxFuture<'_, io::Result<Vec<LedgerEntry>>>;

    /// The time by which lifetimes are judged: the later of model time and what this node takes the time to be, so that
    /// neither a clock that is behind nor a cluster that is idle keeps anything alive.
    fn now(&self) -> Time;
}

/// A change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// The learner is to vote.
    Promote(NodeId),
    /// It is to be said whether the node could be removed now.
    MayRemove(NodeId),
    /// The node is to go.
    Remove(NodeId),
}

/// Why there was no agreement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unagreed {
    /// Nothing was proposed: there is no leader, or it cannot be reached.
    #[error("the cluster has no leader that can be reached")]
    NoLeader,
    /// The command may or may not have been committed.
    #[error("it is not known whether the request was committed")]
    OutcomeUnknown,
    /// Nothing was proposed: the command does not fit into an entry of the log.
    #[error("a request of {0} bytes is too large for the log")]
    TooLarge(usize),
    /// Nothing was proposed: the leader has no room for it.
    #[error(
        "the disk of the leader is full; reads and the feed go on, and writes do when there is room again"
    )]
    DiskFull,
    /// Nothing was proposed: this node is stopping.
    #[error("this node is shutting down")]
    Stopped,
    /// Nothing was proposed: the leader runs another version that does not know the command.
    #[error("the leader does not know this request: {0}")]
    Unsupported(String),
}

/// Where the nodes of the cluster stand, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// This node.
    pub node: NodeId,
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Whether this node leads.
    pub is_leader: bool,
    /// The other nodes that have answered lately; known to the leader alone.
    pub heard: BTreeSet<NodeId>,
    /// The term of the last vote.
    pub term: u64,
    /// The last entry of the log.
    pub last_log: u64,
    /// The last entry applied.
    pub applied: u64,
    /// The digest of the state there.
    pub digest: Digest,
    /// All members.
    pub members: Vec<Member>,
    /// Why this node is of no use now; empty when it is.
    pub unready: Vec<String>,
    /// Whether its disk is full.
    pub disk_full: bool,
    /// How far this node's wall clock is off what it takes the time to be, in milliseconds, when it is not followed.
    pub clock_off: Option<i64>,
    /// When the certificate that this node shows to the others ends.
    pub certificate_expires: Time,
    /// Whether a change of the voters is under way.
    pub changing: bool,
}

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// The UUID of the storage that the membership knows it with.
    pub storage: String,
    /// The last entry it is known to hold, when the leader has said so.
    pub matched: Option<u64>,
    /// How long ago it answered the leader, when the leader has said so.
    pub silent_for: Option<Duration>,
    /// Whether it has answered the leader lately, when the leader has said so.
    pub heard: Option<bool>,
}

impl Standing {
    /// Whether `node` answers, as far as this node can tell. What the last leader has committed says nothing while there
    /// is none, and too little while a leader can commit nothing more: what it hears itself counts as well.
    #[must_use]
    pub fn reaches(&self, state: &State, node: NodeId) -> bool {
        let is_silent = || self.members.iter().any(|member| member.id == node && member.heard == Some(false));
        let is_committed = || state.nodes().get(&node).is_some_and(|found| found.reachable);
        node == self.node || (self.leader.is_some() && is_committed() && !is_silent())
    }
}

impl Consensus for Cluster {
    fn propose(&self, actor: String, command: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>> {
        Box::pin(async move { Ok(Self::propose(self, actor, command).await?) })
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>> {
        Box::pin(async move { Ok(Self::read(self).await?) })
    }

    fn local(&self) -> Arc<State> {
        Self::local(self)
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        Self::watch(self)
    }

    fn standing(&self) -> Standing {
        let status = self.status();
        let hears = if status.is_leader { &status.peers } else { &status.leader_hears };
        let member = |(id, peer_address)| Member {
            id,
            peer_address,
            voter: status.voters.contains(&id),
            storage: status.storages.get(&id).cloned().unwrap_or_default(),
            matched: hears.get(&id).and_then(|peer| peer.matched),
            silent_for: hears.get(&id).and_then(|peer| peer.silent_for),
            heard: hears.get(&id).map(|peer| peer.reachable),
        };
        Standing {
            node: status.node,
            leader: status.leader,
            is_leader: status.is_leader,
            heard: status.peers.iter().filter(|(_, peer)| peer.reachable).map(|(id, _)| *id).collect(),
            term: status.term,
            last_log: status.last_log.unwrap_or_default(),
            applied: status.applied.unwrap_or_default(),
            digest: status.digest,
            unready: health::unready(&status, false),
            disk_full: status.full,
            members: status.members.clone().into_iter().map(member).collect(),
            clock_off: status.clock_off,
            certificate_expires: status.certificate_expires,
            changing: status.changing,
        }
    }

    fn transfer_leader(&self, to: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(self.transfer_leadership(to))
    }

    fn permit_rejoin(&self, node: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(Self::permit_rejoin(self, node))
    }

    fn change_members(&self, change: MemberChange) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(async move {
            match change {
                MemberChange::Promote(node) => self.promote(node).await,
                MemberChange::MayRemove(node) => self.may_remove(node).await,
                MemberChange::Remove(node) => self.remove(node).await,
            }
        })
    }

    fn ledger(&self, after: u64, bytes: usize) -> BoxFuture<'_, io::Result<Vec<LedgerEntry>>> {
        Box::pin(Self::ledger(self, after, bytes))
    }

    fn now(&self) -> Time {
        self.local().now().max(Self::now(self))
    }
}

impl From<ProposeError> for Unagreed {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::Unknown => Self::OutcomeUnknown,
            ProposeError::Unsupported(why) => Self::Unsupported(why),
            ProposeError::TooLarge(bytes) => Self::TooLarge(bytes),
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::Stopped => Self::Stopped,
        }
    }
}

impl From<ReadError> for Unagreed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::NoLeader,
            ReadError::Stopped => Self::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::command::{AnnounceNode, ReportReachable};

    use super::*;
    use crate::testing::Alone;

    #[tokio::test]
    async fn a_leader_that_can_commit_nothing_still_tells_who_is_silent() {
        let (alone, other) = (Alone::new(), NodeId(2));
        let announce = AnnounceNode { id: other, client_address: "b:1".into(), version: "1".into() };
        alone.apply("test", announce.into()).unwrap();
        let heard = |heard| Member { id: other, heard, ..Member::default() };
        let standing = |leader, member| Standing {
            node: NodeId(1),
            leader,
            members: vec![member],
            ..Standing::default()
        };
        let leads = Some(NodeId(1));
        assert!(!standing(leads, heard(Some(true))).reaches(&alone.local(), other), "not committed yet");
        alone.apply("test", ReportReachable { nodes: [NodeId(1), other].into() }.into()).unwrap();
        let state = alone.local();
        assert!(standing(leads, heard(Some(true))).reaches(&state, other));
        assert!(standing(leads, heard(None)).reaches(&state, other), "the leader has not said yet");
        assert!(!standing(leads, heard(Some(false))).reaches(&state, other), "committed, and silent since");
        assert!(!standing(None, heard(None)).reaches(&state, other));
        assert!(standing(None, heard(None)).reaches(&state, NodeId(1)), "itself");
    }
}
