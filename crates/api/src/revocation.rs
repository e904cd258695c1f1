//! Revocations, and how each consumer stands to them.

use model::{
    State,
    command::Revoke,
    consumer::Consumer,
    credential::Version,
    event::{About, Revocation, Subject},
    grant::Grant,
    time::{Span, Time},
};

use crate::{Malformed, or_zero, parse, v1};

/// How long consumers have when nothing is said.
const ACK_WITHIN: Span = Span::minutes(15);

impl TryFrom<v1::RevocationSubject> for Subject {
    type Error = Malformed;

    fn try_from(wire: v1::RevocationSubject) -> Result<Self, Malformed> {
        use v1::revocation_subject::Subject as Wire;
        match wire.subject.ok_or_else(|| Malformed::missing("subject"))? {
            Wire::Credential(name) => Ok(Self::Credential(parse("credential", &name)?)),
            Wire::Version(version) => {
                Ok(Self::Version(parse("version.credential", &version.credential)?, version.version))
            }
            Wire::Identity(name) => Ok(Self::Identity(parse("identity", &name)?)),
            Wire::Grant(id) => Ok(Self::Grant(parse("grant", &id)?)),
        }
    }
}

impl TryFrom<v1::CreateRevocationRequest> for Revoke {
    type Error = Malformed;

    fn try_from(wire: v1::CreateRevocationRequest) -> Result<Self, Malformed> {
        let subject = wire.subject.ok_or_else(|| Malformed::missing("subject"))?;
        Ok(Self {
            subject: subject.try_into().map_err(|error: Malformed| error.within("subject"))?,
            code: parse("reason_code", &wire.reason_code)?,
            reason: wire.reason,
            ack_within: if wire.ack_within_ms == 0 { ACK_WITHIN } else { Span(wire.ack_within_ms) },
        })
    }
}

/// A revocation, and whether every required consumer has settled it.
#[must_use]
pub fn shown(state: &State, row: &Revocation) -> v1::Revocation {
    v1::Revocation {
        id: row.id.to_string(),
        subject: row.subject.to_string(),
        reason_code: row.code.as_str().to_owned(),
        reason: row.reason.clone(),
        by: row.by.clone(),
        at_ms: row.at.0,
        revisions: row.revisions.clone(),
        lifted_ms: or_zero(row.lifted.as_ref().map(|(at, _)| *at)),
        lifted_by: row.lifted.as_ref().map(|(_, by)| by.clone()).unwrap_or_default(),
        acked: state.is_acked(row),
    }
}

/// How every consumer that is owed an event of the revocation stands to it, whether or not the event is still kept.
#[must_use]
pub fn receipts(state: &State, row: &Revocation, now: Time) -> Vec<v1::ReceiptStanding> {
    let standings = |revision: &u64| {
        let deadline = state.events().get(revision).map_or(row.deadline, |event| event.deadline);
        let revision = *revision;
        state.told_of(row, revision).map(move |consumer| standing(consumer, revision, deadline, now))
    };
    row.revisions.iter().flat_map(standings).collect()
}

/// What was seen at the target of every version or grant the revocation speaks of.
#[must_use]
pub fn evidence(state: &State, row: &Revocation) -> Vec<v1::Evidence> {
    let events = row.revisions.iter().filter_map(|revision| state.events().get(revision));
    let mut about: Vec<&About> = Vec::new();
    for event in events {
        if !about.contains(&&event.about) {
            about.push(&event.about);
        }
    }
    if about.is_empty() {
        return subject_evidence(state, &row.subject);
    }
    about
        .into_iter()
        .filter_map(|about| match about {
            About::Version { credential, version } => {
                state.versions().get(&(credential.clone(), *version)).map(v1::Evidence::from)
            }
            About::Grant(id) => state.grants().get(id).map(v1::Evidence::from),
        })
        .collect()
}

impl From<&Version> for v1::Evidence {
    fn from(row: &Version) -> Self {
        Self {
            subject: format!("{}@{}", row.credential, row.number),
            state: row.state.as_str().to_owned(),
            refused_ms: or_zero(row.refused),
        }
    }
}

impl From<&Grant> for v1::Evidence {
    fn from(row: &Grant) -> Self {
        Self {
            subject: row.id.to_string(),
            state: row.stage.as_str().to_owned(),
            refused_ms: or_zero(row.refused),
        }
    }
}

fn standing(consumer: &Consumer, revision: u64, deadline: Time, now: Time) -> v1::ReceiptStanding {
    let settled = consumer.has_settled(revision);
    let enforced = consumer.enforced.contains(revision);
    v1::ReceiptStanding {
        consumer: consumer.name.to_string(),
        revision,
        required: consumer.required,
        delivered: consumer.delivered >= revision,
        received: enforced || consumer.received.contains(revision),
        enforced,
        failed: consumer.failed.get(&revision).filter(|_| !settled).cloned().unwrap_or_default(),
        overdue: !settled && now >= deadline,
        waived: consumer.waived.contains(&revision),
        deadline_ms: deadline.0,
    }
}

/// The evidence when the events are no longer kept, or when there are none yet: from the subject itself.
fn subject_evidence(state: &State, subject: &Subject) -> Vec<v1::Evidence> {
    match subject {
        Subject::Grant(id) => state.grants().get(id).map(v1::Evidence::from).into_iter().collect(),
        Subject::Version(name, number) => {
            state.versions().get(&(name.clone(), *number)).map(v1::Evidence::from).into_iter().collect()
        }
        Subject::Credential(_) | Subject::Identity(_) => Vec::new(),
    }
}
