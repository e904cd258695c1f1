//! The wall clock, read here and nowhere else in the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::time::{Span, Time};

/// Now, as the model counts time.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long it is until `at`; zero when it has passed.
pub(crate) fn until(at: Time) -> Duration {
    duration(at.since(now()))
}

/// A model span as the runtime counts.
pub(crate) const fn duration(span: Span) -> Duration {
    Duration::from_millis(span.0)
}
