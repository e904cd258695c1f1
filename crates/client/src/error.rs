//! What a call can end in, read from the status and its `google.rpc.ErrorInfo`.

use std::error::Error as _;

use rustls::AlertDescription;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use crate::OptionsError;

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster said no. Nothing has changed.
    #[error("{0}")]
    Refused(Refused),
    /// The token is missing, unknown, expired or revoked.
    #[error("{0}")]
    Unauthenticated(Refused),
    /// The token's role does not allow it.
    #[error("{0}")]
    PermissionDenied(Refused),
    /// The cluster has no leader at present. Nothing has changed; safe to try again.
    #[error("{0}")]
    NoLeader(Refused),
    /// No address could be reached. Nothing was sent; safe to try again.
    #[error("no address answers: {}", causes(.tried))]
    Unreachable {
        /// Each address, and what happened there.
        tried: Vec<(String, String)>,
    },
    /// One side does not accept the certificate of the other. Nothing was sent.
    #[error("{address}: {problem}")]
    Certificate {
        /// The address.
        address: String,
        /// What is wrong.
        problem: CertificateProblem,
    },
    /// The connection or the wait ended after the request was sent: it may or may not have been carried out.
    #[error("the outcome is unknown: {message}")]
    Unknown {
        /// What happened.
        message: String,
    },
    /// The server failed.
    #[error("the server failed: {message}")]
    Failed {
        /// What it says.
        message: String,
    },
    /// An event of the feed is missing, and asking again did not bring it.
    #[error("the feed has a gap: event {revision} follows {previous}, but only {held} is held")]
    Gap {
        /// The event that shows it.
        revision: u64,
        /// The event that must come before it.
        previous: u64,
        /// The revision up to which everything is held.
        held: u64,
    },
    /// The client was set up in a way that cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// A "no", in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of refusal it is; stable. See `model::refusal::Code`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next; may be empty.
    pub remedy: String,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// The server wants one and was shown none.
    #[error("the server wants a client certificate")]
    Wanted,
    /// That of the client is over.
    #[error("the client certificate has expired")]
    Expired,
    /// That of the client was revoked.
    #[error("the client certificate is revoked")]
    Revoked,
    /// That of the client is not of the cluster's authority, or cannot be used.
    #[error("the server does not accept the client certificate")]
    NotAccepted,
    /// That of the server is not of the authority that it is checked against.
    #[error("the certificate of the server is not of the given authority")]
    ServerUnknown,
    /// That of the server is for another name.
    #[error("the certificate of the server is for another name")]
    ServerName,
    /// That of the server is over.
    #[error("the certificate of the server has expired, or is not good yet by the clock of this machine")]
    ServerExpired,
    /// That of the server cannot be used.
    #[error("the certificate of the server cannot be used")]
    ServerUnusable,
}

/// What a server says of a client's certificate. In TLS 1.3 it says so when the client takes the connection to be open.
const ALERTS: [(AlertDescription, CertificateProblem); 9] = [
    (AlertDescription::CertificateRequired, CertificateProblem::Wanted),
    (AlertDescription::CertificateExpired, CertificateProblem::Expired),
    (AlertDescription::CertificateRevoked, CertificateProblem::Revoked),
    (AlertDescription::UnknownCA, CertificateProblem::NotAccepted),
    (AlertDescription::BadCertificate, CertificateProblem::NotAccepted),
    (AlertDescription::UnsupportedCertificate, CertificateProblem::NotAccepted),
    (AlertDescription::CertificateUnknown, CertificateProblem::NotAccepted),
    (AlertDescription::DecryptError, CertificateProblem::NotAccepted),
    (AlertDescription::AccessDenied, CertificateProblem::NotAccepted),
];

impl CertificateProblem {
    /// Whether the client's own certificate is the one that is wrong.
    #[must_use]
    pub const fn is_of_the_client(self) -> bool {
        matches!(self, Self::Wanted | Self::Expired | Self::Revoked | Self::NotAccepted)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls has many more, which say nothing of who is who"
    )]
    fn of(error: &rustls::Error) -> Option<Self> {
        use rustls::CertificateError as Bad;
        Some(match error {
            rustls::Error::AlertReceived(alert) => {
                let known = ALERTS.iter().find(|(known, _)| known == alert);
                return known.map(|(_, problem)| *problem);
            }
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => Self::ServerUnknown,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::ServerName,
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. } => Self::ServerExpired,
                _ => Self::ServerUnusable,
            },
            _ => return None,
        })
    }

    /// An alert that ends an open connection reaches us through HTTP/2, which keeps of its cause no more than the text.
    fn told(text: &str) -> Option<Self> {
        let alert = text.split("received fatal alert: ").nth(1)?;
        ALERTS.iter().find(|(known, _)| alert.starts_with(&format!("{known:?}"))).map(|(_, problem)| *problem)
    }

    /// What a status says of certificates, in whatever it was caused by.
    fn within(status: &Status) -> Option<Self> {
        let mut cause = status.source();
        while let Some(error) = cause {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let of_tls = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
            let problem = of_tls.and_then(Self::of).or_else(|| Self::told(&error.to_string()));
            if problem.is_some() {
                return problem;
            }
            cause = error.source();
        }
        None
    }
}

