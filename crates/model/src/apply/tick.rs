//! Time passes: everything that has fallen due happens, in the order of its instants.

use crate::{
    State,
    attempt::Job,
    outcome::Applied,
    planted::{Bug, is_planted},
    state::Timer,
    time::Time,
};

impl State {
    /// Lets every timer go off that is due. Each one moves or ends as it goes off, so this comes to an end.
    pub(super) fn tick(&mut self) -> Applied {
        let now = self.now();
        let due: Vec<(Time, Timer)> = self.timers.iter().take_while(|(at, _)| *at <= now).cloned().collect();
        for (_, timer) in &due {
            match timer {
                Timer::Schedule(name) => self.fire_schedule(name),
                Timer::Event(revision) => self.escalate(*revision),
                Timer::Job(job) => self.wake(*job, now),
            }
        }
        if due.is_empty() { Applied::Unchanged } else { Applied::Changed }
    }

    fn wake(&mut self, job: Job, now: Time) {
        if let Job::Grant(id) = job
            && !is_planted(Bug::GrantOutlives)
            && self.grants.get(&id).is_some_and(|grant| grant.ends_by_itself().is_some_and(|end| end <= now))
        {
            return self.expire_grant(id);
        }
        if self.need(job).is_some_and(|need| need.attempt.is_some_and(|attempt| attempt.deadline <= now)) {
            return self.lose(job);
        }
        if let Job::Rotation(id) = job {
            self.check_drain(id);
        }
    }

    fn lose(&mut self, job: Job) {
        let before = self.content_digest();
        self.lose_attempt(job);
        self.record_effect(
            before,
            "attempt.lost",
            super::job_object(job),
            "no outcome before the deadline".to_owned(),
        );
    }
}
