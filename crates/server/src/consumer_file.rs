//! What a consumer was told, as it has kept it: a file with one JSON object in each line, as `revolve feed watch -o json`
//! writes them. Nothing vouches for such a file, so it is read as if somebody wished harm with it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use model::{
    event::{About, Event, EventKind},
    ledger::{Seen, SeenSnapshot, SeenState, Unbelievable},
    time::Time,
};
use serde::Deserialize;

/// A line longer than this is damage: as long as the longest message of the feed.
const LINE_BYTES: u64 = 16 << 20;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It cannot be read at all.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// A line is longer than any that is written.
    #[error("line {0} is longer than {LINE_BYTES} bytes")]
    Long(u64),
    /// A line is something else.
    #[error("line {line} is not one that `revolve feed watch -o json` writes")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line says what cannot be.
    #[error("line {line} says what cannot be")]
    Said {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        source: Unbelievable,
    },
}

/// Reads the record of a consumer.
///
/// # Errors
/// [`Unreadable`].
pub fn read(path: &Path) -> Result<Seen, Unreadable> {
    read_from(BufReader::new(File::open(path)?))
}

/// The same from any source. A last line that was cut off by a crash is left out: the revision in it was never kept.
///
/// # Errors
/// [`Unreadable`].
pub fn read_from(mut source: impl BufRead) -> Result<Seen, Unreadable> {
    let (mut seen, mut text) = (Seen::default(), Vec::new());
    for line in 1.. {
        text.clear();
        let length = source.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            break;
        }
        let whole = text.last() == Some(&b'\n');
        if !whole && length as u64 > LINE_BYTES {
            return Err(Unreadable::Long(line));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line>(&text) {
            Ok(said) => said.add_to(&mut seen).map_err(|source| Unreadable::Said { line, source })?,
            Err(source) if !whole && source.is_eof() => {}
            Err(source) => return Err(Unreadable::Line { line, source }),
        }
    }
    Ok(seen)
}

/// One line. Fields that are not known here are passed over.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Line {
    Event {
        revision: u64,
        kind: Kind,
        credential: Option<Name<model::name::CredentialName>>,
        version: Option<u32>,
        grant: Option<Name<model::name::GrantId>>,
        target: Name<model::name::TargetName>,
        reason_code: Name<model::event::ReasonCode>,
        revocation: Option<Name<model::name::RevocationId>>,
        #[serde(default)]
        at: Instant,
        #[serde(default)]
        deadline: Instant,
    },
    Snapshot {
        revision: u64,
        versions: Vec<Standing>,
    },
    Heartbeat {
        revision: u64,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    CredentialRotated,
    CredentialRevoked,
    CredentialRestored,
    HoldLifted,
    GrantEnded,
}

#[derive(Deserialize)]
struct Standing {
    credential: Name<model::name::CredentialName>,
    version: u32,
    state: State,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Active,
    Tainted,
    Held,
}

impl Line {
    fn add_to(self, seen: &mut Seen) -> Result<(), Unbelievable> {
        match self {
            Self::Event {
                revision,
                kind,
                credential,
                version,
                grant,
                target,
                reason_code,
                revocation,
                at,
                deadline,
            } => {
                let about = match (credential, version, grant) {
                    (Some(Name(credential)), Some(version), None) => About::Version { credential, version },
                    (None, None, Some(Name(id))) => About::Grant(id),
                    (_, _, _) => return Err(Unbelievable::Subject(revision)),
                };
                seen.tell(Event {
                    revision,
                    at: at.0,
                    kind: kind.into(),
                    about,
                    target: target.0,
                    reason: reason_code.0,
                    revocation: revocation.map(|id| id.0),
                    deadline: deadline.0,
                    escalated: false,
                })
            }
            Self::Snapshot { revision, versions } => {
                let listed = versions.into_iter().map(|it| ((it.credential.0, it.version), it.state.into()));
                seen.list(revision, listed.collect::<SeenSnapshot>())
            }
            Self::Heartbeat { revision } => seen.reach(revision),
        }
    }
}

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::CredentialRotated => Self::CredentialRotated,
            Kind::CredentialRevoked => Self::CredentialRevoked,
            Kind::CredentialRestored => Self::CredentialRestored,
            Kind::HoldLifted => Self::HoldLifted,
            Kind::GrantEnded => Self::GrantEnded,
        }
    }
}

