//! Entries of the ledger.

use model::ledger::LedgerEntry;

use crate::v1;

/// An entry with what it states, as far as this build can read it.
#[must_use]
pub fn shown(entry: &LedgerEntry) -> v1::LedgerEntry {
    let bare = v1::LedgerEntry {
        sequence: entry.sequence,
        previous: entry.previous.to_vec(),
        hash: entry.hash.to_vec(),
        body: entry.body.clone(),
        ..v1::LedgerEntry::default()
    };
    let Ok(statement) = entry.statement() else { return bare };
    let what = &statement.what;
    v1::LedgerEntry {
        at_ms: statement.at.0,
        subject: what.subject(),
        statement: what.verb(),
        reason_code: what.code().map(|code| code.as_str().to_owned()).unwrap_or_default(),
        revision: what.revision().unwrap_or_default(),
        actor: statement.actor,
        action: statement.action,
        why: statement.why,
        ..bare
    }
}

/// The entry that was sent. Whoever takes it checks the chain.
///
/// # Errors
/// A hash does not have 32 bytes.
pub fn read(entry: &v1::LedgerEntry) -> Result<LedgerEntry, std::array::TryFromSliceError> {
    Ok(LedgerEntry {
        sequence: entry.sequence,
        previous: entry.previous.as_slice().try_into()?,
        hash: entry.hash.as_slice().try_into()?,
        body: entry.body.clone(),
    })
}
