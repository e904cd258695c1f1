//! What is said: the wire types and services generated from `proto/`, and the conversions between them and the
//! model. It refuses what does not fit the model's types, and knows nothing of sockets.

/// Package `revolve.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("revolve.v1");
}
