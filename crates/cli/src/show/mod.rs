//! What is shown: one view per thing, the same words in tables, JSON and YAML.

mod access;
mod backup;
mod change;
mod cluster;
mod event;
mod grant;
mod resource;
mod revocation;
mod rotation;
mod secret;

pub use access::{Audit, Chain, Token};
pub use backup::{Backup, Head, Put};
pub use change::{Change, Fire};
pub use cluster::{Cluster, Status};
pub use event::Entry;
pub use grant::Grant;
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
