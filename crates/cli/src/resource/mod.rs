//! Resources as they are declared in YAML: one document each, strict, secrets only by reference.

pub mod document;
#[cfg(test)]
mod fuzz;
pub mod scalar;
pub mod secret;
pub mod source;
pub mod spec;
mod wire;

use api::v1::ResourceKind;
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const API_VERSION: &str = "revolve/v1";

/// The kinds, in the order that their references need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A named non-human principal.
    Identity,
    /// A system that honours credentials.
    Target,
    /// Where consumers read values.
    Store,
    /// What an identity authenticates with.
    Credential,
    /// When a credential must rotate.
    Schedule,
    /// A party that must act on events.
    Consumer,
}

impl Kind {
    /// The kind on the wire.
    pub const fn wire(self) -> ResourceKind {
        match self {
            Self::Identity => ResourceKind::Identity,
            Self::Target => ResourceKind::Target,
            Self::Store => ResourceKind::Store,
            Self::Credential => ResourceKind::Credential,
            Self::Schedule => ResourceKind::Schedule,
            Self::Consumer => ResourceKind::Consumer,
        }
    }

    /// The noun in lower case.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Target => "target",
            Self::Store => "store",
            Self::Credential => "credential",
            Self::Schedule => "schedule",
            Self::Consumer => "consumer",
        }
    }
}
