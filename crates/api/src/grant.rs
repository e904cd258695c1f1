//! Break-glass grants.

use model::{
    command::RequestGrant,
    grant::{Grant, GrantEnd},
    time::Span,
};

use crate::{Malformed, or_zero, parse, v1};

impl TryFrom<v1::RequestGrantRequest> for RequestGrant {
    type Error = Malformed;

    fn try_from(wire: v1::RequestGrantRequest) -> Result<Self, Malformed> {
        Ok(Self {
            target: parse("target", &wire.target)?,
            role: wire.role,
            duration: Span(wire.duration_ms),
            ticket: wire.ticket,
            reason: wire.reason,
        })
    }
}

impl From<&Grant> for v1::Grant {
    fn from(row: &Grant) -> Self {
        let (decided_by, decided) = row.decided.clone().unzip();
        let review = row.review.as_ref();
        Self {
            id: row.id.to_string(),
            requester: row.requester.clone(),
            target: row.target.to_string(),
            role: row.role.clone(),
            duration_ms: row.duration.0,
            ticket: row.ticket.clone(),
            reason: row.reason.clone(),
            requested_ms: row.requested.0,
            stage: row.stage.as_str().to_owned(),
            decided_by: decided_by.unwrap_or_default(),
            decided_ms: or_zero(decided),
            expires_ms: or_zero(row.expires),
            username: row.username.clone().unwrap_or_default(),
            revealed_ms: or_zero(row.revealed),
            end_reason: row.ended.as_ref().map(|(end, _)| end_reason(end)).unwrap_or_default(),
            ended_ms: or_zero(row.ended.as_ref().map(|(_, at)| *at)),
            refused_ms: or_zero(row.refused),
            reviewed_by: review.map(|review| review.by.clone()).unwrap_or_default(),
            reviewed_ms: review.map_or(0, |review| review.at.0),
            review_note: review.map(|review| review.note.clone()).unwrap_or_default(),
            failed_attempts: row.retry.count,
            failure: row.retry.last.as_ref().map(|last| last.message.clone()).unwrap_or_default(),
            ended_revision: row.ended_revision.unwrap_or_default(),
        }
    }
}

fn end_reason(end: &GrantEnd) -> String {
    match end {
        GrantEnd::Expired => "expired".to_owned(),
        GrantEnd::Ended { by } => format!("ended by {by}"),
        GrantEnd::Revoked => "revoked".to_owned(),
        GrantEnd::ActivationFailed => "activation failed".to_owned(),
    }
}
