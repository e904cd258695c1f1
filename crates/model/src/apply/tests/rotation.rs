//! Rotations from start to end, aborted, drained and forgotten.

use super::machine::{
    START, alternating, begin, consumer, credential, failed, overlapping, prepared_for, schedule, single,
    still_live, unknown,
};
use super::{Machine, name};
use crate::{
    attempt::{FailureClass, Job, Step, StepOutcome},
    caps,
    command::{
        AbortRotation, Finish, PutConsumer, PutSchedule, RemoveConsumer, RemoveCredential, RemoveSchedule,
        RetryRotation, TriggerSchedule, WaiveReceipt,
    },
    credential::{Strategy, VersionState},
    event::EventKind,
    name::RotationId,
    outcome::Applied,
    refusal::Code,
    rotation::Stage,
    schedule::{OverlapEnd, RotationPolicy},
    time::Span,
};

const TO_PUBLISH: [Step; 4] = [Step::Prepare, Step::Install, Step::Verify, Step::Publish];
const TO_PROOF: [Step; 3] = [Step::Retire, Step::Sever, Step::ProveRefused];

fn abort(id: RotationId) -> AbortRotation {
    AbortRotation { id, reason: "wrong day".into() }
}

#[test]
fn every_strategy_rotates_through_all_stages_and_proves_the_old_version_dead() {
    for (strategy, user) in [(single(), "orders"), (alternating(), "orders_b"), (overlapping(), "orders")] {
        let mut machine = Machine::with_credential(strategy);
        let id = machine.trigger();
        assert_eq!(machine.rotation(id).from, Some(1));
        assert_eq!(machine.run(id), [&TO_PUBLISH[..], &TO_PROOF].concat(), "nobody has to acknowledge");
        let rotation = machine.rotation(id);
        assert_eq!((rotation.stage, rotation.ended), (Stage::Settled, Some(START)));
        assert_eq!(machine.credential().current, Some(2));
        assert_eq!(machine.credential().rotation, None);
        let (old, new) = (machine.version(1), machine.version(2));
        assert_eq!((old.state, old.sealed, old.refused), (VersionState::Destroyed, None, Some(START)));
        assert_eq!(
            (new.state, new.verified, new.username.as_str()),
            (VersionState::Active, Some(START), user)
        );
        assert_eq!(machine.feed(), [EventKind::CredentialRotated, EventKind::CredentialRevoked]);
        assert_eq!(old.revoked_revision, Some(2));
    }
}

#[test]
fn alternating_users_come_back_after_two_rotations() {
    let mut machine = Machine::alternating();
    for (number, user) in [(2, "orders_b"), (3, "orders_a"), (4, "orders_b")] {
        let id = machine.trigger();
        machine.run(id);
        assert_eq!(machine.version(number).username, user);
    }
}

#[test]
fn a_first_rotation_has_nothing_to_drain_or_retire() {
    for strategy in [single(), alternating(), overlapping()] {
        let mut machine = first(strategy);
        let id = machine.trigger();
        assert_eq!(machine.run(id), TO_PUBLISH);
        assert_eq!((machine.credential().current, machine.stage(id)), (Some(1), Stage::Settled));
    }
}

fn first(strategy: Strategy) -> Machine {
    let mut machine = Machine::with_target();
    machine.ok(credential("orders-db", strategy));
    machine.ok(schedule("nightly", "orders-db"));
    machine
}

#[test]
fn a_first_rotation_can_be_aborted_in_every_stage() {
    for done in 0..TO_PUBLISH.len() {
        let mut machine = first(alternating());
        let id = machine.trigger();
        machine.perform(id, &TO_PUBLISH[..done]);
        machine.ok(abort(id));
        machine.run(id);
        assert_eq!(machine.stage(id), Stage::Aborted);
        assert_eq!(machine.credential().current, None);
    }
}

