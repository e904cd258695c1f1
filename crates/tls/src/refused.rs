//! Why a handshake failed, in a word for the audit log and in words for people.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why someone was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

/// What a failed handshake says of the other side; `None` when it merely went away.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, which mean nothing of their own here"
)]
pub fn refusal(error: &io::Error) -> Option<Refusal> {
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let code = match found? {
        Error::NoCertificatesPresented => "tls_no_certificate",
        Error::InvalidCertificate(problem) => of_certificate(problem),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "tls_plaintext",
        Error::AlertReceived(alert) => of_alert(*alert),
        _ => "tls_failed",
    };
    Some(Refusal { code, message: error.to_string() })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, which mean nothing of their own here"
)]
fn of_certificate(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Revoked => "tls_revoked",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "tls_expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "tls_not_yet_valid",
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "tls_unknown_authority",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "tls_wrong_name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "tls_wrong_purpose"
        }
        _ => "tls_bad_certificate",
    }
}

/// What the other side thinks of this one.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, which mean nothing of their own here"
)]
fn of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired => "tls_no_certificate",
        AlertDescription::CertificateRevoked => "tls_revoked",
        AlertDescription::CertificateExpired => "tls_expired",
        AlertDescription::UnknownCA => "tls_unknown_authority",
        _ => "tls_failed",
    }
}
