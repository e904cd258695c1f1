//! What stands in a state that was put back from a backup.

use serde::{Deserialize, Serialize};

use super::LedgerHead;
use crate::{attempt::Liveness, name::CredentialName, table::Row, time::Time};

/// That this state was put back, and whether somebody has looked at it since. Until then nothing fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// When it was put back.
    pub at: Time,
    /// Who did it.
    pub by: String,
    /// When the backup was made.
    pub backup_at: Time,
    /// The ledger's head in the backup.
    pub backup: LedgerHead,
    /// The ledger's head that was applied on top of it.
    pub ledger: LedgerHead,
    /// Why it was accepted that what was stated since may be lost, if it was.
    pub accepted_loss: Option<String>,
    /// When, by whom and why it was confirmed.
    pub confirmed: Option<(Time, String, String)>,
}

impl Row for Restoration {
    type Key = u8;
    const TAG: u8 = 25;
    const STATED: bool = true;
}

/// A credential whose current version has a secret that the backup does not hold: nothing of it is served, and it must
/// be rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The credential.
    pub credential: CredentialName,
    /// The version whose secret is lost.
    pub version: u32,
    /// Since when.
    pub since: Time,
}

impl Row for Lost {
    type Key = CredentialName;
    const TAG: u8 = 26;
}

/// The last backup that was handed out whole. Whether its file is still there, nobody but its owner knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When the state in it was read.
    pub at: Time,
    /// Who was given it.
    pub by: String,
    /// Why it was taken.
    pub reason: String,
    /// The last entry of the log that is in it.
    pub applied: u64,
    /// The last revision in it.
    pub revision: u64,
    /// The last entry of the ledger in it.
    pub ledger: u64,
}

impl Row for LastBackup {
    type Key = u8;
    const TAG: u8 = 29;
}

/// What an attempt to log in with a version has found while a restored cluster observes. Nothing follows from it but
/// what people make of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The credential.
    pub credential: CredentialName,
    /// The version.
    pub version: u32,
    /// When.
    pub at: Time,
    /// What was found.
    pub found: Liveness,
    /// Why, in the words of who was asked; bounded.
    pub note: String,
}

impl Row for Look {
    type Key = (CredentialName, u32);
    const TAG: u8 = 30;
}
