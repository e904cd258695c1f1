//! Who runs it: one node with its configuration, authentication, reconcilers and services. It refuses what the caller
//! may not do, audits every refusal, and leaves the deciding to the model and the doing to the workers.

mod admin;
pub mod clock;
pub mod config;
pub mod consensus;
pub mod consumer_file;
mod denied;
mod edge;
mod feed;
mod fresh;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gate;
mod health;
pub mod init;
pub mod join;
mod keys;
pub mod ledger_file;
pub mod logs;
mod metrics;
pub mod node;
pub mod pki;
mod port;
pub mod reconcile;
mod refusals;
pub mod restore;
mod stream;
mod task;
#[cfg(test)]
mod testing;
mod token;
mod trace;

pub use cluster::trace::TARGET as TRACE_TARGET;

/// The file of a backup, for who reads one.
pub mod backup {
    pub use workers::{
        RootKey,
        backup::{About, BackupError, Reader},
    };
}

/// A data folder without its node.
pub mod offline {
    pub use cluster::{Part, examine};
}

/// The demo target of `revolve dev`.
pub mod demo {
    pub use workers::{Login, Password, demo::Service};
}
