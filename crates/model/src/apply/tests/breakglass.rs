//! Break-glass: decided by someone else, shown once, over by itself.

use super::machine::{START, begin, failed, prepared_for, probed, revoke, still_live, target, unknown};
use super::{Machine, name};
use crate::{
    attempt::{FailureClass, Job, Liveness, Step, StepOutcome},
    caps,
    command::{
        ApproveGrant, DenyGrant, EndGrant, Finish, PutTarget, RemoveTarget, RequestGrant, RevealGrant,
        ReviewGrant,
    },
    event::{EventKind, ReasonCode, Subject},
    grant::{Grant, GrantEnd, GrantStage},
    name::GrantId,
    outcome::Applied,
    refusal::Code,
    time::{Span, Time},
};

const ID: GrantId = GrantId(1);
const JOB: Job = Job::Grant(ID);
const ENTRY: [Step; 2] = [Step::Prepare, Step::Install];
const EXIT: [Step; 4] = [Step::Retire, Step::Sever, Step::ProveRefused, Step::Remove];

fn request() -> RequestGrant {
    RequestGrant {
        target: name("db"),
        role: "reader".into(),
        duration: Span::minutes(45),
        ticket: "INC-7".into(),
        reason: "orders are stuck".into(),
    }
}

fn requested() -> Machine {
    let mut machine = Machine::with_target();
    assert_eq!(machine.ok(request()), Applied::Requested(ID));
    machine
}

fn approved() -> Machine {
    let mut machine = requested();
    machine.ok_by("bob", ApproveGrant { id: ID });
    machine
}

fn active() -> Machine {
    let mut machine = approved();
    perform(&mut machine, &ENTRY);
    machine
}

fn perform(machine: &mut Machine, steps: &[Step]) {
    for step in steps {
        let outcome = match step {
            Step::Prepare => prepared_for("bg_1_x"),
            Step::Install
            | Step::Probe
            | Step::Verify
            | Step::Publish
            | Step::Retire
            | Step::Sever
            | Step::ProveRefused
            | Step::Rollback
            | Step::Remove => StepOutcome::Done { note: String::new() },
        };
        machine.attempt(JOB, *step, outcome);
    }
}

fn grant(machine: &Machine) -> Grant {
    machine.state.grants().get(&ID).unwrap().clone()
}

fn stage(machine: &Machine) -> GrantStage {
    grant(machine).stage
}

fn end() -> EndGrant {
    EndGrant { id: ID, reason: "done".into() }
}

#[test]
fn a_whole_life_from_request_to_review() {
    let mut machine = active();
    let expires = START.plus(Span::minutes(45));
    assert_eq!((stage(&machine), grant(&machine).expires), (GrantStage::Active, Some(expires)));
    assert!(grant(&machine).is_live(machine.now));
    assert_eq!(machine.ok(RevealGrant { id: ID }), Applied::Changed);
    machine.wait(Span(Span::minutes(45).0 - 1));
    assert_eq!(stage(&machine), GrantStage::Active);
    machine.wait(Span(1));
    assert_eq!(grant(&machine).ended, Some((GrantEnd::Expired, expires)));
    perform(&mut machine, &EXIT);
    let over = grant(&machine);
    assert_eq!((over.stage, over.sealed, over.refused), (GrantStage::AwaitingReview, None, Some(expires)));
    assert_eq!((machine.feed(), over.ended_revision), (vec![EventKind::GrantEnded], Some(1)));
    assert_eq!(machine.event(1).reason, ReasonCode::BreakGlassEnded);
    let review = ReviewGrant { id: ID, note: "as told".into() };
    machine.refused(Code::OwnGrant, review.clone());
    machine.ok_by("carol", review.clone());
    assert_eq!(stage(&machine), GrantStage::Reviewed);
    machine.refused_by("carol", Code::WrongStage, review);
    machine.ok(RemoveTarget { name: name("db") });
}

#[test]
fn a_request_names_an_allowed_role_a_ticket_a_reason_and_a_bearable_time() {
    let mut machine = Machine::with_target();
    machine.refused(Code::RoleNotAllowed, RequestGrant { role: "superuser".into(), ..request() });
    for duration in [Span(Span::hours(4).0 + 1), Span(0), Span(u64::MAX)] {
        machine.refused(Code::DurationOutOfBounds, RequestGrant { duration, ..request() });
    }
    machine.refused(Code::TextRequired, RequestGrant { ticket: String::new(), ..request() });
    machine.refused(Code::TextRequired, RequestGrant { reason: " ".into(), ..request() });
    machine.refused(Code::UnknownTarget, RequestGrant { target: name("nowhere"), ..request() });
    machine.ok(RequestGrant { duration: Span::hours(4), ..request() });
}

