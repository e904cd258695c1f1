//! Waiting for a state instead of for a length of time.

use std::fmt::{Debug, Display};
use std::panic::Location;
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What one look can find: `Some`, `Ok` or `true` when the awaited state has come.
pub trait Look {
    /// What the awaited state brings with it.
    type Found;

    /// The awaited state, or a description of what was seen instead.
    fn outcome(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_string())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

impl Look for bool {
    type Found = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_string())
    }
}

/// Looks again and again until the awaited state has come, and returns what it brought. To have the last state
/// seen in the failure message, let `look` return `Err(state)`.
///
/// # Panics
///
/// When the state has not come `within` this time, also if one look never returns. The message says what was
/// awaited, by which line, for how long and what was seen last.
#[track_caller]
pub fn eventually<L: Look, F: AsyncFnMut() -> L>(
    what: impl Display,
    within: Duration,
    look: F,
) -> impl Future<Output = L::Found> {
    poll(what.to_string(), within, look, Location::caller())
}

async fn poll<L: Look, F: AsyncFnMut() -> L>(
    what: String,
    within: Duration,
    mut look: F,
    caller: &'static Location<'static>,
) -> L::Found {
    let start = Instant::now();
    let mut seen = "nothing: the first look has not returned".to_string();
    while let Some(left) = within.checked_sub(start.elapsed()) {
        match tokio::time::timeout(left, look()).await.map(Look::outcome) {
            Ok(Ok(found)) => return found,
            Ok(Err(instead)) => seen = instead,
            Err(_elapsed) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{caller}: waited {:.1} s in vain for {what}; last seen: {seen}", start.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    async fn failure<L: Look + 'static>(look: impl AsyncFnMut() -> L + 'static) -> String
    where
        L::Found: Send + 'static,
    {
        let local = tokio::task::LocalSet::new();
        let ended = local
            .run_until(async {
                tokio::task::spawn_local(async { drop(eventually("the moon", SHORT, look).await) }).await
            })
            .await;
        let panic = ended.expect_err("the wait ends in a panic").into_panic();
        panic.downcast_ref::<String>().expect("a formatted message").clone()
    }

    #[tokio::test]
    async fn the_state_is_returned_once_it_has_come() {
        let mut looks = 0;
        let found = eventually("the third look", Duration::from_secs(10), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test]
    async fn a_failure_says_what_was_awaited_and_what_was_seen_last() {
        let message = failure(async || Err::<(), _>("two of three")).await;
        assert!(message.contains("for the moon; last seen: \"two of three\""), "{message}");
        assert!(message.contains("eventually.rs:"), "{message}");
    }

    #[tokio::test]
    async fn a_look_that_never_returns_fails_in_time() {
        let message = failure(async || std::future::pending::<bool>().await).await;
        assert!(message.contains("the first look has not returned"), "{message}");
    }
}
