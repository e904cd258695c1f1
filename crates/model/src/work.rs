//! What is owed: derived from the state, never queued, so that nothing can be lost.

use imbl::OrdSet;

use crate::{
    State,
    attempt::{Attempt, Job, Retry, Step},
    index::{Index, Reviewed},
    name::{NodeId, ScheduleName},
    node,
    rotation::Stage,
    state::Timer,
    time::{Span, Time},
};

/// How long one attempt for a grant may take; rotations have it in their policy.
const GRANT_STEP_TIMEOUT: Span = Span::seconds(30);

/// One step that a worker should perform now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// For what.
    pub job: Job,
    /// What to do.
    pub step: Step,
    /// How often this step has failed so far; decides how long to wait after the next failure.
    pub failures: u32,
    /// Longest time the attempt may take.
    pub timeout: Span,
}

/// What a job needs next, whether or not it may be begun already.
#[derive(Clone, Copy)]
pub(crate) struct Need<'a> {
    pub(crate) step: Step,
    pub(crate) retry: &'a Retry,
    pub(crate) attempt: Option<&'a Attempt>,
    pub(crate) timeout: Span,
}

impl State {
    /// The steps that `node` should perform at `now`: owed, not in flight, not waiting, and this node's share.
    #[must_use]
    pub fn work(&self, node: NodeId, now: Time) -> Vec<Work> {
        let ready = |job: &Job| {
            let need = self.need(*job)?;
            let may = !self.is_observing() || need.step.only_looks();
            let due = may && need.attempt.is_none() && need.retry.not_before <= now;
            (due && self.is_assigned(*job, need.retry.count, node)).then_some(Work {
                job: *job,
                step: need.step,
                failures: need.retry.count,
                timeout: need.timeout,
            })
        };
        self.open.iter().filter_map(ready).collect()
    }

    /// When a step that is waiting now may be begun, the earliest of them; `None` when none is waiting.
    #[must_use]
    pub fn next_work(&self, now: Time) -> Option<Time> {
        self.open
            .iter()
            .filter_map(|job| self.need(*job))
            .filter(|need| need.attempt.is_none() && need.retry.not_before > now)
            .map(|need| need.retry.not_before)
            .min()
    }

    /// The attempts in flight that `node` has begun: after a restart nobody performs them any more.
    #[must_use]
    pub fn attempts_of(&self, node: NodeId) -> Vec<(Job, Attempt)> {
        self.open
            .iter()
            .filter_map(|job| {
                self.need(*job)?.attempt.filter(|attempt| attempt.node == node).map(|a| (*job, a.clone()))
            })
            .collect()
    }

