//! Identities.

use model::{command::PutIdentity, identity::Identity, time::Time};

use crate::{Malformed, parse, v1};

impl TryFrom<v1::Identity> for PutIdentity {
    type Error = Malformed;

    fn try_from(wire: v1::Identity) -> Result<Self, Malformed> {
        Ok(Self {
            name: parse("name", &wire.name)?,
            owner: wire.owner,
            purpose: wire.purpose,
            workload: wire.workload,
            environment: wire.environment,
            review_by: Time(wire.review_by_ms),
        })
    }
}

impl From<&Identity> for v1::Identity {
    fn from(row: &Identity) -> Self {
        Self {
            name: row.name.to_string(),
            owner: row.owner.clone(),
            purpose: row.purpose.clone(),
            workload: row.workload.clone(),
            environment: row.environment.clone(),
            review_by_ms: row.review_by.0,
        }
    }
}
