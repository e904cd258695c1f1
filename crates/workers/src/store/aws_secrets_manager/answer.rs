//! What AWS's answers mean, decided by error code and status.

use aws_sdk_secretsmanager::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::describe_secret::DescribeSecretError,
};

use crate::fault::Fault;

const MISSING: &str = "ResourceNotFoundException";
const EXISTS: &str = "ResourceExistsException";

/// Codes that say: too much at once, or not now.
const BUSY: [&str; 9] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "ServiceUnavailable",
    "InternalServiceError",
    "InternalFailure",
];

/// Codes that say: not with this access.
const NO_ACCESS: [&str; 12] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "ExpiredToken",
    "ExpiredTokenException",
];

/// Whether the answer is that there is no such secret.
pub fn is_missing(error: &SdkError<DescribeSecretError>) -> bool {
    error.code() == Some(MISSING)
}

/// Whether the answer is that there is such a thing already.
pub fn exists<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some(EXISTS)
}

/// What a failed call means. A reply that was lost needs no probe here: every call may be repeated.
pub fn fault<E>(error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let why = || DisplayErrorContext(error).to_string();
    match error {
        SdkError::ConstructionFailure(_) => Fault::permanent(why()),
        SdkError::TimeoutError(_) => Fault::unreachable("AWS gave no answer in time"),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) if connector.is_user() => Fault::permanent(why()),
            // No access could be found, or the role's could not be fetched.
            Some(connector) if connector.is_other() => Fault::wrong_credential(why()),
            Some(_) | None => Fault::unreachable(why()),
        },
        SdkError::ResponseError(_) => Fault::retryable("AWS gave an answer that cannot be read"),
        SdkError::ServiceError(_) | _ => answered(error),
    }
}

fn answered<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Fault {
    let code = error.code().unwrap_or("unnamed error");
    let message = format!("{code}: {}", error.message().unwrap_or("no message"));
    let failing = error.raw_response().is_some_and(|response| response.status().is_server_error());
    match code {
        _ if BUSY.contains(&code) || failing => Fault::retryable(message),
        _ if NO_ACCESS.contains(&code) => Fault::wrong_credential(message),
        _ => Fault::rejected(message),
    }
}
