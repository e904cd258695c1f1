//! Stores: where consumers read current values, beside the cluster's own `builtin`. A value is staged under a token
//! that names credential and version, promoted, and taken back by the same token; each verb may be repeated.

pub mod aws_secrets_manager;

use async_trait::async_trait;
use model::store::Store as Declared;
use secrecy::SecretString;

use crate::{bundle::Bundle, fault::Fault, params::ParamError};

/// Every kind of store that can be declared.
pub const KINDS: [&str; 1] = [aws_secrets_manager::KIND];

/// The verbs of one store. All may be repeated, and all are run under a deadline of the caller's.
#[async_trait]
pub trait Store: Send + Sync {
    /// Puts the bundle beside the current value; consumers go on reading the current one. Makes the secret when
    /// there is none.
    async fn stage(&self, path: &str, bundle: &Bundle) -> Result<(), Fault>;

    /// Makes a staged bundle the current value, in one change, and makes sure that it is.
    async fn promote(&self, path: &str, bundle: &Bundle) -> Result<(), Fault>;

    /// Takes `candidate` back: what was current before it is current again, and it is not staged any more.
    async fn restore(&self, path: &str, candidate: &Bundle, current: Option<&Bundle>) -> Result<(), Fault>;
}

/// Checks the declaration of a store: its kind and its parameters.
///
/// # Errors
/// Names the parameter and what is wrong with it.
pub fn check(store: &Declared) -> Result<(), ParamError> {
    match store.kind.as_str() {
        aws_secrets_manager::KIND => aws_secrets_manager::Settings::parse(&store.params).map(drop),
        kind => Err(unknown_kind(kind)),
    }
}

/// Checks the secret that opens a store, when it is given.
///
/// # Errors
/// Says what form it must have; tells nothing of the content.
pub fn check_access(kind: &str, access: &SecretString) -> Result<(), String> {
    match kind {
        aws_secrets_manager::KIND => {
            aws_secrets_manager::Access::parse(access).map(drop).map_err(|fault| fault.message)
        }
        _ => Err(unknown_kind(kind).to_string()),
    }
}

/// The store, with its opened access. Nothing is asked of it yet.
///
/// # Errors
/// When the kind, a parameter or the access is refused.
pub async fn connect(store: &Declared, access: Option<&SecretString>) -> Result<Box<dyn Store>, Fault> {
    let refused = |error: ParamError| Fault::permanent(format!("store `{}`: {error}", store.name));
    match store.kind.as_str() {
        aws_secrets_manager::KIND => {
            let settings = aws_secrets_manager::Settings::parse(&store.params).map_err(refused)?;
            let access = access.map(aws_secrets_manager::Access::parse).transpose()?;
            Ok(Box::new(aws_secrets_manager::SecretsManager::new(settings, access).await))
        }
        kind => Err(refused(unknown_kind(kind))),
    }
}

fn unknown_kind(kind: &str) -> ParamError {
    ParamError::UnknownKind { given: kind.to_owned(), known: KINDS.join(", ") }
}