impl From<State> for SeenState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Tainted => Self::Tainted,
            State::Held => Self::Held,
        }
    }
}

/// A name or a word of the model, by its text.
struct Name<T>(T);

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for Name<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// An instant by its text in RFC 3339; none where it is null or left out.
struct Instant(Time);

impl Default for Instant {
    fn default() -> Self {
        Self(Time(0))
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Self::default()) };
        let at = humantime::parse_rfc3339_weak(&text).map_err(serde::de::Error::custom)?;
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Self(Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"type":"event","revision":7,"previousRevision":3,"at":"2026-09-21T14:13:20.123Z","kind":"credential-revoked","credential":"orders-db","version":2,"grant":null,"target":"pg-main","reasonCode":"key-compromise","revocation":"rev-4","deadline":null}"#;
    const GRANT: &str = r#"{"type":"event","revision":8,"kind":"grant-ended","credential":null,"version":null,"grant":"bg-3","target":"pg-main","reasonCode":"break-glass-ended","revocation":null}"#;

    fn read(text: &str) -> Result<Seen, Unreadable> {
        read_from(text.as_bytes())
    }

    #[test]
    fn a_record_is_read_as_the_feed_has_told_it() {
        let snapshot = r#"{"type":"snapshot","revision":9,"versions":[{"credential":"orders-db","version":3,"state":"active"}]}"#;
        let heartbeat = r#"{"type":"heartbeat","revision":12,"at":"2026-09-21T14:13:20.123Z"}"#;
        let seen = read(&[EVENT, "", GRANT, snapshot, heartbeat].join("\n")).unwrap();
        assert_eq!((seen.revision(), seen.complete_up_to(6)), (12, 8));
        let events: Vec<_> = seen.events().collect();
        let about = About::Version { credential: "orders-db".parse().unwrap(), version: 2 };
        assert_eq!((&events[0].about, events[0].at), (&about, Time(1_790_000_000_123)));
        assert_eq!(events[0].revocation, Some(model::name::RevocationId(4)));
        assert_eq!(events[1].about, About::Grant(model::name::GrantId(3)));
    }

    #[test]
    fn a_line_that_a_crash_cut_off_ends_a_record_and_any_other_damage_is_told_with_its_line() {
        let seen = read(&format!("{EVENT}\n{}", &GRANT[..40])).unwrap();
        assert_eq!(seen.revision(), 7);
        let torn = read(&format!("{}\n{EVENT}\n", &GRANT[..40])).unwrap_err();
        assert!(matches!(torn, Unreadable::Line { line: 1, .. }), "{torn}");
        let garbage = read(&format!("{EVENT}\nnothing")).unwrap_err();
        assert!(matches!(garbage, Unreadable::Line { line: 2, .. }), "{garbage}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (from, to) in [
            ("\"revision\":7", "\"revision\":0"),
            ("\"revision\":7", "\"revision\":18446744073709551615"),
            ("\"version\":2", "\"version\":4294967295"),
            ("\"version\":2", "\"version\":null"),
            ("\"grant\":null", "\"grant\":\"bg-1\""),
        ] {
            let error = read(&EVENT.replace(from, to)).unwrap_err();
            assert!(matches!(error, Unreadable::Said { line: 1, .. }), "{to}: {error}");
        }
        let twice = format!("{EVENT}\n{}\n", EVENT.replace("orders-db", "billing-db"));
        let error = read(&twice).unwrap_err();
        let Unreadable::Said { line: 2, source: Unbelievable::Contradiction(7) } = error else {
            panic!("{error}")
        };
    }

    #[test]
    fn a_line_without_end_is_not_held_in_memory() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        assert!(matches!(read_from(endless), Err(Unreadable::Long(1))));
    }
}
