//! Revocations: stated at once, carried out before anything else, repaired where the reason asks for it.

use super::machine::{
    START, adopt, begin, consumer, credential, failed, probed, revoke, still_live, unknown,
};
use super::{Machine, name};
use crate::{
    attempt::{FailureClass, Job, Liveness, Step},
    command::{AbortRotation, Finish, LiftRevocation, PutCredential, Revoke},
    credential::{Strategy, VersionState},
    event::{EventKind, ReasonCode, Subject},
    name::{RevocationId, RotationId},
    outcome::Applied,
    refusal::Code,
    rotation::{Order, Stage},
    time::Span,
};

const DEATH: [Step; 3] = [Step::Retire, Step::Sever, Step::ProveRefused];
const BIRTH: [Step; 4] = [Step::Prepare, Step::Install, Step::Verify, Step::Publish];

fn whole() -> Subject {
    Subject::Credential(name("orders-db"))
}

fn version(number: u32) -> Subject {
    Subject::Version(name("orders-db"), number)
}

fn revoked(applied: Applied) -> (RevocationId, Vec<u64>) {
    let Applied::Revoked { id, revisions } = applied else { panic!("{applied:?}") };
    (id, revisions)
}

#[test]
fn a_compromised_credential_dies_first_and_is_then_replaced() {
    let mut machine = Machine::alternating();
    assert_eq!(revoked(machine.ok(revoke(whole(), ReasonCode::KeyCompromise))), (RevocationId(1), vec![1]));
    assert_eq!((machine.standing(1), machine.credential().current), (VersionState::Revoked, None));
    assert_eq!(machine.feed(), [EventKind::CredentialRevoked], "told before the target is touched");
    assert_eq!(machine.event(1).deadline, START.plus(Span::minutes(5)));
    let id = RotationId(1);
    assert_eq!(machine.rotation(id).order, Order::RevokeFirst);
    assert_eq!(machine.run(id), [&DEATH[..], &BIRTH].concat());
    assert_eq!((machine.stage(id), machine.credential().current), (Stage::Settled, Some(2)));
    assert_eq!(machine.standing(1), VersionState::Destroyed);
    assert_eq!(machine.feed(), [EventKind::CredentialRevoked, EventKind::CredentialRotated], "told once");
}

#[test]
fn only_some_reasons_ask_for_a_new_version() {
    for code in ReasonCode::ALL {
        if matches!(code, ReasonCode::Hold | ReasonCode::BreakGlassEnded) {
            continue;
        }
        let mut machine = Machine::alternating();
        machine.ok(revoke(whole(), code));
        machine.run(RotationId(1));
        assert_eq!(machine.stage(RotationId(1)), Stage::Settled);
        let current = code.asks_for_repair().then_some(2);
        assert_eq!(machine.credential().current, current, "{code:?}");
    }
}

#[test]
fn an_identity_takes_all_its_credentials_along() {
    let mut machine = Machine::alternating();
    let other = Strategy::SingleUser { username: "other".into() };
    machine.ok(PutCredential { adopt: Some(adopt(&other)), ..credential("other-db", other) });
    let subject = Subject::Identity(name("orders"));
    let (id, revisions) = revoked(machine.ok(revoke(subject.clone(), ReasonCode::CessationOfOperation)));
    assert_eq!(revisions, [1, 2]);
    assert_eq!(machine.state.rotations().len(), 2);
    assert_eq!(revoked(machine.ok(revoke(subject, ReasonCode::CessationOfOperation))), (id, revisions));
    machine.run(RotationId(1));
    machine.run(RotationId(2));
    assert!(machine.state.credentials().values().all(|row| row.current.is_none() && row.rotation.is_none()));
}

#[test]
fn a_repeat_is_answered_with_the_same_revocation() {
    let mut machine = Machine::alternating();
    let first = revoked(machine.ok(revoke(whole(), ReasonCode::KeyCompromise)));
    assert_eq!(revoked(machine.ok(revoke(whole(), ReasonCode::KeyCompromise))), first);
    machine.refused(Code::NothingToRevoke, revoke(version(1), ReasonCode::KeyCompromise));
    assert_eq!(machine.feed().len(), 1);
}