    /// The next instant at which something changes by itself: when it has come, the leader proposes a tick.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.timers.get_min().map(|(at, _)| *at)
    }

    /// The schedules whose rotation should have begun before `now`, the longest overdue first.
    pub fn overdue_schedules(&self, now: Time) -> impl Iterator<Item = &ScheduleName> {
        self.timers.iter().take_while(move |(at, _)| *at < now).filter_map(|(_, timer)| match timer {
            Timer::Schedule(name) => Some(name),
            Timer::Job(_) | Timer::Event(_) => None,
        })
    }

    /// What had to be looked at again by `now`, the longest overdue first.
    pub fn reviews_due(&self, now: Time) -> impl Iterator<Item = &Reviewed> {
        self.index.reviews_due(now)
    }

    pub(crate) fn need(&self, job: Job) -> Option<Need<'_>> {
        match job {
            Job::Rotation(id) => {
                let rotation = self.rotations.get(&id)?;
                Some(Need {
                    step: rotation.stage.step()?,
                    retry: &rotation.retry,
                    attempt: rotation.attempt.as_ref(),
                    timeout: rotation.policy.step_timeout,
                })
            }
            Job::Grant(id) => {
                let grant = self.grants.get(&id)?;
                Some(Need {
                    step: grant.stage.step()?,
                    retry: &grant.retry,
                    attempt: grant.attempt.as_ref(),
                    timeout: GRANT_STEP_TIMEOUT,
                })
            }
        }
    }

    fn is_assigned(&self, job: Job, failures: u32, node: NodeId) -> bool {
        let reachable = self.nodes.values().filter(|row| row.reachable).map(|row| row.id);
        node::assignee(job, failures, reachable) == Some(node)
    }

    /// Rebuilds what is derived from the tables.
    pub(crate) fn derive(&mut self) {
        self.facts = self.meta.get(&0).cloned().unwrap_or_default();
        self.index = Index::default();
        (self.timers, self.open) = (OrdSet::new(), OrdSet::new());
        let rows = self.clone();
        self.derive_from(&rows);
    }

    /// Adds what is derived from the rows of `part`, of which none has been counted in before.
    pub(crate) fn derive_from(&mut self, part: &Self) {
        if let Some(facts) = part.meta.get(&0) {
            self.facts = facts.clone();
        }
        part.identities.values().for_each(|row| self.index.add_identity(row));
        part.credentials.values().for_each(|row| self.index.add_credential(row));
        part.schedules.values().for_each(|row| self.index.add_schedule(row));
        let ended = part.rotations.values().filter(|row| row.stage.is_terminal());
        ended.for_each(|row| self.index.add_ended(row));
        let timers = [
            part.schedules.iter().map(|(name, _)| Timer::Schedule(name.clone())).collect::<Vec<_>>(),
            part.rotations.iter().map(|(id, _)| Timer::Job(Job::Rotation(*id))).collect(),
            part.grants.iter().map(|(id, _)| Timer::Job(Job::Grant(*id))).collect(),
            part.events.iter().map(|(revision, _)| Timer::Event(*revision)).collect(),
        ];
        for timer in timers.into_iter().flatten() {
            if let Some(at) = part.instant_of(&timer) {
                self.timers.insert((at, timer.clone()));
            }
            if let Timer::Job(job) = timer
                && part.is_open(job)
            {
                self.open.insert(job);
            }
        }
    }

    /// The instant at which `timer` goes off, if there is one.
    pub(crate) fn instant_of(&self, timer: &Timer) -> Option<Time> {
        match timer {
            Timer::Schedule(_) if self.is_observing() => None,
            Timer::Schedule(name) => self.schedules.get(name)?.fires_at(),
            Timer::Event(revision) => {
                self.events.get(revision).filter(|event| !event.escalated).map(|event| event.deadline)
            }
            Timer::Job(Job::Rotation(id)) => {
                let rotation = self.rotations.get(id)?;
                match (&rotation.attempt, rotation.stage) {
                    (Some(attempt), _) => Some(attempt.deadline),
                    (None, Stage::Drain) if !self.is_observing() => rotation.drain_until,
                    (None, _) => None,
                }
            }
            Timer::Job(Job::Grant(id)) => {
                let grant = self.grants.get(id)?;
                let attempt = grant.attempt.as_ref().map(|attempt| attempt.deadline);
                let end = grant.ends_by_itself();
                [attempt, end].into_iter().flatten().min()
            }
        }
    }

    pub(crate) fn is_open(&self, job: Job) -> bool {
        match job {
            Job::Rotation(id) => {
                self.rotations.get(&id).is_some_and(|rotation| !rotation.stage.is_terminal())
            }
            Job::Grant(id) => self.grants.get(&id).is_some_and(|grant| !grant.stage.is_terminal()),
        }
    }

    /// What is derived must be what the tables say.
    #[cfg(test)]
    pub(crate) fn assert_derived(&self) {
        let mut fresh = self.clone();
        fresh.derive();
        assert_eq!(self.timers, fresh.timers, "timers have strayed from the tables");
        assert_eq!(self.open, fresh.open, "open jobs have strayed from the tables");
        assert_eq!(self.index, fresh.index, "the index has strayed from the tables");
        assert_eq!(self.facts, fresh.facts, "facts were not written back");
    }
}