#[test]
fn the_old_version_lives_until_the_new_one_is_verified_and_published() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    for step in TO_PUBLISH {
        assert_eq!(machine.standing(1), VersionState::Active);
        machine.perform(id, &[step]);
    }
    assert_eq!(machine.standing(1), VersionState::Tainted);
    machine.perform(id, &[Step::Retire]);
    assert_eq!(machine.standing(1), VersionState::Revoked);
}

#[test]
fn only_one_rotation_of_a_credential_is_under_way() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.refused(Code::RotationInFlight, TriggerSchedule { name: name("nightly") });
    machine.refused(Code::InUse, RemoveCredential { name: name("orders-db") });
    machine.run(id);
    assert_eq!(machine.trigger(), RotationId(2));
}

#[test]
fn attempts_are_made_one_by_one_in_order_and_under_growing_numbers() {
    let mut machine = Machine::alternating();
    let job = Job::Rotation(machine.trigger());
    machine.refused(Code::WrongStep, begin(job, Step::Install));
    let first = machine.begin(job, Step::Prepare);
    machine.refused(Code::AttemptInFlight, begin(job, Step::Prepare));
    let outcome = prepared_for("orders_b");
    machine.refused(Code::StaleAttempt, Finish { job, fence: first + 1, outcome: outcome.clone() });
    machine.refused(Code::OutcomeMismatch, Finish { job, fence: first, outcome: still_live() });
    let foreign = Finish { job, fence: first, outcome: prepared_for("orders_a") };
    machine.refused(Code::OutcomeMismatch, foreign);
    machine.finish(job, first, outcome.clone());
    machine.refused(Code::StaleAttempt, Finish { job, fence: first, outcome });
    assert!(machine.begin(job, Step::Install) > first);
    machine.refused(Code::UnknownRotation, begin(Job::Rotation(RotationId(77)), Step::Prepare));
}

#[test]
fn before_anything_is_prepared_an_abort_is_the_end() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.begin(Job::Rotation(id), Step::Prepare);
    machine.ok(abort(id));
    assert_eq!((machine.stage(id), machine.credential().rotation), (Stage::Aborted, None));
    machine.refused(Code::RotationEnded, abort(id));
}

#[test]
fn an_abort_before_publication_leaves_the_old_version_as_it_was() {
    for done in 1..TO_PUBLISH.len() {
        let mut machine = Machine::alternating();
        let id = machine.trigger();
        machine.perform(id, &TO_PUBLISH[..done]);
        machine.ok(abort(id));
        assert_eq!(machine.ok(abort(id)), Applied::Unchanged);
        assert_eq!(machine.run(id), [Step::Rollback]);
        assert_eq!(machine.stage(id), Stage::Aborted);
        assert_eq!(
            (machine.standing(1), machine.standing(2)),
            (VersionState::Active, VersionState::Destroyed)
        );
        assert_eq!((machine.credential().current, machine.feed().len()), (Some(1), 0));
        assert_eq!(machine.version(2).sealed, None);
    }
}

#[test]
fn an_abort_after_publication_tells_consumers_to_go_back() {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    let id = machine.trigger();
    machine.perform(id, &TO_PUBLISH);
    assert_eq!(machine.stage(id), Stage::Drain);
    machine.ok(abort(id));
    machine.perform(id, &[Step::Rollback]);
    assert_eq!(machine.stage(id), Stage::Aborted);
    assert_eq!((machine.standing(1), machine.standing(2)), (VersionState::Active, VersionState::Destroyed));
    assert_eq!(machine.credential().current, Some(1));
    let told = [EventKind::CredentialRotated, EventKind::CredentialRevoked, EventKind::CredentialRestored];
    assert_eq!(machine.feed(), told);
}

#[test]
fn from_retire_on_there_is_no_way_back() {
    for done in 0..TO_PROOF.len() {
        let mut machine = Machine::alternating();
        let id = machine.trigger();
        machine.perform(id, &TO_PUBLISH);
        machine.perform(id, &TO_PROOF[..done]);
        machine.refused(Code::PastAbort, abort(id));
        machine.attempt(Job::Rotation(id), TO_PROOF[done], failed(FailureClass::Permanent, Span(0)));
        assert_eq!(machine.stage(id), Stage::Quarantined);
        machine.refused(Code::PastAbort, abort(id));
    }
}

