//! Attempts whose outcome nobody knows: a probe has to tell, and there is never a second candidate.

use super::Machine;
use super::machine::{begin, failed, prepared_for, probed, unknown};
use crate::{
    attempt::{FailureClass, Job, Liveness, Step},
    command::{AbortRotation, Finish, RetryRotation},
    name::RotationId,
    refusal::Code,
    rotation::Stage,
    time::Span,
};

/// With a rotation whose install is in flight.
fn installing() -> (Machine, RotationId, u64) {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[Step::Prepare]);
    let fence = machine.begin(Job::Rotation(id), Step::Install);
    (machine, id, fence)
}

fn candidates(machine: &Machine) -> usize {
    machine.state.versions().len() - 1
}

#[test]
fn an_install_without_outcome_before_its_deadline_is_probed() {
    let (mut machine, id, fence) = installing();
    let deadline = machine.rotation(id).attempt.unwrap().deadline;
    assert_eq!(machine.state.next_due(), Some(deadline));
    machine.wait(Span(deadline.since(machine.now).0 - 1));
    assert_eq!(machine.stage(id), Stage::Install);
    machine.wait(Span(1));
    assert_eq!(machine.stage(id), Stage::Uncertain);
    assert_eq!(machine.audited("attempt.lost"), 1);
    let late = Finish { job: Job::Rotation(id), fence, outcome: unknown() };
    machine.refused(Code::StaleAttempt, late);
}

#[test]
fn a_probe_that_finds_the_candidate_alive_goes_on_with_it() {
    let (mut machine, id, fence) = installing();
    let job = Job::Rotation(id);
    machine.finish(job, fence, unknown());
    assert_eq!(machine.stage(id), Stage::Uncertain);
    machine.attempt(job, Step::Probe, probed(Liveness::Live));
    assert_eq!((machine.stage(id), machine.rotation(id).retry.count), (Stage::Verify, 0));
    machine.run(id);
    assert_eq!((machine.stage(id), candidates(&machine)), (Stage::Settled, 1));
}

#[test]
fn a_probe_that_finds_it_refused_installs_the_same_candidate_again() {
    for liveness in [Liveness::Refused, Liveness::Absent] {
        let (mut machine, id, fence) = installing();
        let job = Job::Rotation(id);
        machine.finish(job, fence, unknown());
        machine.attempt(job, Step::Probe, probed(liveness));
        assert_eq!(machine.stage(id), Stage::Install);
        machine.wait(Span::minutes(1));
        machine.run(id);
        assert_eq!((machine.stage(id), candidates(&machine)), (Stage::Settled, 1));
    }
}

#[test]
fn a_probe_that_cannot_tell_is_repeated_after_a_wait() {
    let (mut machine, id, fence) = installing();
    let job = Job::Rotation(id);
    machine.finish(job, fence, unknown());
    for _ in 0..20 {
        machine.attempt(job, Step::Probe, probed(Liveness::Unknown));
        assert_eq!(machine.stage(id), Stage::Uncertain);
        machine.refused(Code::NotYet, begin(job, Step::Probe));
        machine.wait(Span::seconds(5));
    }
    machine.attempt(job, Step::Probe, unknown());
    machine.wait_until(machine.rotation(id).retry.not_before);
    machine.attempt(job, Step::Probe, probed(Liveness::Live));
    assert_eq!(machine.stage(id), Stage::Verify);
}

#[test]
fn installs_that_are_lost_again_and_again_are_counted_and_slowed_down() {
    let (mut machine, id, fence) = installing();
    let job = Job::Rotation(id);
    machine.finish(job, fence, unknown());
    let mut waits = Vec::new();
    for round in 1..=10 {
        assert_eq!(machine.rotation(id).retry.count, round);
        machine.attempt(job, Step::Probe, probed(Liveness::Refused));
        let retry = machine.rotation(id).retry;
        waits.push(retry.not_before.since(machine.now));
        machine.wait_until(retry.not_before);
        machine.attempt(job, Step::Install, unknown());
    }
    assert!(waits.is_sorted() && waits[0] > Span(0) && waits[9] >= Span::minutes(1), "{waits:?}");
    assert_eq!(candidates(&machine), 1);
}

#[test]
fn a_lost_attempt_of_any_other_step_is_simply_made_again() {
    let steps = [
        Step::Prepare,
        Step::Install,
        Step::Verify,
        Step::Publish,
        Step::Retire,
        Step::Sever,
        Step::ProveRefused,
    ];
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    for step in steps {
        if step != Step::Install {
            let stage = machine.stage(id);
            machine.begin(Job::Rotation(id), step);
            machine.wait(Span::minutes(1));
            assert_eq!((machine.stage(id), machine.rotation(id).retry.count), (stage, 1));
            machine.wait_until(machine.rotation(id).retry.not_before.max(machine.now));
        }
        machine.perform(id, &[step]);
    }
    assert_eq!((machine.stage(id), candidates(&machine)), (Stage::Settled, 1));
}

#[test]
fn there_is_never_a_second_candidate() {
    let (mut machine, id, fence) = installing();
    let job = Job::Rotation(id);
    machine.refused(Code::OutcomeMismatch, Finish { job, fence, outcome: prepared_for("orders_b") });
    machine.finish(job, fence, unknown());
    machine.refused(Code::WrongStep, begin(job, Step::Prepare));
    assert_eq!(candidates(&machine), 1);
}

#[test]
fn a_quarantined_doubt_is_probed_when_it_goes_on() {
    let (mut machine, id, fence) = installing();
    let job = Job::Rotation(id);
    machine.finish(job, fence, unknown());
    machine.attempt(job, Step::Probe, failed(FailureClass::WrongCredential, Span(0)));
    assert_eq!(machine.stage(id), Stage::Quarantined);
    machine.ok(RetryRotation { id });
    assert_eq!(machine.stage(id), Stage::Uncertain, "not installed again without looking");
}

#[test]
fn a_doubt_can_be_taken_back() {
    let (mut machine, id, fence) = installing();
    machine.finish(Job::Rotation(id), fence, unknown());
    machine.ok(AbortRotation { id, reason: "enough".into() });
    machine.refused(Code::NotYet, begin(Job::Rotation(id), Step::Rollback));
    machine.wait_out(id);
    assert_eq!(machine.run(id), [Step::Rollback]);
    assert_eq!((machine.stage(id), machine.credential().current), (Stage::Aborted, Some(1)));
}
