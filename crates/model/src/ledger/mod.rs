//! The ledger: one append-only, hash-chained statement of everything that must never come back. It is derived while a
//! command is applied, so every replica writes the same; the state keeps its head alone, and the entries are kept beside
//! it, where no restored state can take them back.

mod derive;
mod restoration;
mod seen;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    credential::Version,
    event::{Event, ReasonCode, Revocation},
    grant::Grant,
    name::{ConsumerName, CredentialName, TokenName},
    table::Row,
    time::Time,
};

pub use restoration::{LastBackup, Look, Lost, Restoration};
pub use seen::{Seen, SeenSnapshot, SeenState, Unbelievable};

/// The end of the ledger, as the state keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// The number of the last entry; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub hash: [u8; 32],
}

impl Row for LedgerHead {
    type Key = u8;
    const TAG: u8 = 24;
}

/// One entry: a statement with its place in the chain. The statement stays encoded, so that a chain can be verified
/// without being understood.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its number: 1, 2, 3 … without gaps.
    pub sequence: u64,
    /// The hash of the entry before it; zeros for the first.
    pub previous: [u8; 32],
    /// The hash of all of the above and below.
    pub hash: [u8; 32],
    /// The statement, encoded with postcard.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for LedgerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LedgerEntry({}, {} bytes)", self.sequence, self.body.len())
    }
}

/// What is wrong with a chain of entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// An entry is missing or out of order.
    #[error("ledger entry {expected} is missing or out of order: found {found} in its place")]
    Gap {
        /// The number that had to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An entry was changed.
    #[error("ledger entry {0} was changed: its content does not match its hash")]
    Changed(u64),
    /// An entry does not follow the one before it.
    #[error("ledger entry {0} does not follow the one before it: their hashes differ")]
    Unlinked(u64),
    /// A statement of a newer build, or damage that the hash covers up.
    #[error("ledger entry {0} does not decode; a newer build may have written it")]
    Undecodable(u64),
}

impl LedgerEntry {
    /// The entry behind `head` that states `statement`.
    #[must_use]
    pub fn behind(head: LedgerHead, statement: &Statement) -> Self {
        let body = postcard::to_stdvec(statement).expect("plain data always encodes into memory");
        let (sequence, previous) = (head.sequence + 1, head.hash);
        Self { sequence, previous, hash: Self::expected_hash(sequence, &previous, &body), body }
    }

    /// The head of a ledger that ends with this entry.
    #[must_use]
    pub const fn head(&self) -> LedgerHead {
        LedgerHead { sequence: self.sequence, hash: self.hash }
    }

    /// Checks that this entry is sound and follows `head`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_behind(&self, head: LedgerHead) -> Result<(), BrokenLedger> {
        if self.sequence != head.sequence + 1 {
            return Err(BrokenLedger::Gap { expected: head.sequence + 1, found: self.sequence });
        }
        self.check()?;
        if self.previous != head.hash {
            return Err(BrokenLedger::Unlinked(self.sequence));
        }
        Ok(())
    }

    /// Checks that this entry is sound by itself.
    ///
    /// # Errors
    /// [`BrokenLedger::Changed`].
    pub fn check(&self) -> Result<(), BrokenLedger> {
        if self.hash == Self::expected_hash(self.sequence, &self.previous, &self.body) {
            Ok(())
        } else {
            Err(BrokenLedger::Changed(self.sequence))
        }
    }

    /// What it states.
    ///
    /// # Errors
    /// [`BrokenLedger::Undecodable`].
    pub fn statement(&self) -> Result<Statement, BrokenLedger> {
        match postcard::take_from_bytes(&self.body) {
            Ok((statement, [])) => Ok(statement),
            Ok(_) | Err(_) => Err(BrokenLedger::Undecodable(self.sequence)),
        }
    }

    fn expected_hash(sequence: u64, previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"revolve ledger 1");
        hash.update(sequence.to_be_bytes());
        hash.update(previous);
        hash.update((body.len() as u64).to_be_bytes());
        hash.update(body);
        hash.finalize().into()
    }
}

/// Something that is so from now on, whatever state is put back later. It carries no secret, sealed or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// When it was committed.
    pub at: Time,
    /// Who asked.
    pub actor: String,
    /// What was asked, such as `revocation.create`.
    pub action: String,
    /// Why, in words; bounded.
    pub why: String,
    /// What is so.
    pub what: What,
}

