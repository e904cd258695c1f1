//! How we agree: Raft over a durable log, the materialised state, snapshots and the peer network, behind one handle,
//! [`Cluster`]: propose, read, watch. It refuses to acknowledge what a quorum has not made durable, and shows no type
//! of the libraries it is made of.

mod batch;
mod cluster;
mod disk;
mod error;
mod fatal;
mod form;
mod log;
mod machine;
mod peer;
mod propose;
mod raft;
mod read;
mod restore;
mod settings;
mod status;
mod store;

pub use cluster::Cluster;
pub use error::{ProposeError, ReadError, StartError, TransferError};
pub use propose::COMMAND_BYTES;
pub use settings::{Retention, Settings, Timing};
pub use status::{PeerStatus, Progress, Status};
