//! The feed.

use api::v1::{self, EventKind};
use client::Update;
use model::{event::EventKind as Word, time::Time};
use serde::Serialize;

use super::some;
use crate::output::{Cell, Show, Tone, when, when::When};

/// One message of the feed.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A numbered event.
    Event {
        revision: u64,
        previous_revision: u64,
        at: When,
        kind: &'static str,
        credential: Option<String>,
        version: Option<u32>,
        grant: Option<String>,
        target: String,
        reason_code: String,
        revocation: Option<String>,
        deadline: When,
    },
    /// The state as of a revision.
    Snapshot { revision: u64, versions: Vec<Standing> },
    /// Nothing is missing up to a revision.
    Heartbeat { revision: u64, at: When },
}

#[derive(Debug, Serialize)]
pub struct Standing {
    credential: String,
    version: u32,
    state: String,
}

impl From<&Update> for Entry {
    fn from(update: &Update) -> Self {
        match update {
            Update::Event(it) => Self::event(it),
            Update::Snapshot(it) => {
                let standing = |it: &v1::VersionStanding| Standing {
                    credential: it.credential.clone(),
                    version: it.version,
                    state: it.state.clone(),
                };
                Self::Snapshot { revision: it.revision, versions: it.versions.iter().map(standing).collect() }
            }
            Update::CaughtUp { revision, at_ms } => Self::Heartbeat { revision: *revision, at: When(*at_ms) },
        }
    }
}

impl Entry {
    fn event(it: &v1::Event) -> Self {
        Self::Event {
            revision: it.revision,
            previous_revision: it.previous_revision,
            at: When(it.at_ms),
            kind: word(it.kind()),
            credential: some(&it.credential),
            version: (it.version > 0).then_some(it.version),
            grant: some(&it.grant),
            target: it.target.clone(),
            reason_code: it.reason_code.clone(),
            revocation: some(&it.revocation),
            deadline: When(it.deadline_ms),
        }
    }
}

const fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Unspecified => "unspecified",
        EventKind::CredentialRotated => Word::CredentialRotated.as_str(),
        EventKind::CredentialRevoked => Word::CredentialRevoked.as_str(),
        EventKind::CredentialRestored => Word::CredentialRestored.as_str(),
        EventKind::HoldLifted => Word::HoldLifted.as_str(),
        EventKind::GrantEnded => Word::GrantEnded.as_str(),
    }
}

impl Show for Entry {
    const HEADS: &'static [&'static str] = &["revision", "at", "kind", "about", "reason code", "deadline"];

    fn name(&self) -> String {
        match self {
            Self::Event { revision, .. }
            | Self::Snapshot { revision, .. }
            | Self::Heartbeat { revision, .. } => revision.to_string(),
        }
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        match self {
            Self::Event {
                revision,
                at,
                kind,
                credential,
                version,
                grant,
                target,
                reason_code,
                deadline,
                ..
            } => {
                let about = match (credential, version, grant) {
                    (Some(credential), Some(version), _) => format!("{credential}@{version}"),
                    (_, _, Some(grant)) => format!("{grant} at {target}"),
                    (Some(_), None, None) | (None, _, None) => target.clone(),
                };
                let tone = if *kind == "credential-rotated" { Tone::Plain } else { Tone::Warn };
                vec![
                    revision.to_string().into(),
                    when::seconds(Time(at.0)).into(),
                    Cell::toned(*kind, tone),
                    about.into(),
                    reason_code.clone().into(),
                    format!("due {}", when::cell(deadline.0, now)).into(),
                ]
            }
            Self::Snapshot { revision, versions } => {
                vec![revision.to_string().into(), format!("snapshot of {} versions", versions.len()).into()]
            }
            Self::Heartbeat { revision, at } => {
                vec![revision.to_string().into(), when::seconds(Time(at.0)).into(), "heartbeat".into()]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::event::{About, EventKind as Kind, ReasonCode};

    use super::*;

    fn line(update: &Update) -> String {
        serde_json::to_string(&Entry::from(update)).unwrap()
    }

    #[test]
    fn what_is_printed_as_json_is_a_record_that_a_restore_takes() {
        let revoked = v1::Event {
            revision: 7,
            previous_revision: 3,
            at_ms: 1_790_000_000_123,
            kind: EventKind::CredentialRevoked.into(),
            credential: "orders-db".into(),
            version: 2,
            target: "pg-main".into(),
            reason_code: "hold".into(),
            revocation: "rev-4".into(),
            deadline_ms: 1_790_000_900_000,
            ..v1::Event::default()
        };
        let ended = v1::Event {
            revision: 8,
            kind: EventKind::GrantEnded.into(),
            grant: "bg-3".into(),
            target: "pg-main".into(),
            reason_code: "break-glass-ended".into(),
            ..v1::Event::default()
        };
        let version = v1::VersionStanding { credential: "c".into(), version: 1, state: "tainted".into() };
        let updates = [
            Update::Event(revoked),
            Update::Event(ended),
            Update::Snapshot(v1::Snapshot { revision: 9, versions: vec![version] }),
            Update::CaughtUp { revision: 11, at_ms: 1 },
        ];
        let text = updates.iter().map(line).collect::<Vec<_>>().join("\n");
        let seen = server::consumer_file::read_from(text.as_bytes()).unwrap();
        assert_eq!((seen.revision(), seen.complete_up_to(6)), (11, 8));
        let first = seen.events().next().unwrap();
        assert_eq!((first.kind, first.reason), (Kind::CredentialRevoked, ReasonCode::Hold));
        assert_eq!((first.at, first.deadline), (Time(1_790_000_000_123), Time(1_790_000_900_000)));
        assert_eq!(first.about, About::Version { credential: "orders-db".parse().unwrap(), version: 2 });
    }
}
