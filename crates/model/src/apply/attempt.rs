//! Attempts: begun, finished, lost, called off. What rotations and grants share.

use crate::{
    State,
    attempt::{Attempt, Failure, Job, Retry, Step, StepOutcome},
    caps,
    command::{Begin, Finish},
    outcome::{Applied, Outcome},
    planted::{Bug, is_planted},
    refusal::Code,
    state::Timer,
};

use super::{refuse, rotate::unknown_rotation};

impl State {
    pub(super) fn begin(&mut self, command: &Begin) -> Outcome {
        let Some(need) = self.need(command.job) else {
            return match command.job {
                Job::Rotation(id) if !self.rotations.contains(&id) => unknown_rotation(id),
                Job::Grant(id) if !self.grants.contains(&id) => {
                    refuse(Code::UnknownGrant, format!("there is no grant {id}"))
                }
                job @ (Job::Rotation(_) | Job::Grant(_)) => {
                    refuse(Code::WrongStep, format!("{job} needs no work now"))
                }
            };
        };
        if need.step != command.step {
            let (wanted, given) = (need.step.as_str(), command.step.as_str());
            return refuse(Code::WrongStep, format!("{} needs `{wanted}` now, not `{given}`", command.job));
        }
        if !command.step.only_looks() {
            self.check_confirmed(command.step.as_str())?;
        }
        if let Some(attempt) = need.attempt {
            let message =
                format!("attempt {} of {} is in flight on {}", attempt.fence, command.job, attempt.node);
            return refuse(Code::AttemptInFlight, message);
        }
        if need.retry.not_before > self.now() {
            return refuse(Code::NotYet, format!("{} waits until {}", command.job, need.retry.not_before));
        }
        let deadline = self.now().plus(need.timeout).plus(caps::ATTEMPT_GRACE);
        self.facts.fence += 1;
        let fence = self.facts.fence;
        let attempt = Attempt { fence, step: command.step, node: command.node, begun: self.now(), deadline };
        self.set_attempt(command.job, Some(attempt));
        Ok(Applied::Begun { fence })
    }

    pub(super) fn finish(&mut self, command: &Finish) -> Outcome {
        let need = self.need(command.job);
        if need.is_some_and(|need| need.attempt.is_none() && need.retry.called_off == Some(command.fence)) {
            // What was asked of a target or a store in vain may still arrive there: the deadline is waited for.
            let in_doubt = command.outcome.is_in_doubt();
            return Ok(if in_doubt { Applied::Unchanged } else { self.release(command.job) });
        }
        let attempt = need.and_then(|need| need.attempt.cloned());
        let fits_fence = |attempt: &Attempt| attempt.fence == command.fence || is_planted(Bug::StaleFence);
        let Some(attempt) = attempt.filter(fits_fence) else {
            let message = format!("attempt {} is not the one in flight for {}", command.fence, command.job);
            return refuse(Code::StaleAttempt, message);
        };
        if !fits(attempt.step, &command.outcome) {
            let message = format!("that is not an outcome of `{}`", attempt.step.as_str());
            return refuse(Code::OutcomeMismatch, message);
        }
        if let StepOutcome::Prepared { sealed, .. } = &command.outcome {
            self.check_key(Some(sealed))?;
        }
        match command.job {
            Job::Rotation(id) => self.finish_rotation(id, &command.outcome),
            Job::Grant(id) => self.finish_grant(id, &command.outcome),
        }
    }

    /// An attempt that was called off has ended: its outcome does not count any more, but others may be begun now.
    fn release(&mut self, job: Job) -> Applied {
        let now = self.now();
        let free = |retry: &mut Retry| {
            retry.called_off = None;
            retry.not_before = retry.not_before.min(now).max(retry.settled_by);
        };
        match job {
            Job::Rotation(id) => self.rotations.update(&id, |row| free(&mut row.retry)),
            Job::Grant(id) => self.grants.update(&id, |row| free(&mut row.retry)),
        };
        Applied::Changed
    }

    /// An attempt has passed its deadline: nobody knows what it did.
    pub(super) fn lose_attempt(&mut self, job: Job) {
        let message = "no outcome before the deadline".to_owned();
        let lost = StepOutcome::Unknown { message };
        let finished = match job {
            Job::Rotation(id) => self.finish_rotation(id, &lost),
            Job::Grant(id) => self.finish_grant(id, &lost),
        };
        debug_assert!(finished.is_ok(), "every stage with an attempt can lose it: {finished:?}");
    }

    fn set_attempt(&mut self, job: Job, attempt: Option<Attempt>) {
        self.timed(Timer::Job(job), |state| match job {
            Job::Rotation(id) => state.rotations.update(&id, |row| row.attempt = attempt),
            Job::Grant(id) => state.grants.update(&id, |row| row.attempt = attempt),
        });
    }
}

/// The failure with words of a bearable length, whatever the target has said.
pub(super) fn bearable(failure: &Failure) -> Failure {
    Failure { class: failure.class, message: super::clip(&failure.message, caps::TEXT_BYTES).to_owned() }
}

/// Whether `outcome` can come from `step`.
const fn fits(step: Step, outcome: &StepOutcome) -> bool {
    match outcome {
        StepOutcome::Prepared { .. } => matches!(step, Step::Prepare),
        StepOutcome::Done { .. } => !matches!(step, Step::Prepare | Step::Probe),
        StepOutcome::Probed(_) => matches!(step, Step::Probe),
        StepOutcome::StillLive { .. } => matches!(step, Step::ProveRefused),
        StepOutcome::Failed { .. } | StepOutcome::Unknown { .. } => true,
    }
}