impl Error {
    /// The refusal, where there is one.
    #[must_use]
    pub const fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused)
            | Self::Unauthenticated(refused)
            | Self::PermissionDenied(refused)
            | Self::NoLeader(refused) => Some(refused),
            Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::Unknown { .. }
            | Self::Failed { .. }
            | Self::Gap { .. }
            | Self::Options(_) => None,
        }
    }

    /// Whether the same call may go well a little later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::NoLeader(_) | Self::Unreachable { .. } | Self::Unknown { .. })
    }

    /// Whether the call has certainly had no effect, so that it may be sent elsewhere.
    pub(crate) const fn had_no_effect(&self) -> bool {
        matches!(self, Self::NoLeader(_) | Self::Unreachable { .. } | Self::Certificate { .. })
    }

    /// Reads a status that came from `address`.
    pub(crate) fn from_status(address: &str, status: &Status) -> Self {
        if let Some(problem) = CertificateProblem::within(status) {
            return Self::Certificate { address: address.to_owned(), problem };
        }
        if never_connected(status) {
            let cause = innermost(status);
            return Self::Unreachable { tried: vec![(address.to_owned(), cause)] };
        }
        let refused = refusal(status);
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated(refused),
            Code::PermissionDenied => Self::PermissionDenied(refused),
            Code::Unavailable if status.get_details_error_info().is_some() => Self::NoLeader(refused),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange => Self::Refused(refused),
            Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Self::Failed { message: status.message().to_owned() }
            }
            Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Unavailable => {
                Self::Unknown { message: status.message().to_owned() }
            }
        }
    }
}

fn causes(tried: &[(String, String)]) -> String {
    let each: Vec<_> = tried.iter().map(|(address, cause)| format!("{address} ({cause})")).collect();
    each.join(", ")
}

fn refusal(status: &Status) -> Refused {
    let info = status.get_details_error_info();
    let code = info.as_ref().map_or_else(|| snake(status.code()), |info| info.reason.clone());
    let remedy = info.and_then(|mut info| info.metadata.remove("remedy")).unwrap_or_default();
    Refused { code, message: status.message().to_owned(), remedy }
}

/// `FailedPrecondition` becomes `failed_precondition`.
fn snake(code: Code) -> String {
    let mut text = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

fn never_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn innermost(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    fn status(code: Code, reason: &str) -> Status {
        let metadata = HashMap::from([("remedy".to_owned(), "do this".to_owned())]);
        let details = ErrorDetails::with_error_info(reason, "revolve", metadata);
        Status::with_error_details(code, "no", details)
    }

    #[test]
    fn a_refusal_keeps_code_message_and_remedy() {
        let error = Error::from_status("a", &status(Code::FailedPrecondition, "owner_required"));
        let refused =
            Refused { code: "owner_required".into(), message: "no".into(), remedy: "do this".into() };
        assert!(matches!(error, Error::Refused(found) if found == refused));
    }

    #[test]
    fn a_lost_connection_is_not_taken_for_a_missing_leader() {
        let lost = Error::from_status("a", &Status::unavailable("connection reset"));
        assert!(matches!(lost, Error::Unknown { .. }), "{lost:?}");
        let leaderless = Error::from_status("a", &status(Code::Unavailable, "no_leader"));
        assert!(matches!(leaderless, Error::NoLeader(_)), "{leaderless:?}");
    }

    #[test]
    fn what_the_other_side_says_of_a_certificate_is_understood() {
        use CertificateProblem as P;
        for (alert, problem) in ALERTS {
            let error = rustls::Error::AlertReceived(alert);
            assert_eq!(
                (P::of(&error), P::told(&format!("connection error: {error}"))),
                (Some(problem), Some(problem))
            );
        }
        assert_eq!(P::told("connection error: received fatal alert: InternalError"), None);
        let unknown =
            std::io::Error::other(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
        let status = Status::from_error(Box::new(unknown));
        let error = Error::from_status("a", &status);
        assert!(matches!(error, Error::Certificate { problem: P::ServerUnknown, .. }), "{error:?}");
        assert!(error.had_no_effect() && !error.is_transient());
    }

    #[test]
    fn a_status_without_details_is_named_after_its_code() {
        let error = Error::from_status("a", &Status::failed_precondition("no"));
        assert_eq!(error.refused().unwrap().code, "failed_precondition");
    }
}
