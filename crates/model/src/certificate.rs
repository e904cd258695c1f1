//! Certificates of the client port, and whose certificates are good no more. Certificates of nodes are not kept: they are
//! short-lived, and a node is revoked by its id.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    event::ReasonCode,
    name::{CertificateName, NodeId},
    table::Row,
    time::Time,
};

/// Longest serial in bytes (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES: usize = 20;

/// The serial of a certificate, in hexadecimal of small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Arc<str>);

/// Why a text is not a serial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a serial: use up to 20 bytes in hexadecimal, such as `4f0c6a`")]
pub struct SerialError(String);

impl Serial {
    /// The serial as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Also takes what other programs print: capitals, and colons between the bytes.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        let is_serial = !digits.is_empty()
            && digits.len().is_multiple_of(2)
            && digits.len() <= 2 * SERIAL_BYTES
            && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if is_serial {
            Ok(Self(digits.into()))
        } else {
            Err(SerialError(text.chars().take(4 * SERIAL_BYTES).collect()))
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0.as_ref().to_owned()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial.
    pub serial: Serial,
    /// Whose it is; `None` for one that was issued beside the cluster and revoked here.
    pub name: Option<CertificateName>,
    /// When it was recorded.
    pub recorded: Time,
    /// When it ends by itself; `None` where that is not known.
    pub expires: Option<Time>,
    /// Set when it is good no more.
    pub revoked: Option<RevokedAs>,
}

impl Row for Certificate {
    type Key = Serial;
    const TAG: u8 = 20;
}

/// A node whose certificates are all good no more. Node ids are never used again, and neither is this undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedNode {
    /// Which.
    pub node: NodeId,
    /// When and why.
    pub revoked: RevokedAs,
}

impl Row for RevokedNode {
    type Key = NodeId;
    const TAG: u8 = 21;
}

/// When something was revoked, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedAs {
    /// When.
    pub at: Time,
    /// Why, as a code.
    pub code: ReasonCode,
    /// Why, in words.
    pub reason: String,
}

/// Whose certificates are revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// One certificate of a client.
    Certificate(Serial),
    /// A node, with every certificate that it has or issues itself.
    Node(NodeId),
}

impl fmt::Display for Party {
    /// As it stands in the audit log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(serial) => write!(f, "certificate/{serial}"),
            Self::Node(node) => write!(f, "node/{node}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_read_as_other_programs_print_them() {
        assert_eq!("4F:0C:6A".parse::<Serial>().unwrap().to_string(), "4f0c6a");
        for bad in ["", "4", "4g", "node-1", &"ab".repeat(21)] {
            assert!(bad.parse::<Serial>().is_err(), "{bad}");
        }
    }
}
