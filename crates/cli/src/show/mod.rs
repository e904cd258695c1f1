//! What is shown: one view per thing, the same words in tables, JSON and YAML.

mod access;
mod backup;
mod certificate;
mod change;
mod cluster;
mod event;
mod grant;
mod key;
mod resource;
mod revocation;
mod rotation;
mod secret;

pub use access::{Audit, Chain, Invitation, Token};
pub use backup::{Backup, Head, Put};
pub use certificate::{Certificate, IssuedCertificate};
pub use change::{Change, Fire};
pub use cluster::{Cluster, Status};
pub use event::Entry;
pub use grant::Grant;
pub use key::Keys;
pub use resource::Resource;
#[cfg(test)]
pub use revocation::Receipt;
pub use revocation::{Created, Revocation, RevocationStatus};
pub use rotation::Rotation;
pub use secret::{IssuedToken, Secret};

/// The text, or none where it is empty.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