#[test]
fn an_aborted_install_may_still_be_at_work_so_the_way_back_waits_for_its_end_or_its_deadline() {
    let certain = StepOutcome::Done { note: String::new() };
    let in_doubt = [unknown(), failed(FailureClass::Unreachable, Span(0))];
    for (outcome, is_over) in [(certain, true)].into_iter().chain(in_doubt.map(|outcome| (outcome, false))) {
        let mut machine = Machine::alternating();
        let id = machine.trigger();
        let job = Job::Rotation(id);
        machine.perform(id, &[Step::Prepare]);
        let fence = machine.begin(job, Step::Install);
        let deadline = machine.rotation(id).attempt.unwrap().deadline;
        machine.ok(abort(id));
        machine.refused(Code::NotYet, begin(job, Step::Rollback));
        let late = Finish { job, fence, outcome };
        machine.refused(Code::StaleAttempt, Finish { fence: fence - 1, ..late.clone() });
        machine.ok_by("node-1", late.clone());
        assert_eq!(machine.stage(id), Stage::Rollback, "its outcome does not count");
        if !is_over {
            machine.refused(Code::NotYet, begin(job, Step::Rollback));
            machine.wait_until(deadline);
        }
        let rollback = machine.begin(job, Step::Rollback);
        machine.refused(Code::StaleAttempt, late);
        machine.finish(job, rollback, StepOutcome::Done { note: String::new() });
        assert_eq!(machine.stage(id), Stage::Aborted);
    }
}

#[test]
fn draining_ends_when_every_required_consumer_has_enforced() {
    let mut machine = Machine::alternating();
    for (consumer_name, required) in [("edge", true), ("core", true), ("curious", false)] {
        machine.ok(consumer(consumer_name, required));
    }
    let id = machine.trigger();
    machine.perform(id, &TO_PUBLISH);
    machine.deliver("edge");
    machine.deliver("core");
    machine.enforce("edge", 1);
    assert_eq!((machine.stage(id), machine.standing(1)), (Stage::Drain, VersionState::Tainted));
    machine.answer("core", crate::command::Receipt::Received, &[(1, 1)]);
    assert_eq!(machine.stage(id), Stage::Drain, "receipt is not enforcement");
    machine.enforce("core", 1);
    assert_eq!(machine.stage(id), Stage::Retire);
    assert_eq!(machine.audited("rotation.drain"), 1);
}

fn draining(on_overlap_end: OverlapEnd) -> (Machine, RotationId) {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    let put = schedule("nightly", "orders-db");
    let policy = RotationPolicy { on_overlap_end, ..put.policy.clone() };
    machine.ok(PutSchedule { policy, ..put });
    let id = machine.trigger();
    machine.perform(id, &TO_PUBLISH);
    (machine, id)
}

#[test]
fn without_answers_the_old_version_lives_for_the_overlap_and_then_policy_decides() {
    for (policy, stage) in [
        (OverlapEnd::Retire, Stage::Retire),
        (OverlapEnd::Hold, Stage::Quarantined),
        (OverlapEnd::Abort, Stage::Rollback),
    ] {
        let (mut machine, id) = draining(policy);
        machine.wait(Span(Span::hours(1).0 - 1));
        assert_eq!(machine.stage(id), Stage::Drain);
        assert!(machine.state.next_due().unwrap() <= machine.now.plus(Span(1)));
        machine.wait(Span(1));
        assert_eq!(machine.stage(id), stage);
        machine.run(id);
        let current = if policy == OverlapEnd::Abort { 1 } else { 2 };
        assert_eq!(machine.credential().current, Some(current));
    }
}

