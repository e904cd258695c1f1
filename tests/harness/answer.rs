//! Asking a cluster that may be between two leaders: nobody answers then, and who asks again does no harm.

use std::fmt::Display;
use std::time::Duration;

use client::Error;

use crate::eventually;

/// Asks until the cluster answers, be it that it refuses.
///
/// # Panics
///
/// When it has not answered `within` this time.
pub async fn answered<T>(
    what: impl Display,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    eventually(what, within, async || match ask().await {
        Err(error) if error.is_transient() => Err(error.to_string()),
        answer => Ok(answer),
    })
    .await
}

/// The same where it must not refuse.
///
/// # Panics
///
/// At once when it refuses; when it has not answered `within` this time.
pub async fn granted<T>(
    what: impl Display,
    within: Duration,
    ask: impl AsyncFnMut() -> Result<T, Error>,
) -> T {
    let answer = answered(&what, within, ask).await;
    answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}
