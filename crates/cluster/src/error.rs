//! What can go wrong, one type for each thing that is done.

use std::io;

/// A node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot work.
    #[error("settings of the cluster cannot work: {0}")]
    Settings(String),
    /// The keys for the peer port cannot be derived.
    #[error("keys for the peer port cannot be made from the root key")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log or the vote cannot be read, and the node may not repair itself.
    #[error(
        "raft log under `{folder}` cannot be used; where other nodes hold the same, start this one with `--rejoin`"
    )]
    Log {
        /// Where it is.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state is damaged, the log does not reach back far enough, and no peer could help.
    #[error("stored state is damaged and no peer could be asked for a snapshot that covers entry {covers}")]
    Damaged {
        /// The last entry that is no longer in the log.
        covers: u64,
    },
    /// The data is known to be wrong, and the node may not be repaired without being told to.
    #[error(
        "this node was quarantined: {reason}; start it with `--rejoin` to let it begin anew, as a learner"
    )]
    Quarantined {
        /// Why.
        reason: String,
    },
    /// A file cannot be used.
    #[error("data folder `{folder}` cannot be used")]
    Data {
        /// Where it is.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stored state is sound, and this node is no use with it.
    #[error("{0}")]
    Unfit(String),
    /// Raft cannot go on from what is stored.
    #[error("raft cannot start: {0}")]
    Raft(String),
}

/// A proposal was not answered with an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was not proposed, for want of a leader or of room, within the time allowed. Safe to try again.
    #[error("no leader took the command in time; it was not proposed")]
    NoLeader,
    /// It may or may not have been committed. Only a command that may run twice is safe to try again.
    #[error("the outcome of the command is unknown; it may have been committed")]
    Unknown,
    /// It was not proposed: the leader runs a build that does not know it.
    #[error("the leader does not know this command: {0}")]
    Unsupported(String),
    /// It was not proposed: a command longer than [`crate::COMMAND_BYTES`] does not fit into an entry.
    #[error("the command has {0} bytes, which is more than an entry may carry")]
    TooLarge(usize),
    /// It was not proposed: there is no room for it on the leader's disk.
    #[error("the disk of the leader is full; nothing more is taken on until there is room")]
    DiskFull,
    /// It was not proposed: this node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// A linearizable read could not be had. Reads change nothing: trying again is always safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed in time that it leads, or this node did not catch up in time.
    #[error("no leader confirmed the read in time")]
    NoLeader,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// What was asked of the nodes was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// There is no leader.
    #[error("the cluster has no leader")]
    NoLeader,
    /// The node that it concerns does not answer.
    #[error("`{0}` does not answer on its peer port")]
    Unreachable(model::name::NodeId),
    /// It cannot be done, and why.
    #[error("{0}")]
    Refused(String),
}
