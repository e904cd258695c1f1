//! Instants as people read them: exact, and how far away.

use model::time::{Span, Time};
use serde::{Serialize, Serializer};

use crate::resource::scalar;

/// An instant of the wire: milliseconds since the epoch, 0 for none. Written as RFC 3339 or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When(pub u64);

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => serializer.serialize_none(),
            ms => serializer.collect_str(&Time(ms)),
        }
    }
}

/// `2026-12-01T09:00:00Z (in 9d)`, or `-` for none.
pub fn cell(at_ms: u64, now: Time) -> String {
    if at_ms == 0 {
        return "-".to_owned();
    }
    format!("{} ({})", seconds(Time(at_ms)), distance(Time(at_ms), now))
}

/// `2026-12-01T09:00:00Z`.
pub fn seconds(at: Time) -> String {
    let text = at.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}

/// `in 9d`, `2h ago` or `now`, in the largest unit.
pub fn distance(at: Time, now: Time) -> String {
    let (ahead, behind) = (at.since(now), now.since(at));
    let far = if ahead > behind { ahead } else { behind };
    if far < Span::seconds(1) {
        return "now".to_owned();
    }
    let text = far.to_string();
    let largest = text.split(' ').next().unwrap_or_default();
    if ahead > behind { format!("in {largest}") } else { format!("{largest} ago") }
}

/// A document with the distance behind each instant that ends a line.
pub fn explain(document: &str, now: Time) -> String {
    let mut text = String::new();
    for line in document.lines() {
        text.push_str(line);
        let value = line.rsplit_once(' ').map_or("", |(_, value)| value).trim_matches(['"', '\'']);
        if value.contains('T')
            && let Ok(instant) = value.parse::<scalar::Instant>()
        {
            text.push_str(&format!("  ({})", distance(Time(instant.0), now)));
        }
        text.push('\n');
    }
    text
}
