//! Schedules: declared, paused, triggered, and what happens when they fall due.

use crate::{
    State, caps,
    command::{PauseSchedule, PutSchedule, RemoveSchedule, ResumeSchedule, TriggerSchedule},
    name::ScheduleName,
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    rotation::{Cause, Order},
    schedule::{Misfire, RotationPolicy, Schedule},
    state::Timer,
    time::Span,
};

use super::{check, refuse};

impl State {
    pub(super) fn put_schedule(&mut self, command: &PutSchedule) -> Outcome {
        self.known_credential(&command.credential)?;
        policy(&command.policy)?;
        check::span("jitter", command.jitter, Span(0), Span::days(1))?;
        let holder = self.index.schedule_of(&command.credential);
        if let Some(other) = holder.filter(|holder| **holder != command.name) {
            let message = format!("credential `{}` is rotated by schedule `{other}`", command.credential);
            return refuse(Code::CredentialHasSchedule, message);
        }
        let old = self.schedules.get(&command.name);
        if let Some(old) = old.filter(|old| old.credential != command.credential) {
            return refuse(
                Code::Immutable,
                format!("schedule `{}` rotates credential `{}`", old.name, old.credential),
            );
        }
        let same_timing = old.filter(|old| old.timing == command.timing);
        let next = match same_timing {
            Some(old) => old.next,
            None => command.timing.next_after(self.now()),
        };
        if next.is_none() {
            return refuse(Code::InvalidTiming, format!("schedule `{}` would never fire", command.name));
        }
        let schedule = Schedule {
            name: command.name.clone(),
            credential: command.credential.clone(),
            timing: command.timing.clone(),
            jitter: command.jitter,
            misfire: command.misfire,
            policy: command.policy.clone(),
            paused: old.and_then(|old| old.paused.clone()),
            next,
            last: old.and_then(|old| old.last),
        };
        if old == Some(&schedule) {
            return Ok(Applied::Unchanged);
        }
        self.write_schedule(schedule);
        Ok(Applied::Changed)
    }

    pub(super) fn remove_schedule(&mut self, command: &RemoveSchedule) -> Outcome {
        self.known_schedule(&command.name)?;
        let removed =
            self.timed(Timer::Schedule(command.name.clone()), |state| state.schedules.remove(&command.name));
        if let Some(row) = removed {
            self.index.remove_schedule(&row);
        }
        Ok(Applied::Changed)
    }

    pub(super) fn pause_schedule(&mut self, command: &PauseSchedule) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let mut schedule = self.known_schedule(&command.name)?.clone();
        if schedule.paused.is_some() {
            return Ok(Applied::Unchanged);
        }
        schedule.paused = Some(command.reason.clone());
        self.write_schedule(schedule);
        Ok(Applied::Changed)
    }

    /// Instants that passed during the pause are not owed.
    pub(super) fn resume_schedule(&mut self, command: &ResumeSchedule) -> Outcome {
        let mut schedule = self.known_schedule(&command.name)?.clone();
        if schedule.paused.take().is_none() {
            return Ok(Applied::Unchanged);
        }
        schedule.next = schedule.next_after(self.now());
        self.write_schedule(schedule);
        Ok(Applied::Changed)
    }

    pub(super) fn trigger_schedule(&mut self, command: &TriggerSchedule) -> Outcome {
        self.check_confirmed("rotate")?;
        let schedule = self.known_schedule(&command.name)?;
        let credential = self.known_credential(&schedule.credential)?;
        if let Some(rotation) = credential.rotation {
            return refuse(
                Code::RotationInFlight,
                format!("credential `{}` is being rotated by {rotation}", credential.name),
            );
        }
        let (credential, policy) = (schedule.credential.clone(), schedule.policy.clone());
        let cause = Cause::Triggered { schedule: command.name.clone() };
        Ok(Applied::Started(self.start_rotation(&credential, cause, Order::OverlapFirst, policy)))
    }

    /// A schedule has fallen due: exactly one effect for the instant, then on to the next one.
    pub(super) fn fire_schedule(&mut self, name: &ScheduleName) {
        let Some(mut schedule) = self.schedules.get(name).cloned() else { return };
        let (Some(nominal), Some(fires_at)) = (schedule.next, schedule.fires_at()) else { return };
        let (before, now) = (self.content_digest(), self.now());
        schedule.last = Some(nominal);
        schedule.next = schedule.next_after(now);
        let (credential, policy) = (schedule.credential.clone(), schedule.policy.clone());
        let skips = schedule.misfire == Misfire::Skip && now.since(fires_at) > caps::MISFIRE_GRACE;
        self.write_schedule(schedule);

        let in_flight = self.credentials.get(&credential).and_then(|row| row.rotation);
        let effect = match in_flight {
            Some(rotation) => format!("due {nominal}: left out, {rotation} is under way"),
            None if skips => format!("due {nominal}: missed, left out by policy"),
            None => {
                let cause = Cause::Due { schedule: name.clone(), at: nominal };
                let rotation = self.start_rotation(&credential, cause, Order::OverlapFirst, policy);
                format!("due {nominal}: {rotation} started")
            }
        };
        self.record_effect(before, "schedule.due", format!("schedule/{name}"), effect);
    }

    fn known_schedule(&self, name: &ScheduleName) -> Result<&Schedule, Refusal> {
        self.schedules
            .get(name)
            .ok_or_else(|| Refusal::new(Code::UnknownSchedule, format!("there is no schedule `{name}`")))
    }

    fn write_schedule(&mut self, schedule: Schedule) {
        let timer = Timer::Schedule(schedule.name.clone());
        self.index.add_schedule(&schedule);
        self.timed(timer, |state| state.schedules.put(schedule.name.clone(), schedule));
    }
}

fn policy(policy: &RotationPolicy) -> Result<(), Refusal> {
    check::span("overlapMax", policy.overlap_max, Span(0), caps::OVERLAP_MAX)?;
    check::span("ackWithin", policy.ack_within, Span::seconds(1), caps::ACK_WITHIN_MAX)?;
    check::span("stepTimeout", policy.step_timeout, Span::seconds(1), caps::ATTEMPT_MAX)?;
    if !(1..=caps::ATTEMPTS_MAX).contains(&policy.max_attempts) {
        let message =
            format!("`maxAttempts` is {}, outside 1 to {}", policy.max_attempts, caps::ATTEMPTS_MAX);
        return refuse(Code::OutOfRange, message);
    }
    Ok(())
}
