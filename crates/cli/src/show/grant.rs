//! Break-glass grants.

use api::v1;
use model::time::Time;
use serde::Serialize;

use super::some;
use crate::{
    output::{Cell, Show, Tone, when, when::When},
    resource::scalar::Span,
};

/// A grant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    id: String,
    requester: String,
    target: String,
    role: String,
    duration: Span,
    ticket: String,
    reason: String,
    stage: String,
    decided_by: Option<String>,
    username: Option<String>,
    end_reason: Option<String>,
    reviewed_by: Option<String>,
    review_note: Option<String>,
    failed_attempts: u32,
    failure: Option<String>,
    ended_revision: Option<u64>,
    requested: When,
    decided: When,
    expires: When,
    revealed: When,
    ended: When,
    refused: When,
    reviewed: When,
}

impl From<&v1::Grant> for Grant {
    fn from(it: &v1::Grant) -> Self {
        Self {
            id: it.id.clone(),
            requester: it.requester.clone(),
            target: it.target.clone(),
            role: it.role.clone(),
            duration: Span(it.duration_ms),
            ticket: it.ticket.clone(),
            reason: it.reason.clone(),
            requested: When(it.requested_ms),
            stage: it.stage.clone(),
            decided_by: some(&it.decided_by),
            decided: When(it.decided_ms),
            expires: When(it.expires_ms),
            username: some(&it.username),
            revealed: When(it.revealed_ms),
            end_reason: some(&it.end_reason),
            ended: When(it.ended_ms),
            refused: When(it.refused_ms),
            reviewed_by: some(&it.reviewed_by),
            reviewed: When(it.reviewed_ms),
            review_note: some(&it.review_note),
            failed_attempts: it.failed_attempts,
            failure: some(&it.failure),
            ended_revision: (it.ended_revision > 0).then_some(it.ended_revision),
        }
    }
}

impl Grant {
    fn tone(&self) -> Tone {
        match self.stage.as_str() {
            "reviewed" | "denied" | "lapsed" => Tone::Plain,
            "active" => Tone::Good,
            _ => Tone::Warn,
        }
    }
}

impl Show for Grant {
    const HEADS: &'static [&'static str] =
        &["id", "requester", "target", "role", "duration", "stage", "expires", "ticket"];
    const WIDE: &'static [&'static str] =
        &["requested", "decided by", "username", "ended", "refused", "reason"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        vec![
            self.id.clone().into(),
            self.requester.clone().into(),
            self.target.clone().into(),
            self.role.clone().into(),
            self.duration.to_string().into(),
            Cell::toned(self.stage.clone(), self.tone()),
            when::cell(self.expires.0, now).into(),
            self.ticket.clone().into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![
            when::cell(self.requested.0, now).into(),
            self.decided_by.clone().unwrap_or_default().into(),
            self.username.clone().unwrap_or_default().into(),
            when::cell(self.ended.0, now).into(),
            when::cell(self.refused.0, now).into(),
            self.reason.clone().into(),
        ]
    }
}
