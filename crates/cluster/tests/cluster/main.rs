//! The crate from outside: real files, real loopback connections, real kills.

#![allow(clippy::unwrap_used)]

mod admission;
mod kill;
mod nodes;
mod repair;
mod three_nodes;
