//! Targets: systems that honour credentials, reached through a provider.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{name::TargetName, sealed::Sealed, table::Row};

/// A system that honours credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: TargetName,
    /// Which provider reaches it, such as `postgres`.
    pub provider: String,
    /// What the provider needs to know, such as `host` and `port`; never a secret.
    pub params: BTreeMap<String, String>,
    /// The administrative secret, bound with [`crate::sealed::associated::target`].
    pub admin: Option<Sealed>,
    /// What generated secrets look like here.
    pub secrets: SecretPolicy,
    /// Roles that break-glass may hand out here; any other is refused.
    pub break_glass_roles: Vec<String>,
}

impl Row for Target {
    type Key = TargetName;
    const TAG: u8 = 2;
    const STATED: bool = true;

    fn sealed(&self) -> Option<&Sealed> {
        self.admin.as_ref()
    }
}

/// What a generated secret looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPolicy {
    /// How many characters.
    pub length: u16,
    /// The characters to draw from, each with the same chance.
    pub alphabet: Alphabet,
}

impl Default for SecretPolicy {
    fn default() -> Self {
        Self { length: 40, alphabet: Alphabet::Alphanumeric }
    }
}

/// A set of characters for generated secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alphabet {
    /// `A-Z a-z 0-9`.
    Alphanumeric,
    /// Alphanumeric and `-._~`, safe in URLs (RFC 3986, unreserved).
    UrlSafe,
    /// Printable ASCII without space, quotes, backslash, `@`, `/` and `:`.
    Symbols,
}

impl Alphabet {
    /// The characters, all ASCII.
    #[must_use]
    pub const fn characters(self) -> &'static str {
        match self {
            Self::Alphanumeric => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::UrlSafe => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~",
            Self::Symbols => {
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&()*+,-.;<=>?[]^_{|}~"
            }
        }
    }
}
