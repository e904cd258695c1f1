//! How we agree: Raft over a durable log, the materialised state, snapshots and the peer network, behind one handle,
//! [`Cluster`]: propose, read, watch. It refuses to acknowledge what a quorum has not made durable, and shows no type
//! of the libraries it is made of.

mod admission;
mod background;
mod batch;
mod clock;
mod cluster;
mod compare;
mod disk;
mod error;
mod examine;
mod fatal;
mod form;
mod found;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handover;
mod heartbeat;
mod known;
mod ledger;
mod log;
mod machine;
mod membership;
mod observe;
mod packing;
mod parts;
mod peer;
#[cfg(all(test, feature = "planted"))]
mod planted;
mod promise;
mod propose;
mod raft;
mod read;
mod restore;
mod settings;
#[cfg(feature = "sim")]
pub mod sim;
mod space;
mod status;
mod steer;
mod store;
pub mod trace;
mod trim;

pub use admission::{Admission, Exclusion};
pub use cluster::Cluster;
pub use error::{ProposeError, ReadError, StartError, SteerError};
pub use examine::{Part, examine};
pub use found::{Found, found, read_ledger};
pub use propose::COMMAND_BYTES;
pub use settings::{Rejoin, Retention, Settings, StateCheck, Timing};
pub use status::{PeerStatus, Progress, RefusedPeer, Status};

/// The UUID of the storage under `data`, which is made when there is none, for a node that is to be let in.
///
/// # Errors
/// The folder cannot be made, or a node has run on it already.
pub fn fresh_storage(data: &std::path::Path) -> std::io::Result<[u8; 16]> {
    Ok(disk::Layout::make(data.to_owned())?.fresh_identity()?.into_bytes())
}