#[test]
fn nobody_decides_on_their_own_request() {
    let mut machine = requested();
    machine.refused(Code::OwnGrant, ApproveGrant { id: ID });
    machine.refused(Code::OwnGrant, DenyGrant { id: ID, reason: "no".into() });
    machine.refused_by("bob", Code::UnknownGrant, ApproveGrant { id: GrantId(9) });
    machine.ok_by("bob", DenyGrant { id: ID, reason: "no".into() });
    assert_eq!(stage(&machine), GrantStage::Denied);
    machine.refused_by("bob", Code::WrongStage, ApproveGrant { id: ID });
    assert_eq!(machine.state.open_jobs().count(), 0);
}

#[test]
fn a_request_lapses_when_nobody_decides() {
    let mut machine = requested();
    machine.wait(Span(caps::REQUEST_LAPSES_AFTER.0 - 1));
    assert_eq!(stage(&machine), GrantStage::Requested);
    machine.now = machine.now.plus(Span(1));
    machine.refused_by("bob", Code::WrongStage, ApproveGrant { id: ID });
    machine.tick();
    assert_eq!(stage(&machine), GrantStage::Lapsed);
}

#[test]
fn a_role_that_is_no_longer_handed_out_is_not_approved() {
    let mut machine = requested();
    machine.ok(PutTarget { break_glass_roles: Vec::new(), ..target("db") });
    machine.refused_by("bob", Code::RoleNotAllowed, ApproveGrant { id: ID });
}

#[test]
fn the_secret_is_shown_once_to_the_requester_while_it_lives() {
    let mut machine = approved();
    machine.refused(Code::WrongStage, RevealGrant { id: ID });
    perform(&mut machine, &ENTRY);
    machine.refused_by("bob", Code::NotTheRequester, RevealGrant { id: ID });
    machine.ok(RevealGrant { id: ID });
    machine.refused(Code::AlreadyRevealed, RevealGrant { id: ID });

    let mut machine = active();
    machine.now = machine.now.plus(Span::minutes(45));
    machine.refused(Code::WrongStage, RevealGrant { id: ID });
    assert!(!grant(&machine).is_live(machine.state.now()), "over, though no tick has come");
}

#[test]
fn it_expires_in_every_stage_before_its_end() {
    for done in 0..=ENTRY.len() {
        for lost in [false, true] {
            let mut machine = approved();
            perform(&mut machine, &ENTRY[..done]);
            if lost && done == 1 {
                machine.attempt(JOB, Step::Install, unknown());
                assert_eq!(stage(&machine), GrantStage::Uncertain);
            }
            machine.wait(Span::minutes(45));
            assert_eq!(stage(&machine), GrantStage::Retire);
            perform(&mut machine, &EXIT);
            assert_eq!(stage(&machine), GrantStage::AwaitingReview);
        }
    }
    for done in 0..EXIT.len() {
        let mut machine = active();
        machine.ok_by("carol", end());
        perform(&mut machine, &EXIT[..done]);
        let before = stage(&machine);
        machine.wait(Span::minutes(45));
        assert_eq!(stage(&machine), before, "its end is under way already");
    }
}

#[test]
fn it_is_ended_early_by_anyone_who_may() {
    let mut machine = active();
    machine.refused(Code::TextRequired, EndGrant { id: ID, reason: String::new() });
    machine.ok(end());
    assert_eq!(grant(&machine).ended, Some((GrantEnd::Ended { by: "alice".into() }, START)));
    machine.refused(Code::WrongStage, end());
    machine.refused(Code::WrongStage, RevealGrant { id: ID });
    perform(&mut machine, &EXIT);
    assert_eq!(stage(&machine), GrantStage::AwaitingReview);
    machine.refused(Code::InUse, RemoveTarget { name: name("db") });

    let mut machine = requested();
    machine.ok(end());
    assert_eq!(stage(&machine), GrantStage::Lapsed);
}

#[test]
fn an_install_in_flight_at_the_end_must_be_over_before_the_user_is_removed() {
    let mut machine = approved();
    perform(&mut machine, &ENTRY[..1]);
    let fence = machine.begin(JOB, Step::Install);
    let deadline = grant(&machine).attempt.unwrap().deadline;
    machine.ok(end());
    machine.refused(Code::NotYet, begin(JOB, Step::Retire));
    let outcome = StepOutcome::Done { note: String::new() };
    machine.wait_until(Time(deadline.0 - 1));
    machine.refused(Code::NotYet, begin(JOB, Step::Retire));
    machine.ok_by("node-1", Finish { job: JOB, fence, outcome });
    assert_eq!(stage(&machine), GrantStage::Retire, "its outcome does not count");
    perform(&mut machine, &EXIT);
}

