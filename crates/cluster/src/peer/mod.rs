//! The peer port: how nodes of one cluster find, know and talk to each other.

mod client;
mod commits;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod network;
mod service;
mod tls;
mod wire;

pub(crate) use client::{CallError, Peers};
pub(crate) use network::Network;
pub(crate) use service::{Service, serve};
pub(crate) use tls::PeerTls;

/// Longest message either side takes: an append carries at most 2 MiB of entries, or one entry, and a frame of a
/// snapshot at most 3 MiB.
const MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// The header that says which storage of a node a message of Raft is meant for: its UUID as text.
const STORAGE: &str = "revolve-storage";
