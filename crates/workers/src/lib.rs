//! How we act: providers that make targets honour and refuse credentials, stores that hold current values, and
//! [`perform`], which does one owed step and says what came of it. It refuses to know Raft, a server or a clock of
//! the model, and it lets no secret into a message, an error or a trace.
//!
//! A caller opens what the model keeps sealed, builds a [`Task`] and performs it under a deadline; what comes back is
//! a [`model::attempt::StepOutcome`] to be committed. Every step may be repeated: a second time does no harm.

pub mod backup;
pub mod bundle;
pub mod crash;
pub mod demo;
mod fault;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod job;
pub mod params;
pub mod provider;
pub mod retry;
pub mod root_key;
pub mod seal;
pub mod secret;
pub mod store;
pub mod task;

pub use fault::{Effect, Fault};
pub use job::{look, perform};
pub use root_key::RootKey;
pub use seal::DataKey;
pub use secret::{Login, Password};
pub use task::Task;
