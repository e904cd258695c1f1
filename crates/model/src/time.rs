//! Instants and spans as the model sees them: whole milliseconds, never read from a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since the Unix epoch, UTC. Stamped by the leader, never read inside the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span(pub u64);

impl Time {
    /// The last representable instant; used where "never" must order after everything else.
    pub const MAX: Self = Self(u64::MAX);

    /// This instant moved `span` later, saturating at [`Time::MAX`].
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long it is from `earlier` to this instant; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes.saturating_mul(60))
    }

    /// A span of whole hours.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self::minutes(hours.saturating_mul(60))
    }

    /// A span of whole days of 24 hours.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self::hours(days.saturating_mul(24))
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC with milliseconds, or the raw number where the calendar ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0).ok().and_then(chrono::DateTime::from_timestamp_millis);
        match at {
            Some(at) => write!(f, "{}", at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Display for Span {
    /// The two largest units, such as `1d 4h`, `2m 30s` or `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let mut rest = self.0;
        let mut written = 0;
        for (size, unit) in UNITS {
            let count = rest / size;
            if count > 0 && written < 2 {
                write!(f, "{}{count}{unit}", if written > 0 { " " } else { "" })?;
                written += 1;
                rest %= size;
            } else if written > 0 {
                break;
            }
        }
        if written == 0 { write!(f, "0s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_read_as_people_write_them() {
        assert_eq!(Time(1_790_000_000_123).to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!(Span(0).to_string(), "0s");
        assert_eq!(Span(250).to_string(), "250ms");
        assert_eq!(Span::seconds(150).to_string(), "2m 30s");
        assert_eq!(Span::hours(28).to_string(), "1d 4h");
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Time::MAX.plus(Span(1)), Time::MAX);
        assert_eq!(Time(1).since(Time(2)), Span(0));
    }
}
