//! The type configuration of a simulation: that of a node, under the simulated runtime.

use openraft::{RaftTypeConfig, impls::leader_id_std};
use openraft_rt_sim::SimRuntime;

use super::keeper::MemoryKeeper;
use crate::{
    batch::{Batch, Outcomes},
    machine::Machine,
    raft::{Config, Types},
};

openraft::declare_raft_types!(
    /// As [`Types`], but for the runtime.
    pub(crate) SimTypes:
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = SimRuntime,
);

impl Config for SimTypes {}

/// How membership names a node.
pub(crate) type Member = <Types as RaftTypeConfig>::Node;
pub(crate) type Raft = openraft::Raft<SimTypes, Machine<MemoryKeeper>>;
