//! Who is let in: certificates that the holders of the root key issue, both ends of TLS on the peer and the client port,
//! their renewal and revocation while connections are open. It refuses whom no authority vouches for, whose certificate
//! is over or revoked, and a name that is not the one that was called.

mod accept;
mod authority;
mod clock;
mod connect;
mod connections;
mod facts;
mod files;
mod own;
mod refused;
mod revoked;
mod setup;
mod throttle;
mod trust;

pub use accept::{Accepted, Accepting, OnRefused, accept};
pub use authority::{Authority, Issued, Kind, Leaf, new_serial};
pub use clock::Clock;
pub use connect::Connector;
pub use connections::{Connections, Cut};
pub use facts::{Facts, facts};
pub use files::Files;
pub use own::Own;
pub use refused::{Refusal, refusal};
pub use revoked::Revoked;
pub use setup::{client_config, server_config};
pub use throttle::Throttle;
pub use trust::Trust;

/// Why certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key of an authority cannot be derived.
    #[error("the key of an authority cannot be derived from the root key")]
    Derive,
    /// A certificate cannot be made.
    #[error("the certificate cannot be made")]
    Issue(#[from] rcgen::Error),
    /// A certificate or key cannot be used by rustls.
    #[error("the certificate or its key cannot be used")]
    Use(#[from] rustls::Error),
    /// The authorities cannot be trusted.
    #[error("the authorities cannot be used to check certificates")]
    Trust(#[from] rustls::client::VerifierBuilderError),
    /// Bytes that are no certificate.
    #[error("not a certificate")]
    Unreadable,
    /// A time that a certificate cannot express.
    #[error("a certificate cannot end then")]
    Time,
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {problem}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why, without its content.
        problem: String,
    },
    /// There is no authority.
    #[error("no root key was given")]
    NoAuthority,
}

#[cfg(test)]
mod tests;