#[test]
fn a_held_rotation_goes_on_draining_or_back_as_a_person_says() {
    let (mut machine, id) = draining(OverlapEnd::Hold);
    machine.wait(Span::hours(1));
    machine.ok(RetryRotation { id });
    assert_eq!(machine.stage(id), Stage::Drain);
    assert_eq!(machine.rotation(id).drain_until, Some(machine.now.plus(Span::hours(1))));
    machine.wait(Span::hours(1));
    machine.ok(abort(id));
    machine.run(id);
    assert_eq!((machine.stage(id), machine.credential().current), (Stage::Aborted, Some(1)));
}

#[test]
fn a_waiver_a_removal_or_a_change_of_the_last_consumer_ends_the_wait() {
    let ends: [fn(&mut Machine); 3] = [
        |machine| {
            let waiver =
                WaiveReceipt { consumer: name("edge"), revision: 1, reason: "decommissioned".into() };
            assert_eq!(machine.ok(waiver.clone()), Applied::Changed);
            assert_eq!(machine.ok(waiver), Applied::Unchanged);
        },
        |machine| drop(machine.ok(RemoveConsumer { name: name("edge") })),
        |machine| drop(machine.ok(PutConsumer { required: false, ..consumer("edge", true) })),
    ];
    for end in ends {
        let (mut machine, id) = draining(OverlapEnd::Hold);
        end(&mut machine);
        assert_eq!(machine.stage(id), Stage::Retire);
    }
}

#[test]
fn a_consumer_that_comes_during_the_drain_is_not_waited_for() {
    let (mut machine, id) = draining(OverlapEnd::Hold);
    machine.ok(consumer("late", true));
    machine.deliver("edge");
    machine.enforce("edge", 1);
    assert_eq!(machine.stage(id), Stage::Retire);
}

#[test]
fn an_old_version_that_still_logs_in_is_retired_again_until_the_attempts_are_used_up() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    let job = Job::Rotation(id);
    machine.perform(id, &TO_PUBLISH);
    for round in 1..=3 {
        machine.perform(id, &[Step::Retire, Step::Sever]);
        machine.attempt(job, Step::ProveRefused, still_live());
        assert_eq!(machine.rotation(id).refuted, round);
        machine.refused(if round < 3 { Code::NotYet } else { Code::WrongStep }, begin(job, Step::Retire));
        machine.wait(Span::seconds(3));
    }
    assert_eq!((machine.stage(id), machine.standing(1)), (Stage::Quarantined, VersionState::Revoked));
    machine.ok(RetryRotation { id });
    assert_eq!(machine.run(id), TO_PROOF);
    assert_eq!(machine.stage(id), Stage::Settled);
}

#[test]
fn ended_rotations_are_forgotten_beyond_the_newest() {
    let mut machine = Machine::alternating();
    let rounds = u64::try_from(caps::ENDED_ROTATIONS).unwrap() + 3;
    for _ in 0..rounds {
        let id = machine.trigger();
        machine.run(id);
    }
    let kept: Vec<u64> = machine.state.rotations().values().map(|row| row.id.0).collect();
    assert_eq!(kept, (4..=rounds).collect::<Vec<_>>());
}

#[test]
fn a_credential_is_removed_once_nothing_of_it_is_honoured() {
    let mut machine = Machine::alternating();
    machine.refused(Code::InUse, RemoveCredential { name: name("orders-db") });
    let subject = crate::event::Subject::Credential(name("orders-db"));
    let code = crate::event::ReasonCode::CessationOfOperation;
    machine.ok(super::machine::revoke(subject, code));
    machine.run(RotationId(1));
    machine.refused(Code::InUse, RemoveCredential { name: name("orders-db") });
    machine.ok(RemoveSchedule { name: name("nightly") });
    machine.ok(RemoveCredential { name: name("orders-db") });
    machine.ok(credential("orders-db", single()));
    assert_eq!(machine.state.next_version(&name("orders-db")), 2, "numbers are never used twice");
}
