//! What an operator asks of the nodes: to hand the lead over, to let a node come back.

use std::{sync::Arc, time::Duration};

use model::name::NodeId;
use openraft::{RaftMetrics, ServerState, async_runtime::WatchReceiver as _};

use crate::{
    admission::{Admission, Gate},
    error::SteerError,
    peer::Peers,
    raft::{Raft, Types},
};

/// What a node is asked to do. It concerns that node alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The leader: hand the lead over to this voter.
    TransferLeader(NodeId),
    /// A node that does not vote: come back as a learner.
    PermitRejoin,
}

/// Carries orders out here, and brings those for others to them.
#[derive(Clone)]
pub(crate) struct Steering {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) gate: Arc<Gate>,
    pub(crate) peers: Peers,
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

    async fn order(&self, node: NodeId, order: Order) -> Result<(), SteerError> {
        if node == self.node {
            return self.here(order).await.map_err(SteerError::Refused);
        }
        let answer = self.peers.steer(node, order, self.timeout).await;
        answer.map_err(|_| SteerError::Unreachable(node))?.map_err(SteerError::Refused)
    }

    /// Carries an order out; the error says why not.
    pub(crate) async fn here(&self, order: Order) -> Result<(), String> {
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
        }
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }
}
