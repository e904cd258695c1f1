//! A node in a simulation: the raft core, the state machine and the log store of a real node, under a runtime with
//! virtual time, with a disk and a network in memory whose faults are the caller's. Only for tests: it is compiled
//! with the feature `sim` alone.

mod disk;
mod keeper;
mod log;
mod network;
mod node;
pub mod time;
mod types;

pub use disk::{Disk, Loss};
pub use network::{Link, Network, Traffic};
pub use node::{Clock, MembershipError, Node};

use std::collections::BTreeSet;

use model::{command::Stamped, name::NodeId, table::Digest};

/// One committed entry, as an observer sees it.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// The commands in it; none when it is blank or a change of membership.
    pub commands: Vec<Stamped>,
    /// Who takes part from here on, when it is a change of membership.
    pub membership: Option<Membership>,
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The voters; while they are changed the old and the new ones, of which a majority each must agree.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// The voters and those without a vote.
    pub members: BTreeSet<NodeId>,
}

/// Where a node's log has come to with one more entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The term of the entry before it; `None` when there is none or it is no longer kept.
    pub before: Option<u64>,
    /// A checksum of its payload.
    pub checksum: u64,
    /// Whether it begins a change of the voters: from here on the old and the new ones must both agree.
    pub begins_change: bool,
}

/// What a node has done to its state.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The index of the last applied entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The digest of the state there.
    pub digest: Digest,
    /// Whether the state came with a snapshot of another node.
    pub installed: bool,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
}

/// Is told of everything a node does, at the moment it does it. It must not change anything.
pub trait Observer: Send + Sync + 'static {
    /// An entry was written to the log; it need not be durable yet.
    fn appended(&self, node: NodeId, entry: Appended);

    /// Entries were applied. `entries` reads committed entries from this node's log, as far as they are kept.
    fn applied(&self, node: NodeId, applied: Applied, entries: &dyn Fn(u64, u64) -> Vec<Committed>);

    /// A node has given its vote in `term` to `candidate`, or acknowledges it as the leader of that term.
    fn voted(&self, node: NodeId, term: u64, candidate: NodeId);

    /// The term or the leadership has changed.
    fn stands(&self, node: NodeId, standing: Standing);

    /// The node has stopped by itself, which it must not.
    fn stopped(&self, node: NodeId, reason: &str);
}
