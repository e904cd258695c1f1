//! Schedules: due, paused, missed, left out.

use super::machine::{START, credential, overlapping, schedule};
use super::{Machine, name};
use crate::{
    attempt::Job,
    command::{PauseSchedule, PutSchedule, RemoveSchedule, ResumeSchedule, TriggerSchedule},
    name::RotationId,
    outcome::Applied,
    refusal::Code,
    rotation::Cause,
    schedule::{Misfire, RotationPolicy, Schedule},
    time::{Span, Time},
    timing::{Timing, jitter},
};

const DAY: Span = Span::days(1);

fn nightly(machine: &Machine) -> Schedule {
    machine.state.schedules().get(&name("nightly")).unwrap().clone()
}

fn rotations(machine: &Machine) -> usize {
    machine.state.rotations().len()
}

#[test]
fn a_due_schedule_starts_one_rotation_and_waits_for_the_next_instant() {
    let mut machine = Machine::alternating();
    assert_eq!(machine.state.next_due(), Some(START.plus(DAY)));
    machine.wait(Span(DAY.0 - 1));
    assert_eq!(rotations(&machine), 0);
    machine.wait(Span(1));
    let cause = Cause::Due { schedule: name("nightly"), at: START.plus(DAY) };
    assert_eq!(machine.rotation(RotationId(1)).cause, cause);
    let due = nightly(&machine);
    assert_eq!((due.last, due.next), (Some(START.plus(DAY)), Some(START.plus(Span::days(2)))));
    machine.tick();
    assert_eq!((rotations(&machine), machine.audited("schedule.due")), (1, 1), "once for the instant");
}

#[test]
fn a_paused_schedule_does_not_fire_and_owes_nothing_afterwards() {
    let mut machine = Machine::alternating();
    let pause = PauseSchedule { name: name("nightly"), reason: "freeze".into() };
    machine.refused(Code::TextRequired, PauseSchedule { reason: " ".into(), ..pause.clone() });
    assert_eq!(machine.ok(pause.clone()), Applied::Changed);
    assert_eq!(machine.ok(pause), Applied::Unchanged);
    assert_eq!(machine.state.next_due(), None);
    machine.wait(Span(DAY.0 * 5 + 7));
    let resume = ResumeSchedule { name: name("nightly") };
    assert_eq!(machine.ok(resume.clone()), Applied::Changed);
    assert_eq!(machine.ok(resume), Applied::Unchanged);
    machine.tick();
    assert_eq!(rotations(&machine), 0);
    assert_eq!(machine.state.next_due(), Some(START.plus(Span::days(6))));
}

#[test]
fn missed_instants_become_one_rotation_or_none() {
    for (misfire, started) in [(Misfire::RunOnce, 1), (Misfire::Skip, 0)] {
        let mut machine = Machine::alternating();
        machine.ok(PutSchedule { misfire, ..schedule("nightly", "orders-db") });
        machine.wait(Span(DAY.0 * 3 + Span::hours(1).0));
        assert_eq!((rotations(&machine), machine.audited("schedule.due")), (started, 1));
        assert_eq!(nightly(&machine).next, Some(START.plus(Span::days(4))));
    }
}

#[test]
fn an_instant_that_is_barely_late_is_not_missed() {
    let mut machine = Machine::alternating();
    machine.ok(PutSchedule { misfire: Misfire::Skip, ..schedule("nightly", "orders-db") });
    machine.wait(Span(DAY.0 + crate::caps::MISFIRE_GRACE.0));
    assert_eq!(rotations(&machine), 1);
}

#[test]
fn an_instant_during_a_rotation_is_left_out() {
    let mut machine = Machine::alternating();
    machine.wait(DAY);
    machine.wait(DAY);
    assert_eq!((rotations(&machine), machine.audited("schedule.due")), (1, 2));
    machine.run(RotationId(1));
    machine.wait(DAY);
    assert_eq!(rotations(&machine), 2);
}

