//! What is true: the replicated state machine of Revolve. It holds every fact and decides every transition;
//! it refuses to read a clock, to draw a random number, to do IO, and to see a secret that is not sealed.
//!
//! [`State::apply`] takes one [`command::Stamped`] and answers with an [`outcome::Outcome`]. Time is an argument:
//! the leader stamps commands and proposes [`command::Tick`] when [`State::next_due`] has come.

pub mod attempt;
pub mod audit;
pub mod caps;
pub mod certificate;
pub mod command;
pub mod consumer;
pub mod credential;
pub mod event;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod grant;
pub mod identity;
pub mod key;
pub mod ledger;
pub mod membership;
pub mod name;
pub mod node;
pub mod outcome;
#[doc(hidden)]
pub mod planted;
pub mod refusal;
pub mod rotation;
pub mod schedule;
pub mod sealed;
pub mod store;
pub mod table;
pub mod target;
pub mod time;
pub mod timing;
pub mod token;

mod apply;
mod index;
mod load;
mod state;
mod view;
mod work;

pub use apply::{Restore, Summary};
pub use index::Reviewed;
pub use load::{Loading, Part};
pub use state::{FirstDataKey, Meta, State};
pub use work::Work;
