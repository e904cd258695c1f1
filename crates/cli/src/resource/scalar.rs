//! Spans and instants as they are written in YAML and flags: `30d`, `1h 30m`, `2027-01-31`, RFC 3339.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY_MS: u64 = 86_400_000;

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span(pub u64);

/// An instant in milliseconds since the Unix epoch; a date alone is its first instant in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instant(pub u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a span such as `30d`, `10m` or `1h 30m`");
        let span = humantime::parse_duration(text).map_err(|_| wrong())?;
        u64::try_from(span.as_millis()).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    /// All units that are not zero, such as `1d 4h 30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] =
            [(DAY_MS, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let mut rest = self.0;
        let mut gap = "";
        for (size, unit) in UNITS {
            if rest >= size {
                write!(f, "{gap}{}{unit}", rest / size)?;
                rest %= size;
                gap = " ";
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a date such as `2027-01-31` or an RFC 3339 instant");
        let ms = match text.parse::<NaiveDate>() {
            Ok(date) => date.and_time(NaiveTime::MIN).and_utc().timestamp_millis(),
            Err(_) => DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?.timestamp_millis(),
        };
        u64::try_from(ms).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Instant {
    /// The date alone where it says everything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = model::time::Time(self.0).to_string();
        match text.split_once('T') {
            Some((date, _)) if self.0.is_multiple_of(DAY_MS) => f.write_str(date),
            Some(_) | None => f.write_str(&text),
        }
    }
}

macro_rules! as_text {
    ($($name:ident;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text! {
    Span;
    Instant;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_back_as_written() {
        for (text, ms) in [("30d", 30 * DAY_MS), ("1h 30m", 5_400_000), ("250ms", 250), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span(ms)));
            assert_eq!(Span(ms).to_string(), text);
        }
        assert_eq!("1h30m".parse(), Ok(Span(5_400_000)));
        assert!("30".parse::<Span>().is_err(), "a number needs a unit");
    }

    #[test]
    fn dates_and_instants_are_read_back_as_written() {
        for text in ["2027-01-31", "2027-01-31T09:30:00.000Z"] {
            assert_eq!(text.parse::<Instant>().unwrap().to_string(), text);
        }
        assert!("31.1.2027".parse::<Instant>().is_err());
    }
}
