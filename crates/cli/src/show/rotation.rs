//! Rotations.

use api::v1;
use model::time::Time;
use serde::Serialize;

use super::some;
use crate::output::{Cell, Show, Tone, when, when::When};

/// A rotation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    id: String,
    credential: String,
    cause: String,
    schedule: Option<String>,
    from_version: Option<u32>,
    to_version: u32,
    stage: String,
    failed_attempts: u32,
    failure_class: Option<String>,
    failure: Option<String>,
    waiting_for: Vec<String>,
    attempt_node: Option<String>,
    due: When,
    not_before: When,
    drain_until: When,
    started: When,
    ended: When,
    history: Vec<Passage>,
}

#[derive(Debug, Serialize)]
struct Passage {
    stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    at: When,
}

impl From<&v1::Rotation> for Rotation {
    fn from(it: &v1::Rotation) -> Self {
        let passage =
            |it: &v1::Passage| Passage { at: When(it.at_ms), stage: it.stage.clone(), note: some(&it.note) };
        Self {
            id: it.id.clone(),
            credential: it.credential.clone(),
            cause: it.cause.clone(),
            schedule: some(&it.schedule),
            due: When(it.due_ms),
            from_version: (it.from_version > 0).then_some(it.from_version),
            to_version: it.to_version,
            stage: it.stage.clone(),
            failed_attempts: it.failed_attempts,
            not_before: When(it.not_before_ms),
            failure_class: some(&it.failure_class),
            failure: some(&it.failure),
            drain_until: When(it.drain_until_ms),
            started: When(it.started_ms),
            ended: When(it.ended_ms),
            history: it.history.iter().map(passage).collect(),
            waiting_for: it.waiting_for.clone(),
            attempt_node: some(&it.attempt_node),
        }
    }
}

impl Rotation {
    /// How it stands, in a line.
    pub fn standing(&self) -> String {
        let mut line = format!("{} {} {}: {}", self.id, self.credential, self.versions(), self.stage);
        if !self.waiting_for.is_empty() {
            line.push_str(&format!(", waiting for {}", self.waiting_for.join(", ")));
        }
        if let Some(failure) = &self.failure {
            line.push_str(&format!(", {} failed: {failure}", self.failed_attempts));
        }
        line
    }

    fn versions(&self) -> String {
        match self.from_version {
            Some(from) => format!("v{from}→v{}", self.to_version),
            None => format!("v{}", self.to_version),
        }
    }

    fn tone(&self) -> Tone {
        match self.stage.as_str() {
            "settled" => Tone::Good,
            "quarantined" | "aborted" => Tone::Bad,
            _ if self.failed_attempts > 0 => Tone::Warn,
            _ => Tone::Plain,
        }
    }
}

impl Show for Rotation {
    const HEADS: &'static [&'static str] =
        &["id", "credential", "versions", "stage", "cause", "started", "failed", "waiting for"];
    const WIDE: &'static [&'static str] = &["schedule", "ended", "class", "failure"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        vec![
            self.id.clone().into(),
            self.credential.clone().into(),
            self.versions().into(),
            Cell::toned(self.stage.clone(), self.tone()),
            self.cause.clone().into(),
            when::cell(self.started.0, now).into(),
            self.failed_attempts.to_string().into(),
            self.waiting_for.join(", ").into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![
            self.schedule.clone().unwrap_or_default().into(),
            when::cell(self.ended.0, now).into(),
            self.failure_class.clone().unwrap_or_default().into(),
            self.failure.clone().unwrap_or_default().into(),
        ]
    }
}