#[test]
fn an_install_of_unknown_outcome_is_probed() {
    for (liveness, next) in [
        (Liveness::Live, GrantStage::Active),
        (Liveness::Refused, GrantStage::Install),
        (Liveness::Absent, GrantStage::Install),
        (Liveness::Unknown, GrantStage::Uncertain),
    ] {
        let mut machine = approved();
        perform(&mut machine, &ENTRY[..1]);
        machine.attempt(JOB, Step::Install, unknown());
        machine.attempt(JOB, Step::Probe, probed(liveness));
        assert_eq!(stage(&machine), next);
    }
}

#[test]
fn an_activation_that_cannot_succeed_is_cleaned_up_and_reviewed() {
    for class in [FailureClass::RejectedByTarget, FailureClass::WrongCredential, FailureClass::Permanent] {
        let mut machine = approved();
        perform(&mut machine, &ENTRY[..1]);
        machine.attempt(JOB, Step::Install, failed(class, Span(0)));
        assert_eq!(grant(&machine).ended, Some((GrantEnd::ActivationFailed, START)));
        perform(&mut machine, &EXIT);
        assert_eq!(stage(&machine), GrantStage::AwaitingReview);
    }
}

#[test]
fn its_end_is_never_given_up() {
    let mut machine = active();
    machine.ok(end());
    for step in EXIT {
        for class in [FailureClass::Permanent, FailureClass::WrongCredential, FailureClass::Retryable] {
            machine.attempt(JOB, step, failed(class, Span::seconds(1)));
            machine.refused(Code::NotYet, begin(JOB, step));
            machine.wait(Span::seconds(1));
        }
        machine.begin(JOB, step);
        machine.wait(Span::minutes(1));
        machine.wait_until(grant(&machine).retry.not_before.max(machine.now));
        if step == Step::ProveRefused {
            machine.attempt(JOB, step, still_live());
            assert_eq!(stage(&machine), GrantStage::Retire);
            machine.wait(Span::seconds(3));
            perform(&mut machine, &[Step::Retire, Step::Sever]);
        }
        perform(&mut machine, &[step]);
    }
    assert_eq!(stage(&machine), GrantStage::AwaitingReview);
}

#[test]
fn a_revocation_ends_it_and_is_told_at_once() {
    let mut machine = active();
    let subject = Subject::Grant(ID);
    machine.refused(Code::OutOfRange, revoke(subject.clone(), ReasonCode::Hold));
    let first = machine.ok_by("carol", revoke(subject.clone(), ReasonCode::PrivilegeWithdrawn));
    assert_eq!(machine.feed(), [EventKind::GrantEnded]);
    assert_eq!(grant(&machine).ended, Some((GrantEnd::Revoked, START)));
    assert_eq!(machine.ok_by("carol", revoke(subject.clone(), ReasonCode::KeyCompromise)), first);
    perform(&mut machine, &EXIT);
    assert_eq!(machine.feed().len(), 1, "told once");
    let mut machine = active();
    machine.ok(end());
    machine.refused(Code::NothingToRevoke, revoke(subject, ReasonCode::KeyCompromise));
}

#[test]
fn a_user_name_that_no_target_takes_is_refused() {
    let mut machine = approved();
    let fence = machine.begin(JOB, Step::Prepare);
    for username in [String::new(), "x".repeat(caps::USERNAME_BYTES + 1)] {
        let outcome = prepared_for(&username);
        machine.refused(Code::OutcomeMismatch, Finish { job: JOB, fence, outcome });
    }
}

#[test]
fn grants_that_are_over_are_forgotten_beyond_the_newest() {
    let mut machine = requested();
    for id in 2..=u64::try_from(caps::ENDED_GRANTS).unwrap() + 3 {
        machine.ok(request());
        machine.ok_by("bob", DenyGrant { id: GrantId(id), reason: "no".into() });
    }
    assert_eq!(machine.state.grants().len(), caps::ENDED_GRANTS + 1);
    assert!(machine.state.grants().contains(&ID), "an open one is kept whatever its age");
    assert!(!machine.state.grants().contains(&GrantId(3)) && machine.state.grants().contains(&GrantId(4)));
}
