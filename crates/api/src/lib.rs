//! What is said: the wire types and services generated from `proto/`, and the conversions between them and the
//! model. It refuses what does not fit the model's types, and knows nothing of sockets.
//!
//! Declarations come in through `TryFrom<v1::…>` for the model's commands; rows go out through `From<&…>`, or
//! through a function `shown` where more than the row is needed. Secrets are never converted: the server takes them
//! out of a request first, and no row holds one that is not sealed.

/// Package `revolve.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("revolve.v1");
}

pub mod audit;
pub mod certificate;
pub mod consumer;
pub mod credential;
pub mod event;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod grant;
pub mod identity;
pub mod ledger;
pub mod resource;
pub mod revocation;
pub mod rotation;
pub mod schedule;
pub mod store;
pub mod target;
pub mod token;

mod malformed;
mod redacted;

pub use malformed::{Malformed, parse};

use model::time::Time;

/// An instant that may be missing, as the wire has it: 0 for none.
/// How many bytes a message takes on the wire.
#[must_use]
pub fn wire_size(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

fn or_zero(at: Option<Time>) -> u64 {
    at.map_or(0, |at| at.0)
}
