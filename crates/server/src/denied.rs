//! How a call that is not answered is told to the caller: a gRPC status with a `google.rpc.ErrorInfo` whose reason
//! is a stable code and whose metadata says what to do next.

use std::collections::HashMap;

use api::Malformed;
use cluster::SteerError;
use model::{
    outcome::Applied,
    refusal::{Code, Refusal},
};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{consensus::Unagreed, keys::KeyError};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "revolve";

/// Why a call is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Refused before anything reached the model; to be audited here.
    #[error("{0}")]
    Edge(Refusal),
    /// Refused by the model, which has audited it.
    #[error("{0}")]
    Model(Refusal),
    /// The cluster did not agree.
    #[error(transparent)]
    Unagreed(#[from] Unagreed),
    /// A limit of this node is reached.
    #[error("this node takes no more {0} for now")]
    Busy(&'static str),
    /// The reader of a stream takes nothing.
    #[error("the reader was too slow; watch again from where it stands")]
    TooSlow,
    /// This node is going down.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// A secret could not be sealed or opened.
    #[error("{0}")]
    Keys(String),
    /// Something that our own code should have made impossible.
    #[error("{0}")]
    Internal(String),
}

impl Denied {
    /// The same for a call of which a part is committed: it must not read as if nothing was changed.
    pub(crate) fn after_a_commit(self) -> Self {
        let nothing_was_changed =
            matches!(self, Self::Unagreed(Unagreed::NoLeader | Unagreed::Stopped | Unagreed::DiskFull));
        if nothing_was_changed { Self::Unagreed(Unagreed::OutcomeUnknown) } else { self }
    }

    /// Refused at the edge.
    pub fn edge(code: Code, message: impl Into<String>) -> Self {
        Self::Edge(Refusal::new(code, message))
    }

    /// The nodes did not do what was asked of them.
    pub(crate) fn by_the_nodes(error: &SteerError) -> Self {
        match error {
            SteerError::NoLeader => Self::Unagreed(Unagreed::NoLeader),
            SteerError::Unreachable(_) | SteerError::Refused(_) => {
                Self::edge(Code::ClusterCannot, error.to_string())
            }
        }
    }

    /// A command has led to something it cannot lead to.
    pub fn unexpected(applied: &Applied) -> Self {
        Self::Internal(format!("the request has led to {applied:?}, which was not expected"))
    }

    /// The stable code of the reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Edge(refusal) | Self::Model(refusal) => refusal.code.as_str(),
            Self::Unagreed(Unagreed::NoLeader) => "no_leader",
            Self::Unagreed(Unagreed::OutcomeUnknown) => "outcome_unknown",
            Self::Unagreed(Unagreed::TooLarge(_)) => Code::TooLong.as_str(),
            Self::Busy(_) => "overloaded",
            Self::Unagreed(Unagreed::Unsupported(_)) => "unsupported",
            Self::Unagreed(Unagreed::DiskFull) => "disk_full",
            Self::TooSlow => "too_slow",
            Self::Unagreed(Unagreed::Stopped) | Self::ShuttingDown => "shutting_down",
            Self::Keys(_) => "key_unavailable",
            Self::Internal(_) => "internal",
        }
    }

    const fn remedy(&self) -> &'static str {
        match self {
            Self::Edge(refusal) | Self::Model(refusal) => refusal.code.remedy(),
            Self::Unagreed(Unagreed::NoLeader) => {
                "nothing was changed; try again, and see `revolve cluster status` when it lasts"
            }
            Self::Unagreed(Unagreed::OutcomeUnknown) => {
                "look whether it has taken effect before you repeat it"
            }
            Self::Unagreed(Unagreed::TooLarge(_)) => Code::TooLong.remedy(),
            Self::Busy(_) => "nothing was changed; try again later",
            Self::Unagreed(Unagreed::DiskFull) => {
                "nothing was changed; make room on the leader's disk, then try again"
            }
            Self::Unagreed(Unagreed::Unsupported(_)) => "finish the upgrade of all nodes, then try again",
            Self::TooSlow => "watch again after the last revision that was received",
            Self::Unagreed(Unagreed::Stopped) | Self::ShuttingDown => "nothing was changed; ask another node",
            Self::Keys(_) => "see the log of the node; `revolve server init` explains the root key",
            Self::Internal(_) => "this is a defect; report it with the log of the node",
        }
    }

    const fn grpc_code(&self) -> tonic::Code {
        match self {
            Self::Edge(refusal) | Self::Model(refusal) => grpc_code(refusal.code),
            Self::Unagreed(Unagreed::NoLeader | Unagreed::Stopped) | Self::ShuttingDown | Self::Keys(_) => {
                tonic::Code::Unavailable
            }
            Self::Unagreed(Unagreed::OutcomeUnknown) => tonic::Code::Unknown,
            Self::Unagreed(Unagreed::TooLarge(_)) => tonic::Code::InvalidArgument,
            Self::Unagreed(Unagreed::DiskFull) => tonic::Code::ResourceExhausted,
            Self::Busy(_) => tonic::Code::ResourceExhausted,
            Self::Unagreed(Unagreed::Unsupported(_)) => tonic::Code::Unimplemented,
            Self::TooSlow => tonic::Code::Aborted,
            Self::Internal(_) => tonic::Code::Internal,
        }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Edge(refusal)
    }
}

