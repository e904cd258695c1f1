//! Tokens: who may call, and as what.

use serde::{Deserialize, Serialize};

use crate::{
    name::{ConsumerName, TokenName},
    table::Row,
    time::Time,
};

/// A named bearer token; only the hash of its secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name.
    pub name: TokenName,
    /// The person or machine that acts with it; several tokens of one person carry the same.
    pub principal: String,
    /// What it may do.
    pub role: Role,
    /// The consumer it speaks for; set for [`Role::Consumer`] and nothing else.
    pub consumer: Option<ConsumerName>,
    /// SHA-256 of the secret, which has 256 random bits.
    pub hash: [u8; 32],
    /// When it was issued.
    pub issued: Time,
    /// When it stops working by itself.
    pub expires: Option<Time>,
    /// When it was revoked.
    pub revoked: Option<Time>,
}

impl Row for Token {
    type Key = TokenName;
    const TAG: u8 = 12;
    const STATED: bool = true;
}

impl Token {
    /// Whether it works at `now`.
    #[must_use]
    pub fn is_live(&self, now: Time) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Everything but approving its own grants.
    Admin,
    /// Declare, rotate, revoke, ask for break-glass.
    Operator,
    /// Decide on and review break-glass.
    Approver,
    /// Read everything but secrets.
    Auditor,
    /// Follow its own feed, answer for itself, read the credentials it is subscribed to.
    Consumer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Operator, Self::Approver, Self::Auditor, Self::Consumer];

    /// The role in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Consumer => "consumer",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// The text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; use one of {all}", all = Role::ALL.map(Role::as_str).join(", "))]
pub struct UnknownRole(String);
