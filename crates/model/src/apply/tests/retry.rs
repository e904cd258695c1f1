//! Failed attempts: tried again after a wait, counted in the state, given up on by class.

use super::Machine;
use super::machine::{begin, failed, probed, unknown};
use crate::{
    attempt::{FailureClass, Job, Liveness, Step},
    command::{AbortRotation, RetryRotation},
    credential::VersionState,
    name::{NodeId, RotationId},
    refusal::Code,
    rotation::Stage,
    state::State,
    table::LoadError,
    time::Span,
};

fn installing() -> (Machine, RotationId) {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[Step::Prepare]);
    (machine, id)
}

#[test]
fn a_retryable_failure_waits_is_counted_and_ends_in_quarantine() {
    let (mut machine, id) = installing();
    let job = Job::Rotation(id);
    for count in 1..=3 {
        machine.attempt(job, Step::Install, failed(FailureClass::Retryable, Span::seconds(10)));
        assert_eq!(machine.rotation(id).retry.count, count);
        if count < 3 {
            machine.refused(Code::NotYet, begin(job, Step::Install));
            assert_eq!(machine.state.next_work(machine.now), Some(machine.now.plus(Span::seconds(10))));
            machine.wait(Span::seconds(10));
        }
    }
    assert_eq!((machine.stage(id), machine.standing(1)), (Stage::Quarantined, VersionState::Active));
    assert_eq!(machine.rotation(id).retry.last.unwrap().message, "it failed");
    machine.refused(Code::WrongStep, begin(job, Step::Install));
}

#[test]
fn a_new_leader_goes_on_counting_where_the_old_one_was() {
    let (mut machine, id) = installing();
    let job = Job::Rotation(id);
    machine.attempt(job, Step::Install, failed(FailureClass::Retryable, Span::seconds(10)));
    let records = machine.state.records().map(Ok::<_, LoadError>);
    machine.state = State::load(records).unwrap();
    machine.refused(Code::NotYet, begin(job, Step::Install));
    machine.wait(Span::seconds(10));
    machine.attempt(job, Step::Install, failed(FailureClass::Retryable, Span::seconds(10)));
    assert_eq!(machine.rotation(id).retry.count, 2);
}

#[test]
fn a_wait_is_never_longer_than_the_limit() {
    let (mut machine, id) = installing();
    machine.attempt(Job::Rotation(id), Step::Install, failed(FailureClass::Unreachable, Span(u64::MAX)));
    let wait = machine.rotation(id).retry.not_before.since(machine.now);
    assert_eq!(wait, crate::caps::RETRY_MAX);
}

#[test]
fn an_unreachable_target_is_tried_for_ever() {
    let (mut machine, id) = installing();
    for count in 1..=50 {
        machine.attempt(
            Job::Rotation(id),
            Step::Install,
            failed(FailureClass::Unreachable, Span::seconds(1)),
        );
        assert_eq!((machine.stage(id), machine.rotation(id).retry.count), (Stage::Install, count));
        machine.wait(Span::seconds(1));
    }
    machine.run(id);
    assert_eq!(machine.stage(id), Stage::Settled);
}

#[test]
fn attempts_at_an_unreachable_target_are_not_held_against_those_that_reach_it() {
    let (mut machine, id) = installing();
    let job = Job::Rotation(id);
    for _ in 0..10 {
        machine.attempt(job, Step::Install, failed(FailureClass::Unreachable, Span(0)));
    }
    machine.attempt(job, Step::Install, unknown());
    machine.attempt(job, Step::Probe, probed(Liveness::Refused));
    machine.wait_until(machine.rotation(id).retry.not_before);
    for _ in 0..2 {
        machine.attempt(job, Step::Install, failed(FailureClass::Retryable, Span(0)));
        assert_eq!(machine.stage(id), Stage::Install);
    }
    machine.attempt(job, Step::Install, failed(FailureClass::Retryable, Span(0)));
    assert_eq!(machine.stage(id), Stage::Quarantined);
}

#[test]
fn a_failure_that_no_try_can_mend_is_quarantined_at_once() {
    for class in [FailureClass::RejectedByTarget, FailureClass::WrongCredential, FailureClass::Permanent] {
        for step in [Step::Prepare, Step::Install, Step::Verify, Step::Publish, Step::Retire] {
            let mut machine = Machine::alternating();
            let id = machine.trigger();
            while machine.stage(id).step() != Some(step) {
                machine.perform(id, &[machine.stage(id).step().unwrap()]);
            }
            machine.attempt(Job::Rotation(id), step, failed(class, Span(0)));
            assert_eq!(machine.stage(id), Stage::Quarantined);
            assert!(machine.standing(1).is_live(), "the old version is untouched");
            machine.refused(Code::WrongStep, begin(Job::Rotation(id), step));
            machine.ok(RetryRotation { id });
            assert_eq!((machine.stage(id).step(), machine.rotation(id).retry.count), (Some(step), 0));
        }
    }
}

#[test]
fn only_what_is_quarantined_can_be_told_to_go_on() {
    let (mut machine, id) = installing();
    machine.refused(Code::NotQuarantined, RetryRotation { id });
    machine.refused(Code::UnknownRotation, RetryRotation { id: RotationId(9) });
    machine.run(id);
    machine.refused(Code::RotationEnded, RetryRotation { id });
}

#[test]
fn a_way_back_that_is_quarantined_goes_on_going_back() {
    let (mut machine, id) = installing();
    machine.perform(id, &[Step::Install]);
    machine.ok(AbortRotation { id, reason: "enough".into() });
    machine.attempt(Job::Rotation(id), Step::Rollback, failed(FailureClass::Permanent, Span(0)));
    assert_eq!(machine.stage(id), Stage::Quarantined);
    machine.ok(RetryRotation { id });
    assert_eq!(machine.run(id), [Step::Rollback]);
    assert_eq!(machine.stage(id), Stage::Aborted);
}

#[test]
fn work_is_given_to_one_reachable_node_and_moves_on_when_it_fails() {
    let (mut machine, id) = installing();
    for node in 1..=3 {
        machine.ok_by(
            "system",
            crate::command::AnnounceNode {
                id: NodeId(node),
                client_address: format!("node-{node}:7000"),
                version: "0.1.0".into(),
            },
        );
    }
    let nodes = [1, 2, 3].map(NodeId).into();
    machine.ok_by("system", crate::command::ReportReachable { nodes });
    let mut tried = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let owners: Vec<NodeId> =
            (1..=3).map(NodeId).filter(|node| !machine.state.work(*node, machine.now).is_empty()).collect();
        assert_eq!(owners.len(), 1);
        tried.extend(owners);
        machine.attempt(Job::Rotation(id), Step::Install, failed(FailureClass::Unreachable, Span(0)));
    }
    assert_eq!(tried.len(), 3);
    machine.begin(Job::Rotation(id), Step::Install);
    assert_eq!(machine.state.attempts_of(NodeId(1)).len(), 1);
    assert!(machine.state.attempts_of(NodeId(2)).is_empty());
    assert!((1..=3).all(|node| machine.state.work(NodeId(node), machine.now).is_empty()));
}
