//! Keys that protect what is sealed: data keys, wrapped, and the root keys that wrap them. A root key itself never comes
//! here: its id is all that is known of it, and who holds it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    name::{IdError, NodeId},
    table::Row,
    time::Time,
};

/// What a root key is known by: bytes derived from it that do not lead back to it. Displayed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RootKeyId(pub [u8; 8]);

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootKeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes
            .filter(|_| rest.is_empty())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| IdError::of(text, "00f1e2d3c4b5a697"))
    }
}

/// A data key, by its number. The rows stay when a key is destroyed, so that no number is used twice.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// Its number, as it stands in the header of what it seals.
    pub id: u32,
    /// The key, wrapped by a root key; empty once destroyed.
    pub wrapped: Vec<u8>,
    /// The root key that wraps it; unknown for a key of before root keys had ids.
    pub root: Option<RootKeyId>,
    /// When it was made; zero where that is not known.
    pub created: Time,
    /// Where it stands in its life.
    pub state: DataKeyState,
    /// When it came to stand there.
    pub since: Time,
    /// The last fencing number handed out before it was retired: what those attempts seal may be under this key.
    pub fence: u64,
}

impl Row for DataKey {
    type Key = u32;
    const TAG: u8 = 27;
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({}, {})", self.id, self.state.as_str())
    }
}

/// The life of a data key; it only moves right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DataKeyState {
    /// It seals what is sealed now.
    Active,
    /// It opens what it has sealed, until all of that is sealed anew.
    Retiring,
    /// It is gone.
    Destroyed,
}

impl DataKeyState {
    /// The state in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A root key that is or was in use, or that nodes hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKey {
    /// What it is known by.
    pub id: RootKeyId,
    /// Where it stands in its life.
    pub state: RootKeyState,
    /// When it came to stand there.
    pub since: Time,
    /// The nodes that have said that they hold it.
    pub holders: BTreeSet<NodeId>,
}

impl Row for RootKey {
    type Key = RootKeyId;
    const TAG: u8 = 28;
}

/// The life of a root key; it only moves right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RootKeyState {
    /// Nodes hold it, and nothing is wrapped under it.
    Held,
    /// It wraps the data keys.
    Active,
    /// Another has taken its place; nodes may still know each other by it.
    Leaving,
    /// It is not accepted any more.
    Retired,
}

impl RootKeyState {
    /// The state in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Retired => "retired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_root_keys_are_read_back_as_displayed() {
        let id = RootKeyId([0, 1, 0x7f, 0x80, 0xff, 0x10, 9, 0xa0]);
        assert_eq!(id.to_string(), "00017f80ff1009a0");
        assert_eq!("00017f80ff1009a0".parse(), Ok(id));
        for bad in ["", "00017f80ff1009a", "00017f80ff1009a00", "00017f80ff1009zz", "+1017f80ff1009a0"] {
            assert!(bad.parse::<RootKeyId>().is_err(), "{bad}");
        }
    }
}