#[test]
fn what_does_not_exist_or_has_no_reason_is_refused() {
    let mut machine = Machine::alternating();
    let missing = Subject::Credential(name("nothing"));
    machine.refused(Code::UnknownCredential, revoke(missing, ReasonCode::KeyCompromise));
    machine.refused(Code::UnknownVersion, revoke(version(7), ReasonCode::KeyCompromise));
    let missing = Subject::Identity(name("nobody"));
    machine.refused(Code::UnknownIdentity, revoke(missing, ReasonCode::KeyCompromise));
    let silent = Revoke { reason: String::new(), ..revoke(whole(), ReasonCode::KeyCompromise) };
    machine.refused(Code::TextRequired, silent);
    machine.refused(Code::OutOfRange, revoke(whole(), ReasonCode::BreakGlassEnded));
    let hasty = Revoke { ack_within: Span(0), ..revoke(whole(), ReasonCode::KeyCompromise) };
    machine.refused(Code::OutOfRange, hasty);
}

#[test]
fn in_every_stage_a_revocation_of_everything_turns_the_rotation_around() {
    let all = [Step::Prepare, Step::Install, Step::Verify, Step::Publish, Step::Retire, Step::Sever];
    for done in 0..all.len() {
        for in_flight in [false, true] {
            let mut machine = Machine::alternating();
            let id = machine.trigger();
            machine.perform(id, &all[..done]);
            let fence = in_flight.then(|| machine.begin(Job::Rotation(id), all[done]));
            machine.ok(revoke(whole(), ReasonCode::KeyCompromise));
            assert_eq!(machine.credential().rotation, Some(id), "the same rotation, turned around");
            assert_eq!((machine.stage(id), machine.rotation(id).order), (Stage::Retire, Order::RevokeFirst));
            if let Some(fence) = fence {
                let late = Finish { job: Job::Rotation(id), fence, outcome: unknown() };
                if all[done].is_lasting() {
                    machine.refused(Code::NotYet, begin(Job::Rotation(id), Step::Retire));
                    machine.ok_by("node-1", late);
                    machine.wait_out(id);
                } else {
                    machine.refused(Code::StaleAttempt, late);
                }
            }
            assert_eq!(machine.run(id), [&DEATH[..], &BIRTH].concat());
            let newest = machine.credential().current.unwrap();
            for version in machine.state.versions_of(&name("orders-db")) {
                let expected =
                    if version.number == newest { VersionState::Active } else { VersionState::Destroyed };
                assert_eq!(version.state, expected, "version {} after {done}", version.number);
            }
        }
    }
}

#[test]
fn a_revocation_of_the_old_version_goes_on_with_the_candidate() {
    for done in 0..=BIRTH.len() {
        let mut machine = Machine::alternating();
        machine.ok(consumer("edge", true));
        let id = machine.trigger();
        machine.perform(id, &BIRTH[..done]);
        machine.ok(revoke(version(1), ReasonCode::KeyCompromise));
        assert_eq!(machine.run(id), [&DEATH[..], &BIRTH[done..]].concat());
        assert_eq!((machine.stage(id), machine.credential().current), (Stage::Settled, Some(2)));
    }
}

