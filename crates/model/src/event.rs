//! The feed: numbered events, and the revocations they speak of.

use serde::{Deserialize, Serialize};

use crate::{
    name::{CredentialName, GrantId, IdentityName, RevocationId, TargetName},
    table::Row,
    time::Time,
};

/// One numbered entry of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: 1, 2, 3 … without gaps.
    pub revision: u64,
    /// When it was committed.
    pub at: Time,
    /// What it says.
    pub kind: EventKind,
    /// What it says it of.
    pub about: About,
    /// The target concerned.
    pub target: TargetName,
    /// Why, in words of RFC 5280.
    pub reason: ReasonCode,
    /// The revocation behind it, if one was stated.
    pub revocation: Option<RevocationId>,
    /// When required consumers must have enforced it.
    pub deadline: Time,
    /// Whether the passing of the deadline has been audited.
    pub escalated: bool,
}

impl Row for Event {
    type Key = u64;
    const TAG: u8 = 8;
    const STATED: bool = true;
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A new version is active; holders must move to it.
    CredentialRotated,
    /// A version is no longer valid.
    CredentialRevoked,
    /// A rotation was rolled back: this version is active again.
    CredentialRestored,
    /// A hold was lifted.
    HoldLifted,
    /// A break-glass grant has ended.
    GrantEnded,
}

impl EventKind {
    /// The kind as it is written on the wire and in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialRotated => "credential-rotated",
            Self::CredentialRevoked => "credential-revoked",
            Self::CredentialRestored => "credential-restored",
            Self::HoldLifted => "hold-lifted",
            Self::GrantEnded => "grant-ended",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// One version of one credential.
    Version {
        /// The credential.
        credential: CredentialName,
        /// The version.
        version: u32,
    },
    /// One grant.
    Grant(GrantId),
}

/// Why something is no longer valid: the words of RFC 5280 section 5.3.1, and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasonCode {
    /// No reason is given.
    Unspecified,
    /// The secret is, or may be, known to someone else.
    KeyCompromise,
    /// The owner or workload has changed.
    AffiliationChanged,
    /// A newer version takes its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// Not valid for the time being; the only one that can be lifted.
    Hold,
    /// A privilege was taken away.
    PrivilegeWithdrawn,
    /// A break-glass grant has ended.
    BreakGlassEnded,
}

impl ReasonCode {
    /// All codes, in the order of the enum.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::Hold,
        Self::PrivilegeWithdrawn,
        Self::BreakGlassEnded,
    ];

    /// The code as it is written on the wire and in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::Hold => "hold",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::BreakGlassEnded => "break-glass-ended",
        }
    }

    /// Whether a new version is made in place of the revoked one.
    #[must_use]
    pub const fn asks_for_repair(self) -> bool {
        matches!(self, Self::Unspecified | Self::KeyCompromise | Self::Superseded)
    }
}

impl std::str::FromStr for ReasonCode {
    type Err = UnknownReasonCode;

    fn from_str(text: &str) -> Result<Self, UnknownReasonCode> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownReasonCode(text.to_owned()))
    }
}

/// The text is not a reason code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reason code; use one of {all}", all = ReasonCode::ALL.map(ReasonCode::as_str).join(", "))]
pub struct UnknownReasonCode(String);

/// An immutable statement that something is no longer valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// Of what.
    pub subject: Subject,
    /// Why, as a code.
    pub code: ReasonCode,
    /// Why, in words.
    pub reason: String,
    /// Who stated it.
    pub by: String,
    /// When.
    pub at: Time,
    /// The feed entries that carry it.
    pub revisions: Vec<u64>,
    /// When required consumers must have enforced it.
    pub deadline: Time,
    /// When and by whom a hold was lifted.
    pub lifted: Option<(Time, String)>,
}

impl Row for Revocation {
    type Key = RevocationId;
    const TAG: u8 = 9;
    const STATED: bool = true;
}

/// What a revocation is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// Every live version of a credential.
    Credential(CredentialName),
    /// One version.
    Version(CredentialName, u32),
    /// Every live version of every credential of an identity.
    Identity(IdentityName),
    /// A grant.
    Grant(GrantId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential/{name}"),
            Self::Version(name, version) => write!(f, "version/{name}@{version}"),
            Self::Identity(name) => write!(f, "identity/{name}"),
            Self::Grant(id) => write!(f, "grant/{id}"),
        }
    }
}
