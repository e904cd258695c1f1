//! What an operator asks of the nodes: to hand the lead over, to let a node come back, vote or go.

use std::{sync::Arc, time::Duration};

use model::name::NodeId;
use openraft::{RaftMetrics, ServerState, async_runtime::WatchReceiver as _};
use tokio::time::Instant;

use crate::{
    admission::{Admission, Gate},
    error::SteerError,
    membership::Membership,
    peer::Peers,
    raft::{Raft, Types},
};

/// Longest time for a change of the membership, a change of the leader included.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a new leader may take until it has heard from all who are there.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// Wait before a leader is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a node is asked to do. It concerns that node alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The leader: hand the lead over to this voter.
    TransferLeader(NodeId),
    /// A node that does not vote: come back as a learner.
    PermitRejoin,
    /// The leader: let this learner vote.
    Promote(NodeId),
    /// The leader: say whether this node could be taken out now.
    MayRemove(NodeId),
    /// The leader: take this node out.
    Remove(NodeId),
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unheeded {
    /// It is the leader's to do; the leader, when it is known.
    NotLeader(Option<NodeId>),
    /// It cannot be done, and why.
    Refused(String),
}

impl From<Unheeded> for SteerError {
    fn from(unheeded: Unheeded) -> Self {
        match unheeded {
            Unheeded::NotLeader(_) => Self::NoLeader,
            Unheeded::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// Carries orders out here, and brings those for others to them.
#[derive(Clone)]
pub(crate) struct Steering {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) gate: Arc<Gate>,
    pub(crate) peers: Peers,
    pub(crate) membership: Membership,
    /// Longest time for an order to be carried out.
    pub(crate) timeout: Duration,
}

impl Steering {
    /// Asks the leader to hand over to `to`, and waits until it leads.
    pub(crate) async fn transfer_leader(&self, to: NodeId) -> Result<(), SteerError> {
        let leader = self.metrics().current_leader.map(NodeId).ok_or(SteerError::NoLeader)?;
        if leader == to {
            return Ok(());
        }
        self.order(leader, Order::TransferLeader(to)).await?;
        let leads = |metrics: &RaftMetrics<Types>| metrics.current_leader == Some(to.0);
        let waited = self.raft.wait(Some(self.timeout)).metrics(leads, "the new leader").await;
        let late = || format!("`{to}` was asked and does not lead yet");
        waited.map(drop).map_err(|_| SteerError::Refused(late()))
    }

    /// Lets `node` come back, when it does not vote and waits for an operator to say so.
    pub(crate) async fn permit_rejoin(&self, node: NodeId) -> Result<(), SteerError> {
        self.order(node, Order::PermitRejoin).await
    }

    /// Gives an order to the leader, again to the next where one is lost or hands over meanwhile.
    pub(crate) async fn lead(&self, order: Order) -> Result<(), SteerError> {
        let begun = Instant::now();
        let deadline = begun + CHANGE_TIMEOUT;
        let is_removal = matches!(order, Order::MayRemove(_) | Order::Remove(_));
        let mut last = SteerError::NoLeader;
        while Instant::now() < deadline {
            if let Some(leader) = self.metrics().current_leader.map(NodeId) {
                match self.ask(leader, order).await {
                    Ok(Ok(())) => return Ok(()),
                    // A leader that is new has not heard from everyone yet.
                    Ok(Err(Unheeded::Refused(reason))) if is_removal && begun.elapsed() < HEARD_WITHIN => {
                        last = SteerError::Refused(reason);
                    }
                    Ok(Err(Unheeded::Refused(reason))) => return Err(SteerError::Refused(reason)),
                    Ok(Err(Unheeded::NotLeader(_))) => last = SteerError::NoLeader,
                    // What it was asked may be done or not: the next leader sees which.
                    Err(unreachable) => last = unreachable,
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        Err(last)
    }

    /// Lets a learner vote, and waits for a short time until it has caught up.
    pub(crate) async fn promote(&self, node: NodeId) -> Result<(), SteerError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        loop {
            match self.lead(Order::Promote(node)).await {
                Err(SteerError::Refused(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN_AFTER).await
                }
                done => return done,
            }
        }
    }

    async fn order(&self, node: NodeId, order: Order) -> Result<(), SteerError> {
        Ok(self.ask(node, order).await??)
    }

    async fn ask(&self, node: NodeId, order: Order) -> Result<Result<(), Unheeded>, SteerError> {
        if node == self.node {
            return Ok(self.here(order).await);
        }
        self.peers.steer(node, order, CHANGE_TIMEOUT).await.map_err(|_| SteerError::Unreachable(node))
    }

    /// Carries an order out; the error says why not.
    pub(crate) async fn here(&self, order: Order) -> Result<(), Unheeded> {
        match order {
            Order::Promote(node) => self.membership.promote(node).await,
            Order::MayRemove(node) => self.membership.may_remove(node),
            Order::Remove(node) => self.membership.remove(node).await,
            Order::TransferLeader(_) | Order::PermitRejoin => {
                self.here_alone(order).await.map_err(Unheeded::Refused)
            }
        }
    }

    async fn here_alone(&self, order: Order) -> Result<(), String> {
        match order {
            Order::TransferLeader(to) => {
                let metrics = self.metrics();
                if metrics.state != ServerState::Leader {
                    return Err(format!("`{}` does not lead any more", self.node));
                }
                if !metrics.membership_config.voter_ids().any(|id| id == to.0) {
                    return Err(format!("`{to}` is no voter"));
                }
                let stopping = |_| format!("`{}` is stopping", self.node);
                self.raft.trigger().transfer_leader(to.0).await.map_err(stopping)
            }
            Order::PermitRejoin => match self.gate.admission() {
                Admission::Excluded(_) => {
                    self.gate.permit();
                    Ok(())
                }
                Admission::Admitted => Err(format!("`{}` takes part already", self.node)),
                Admission::Asking => {
                    Err(format!("`{}` still asks the other nodes whether it may take part", self.node))
                }
            },
            Order::Promote(_) | Order::MayRemove(_) | Order::Remove(_) => {
                Err("that is a change of the membership".into())
            }
        }
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }
}
