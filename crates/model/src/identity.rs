//! Identities: named non-human principals with exactly one owner and one purpose.

use serde::{Deserialize, Serialize};

use crate::{name::IdentityName, table::Row, time::Time};

/// A named non-human principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub name: IdentityName,
    /// The one person or team that answers for it.
    pub owner: String,
    /// The one thing it is for.
    pub purpose: String,
    /// The one workload that acts as it.
    pub workload: String,
    /// Where that workload runs, such as `production`.
    pub environment: String,
    /// When its need must be looked at again.
    pub review_by: Time,
}

impl Row for Identity {
    type Key = IdentityName;
    const TAG: u8 = 1;
    const STATED: bool = true;
}
