//! Whole clusters in virtual time: the real model, state machine, raft core and reconcilers, with simulated disks,
//! network, clocks, target, store and consumers, under faults drawn from a seed. It refuses every source of order but
//! the seed: a seed gives the same trace, byte for byte.

mod chance;
mod check;
mod client;
mod clock;
mod consumer;
mod faults;
mod hands;
mod member;
mod setup;
mod target;
mod trace;
mod turnover;
mod world;

pub use check::{Invariant, Violation};
pub use trace::Record;
pub use world::{Report, Tally, run};
