//! How long to wait before the next attempt: exponential, with jitter and a cap, from the counter that the model
//! keeps. The one module that uses the `backoff` crate, and only for its arithmetic: no clock and no loop of its own.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use model::{attempt::FailureClass, time::Span};

/// Each wait is this many times the one before.
const MULTIPLIER: f64 = 2.0;
/// A wait is up to this share longer or shorter, so that many attempts do not meet at a target that comes back.
const JITTER: f64 = 0.25;
/// Failures after which a wait has certainly come to its cap.
const STEPS_TO_CAP: u32 = 32;

/// The wait after one more failure of `class`, when `count` attempts of the step had failed before it.
#[must_use]
pub fn delay(count: u32, class: FailureClass) -> Span {
    let (first, cap) = bounds(class);
    let mut series: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(cap)
        .with_multiplier(MULTIPLIER)
        .with_randomization_factor(JITTER)
        .with_max_elapsed_time(None)
        .build();
    let mut wait = first;
    for _ in 0..=count.min(STEPS_TO_CAP) {
        wait = series.next_backoff().expect("a series without a maximal elapsed time does not end");
    }
    Span(u64::try_from(wait.min(cap).as_millis()).unwrap_or(u64::MAX))
}

/// The first wait and the longest.
const fn bounds(class: FailureClass) -> (Duration, Duration) {
    match class {
        FailureClass::Retryable => (Duration::from_millis(500), Duration::from_secs(300)),
        // Asks for little and is tried for ever: the cap bounds how late a target's return is noticed.
        FailureClass::Unreachable => (Duration::from_millis(500), Duration::from_secs(60)),
        // Tried again only where giving up is not allowed, and slowly: a locked account helps nobody.
        FailureClass::RejectedByTarget | FailureClass::WrongCredential | FailureClass::Permanent => {
            (Duration::from_secs(15), Duration::from_secs(900))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [FailureClass; 5] = [
        FailureClass::Retryable,
        FailureClass::RejectedByTarget,
        FailureClass::WrongCredential,
        FailureClass::Unreachable,
        FailureClass::Permanent,
    ];

    #[test]
    fn waits_double_within_the_jitter_and_stop_at_the_cap() {
        for class in CLASSES {
            let (first, cap) = bounds(class);
            for count in 0..40 {
                let nominal = (first.as_secs_f64() * MULTIPLIER.powi(count)).min(cap.as_secs_f64()) * 1_000.0;
                #[expect(clippy::cast_precision_loss, reason = "waits are far below 2^52 ms")]
                let wait = delay(count.unsigned_abs(), class).0 as f64;
                assert!(wait >= nominal * (1.0 - JITTER) - 1.0, "{class:?} {count}: {wait} of {nominal}");
                assert!(wait <= nominal * (1.0 + JITTER) + 1.0, "{class:?} {count}: {wait} of {nominal}");
                assert!(wait <= cap.as_secs_f64() * 1_000.0);
            }
        }
    }

    #[test]
    fn a_counter_of_any_size_is_answered() {
        assert!(delay(u32::MAX, FailureClass::Unreachable) <= Span::seconds(60));
        assert!(delay(u32::MAX, FailureClass::Retryable) <= model::caps::RETRY_MAX);
    }

    #[test]
    fn attempts_of_many_rotations_do_not_fall_together() {
        let waits: std::collections::BTreeSet<_> =
            (0..50).map(|_| delay(4, FailureClass::Retryable)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
