//! Scenarios of `apply`, grouped by noun, and the machine that drives them.

mod access;
mod audit;
mod breakglass;
mod certificate;
mod declare;
mod feed;
mod fuzz;
mod golden;
mod keys;
mod look;
mod lost;
mod machine;
mod membership;
mod properties;
mod receipts;
mod retry;
mod revocation;
mod rotation;
mod schedule;

use machine::{Machine, name};
