//! What the server's answers mean. Decided by SQLSTATE (PostgreSQL manual, appendix A) and by the name of the
//! server's routine, never by the message, which the server may translate.

use std::error::Error as _;

use model::attempt::FailureClass;
use tokio_postgres::{
    Error,
    error::{DbError, Severity, SqlState},
};

use crate::{fault::Fault, provider::Probe};

/// Where the server says that a role does not exist, may not log in or has too many connections: after its
/// password was looked at.
const SESSION_USER: &str = "InitializeSessionUserId";
/// Where it says that a database is missing or closed to the role: after the login itself.
const AFTER_LOGIN: [&str; 2] = ["InitPostgres", "CheckMyDatabase"];
/// What begins a verifier; a message that contains one is not passed on.
const VERIFIER: &str = "SCRAM-SHA-256$";

/// What a refused login tells of the password.
pub fn login_refused(error: &Error) -> Probe {
    let Some(answer) = error.as_db_error() else { return Probe::Unknown(not_connected(error)) };
    let routine = answer.routine().unwrap_or_default();
    let why = said(answer);
    match *answer.code() {
        SqlState::INVALID_PASSWORD => Probe::Refused(why),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if routine == SESSION_USER => Probe::Refused(why),
        // `pg_hba.conf` turned this host away: that says nothing of the password, nor of other hosts.
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Probe::Unknown(Fault::rejected(format!("{why} (the password was not looked at)")))
        }
        SqlState::TOO_MANY_CONNECTIONS if routine == SESSION_USER => Probe::Admitted(why),
        SqlState::INVALID_CATALOG_NAME | SqlState::INSUFFICIENT_PRIVILEGE => Probe::Admitted(why),
        _ if AFTER_LOGIN.contains(&routine) && answer.code() != &SqlState::CANNOT_CONNECT_NOW => {
            Probe::Admitted(why)
        }
        _ => Probe::Unknown(Fault::unreachable(why)),
    }
}

/// Why the administrative user has no session.
pub fn admin_refused(error: &Error, username: &str) -> Fault {
    let Some(answer) = error.as_db_error() else { return not_connected(error) };
    let why = said(answer);
    match *answer.code() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Fault::wrong_credential(format!("the administrative user `{username}` is refused: {why}"))
        }
        SqlState::INVALID_CATALOG_NAME | SqlState::INSUFFICIENT_PRIVILEGE => Fault::rejected(why),
        _ => Fault::unreachable(why),
    }
}

/// Why a statement failed that changes nothing.
pub fn unsent(error: &Error) -> Fault {
    Fault { effect: crate::Effect::None, ..sent(error) }
}

/// Why a statement failed that was sent: without the server's word that it failed, it may have taken effect.
pub fn sent(error: &Error) -> Fault {
    let Some(answer) = error.as_db_error() else {
        return Fault::lost(format!("the connection was lost before the reply: {}", chain(error)));
    };
    let why = said(answer);
    // The session died with it; whether before or after the commit, the reply does not say.
    if matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return Fault::lost(format!("the session ended before the reply: {why}"));
    }
    match *answer.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => Fault::rejected(format!("{why} (a grant is missing)")),
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        // `tuple concurrently updated`, when two sessions alter one role.
        | SqlState::INTERNAL_ERROR
        // A standby: after a failover the name may lead to the primary again.
        | SqlState::READ_ONLY_SQL_TRANSACTION => Fault::retryable(why),
        _ if answer.code().code().starts_with("53") => Fault::retryable(why),
        _ => Fault::rejected(why),
    }
}

/// Whether the statement failed because a role does not exist.
pub fn is_unknown_role(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

/// No session, and no answer of the server that says why.
fn not_connected(error: &Error) -> Fault {
    let class = if is_untrusted(error) { FailureClass::Permanent } else { FailureClass::Unreachable };
    Fault::new(class, chain(error))
}

/// Whether TLS itself, and not the network under it, ended the handshake; or the server shunned channel binding.
fn is_untrusted(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        source = cause.source();
    }
    error.to_string().starts_with("authentication error")
}

/// The server's words, unless they repeat a verifier.
fn said(answer: &DbError) -> String {
    let message = answer.message();
    let message = if message.contains(VERIFIER) { "the statement was not understood" } else { message };
    format!("{message} (SQLSTATE {})", answer.code().code())
}

/// The error and what caused it; connection errors carry no secret.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
