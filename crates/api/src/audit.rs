//! Audit records.

use model::audit::AuditRecord;

use crate::v1;

impl From<&AuditRecord> for v1::AuditRecord {
    fn from(row: &AuditRecord) -> Self {
        Self {
            sequence: row.sequence,
            at_ms: row.at.0,
            actor: row.actor.clone(),
            action: row.action.clone(),
            object: row.object.clone(),
            detail: row.detail.clone(),
            refused: row.refused.clone().unwrap_or_default(),
            before: row.before.to_vec(),
            after: row.after.to_vec(),
            previous: row.previous.to_vec(),
            hash: row.hash.to_vec(),
        }
    }
}