/// What a statement says. The numbers of the variants are persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The feed has told this.
    Event(Event),
    /// A version has been made, or has moved on in its life.
    Version(Version),
    /// This version is what holders should use; `None`: none is.
    Current {
        /// Of what.
        credential: CredentialName,
        /// The version.
        version: Option<u32>,
    },
    /// A revocation was stated, or a hold lifted.
    Revocation(Revocation),
    /// A grant was asked for, or has moved on.
    Grant(Box<Grant>),
    /// A token was revoked.
    TokenRevoked(TokenName),
    /// A resource was removed.
    Removed {
        /// Its kind.
        kind: RemovedKind,
        /// Its name.
        name: String,
    },
    /// Consumers were handed events or have answered for them.
    Cursors(Vec<Cursor>),
    /// The state was put back from a backup.
    Restored {
        /// The ledger's head in the backup.
        backup: LedgerHead,
        /// The first revision that is told after the restore.
        next_revision: u64,
    },
}

/// Kinds of resources that can be removed. The numbers are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemovedKind {
    /// An identity.
    Identity,
    /// A target.
    Target,
    /// A store.
    Store,
    /// A credential.
    Credential,
    /// A schedule.
    Schedule,
    /// A consumer.
    Consumer,
}

impl RemovedKind {
    /// The kind in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// How far a consumer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which.
    pub consumer: ConsumerName,
    /// The highest revision handed to it.
    pub delivered: u64,
    /// Everything up to here is received.
    pub received: u64,
    /// Everything up to here is enforced.
    pub enforced: u64,
}

impl What {
    /// What it is about, such as `version/orders-db@3`.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Event(event) => format!("event/{}", event.revision),
            Self::Version(version) => format!("version/{}@{}", version.credential, version.number),
            Self::Current { credential, .. } => format!("credential/{credential}"),
            Self::Revocation(revocation) => format!("revocation/{}", revocation.id),
            Self::Grant(grant) => format!("grant/{}", grant.id),
            Self::TokenRevoked(name) => format!("token/{name}"),
            Self::Removed { kind, name } => format!("{}/{name}", kind.as_str()),
            Self::Cursors(cursors) => format!("{} consumers", cursors.len()),
            Self::Restored { .. } => "cluster".to_owned(),
        }
    }

    /// What is said of it, in one word or a few.
    #[must_use]
    pub fn verb(&self) -> String {
        match self {
            Self::Event(event) => event.kind.as_str().to_owned(),
            Self::Version(version) => version.state.as_str().to_owned(),
            Self::Current { version: Some(version), .. } => format!("current {version}"),
            Self::Current { version: None, .. } => "no current version".to_owned(),
            Self::Revocation(revocation) if revocation.lifted.is_some() => "lifted".to_owned(),
            Self::Revocation(revocation) => format!("stated of {}", revocation.subject),
            Self::Grant(grant) => grant.stage.as_str().to_owned(),
            Self::TokenRevoked(_) => "revoked".to_owned(),
            Self::Removed { .. } => "removed".to_owned(),
            Self::Cursors(_) => "moved".to_owned(),
            Self::Restored { next_revision, .. } => format!("restored, on from revision {next_revision}"),
        }
    }

    /// The revision of the event it belongs to, when there is one.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.revision),
            Self::Version(version) => version.revoked_revision,
            Self::Grant(grant) => grant.ended_revision,
            Self::Revocation(revocation) => revocation.revisions.first().copied(),
            Self::Current { .. }
            | Self::TokenRevoked(_)
            | Self::Removed { .. }
            | Self::Cursors(_)
            | Self::Restored { .. } => None,
        }
    }

    /// The reason code, when one was given.
    #[must_use]
    pub const fn code(&self) -> Option<ReasonCode> {
        match self {
            Self::Event(event) => Some(event.reason),
            Self::Revocation(revocation) => Some(revocation.code),
            Self::Version(_)
            | Self::Grant(_)
            | Self::Current { .. }
            | Self::TokenRevoked(_)
            | Self::Removed { .. }
            | Self::Cursors(_)
            | Self::Restored { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
