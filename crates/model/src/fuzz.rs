//! What a fuzzer is let at: each function takes any bytes and must return. They are run as ordinary tests beside
//! `apply`, and for hours by the targets in `fuzz/`.

use std::{fmt, str::FromStr};

use crate::{
    State,
    certificate::Serial,
    command::Stamped,
    name::{
        CertificateName, ConsumerName, CredentialName, GrantId, IdentityName, NodeId, RevocationId,
        RotationId, ScheduleName, StoreName, TargetName, TokenName,
    },
    table::{LoadError, Record},
    time::{Span, Time},
    timing::{PERIOD_FLOOR, Timing},
};

/// Most fires that are asked for.
const FIRES: usize = 3;

/// Commands, each behind its length in 16 bits, are decoded and applied to one state, which stays whole.
///
/// # Panics
///
/// When a command does not survive its encoding, or the state its own records.
pub fn commands(mut bytes: &[u8]) {
    let mut state = State::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (command, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        if let Ok(stamped) = Stamped::decode(command) {
            assert_eq!(
                Stamped::decode(&stamped.encode()).as_ref(),
                Ok(&stamped),
                "a command survives its encoding"
            );
            // Refusals are answers.
            drop(state.apply(&stamped));
        }
        bytes = rest;
    }
    let loaded = State::load(state.records().map(Ok::<_, LoadError>)).expect("our own records load");
    assert_eq!(loaded.digest(), state.digest());
    ask(&state);
}

/// What [`commands`] reads.
#[must_use]
pub fn joined<'a>(commands: impl IntoIterator<Item = &'a Stamped>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        let command = command.encode();
        bytes.extend_from_slice(&u16::try_from(command.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(&command);
    }
    bytes
}

/// Names and ids, as they stand in requests and in the tokens of pages: one that is read is written as it was meant.
pub fn names(text: &str) {
    one::<IdentityName>(text);
    one::<TargetName>(text);
    one::<StoreName>(text);
    one::<CredentialName>(text);
    one::<ScheduleName>(text);
    one::<ConsumerName>(text);
    one::<TokenName>(text);
    one::<CertificateName>(text);
    one::<Serial>(text);
    one::<RotationId>(text);
    one::<RevocationId>(text);
    one::<GrantId>(text);
    one::<NodeId>(text);
}

fn one<N: FromStr + PartialEq + fmt::Display>(text: &str) {
    if let Ok(name) = text.parse::<N>() {
        assert!(name.to_string().parse().is_ok_and(|again: N| again == name), "`{name}` is read again");
    }
}

/// Rows, as a snapshot holds them: they load into a state that can be asked, or are refused. Their digest is looked at
/// only after they were loaded.
pub fn rows(bytes: &[u8]) {
    let Ok(records) = postcard::from_bytes::<Vec<Record>>(bytes) else { return };
    if let Ok(state) = State::load(records.into_iter().map(Ok::<_, LoadError>)) {
        ask(&state);
    }
}

fn ask(state: &State) {
    let now = state.now();
    for node in [NodeId(0), NodeId(1)] {
        drop((state.work(node, now), state.attempts_of(node)));
    }
    let _ = (state.next_due(), state.next_work(now), state.open_jobs().count(), state.audit_head());
    let _ = (state.data_keys(), state.sealed_after(None).count(), state.leaving_root_key());
    for consumer in state.consumers().values() {
        let _ = (state.stream_of(consumer, 0).count(), state.outstanding_of(consumer).count());
    }
    for revocation in state.revocations().values() {
        let _ = state.is_acked(revocation);
    }
    for rotation in state.rotations().values() {
        state.awaited_by(rotation).count();
    }
}

/// The words of a schedule: a time zone and an expression, on a line each, and any instant.
///
/// # Panics
///
/// When a fire is not after the instant before it.
pub fn timing(text: &str) {
    let (zone, expression) = text.split_once('\n').unwrap_or(("UTC", text));
    let start = Time(text.bytes().fold(0, |sum, byte| sum.rotate_left(7) ^ u64::from(byte)));
    let written = Timing::Cron { expression: expression.into(), zone: zone.into() };
    let read = Timing::cron(expression, zone, Time(1_700_000_000_000));
    let every = Timing::every(Span(start.0 >> 20), Span(start.0 & 0xffff), PERIOD_FLOOR);
    for timing in [Some(written), read.ok(), every.ok()].into_iter().flatten() {
        for begin in [Time(1_700_000_000_000), start] {
            let mut last = begin;
            for fire in timing.preview(begin, FIRES) {
                assert!(fire.at > last, "{timing:?}: {} is not after {last}", fire.at);
                last = fire.at;
            }
        }
    }
}
