//! stub
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
/// When
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timing {
    Every { period: Span, phase: Span },
    Cron { expression: String, zone: String },
}
pub fn jitter(_id: &str, _max: Span) -> Span {
    Span(0)
}
impl Timing {
    pub fn next_after(&self, _t: Time) -> Option<Time> {
        None
    }
}