impl From<Malformed> for Denied {
    fn from(malformed: Malformed) -> Self {
        Self::Edge(malformed.into())
    }
}

impl From<KeyError> for Denied {
    fn from(error: KeyError) -> Self {
        Self::Keys(error.to_string())
    }
}

impl From<&Denied> for Status {
    fn from(denied: &Denied) -> Self {
        let metadata = HashMap::from([("remedy".to_owned(), denied.remedy().to_owned())]);
        let details = ErrorDetails::with_error_info(denied.reason(), DOMAIN, metadata);
        Self::with_error_details(denied.grpc_code(), denied.to_string(), details)
    }
}

const fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::Unauthenticated | Code::TokenDead => tonic::Code::Unauthenticated,
        Code::PermissionDenied | Code::OwnGrant | Code::NotTheRequester | Code::NotSubscribed => {
            tonic::Code::PermissionDenied
        }
        Code::UnknownIdentity
        | Code::UnknownTarget
        | Code::UnknownStore
        | Code::UnknownCredential
        | Code::UnknownVersion
        | Code::UnknownSchedule
        | Code::UnknownRotation
        | Code::UnknownRevocation
        | Code::UnknownConsumer
        | Code::UnknownRevision
        | Code::UnknownGrant
        | Code::UnknownToken
        | Code::UnknownNode => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::TextRequired
        | Code::TooLong
        | Code::OutOfRange
        | Code::OwnerRequired
        | Code::PurposeRequired
        | Code::WorkloadRequired
        | Code::EnvironmentRequired
        | Code::ReviewDateRequired
        | Code::SharedExceptionRequired
        | Code::InvalidTiming
        | Code::EmptySubscription
        | Code::InvalidRange
        | Code::DurationOutOfBounds
        | Code::ConsumerBinding
        | Code::InvalidRequest => tonic::Code::InvalidArgument,
        Code::Conflict => tonic::Code::Aborted,
        Code::InUse
        | Code::Immutable
        | Code::TakenByAnother
        | Code::CredentialHasSchedule
        | Code::RotationInFlight
        | Code::RotationEnded
        | Code::PastAbort
        | Code::NotQuarantined
        | Code::WrongStep
        | Code::StaleAttempt
        | Code::AttemptInFlight
        | Code::NotYet
        | Code::OutcomeMismatch
        | Code::NothingToRevoke
        | Code::NotAHold
        | Code::AlreadyLifted
        | Code::NeverDelivered
        | Code::RoleNotAllowed
        | Code::WrongStage
        | Code::AlreadyRevealed
        | Code::LastAdmin
        | Code::DataKeyExists
        | Code::ClusterCannot
        | Code::Observing
        | Code::NotObserving
        | Code::NoSecret => tonic::Code::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_carries_its_code_and_what_to_do() {
        for code in Code::ALL {
            let status = Status::from(&Denied::edge(*code, "no"));
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.as_str(), DOMAIN));
            assert_eq!(info.metadata["remedy"], code.remedy());
            assert_eq!(status.message(), "no");
            assert_ne!(status.code(), tonic::Code::Ok);
        }
    }

    #[test]
    fn what_is_safe_to_repeat_and_what_is_not_have_different_codes() {
        let status = |unagreed: Unagreed| Status::from(&Denied::from(unagreed));
        assert_eq!(status(Unagreed::NoLeader).code(), tonic::Code::Unavailable);
        assert_eq!(status(Unagreed::OutcomeUnknown).code(), tonic::Code::Unknown);
        let info = status(Unagreed::OutcomeUnknown).get_details_error_info().unwrap();
        assert_eq!(info.reason, "outcome_unknown");
    }

    #[test]
    fn unknown_names_are_not_found_and_own_grants_are_forbidden() {
        for code in Code::ALL.iter().filter(|code| code.as_str().starts_with("unknown_")) {
            assert_eq!(grpc_code(*code), tonic::Code::NotFound);
        }
        assert_eq!(grpc_code(Code::OwnGrant), tonic::Code::PermissionDenied);
        assert_eq!(grpc_code(Code::Unauthenticated), tonic::Code::Unauthenticated);
        assert_eq!(grpc_code(Code::OwnerRequired), tonic::Code::InvalidArgument);
        assert_eq!(grpc_code(Code::LastAdmin), tonic::Code::FailedPrecondition);
    }
}