#[test]
fn a_trigger_starts_one_now_and_leaves_the_plan_alone() {
    let mut machine = Machine::alternating();
    let next = nightly(&machine).next;
    let id = machine.trigger();
    assert_eq!(machine.rotation(id).cause, Cause::Triggered { schedule: name("nightly") });
    assert_eq!(nightly(&machine).next, next);
    machine.refused(Code::UnknownSchedule, TriggerSchedule { name: name("weekly") });
    machine.ok(RemoveSchedule { name: name("nightly") });
    assert!(machine.state.need(Job::Rotation(id)).is_some(), "what is under way goes on");
}

#[test]
fn jitter_moves_every_fire_by_the_same_and_loses_none() {
    let mut machine = Machine::alternating();
    let (period, most) = (Span::minutes(1), Span::hours(6));
    let timing = Timing::Every { period, phase: Span(0) };
    machine.ok(PutSchedule { timing, jitter: most, ..schedule("nightly", "orders-db") });
    let moved = jitter("nightly", most);
    assert!(moved > Span::minutes(2), "else this shows nothing");
    for fire in 1..=3 {
        let due = Time(START.0 + fire * period.0 + moved.0);
        assert_eq!(machine.state.next_due(), Some(due));
        machine.wait_until(due);
        machine.run(RotationId(fire));
    }
    assert_eq!(rotations(&machine), 3);

    // A pause within the jitter's reach neither loses the next fire nor repeats the last one.
    let next = machine.state.next_due();
    machine.ok(PauseSchedule { name: name("nightly"), reason: "freeze".into() });
    machine.ok(ResumeSchedule { name: name("nightly") });
    assert_eq!(machine.state.next_due(), next);
}

#[test]
fn a_changed_plan_begins_now_and_an_unchanged_one_goes_on() {
    let mut machine = Machine::alternating();
    machine.wait(Span::hours(5));
    let put = schedule("nightly", "orders-db");
    assert_eq!(machine.ok(put.clone()), Applied::Unchanged);
    let timing = Timing::Every { period: Span::hours(2), phase: Span(0) };
    machine.ok(PutSchedule { timing, ..put });
    assert_eq!(machine.state.next_due(), Some(START.plus(Span::hours(6))));
    machine.ok(RemoveSchedule { name: name("nightly") });
    assert_eq!(machine.state.next_due(), None);
    machine.refused(Code::UnknownSchedule, RemoveSchedule { name: name("nightly") });
}

#[test]
fn a_credential_has_one_schedule_and_a_schedule_one_credential() {
    let mut machine = Machine::alternating();
    machine.ok(credential("other-db", overlapping()));
    machine.refused(Code::CredentialHasSchedule, schedule("second", "orders-db"));
    machine.refused(Code::Immutable, schedule("nightly", "other-db"));
    machine.refused(Code::UnknownCredential, schedule("third", "nothing"));
    machine.ok(RemoveSchedule { name: name("nightly") });
    machine.ok(schedule("second", "orders-db"));
}

#[test]
fn a_plan_that_never_fires_or_a_policy_out_of_range_is_refused() {
    let mut machine = Machine::alternating();
    let put = schedule("nightly", "orders-db");
    let never = Timing::Cron { expression: "0 0 31 2 *".into(), zone: "Europe/Prague".into() };
    machine.refused(Code::InvalidTiming, PutSchedule { timing: never, ..put.clone() });
    let empty = Timing::Every { period: Span(0), phase: Span(0) };
    machine.refused(Code::InvalidTiming, PutSchedule { timing: empty, ..put.clone() });
    machine.refused(Code::OutOfRange, PutSchedule { jitter: Span::days(2), ..put.clone() });
    let ranges: [fn(&mut RotationPolicy); 5] = [
        |policy| policy.overlap_max = Span::days(91),
        |policy| policy.ack_within = Span(0),
        |policy| policy.step_timeout = Span::minutes(11),
        |policy| policy.max_attempts = 0,
        |policy| policy.max_attempts = 1_001,
    ];
    for spoil in ranges {
        let mut put = put.clone();
        spoil(&mut put.policy);
        machine.refused(Code::OutOfRange, put);
    }
}
