//! Rotations.

use model::{
    State,
    rotation::{Cause, Passage, Rotation, Stage},
};

use crate::{or_zero, v1};

/// A rotation, with the consumers it waits for.
#[must_use]
pub fn shown(state: &State, row: &Rotation) -> v1::Rotation {
    let (cause, schedule, due_ms) = match &row.cause {
        Cause::Due { schedule, at } => ("due", schedule.to_string(), at.0),
        Cause::Triggered { schedule } => ("triggered", schedule.to_string(), 0),
        Cause::Revoked => ("revoked", String::new(), 0),
    };
    let last = row.retry.last.as_ref();
    v1::Rotation {
        id: row.id.to_string(),
        credential: row.credential.to_string(),
        cause: cause.to_owned(),
        schedule,
        due_ms,
        from_version: row.from.unwrap_or_default(),
        to_version: row.to.unwrap_or_default(),
        stage: row.stage.as_str().to_owned(),
        failed_attempts: row.retry.count,
        not_before_ms: row.retry.not_before.0,
        failure_class: last.map(|failure| failure.class.as_str().to_owned()).unwrap_or_default(),
        failure: last.map(|failure| failure.message.clone()).unwrap_or_default(),
        drain_until_ms: or_zero(row.drain_until),
        started_ms: row.started.0,
        ended_ms: or_zero(row.ended),
        history: row.history.iter().map(v1::Passage::from).collect(),
        waiting_for: waiting_for(state, row),
        attempt_node: row.attempt.as_ref().map(|attempt| attempt.node.to_string()).unwrap_or_default(),
    }
}

impl From<&Passage> for v1::Passage {
    fn from(passage: &Passage) -> Self {
        Self { at_ms: passage.at.0, stage: passage.stage.as_str().to_owned(), note: passage.note.clone() }
    }
}

fn waiting_for(state: &State, row: &Rotation) -> Vec<String> {
    match (row.stage, row.published_revision) {
        (Stage::Drain, Some(revision)) => {
            state.missing_receipts(revision).map(|consumer| consumer.name.to_string()).collect()
        }
        (_, _) => Vec::new(),
    }
}
