//! Schedules: when a credential must rotate and by which policy.

use serde::{Deserialize, Serialize};

use crate::{
    name::{CredentialName, ScheduleName},
    table::Row,
    time::{Span, Time},
    timing::Timing,
};

/// When a credential must rotate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: ScheduleName,
    /// The credential; at most one schedule each.
    pub credential: CredentialName,
    /// The due instants.
    pub timing: Timing,
    /// Most that a due instant is moved later; how much follows from the schedule's name.
    pub jitter: Span,
    /// What to do with an instant that was missed.
    pub misfire: Misfire,
    /// How its rotations run.
    pub policy: RotationPolicy,
    /// Whether it is paused, with the reason given.
    pub paused: Option<String>,
    /// The nominal instant that comes next; `None` when there is none.
    pub next: Option<Time>,
    /// The nominal instant that was last acted on.
    pub last: Option<Time>,
}

impl Row for Schedule {
    type Key = ScheduleName;
    const TAG: u8 = 6;
    const STATED: bool = true;
}

impl Schedule {
    /// When the next rotation starts: the nominal instant and this schedule's jitter. `None` while paused.
    #[must_use]
    pub fn fires_at(&self) -> Option<Time> {
        if self.paused.is_some() {
            return None;
        }
        self.next.map(|next| next.plus(crate::timing::jitter(self.name.as_str(), self.jitter)))
    }

    /// The nominal instant whose rotation starts next after `now`; never one that was acted on already.
    pub(crate) fn next_after(&self, now: Time) -> Option<Time> {
        let moved = crate::timing::jitter(self.name.as_str(), self.jitter);
        let nominal = Time(now.0.saturating_sub(moved.0));
        self.timing.next_after(self.last.map_or(nominal, |last| nominal.max(last)))
    }
}

/// What to do with due instants that passed while nobody could act on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Misfire {
    /// Rotate once, now, however many were missed.
    RunOnce,
    /// Leave them out and wait for the next one.
    Skip,
}

/// How a rotation runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationPolicy {
    /// Longest time the old version lives beside the new one.
    pub overlap_max: Span,
    /// What to do when it passes without all required receipts.
    pub on_overlap_end: OverlapEnd,
    /// Time consumers have to enforce an event of this rotation.
    pub ack_within: Span,
    /// Attempts of one step before it is quarantined; an unreachable target is tried for ever.
    pub max_attempts: u32,
    /// Longest time one attempt may take.
    pub step_timeout: Span,
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self {
            overlap_max: Span::hours(24),
            on_overlap_end: OverlapEnd::Hold,
            ack_within: Span::minutes(15),
            max_attempts: 8,
            step_timeout: Span::seconds(30),
        }
    }
}

/// What to do when the overlap ends without all required receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlapEnd {
    /// Retire the old version all the same.
    Retire,
    /// Keep it, quarantine the rotation and let the owner decide.
    Hold,
    /// Roll back to the old version.
    Abort,
}
