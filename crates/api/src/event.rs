//! Events, as they stand in a stream.

use model::event::{About, Event, EventKind};

use crate::v1;

impl From<EventKind> for v1::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::CredentialRotated => Self::CredentialRotated,
            EventKind::CredentialRevoked => Self::CredentialRevoked,
            EventKind::CredentialRestored => Self::CredentialRestored,
            EventKind::HoldLifted => Self::HoldLifted,
            EventKind::GrantEnded => Self::GrantEnded,
        }
    }
}

/// An event, with the revision of the one before it in the same stream.
#[must_use]
pub fn shown(row: &Event, previous_revision: u64) -> v1::Event {
    let (credential, version, grant) = match &row.about {
        About::Version { credential, version } => (credential.to_string(), *version, String::new()),
        About::Grant(id) => (String::new(), 0, id.to_string()),
    };
    v1::Event {
        revision: row.revision,
        previous_revision,
        at_ms: row.at.0,
        kind: v1::EventKind::from(row.kind).into(),
        credential,
        version,
        grant,
        target: row.target.to_string(),
        reason_code: row.reason.as_str().to_owned(),
        revocation: row.revocation.map(|id| id.to_string()).unwrap_or_default(),
        deadline_ms: row.deadline.0,
    }
}
