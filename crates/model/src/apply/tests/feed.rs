//! The feed: revisions without holes, a bounded history, deadlines.

use super::machine::{consumer, revoke, schedule};
use super::{Machine, name};
use crate::{
    caps,
    command::{Deliver, PutConsumer, PutSchedule, RemoveConsumer},
    consumer::Subscription,
    event::{ReasonCode, Subject},
    outcome::Applied,
    refusal::Code,
    rotation::Stage,
    schedule::RotationPolicy,
    time::Span,
};

#[test]
fn revisions_are_dense_and_a_consumer_is_owed_what_comes_after_it() {
    let mut machine = Machine::alternating();
    for round in 1..=5 {
        let id = machine.trigger();
        machine.run(id);
        let revisions: Vec<u64> = machine.state.events().iter().map(|(revision, _)| *revision).collect();
        assert_eq!(revisions, (1..=2 * round).collect::<Vec<_>>());
    }
    machine.ok(consumer("edge", true));
    let edge = machine.consumer("edge");
    assert_eq!((edge.since, edge.delivered, edge.enforced.cursor()), (10, 10, 10));
    assert_eq!(machine.state.outstanding_of(&edge).count(), 0);
}

#[test]
fn the_history_is_bounded_and_says_where_it_starts() {
    let mut machine = Machine::alternating();
    assert_eq!(machine.state.history_starts_after(), 0);
    machine.append_events(caps::FEED_EVENTS + 3);
    assert_eq!(u64::try_from(machine.state.events().len()).unwrap(), caps::FEED_EVENTS);
    assert_eq!(machine.state.history_starts_after(), 3);
    assert_eq!(machine.state.revision(), caps::FEED_EVENTS + 3);
    machine.state.assert_derived();
}

#[test]
fn a_revocation_that_nobody_answered_does_not_become_answered_by_being_old() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.ok(revoke(Subject::Credential(name("orders-db")), ReasonCode::Hold));
    machine.append_events(caps::FEED_EVENTS);
    assert!(!machine.state.events().contains(&1));
    let revocation = machine.state.revocations().values().next().unwrap().clone();
    assert!(!machine.state.is_acked(&revocation));
    machine.deliver("edge");
    machine.enforce("edge", 1);
    assert!(machine.state.is_acked(&revocation));
}

#[test]
fn a_drain_waits_on_though_its_event_has_left_the_history() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    let id = machine.trigger();
    machine.perform(id, &[crate::attempt::Step::Prepare, crate::attempt::Step::Install]);
    machine.perform(id, &[crate::attempt::Step::Verify, crate::attempt::Step::Publish]);
    machine.append_events(caps::FEED_EVENTS);
    assert!(!machine.state.events().contains(&1));
    machine.ok(consumer("late", true));
    assert_eq!(machine.stage(id), Stage::Drain);

    // Answers for later events must not carry the cursor over the one that is waited for.
    machine.deliver("edge");
    machine.enforce("edge", machine.state.revision());
    assert_eq!((machine.stage(id), machine.consumer("edge").enforced.cursor()), (Stage::Drain, 0));
    machine.enforce("edge", 1);
    assert_eq!(machine.stage(id), Stage::Retire);
    assert_eq!(machine.consumer("edge").enforced.cursor(), 1);
}

#[test]
fn a_rare_subscriber_catches_up_without_counting_what_was_not_for_it() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.skip_revisions(1_000_000_000_000);
    machine.append_events(1);
    machine.deliver("edge");
    let last = machine.state.revision();
    machine.enforce("edge", last);
    assert_eq!(machine.consumer("edge").enforced.cursor(), last);
}

#[test]
fn silence_past_the_deadline_is_audited_once() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.ok(consumer("curious", false));
    machine.ok(revoke(Subject::Credential(name("orders-db")), ReasonCode::Hold));
    assert_eq!(machine.state.next_due(), Some(machine.now.plus(Span::minutes(5))));
    machine.wait(Span::minutes(5));
    machine.tick();
    assert_eq!(machine.audited("receipt.overdue"), 1);
    let record = machine.state.audit().values().rfind(|row| row.action == "receipt.overdue").unwrap();
    assert_eq!(record.object, "event/1");
    assert!(record.detail.contains("edge") && !record.detail.contains("curious"));
    assert!(machine.event(1).escalated);
}

#[test]
fn an_event_enforced_in_time_is_not_escalated() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.ok(revoke(Subject::Credential(name("orders-db")), ReasonCode::Hold));
    machine.deliver("edge");
    machine.enforce("edge", 1);
    machine.wait(Span::minutes(5));
    assert_eq!(machine.audited("receipt.overdue"), 0);
}

#[test]
fn silence_is_audited_before_an_event_leaves_the_history() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.append_events(caps::FEED_EVENTS + 1);
    assert_eq!(machine.audited("receipt.overdue"), 1);
}

#[test]
fn a_consumer_subscribes_to_something_that_exists() {
    let mut machine = Machine::alternating();
    let put = |subscription| PutConsumer { subscription, ..consumer("edge", true) };
    machine.refused(Code::EmptySubscription, put(Subscription::default()));
    let credentials = [name("nothing")].into();
    machine.refused(Code::UnknownCredential, put(Subscription { credentials, ..Subscription::default() }));
    let targets = [name("nowhere")].into();
    machine.refused(Code::UnknownTarget, put(Subscription { targets, ..Subscription::default() }));
    machine.refused(Code::OwnerRequired, PutConsumer { owner: String::new(), ..consumer("edge", true) });
    machine.ok(consumer("edge", true));
    assert_eq!(machine.ok(consumer("edge", true)), Applied::Unchanged);
    machine.ok(RemoveConsumer { name: name("edge") });
    machine.refused(Code::UnknownConsumer, RemoveConsumer { name: name("edge") });
}

#[test]
fn a_wider_subscription_owes_nothing_of_the_past() {
    let mut machine = Machine::alternating();
    machine.ok(super::machine::target("other"));
    let narrow = Subscription { targets: [name("other")].into(), ..Subscription::default() };
    machine.ok(PutConsumer { subscription: narrow, ..consumer("edge", true) });
    machine.append_events(3);
    machine.ok(consumer("edge", true));
    assert_eq!(machine.state.outstanding_of(&machine.consumer("edge")).count(), 0);
    machine.append_events(1);
    assert_eq!(machine.state.outstanding_of(&machine.consumer("edge")).count(), 1);
    machine.deliver("edge");
    machine.enforce("edge", 4);
    assert_eq!(machine.consumer("edge").enforced.cursor(), 4);
}

#[test]
fn nothing_is_delivered_that_does_not_exist() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.append_events(2);
    let deliver = |who: &str, upto| Deliver { upto: [(name(who), upto)].into() };
    machine.refused(Code::UnknownRevision, deliver("edge", 3));
    machine.refused(Code::UnknownConsumer, deliver("nobody", 1));
    assert_eq!(machine.ok(deliver("edge", 2)), Applied::Changed);
    assert_eq!(machine.ok(deliver("edge", 1)), Applied::Unchanged);
    assert_eq!(machine.consumer("edge").delivered, 2, "never goes back");
}

#[test]
fn an_overlap_of_nothing_ends_at_once() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    let put = schedule("nightly", "orders-db");
    let policy = RotationPolicy { overlap_max: Span(0), ..put.policy.clone() };
    machine.ok(PutSchedule { policy, ..put });
    let id = machine.trigger();
    machine.run(id);
    assert_eq!(machine.stage(id), Stage::Quarantined);
}
