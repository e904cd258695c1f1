//! How we agree: Raft over a durable log, the materialised state, snapshots and the peer network, behind one handle,
//! [`Cluster`]: propose, read, watch. It refuses to acknowledge what a quorum has not made durable, and shows no type
//! of the libraries it is made of.

mod admission;
mod batch;
mod clock;
mod cluster;
mod compare;
mod disk;
mod error;
mod examine;
mod fatal;
mod form;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handover;
mod log;
mod machine;
mod membership;
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

pub use admission::{Admission, Exclusion};
pub use cluster::Cluster;
pub use error::{ProposeError, ReadError, StartError, SteerError};
pub use examine::{Part, examine};
pub use propose::COMMAND_BYTES;
pub use settings::{Rejoin, Retention, Settings, Timing};
pub use status::{PeerStatus, Progress, Status};
