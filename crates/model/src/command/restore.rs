//! What commands about backups, and about a state that was put back from one, carry. The fields and their order are
//! persisted.

use serde::{Deserialize, Serialize};

use crate::{attempt::Liveness, ledger::LedgerHead, name::CredentialName, time::Time};

/// See [`Command::Restored`](super::Command::Restored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub backup_at: Time,
    /// The ledger's head in it.
    pub backup: LedgerHead,
    /// The ledger's head that was applied on top of it.
    pub ledger: LedgerHead,
    /// Why it is accepted that what was stated since may be lost.
    pub accepted_loss: Option<String>,
}

/// See [`Command::ConfirmRestore`](super::Command::ConfirmRestore).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmRestore {
    /// Why.
    pub reason: String,
}

/// See [`Command::RecordBackup`](super::Command::RecordBackup).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordBackup {
    /// Why.
    pub reason: String,
}

/// See [`Command::BackupTaken`](super::Command::BackupTaken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTaken {
    /// When the state in it was read.
    pub at: Time,
    /// The last entry of the log that is in it.
    pub applied: u64,
    /// The last revision in it.
    pub revision: u64,
    /// The last entry of the ledger in it.
    pub ledger: u64,
    /// Why it was taken.
    pub reason: String,
}

/// See [`Command::RecordLooks`](super::Command::RecordLooks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLooks {
    /// What was found; at most [`caps::LOOKS`](crate::caps::LOOKS).
    pub looks: Vec<Looked>,
}

/// What an attempt to log in with a version has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The credential.
    pub credential: CredentialName,
    /// The version.
    pub version: u32,
    /// What was found.
    pub found: Liveness,
    /// Why, in words; what is longer than [`caps::LOOK_NOTE_BYTES`](crate::caps::LOOK_NOTE_BYTES) is cut.
    pub note: String,
}