#[test]
fn a_revoked_candidate_takes_nothing_healthy_along() {
    for done in 1..=BIRTH.len() {
        let mut machine = Machine::alternating();
        machine.ok(consumer("edge", true));
        let id = machine.trigger();
        machine.perform(id, &BIRTH[..done]);
        machine.ok(revoke(version(2), ReasonCode::KeyCompromise));
        assert_eq!(machine.rotation(id).retiring, [2]);
        assert_eq!(machine.run(id), [&DEATH[..], &BIRTH].concat());
        assert_eq!((machine.standing(2), machine.credential().current), (VersionState::Destroyed, Some(3)));
        assert_eq!(machine.stage(id), Stage::Drain, "the healthy old version goes the ordinary way");
        assert_eq!(
            (machine.standing(1), machine.rotation(id).retiring.clone()),
            (VersionState::Tainted, vec![1])
        );
        machine.deliver("edge");
        machine.enforce("edge", machine.rotation(id).published_revision.unwrap());
        assert_eq!(machine.run(id), DEATH);
        assert_eq!((machine.stage(id), machine.standing(1)), (Stage::Settled, VersionState::Destroyed));
    }
}

#[test]
fn an_uncertain_install_is_probed_after_the_old_version_is_dead() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[Step::Prepare]);
    machine.attempt(Job::Rotation(id), Step::Install, unknown());
    machine.ok(revoke(version(1), ReasonCode::KeyCompromise));
    let rest = [Step::Probe, Step::Verify, Step::Publish];
    machine.wait_out(id);
    assert_eq!(machine.run(id), [&DEATH[..], &rest].concat());
}

#[test]
fn a_way_back_to_a_revoked_version_becomes_a_way_forward() {
    for done in 1..=BIRTH.len() {
        let mut machine = Machine::alternating();
        machine.ok(consumer("edge", true));
        let id = machine.trigger();
        machine.perform(id, &BIRTH[..done]);
        machine.ok(AbortRotation { id, reason: "wrong day".into() });
        machine.attempt(Job::Rotation(id), Step::Rollback, failed(FailureClass::Unreachable, Span(0)));
        machine.ok(revoke(version(1), ReasonCode::KeyCompromise));
        assert_eq!(machine.credential().current, None, "the way back may have removed the candidate");
        machine.wait_out(id);
        machine.perform(id, &DEATH);
        // Nobody knows how far the way back has gone: the target is asked, and the rest is done again.
        machine.attempt(Job::Rotation(id), Step::Probe, probed(Liveness::Refused));
        machine.wait_out(id);
        assert_eq!(machine.run(id), BIRTH[1..]);
        assert_eq!((machine.stage(id), machine.credential().current), (Stage::Settled, Some(2)));
    }
}

#[test]
fn a_privilege_withdrawn_during_repair_ends_in_nothing_alive() {
    let mut machine = Machine::alternating();
    machine.ok(revoke(whole(), ReasonCode::KeyCompromise));
    let id = RotationId(1);
    machine.perform(id, &DEATH);
    machine.perform(id, &BIRTH[..2]);
    machine.ok(revoke(whole(), ReasonCode::PrivilegeWithdrawn));
    assert_eq!(machine.rotation(id).order, Order::RevokeOnly);
    assert_eq!(machine.run(id), DEATH);
    assert_eq!((machine.stage(id), machine.credential().current), (Stage::Settled, None));
    let mut machine = Machine::alternating();
    machine.ok(revoke(whole(), ReasonCode::KeyCompromise));
    machine.perform(id, &DEATH);
    machine.refused(Code::PastAbort, AbortRotation { id, reason: "no".into() });
}

#[test]
fn a_stronger_reason_before_the_repair_stops_the_repair() {
    let mut machine = Machine::alternating();
    let first = revoked(machine.ok(revoke(whole(), ReasonCode::KeyCompromise)));
    machine.perform(RotationId(1), &[Step::Retire]);
    let second = revoked(machine.ok(revoke(whole(), ReasonCode::PrivilegeWithdrawn)));
    assert_ne!(first.0, second.0, "another statement, which leaves nothing to be made");
    assert_eq!(second.1, first.1, "there is nothing more to tell");
    assert_eq!(machine.run(RotationId(1)), DEATH[1..]);
    assert_eq!((machine.stage(RotationId(1)), machine.credential().current), (Stage::Settled, None));
}

