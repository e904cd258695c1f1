//! The audit log: every command, every refusal, every effect of time; and no secret.

use super::Machine;
use super::machine::{START, identity, sealed};
use crate::{
    audit,
    command::{EdgeRefusal, PutIdentity, RecordRefusals, RemoveIdentity},
    refusal::Code,
    table::LoadError,
    time::Span,
};

#[test]
fn what_was_done_and_what_was_refused_stand_in_one_chain() {
    let mut machine = Machine::new();
    machine.ok(identity("orders"));
    machine.refused_by("mallory", Code::OwnerRequired, PutIdentity { owner: String::new(), ..identity("x") });
    machine.ok_by("bob", RemoveIdentity { name: super::name("orders") });
    let records: Vec<_> = machine.state.audit().values().cloned().collect();
    let seen: Vec<_> = records.iter().map(|row| (row.actor.as_str(), row.action.as_str())).collect();
    assert_eq!(seen, [("alice", "identity.put"), ("mallory", "identity.put"), ("bob", "identity.remove")]);
    assert_eq!(records[1].refused.as_deref(), Some("owner_required"));
    assert_eq!(records[1].before, records[1].after);
    assert_ne!(records[0].before, records[0].after);
    assert_eq!((records[0].after, records[2].before), (records[1].before, records[1].after));
    assert_eq!(records[2].after, records[0].before, "the content is as it was at first");
    assert_eq!(audit::verify(records.iter(), machine.state.audit_head()), Ok(3));
}

#[test]
fn refusals_made_at_the_edge_are_records_too() {
    let mut machine = Machine::new();
    let refusal = EdgeRefusal {
        actor: "unknown".into(),
        action: "/revolve.v1.Admin/Revoke".into(),
        object: "x".repeat(1_000_000),
        code: "unauthenticated".into(),
        count: 12,
    };
    machine.ok_by("node-1", RecordRefusals { refusals: vec![refusal] });
    let record = machine.state.audit().get(&1).unwrap();
    assert_eq!((record.actor.as_str(), record.detail.as_str()), ("unknown", "12 times"));
    assert_eq!(record.refused.as_deref(), Some("unauthenticated"));
    assert!(record.object.len() <= crate::caps::AUDIT_TEXT_BYTES, "whatever the edge was sent");
}

#[test]
fn the_words_of_a_worker_are_cut_to_a_bearable_length() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[crate::attempt::Step::Prepare]);
    let message = "ä".repeat(1_000_000);
    let failure = crate::attempt::Failure { class: crate::attempt::FailureClass::Retryable, message };
    let outcome = crate::attempt::StepOutcome::Failed { failure, retry_after: Span(0) };
    machine.attempt(crate::attempt::Job::Rotation(id), crate::attempt::Step::Install, outcome);
    let rotation = machine.rotation(id);
    assert!(rotation.retry.last.unwrap().message.len() <= crate::caps::TEXT_BYTES);
    assert!(rotation.history.last().unwrap().note.len() <= crate::caps::TEXT_BYTES);
}

#[test]
fn model_time_never_goes_back() {
    let mut machine = Machine::new();
    machine.wait(Span::days(1));
    machine.now = START;
    machine.ok(identity("orders"));
    assert_eq!(machine.state.now(), START.plus(Span::days(1)));
    assert_eq!(machine.state.audit().values().next_back().unwrap().at, START.plus(Span::days(1)));
}

#[test]
fn a_state_is_the_same_after_it_was_written_down_and_read_back() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[crate::attempt::Step::Prepare]);
    machine.begin(crate::attempt::Job::Rotation(id), crate::attempt::Step::Install);
    let loaded = crate::State::load(machine.state.records().map(Ok::<_, LoadError>)).unwrap();
    assert_eq!(loaded.digest(), machine.state.digest());
    assert_eq!(loaded.next_due(), machine.state.next_due());
    loaded.assert_derived();
    assert_eq!(format!("{:?}", sealed(3)), "Sealed(8 bytes)");
}
