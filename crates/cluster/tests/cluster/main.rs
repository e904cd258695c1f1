//! The crate from outside: real files, real loopback connections, real kills.

#![allow(clippy::unwrap_used)]

mod admission;
mod diverged;
mod kill;
mod membership;
mod nodes;
#[cfg(feature = "planted")]
mod planted;
mod repair;
mod resume;
mod three_nodes;
mod trim;
