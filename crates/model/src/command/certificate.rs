//! What the commands about certificates carry. The fields and their order are persisted.

use serde::{Deserialize, Serialize};

use crate::{
    certificate::{Party, Serial},
    event::ReasonCode,
    name::CertificateName,
    time::Time,
};

/// See [`Command::RecordCertificate`](super::Command::RecordCertificate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCertificate {
    /// Its serial.
    pub serial: Serial,
    /// Whose it is.
    pub name: CertificateName,
    /// When it ends.
    pub expires: Time,
}

/// See [`Command::RevokeCertificate`](super::Command::RevokeCertificate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeCertificate {
    /// Whose.
    pub party: Party,
    /// Why, as a code.
    pub code: ReasonCode,
    /// Why, in words.
    pub reason: String,
}