#[test]
fn a_revoked_version_that_still_logs_in_is_retired_again() {
    let mut machine = Machine::alternating();
    machine.ok(revoke(whole(), ReasonCode::KeyCompromise));
    let id = RotationId(1);
    machine.perform(id, &[Step::Retire, Step::Sever]);
    machine.attempt(Job::Rotation(id), Step::ProveRefused, still_live());
    machine.refused(Code::NotYet, begin(Job::Rotation(id), Step::Retire));
    machine.wait(Span::seconds(3));
    assert_eq!(machine.run(id), [&DEATH[..], &BIRTH].concat());
}

#[test]
fn an_install_in_flight_must_be_over_before_death_is_proven() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[Step::Prepare]);
    machine.begin(Job::Rotation(id), Step::Install);
    let deadline = machine.rotation(id).attempt.unwrap().deadline;
    machine.ok(revoke(whole(), ReasonCode::KeyCompromise));
    machine.refused(Code::NotYet, begin(Job::Rotation(id), Step::Retire));
    machine.wait_until(deadline);
    machine.begin(Job::Rotation(id), Step::Retire);
}

#[test]
fn an_install_in_doubt_must_be_over_before_death_is_proven() {
    let mut machine = Machine::alternating();
    let id = machine.trigger();
    machine.perform(id, &[Step::Prepare]);
    let fence = machine.begin(Job::Rotation(id), Step::Install);
    let deadline = machine.rotation(id).attempt.unwrap().deadline;
    // As after a crash of its worker: what it has asked for may still be on its way.
    machine.finish(Job::Rotation(id), fence, unknown());
    for code in [ReasonCode::KeyCompromise, ReasonCode::CessationOfOperation] {
        machine.ok(revoke(whole(), code));
        machine.refused(Code::NotYet, begin(Job::Rotation(id), Step::Retire));
    }
    machine.wait_until(deadline);
    machine.begin(Job::Rotation(id), Step::Retire);
}

#[test]
fn a_hold_is_told_and_lifted_and_kills_nothing() {
    let mut machine = Machine::alternating();
    let (id, revisions) = revoked(machine.ok(revoke(whole(), ReasonCode::Hold)));
    assert_eq!(revisions, [1]);
    assert!(machine.state.is_held(&name("orders-db"), 1));
    assert_eq!((machine.standing(1), machine.credential().rotation), (VersionState::Active, None));
    assert_eq!(revoked(machine.ok(revoke(whole(), ReasonCode::Hold))).0, id);
    let lift = LiftRevocation { id, reason: "all clear".into() };
    assert_eq!(revoked(machine.ok(lift.clone())), (id, vec![2]));
    assert!(!machine.state.is_held(&name("orders-db"), 1));
    assert_eq!(machine.feed(), [EventKind::CredentialRevoked, EventKind::HoldLifted]);
    machine.refused(Code::AlreadyLifted, lift);
    machine.refused(Code::UnknownRevocation, LiftRevocation { id: RevocationId(9), reason: "?".into() });
    assert_ne!(revoked(machine.ok(revoke(whole(), ReasonCode::Hold))).0, id, "held anew");
}

#[test]
fn a_hold_gives_way_to_a_final_revocation_which_cannot_be_lifted() {
    let mut machine = Machine::alternating();
    machine.ok(revoke(whole(), ReasonCode::Hold));
    let (id, _) = revoked(machine.ok(revoke(whole(), ReasonCode::KeyCompromise)));
    machine.refused(Code::NotAHold, LiftRevocation { id, reason: "all clear".into() });
    assert_eq!(machine.standing(1), VersionState::Revoked);
}

#[test]
fn the_lifting_of_an_old_hold_is_told_though_its_event_has_left_the_history() {
    let mut machine = Machine::alternating();
    let (id, revisions) = revoked(machine.ok(revoke(whole(), ReasonCode::Hold)));
    machine.state.forget_events(revisions[0]);
    let (_, told) = revoked(machine.ok(LiftRevocation { id, reason: "all clear".into() }));
    assert_eq!(told, [2]);
}
