//! Credentials and their versions.

use serde::{Deserialize, Serialize};

use crate::{
    name::{CredentialName, IdentityName, RotationId, StoreName, TargetName},
    sealed::Sealed,
    table::Row,
    time::Time,
};

/// What an identity uses to authenticate at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name.
    pub name: CredentialName,
    /// Whose it is.
    pub identity: IdentityName,
    /// Where it is honoured.
    pub target: TargetName,
    /// How old and new versions live beside each other at the target.
    pub strategy: Strategy,
    /// Stores beside `builtin` that are flipped when a version becomes active, with the name used there.
    pub stores: Vec<Placement>,
    /// The workloads that use it; one, unless `shared` excuses more.
    pub workloads: Vec<String>,
    /// Why more than one workload uses it, who answers for that and until when.
    pub shared: Option<SharedException>,
    /// The active version; `None` before the first one and after its revocation.
    pub current: Option<u32>,
    /// The rotation under way.
    pub rotation: Option<RotationId>,
}

impl Row for Credential {
    type Key = CredentialName;
    const TAG: u8 = 4;
    const STATED: bool = true;
}

/// One store that holds a credential, and under which name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The store.
    pub store: StoreName,
    /// The name of the secret there, such as `prod/orders-db`.
    pub path: String,
}

/// How old and new versions live beside each other at the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// One user, one value: installing the new version ends the old one.
    SingleUser {
        /// The user.
        username: String,
    },
    /// Two users in turn: the old one is honoured until it is retired.
    AlternatingUsers {
        /// The two users; versions use them in turn.
        usernames: [String; 2],
    },
    /// One user with several values at once.
    Overlapping {
        /// The user.
        username: String,
    },
}

impl Strategy {
    /// The user that a new version logs in as, given the user of the version it follows.
    #[must_use]
    pub fn successor_of(&self, current: Option<&str>) -> &str {
        match self {
            Self::SingleUser { username } | Self::Overlapping { username } => username,
            Self::AlternatingUsers { usernames: [first, second] } => {
                if current == Some(first) {
                    second
                } else {
                    first
                }
            }
        }
    }

    /// All users the credential may use.
    #[must_use]
    pub fn usernames(&self) -> Vec<&str> {
        match self {
            Self::SingleUser { username } | Self::Overlapping { username } => vec![username],
            Self::AlternatingUsers { usernames } => usernames.iter().map(String::as_str).collect(),
        }
    }

    /// The strategy's name in configuration and output.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SingleUser { .. } => "single-user",
            Self::AlternatingUsers { .. } => "alternating-users",
            Self::Overlapping { .. } => "overlapping",
        }
    }
}

/// Leave for a credential to be used by several workloads, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedException {
    /// Who answers for it.
    pub owner: String,
    /// Why it is needed.
    pub reason: String,
    /// When it ends.
    pub ends: Time,
}

/// One value of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The credential.
    pub credential: CredentialName,
    /// Its number: 1, 2, 3 …
    pub number: u32,
    /// Where it stands in its life.
    pub state: VersionState,
    /// The user it logs in as.
    pub username: String,
    /// The secret, bound with [`crate::sealed::associated::version`]; gone once destroyed.
    pub sealed: Option<Sealed>,
    /// When it was prepared or adopted.
    pub created: Time,
    /// When a login with it was last seen to succeed.
    pub verified: Option<Time>,
    /// When it was stated or made invalid.
    pub revoked: Option<Time>,
    /// When a login with it was seen to be refused: the only evidence that it is dead.
    pub refused: Option<Time>,
    /// The feed entry that told consumers of its end.
    pub revoked_revision: Option<u64>,
}

impl Row for Version {
    type Key = (CredentialName, u32);
    const TAG: u8 = 5;
    const STATED: bool = true;

    fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }
}

/// The life of a version. It only moves right, but for `Tainted` back to `Active` when a rotation is rolled back, or
/// goes on after all because the version it went back to was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VersionState {
    /// Sealed and committed, perhaps already known to the target.
    Prepared,
    /// What holders should use.
    Active,
    /// Still honoured; holders must move.
    Tainted,
    /// No longer valid.
    Revoked,
    /// No longer valid, and its secret is erased.
    Destroyed,
}

impl VersionState {
    /// Whether the target may still honour it by our own account.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Prepared | Self::Active | Self::Tainted)
    }

    /// The state in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
            Self::Destroyed => "destroyed",
        }
    }
}
