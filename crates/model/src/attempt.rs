//! Attempts: intent, effect, outcome. What rotations and grants share.

use serde::{Deserialize, Serialize};

use crate::{
    caps,
    name::{GrantId, NodeId, RotationId},
    sealed::Sealed,
    time::{Span, Time},
};

/// What an attempt is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Job {
    /// A rotation.
    Rotation(RotationId),
    /// A grant.
    Grant(GrantId),
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rotation(id) => id.fmt(f),
            Self::Grant(id) => id.fmt(f),
        }
    }
}

/// One thing a worker does at a target or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Generate and seal the candidate; touches nothing.
    Prepare,
    /// Stage the candidate in the stores, then make the target honour it.
    Install,
    /// Find out which versions the target honours.
    Probe,
    /// Log in with the candidate.
    Verify,
    /// Flip the stores to the candidate.
    Publish,
    /// Make the target refuse the old versions.
    Retire,
    /// Cut the sessions opened with the old versions.
    Sever,
    /// Log in with the old versions and be refused.
    ProveRefused,
    /// Put target and stores back to the version before.
    Rollback,
    /// Remove a temporary principal and what it owns.
    Remove,
}

impl Step {
    /// The step as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Probe => "probe",
            Self::Verify => "verify",
            Self::Publish => "publish",
            Self::Retire => "retire",
            Self::Sever => "sever",
            Self::ProveRefused => "prove-refused",
            Self::Rollback => "rollback",
            Self::Remove => "remove",
        }
    }
}

impl Step {
    /// Whether it does no more than log in, to see what is honoured.
    #[must_use]
    pub const fn only_looks(self) -> bool {
        matches!(self, Self::Probe | Self::Verify | Self::ProveRefused)
    }

    /// Whether it changes something at a target or in a store.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::Install | Self::Publish | Self::Retire | Self::Sever | Self::Rollback | Self::Remove => {
                true
            }
            Self::Prepare | Self::Probe | Self::Verify | Self::ProveRefused => false,
        }
    }
}

/// One attempt of one step, begun and not yet finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Unique and growing over the whole cluster; a `Finish` with any other is refused.
    pub fence: u64,
    /// The step.
    pub step: Step,
    /// The node whose worker acts.
    pub node: NodeId,
    /// When it was begun.
    pub begun: Time,
    /// When it counts as lost.
    pub deadline: Time,
}

/// How often a step was tried, kept in the model so that a new leader goes on and does not start over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts of the present step that have come to nothing.
    pub count: u32,
    /// How many of them the policy counts: not those that never reached the target or whose outcome is unknown.
    pub spent: u32,
    /// Not to be tried before this instant.
    pub not_before: Time,
    /// Why the last attempt failed.
    pub last: Option<Failure>,
    /// An attempt that was called off and may still be at work; `not_before` is its deadline, and a `Finish` of it
    /// that leaves no doubt ends the wait.
    pub called_off: Option<u64>,
    /// Until then, what an attempt with an outcome in doubt has asked for may still take effect; nothing that goes in
    /// another direction is begun before.
    pub settled_by: Time,
}

impl Retry {
    /// A new start in another direction. It waits for `attempt`, if it was called off while it changed something, and
    /// for what earlier ones may still change.
    pub(crate) fn after_calling_off(&self, attempt: Option<Attempt>) -> Self {
        let (until, called_off) = match attempt.filter(|attempt| attempt.step.is_lasting()) {
            Some(attempt) => (attempt.deadline, Some(attempt.fence)),
            None if self.called_off.is_some() => (self.not_before, self.called_off),
            None => (self.settled_by, None),
        };
        Self { not_before: until.max(self.settled_by), called_off, ..self.anew() }
    }

    /// A new start.
    pub(crate) fn anew(&self) -> Self {
        Self { settled_by: self.settled_by, ..Self::default() }
    }

    /// After `attempt` has ended like this: what it has asked for in doubt may take effect until its deadline.
    pub(crate) fn doubting(mut self, attempt: Option<&Attempt>, outcome: &StepOutcome) -> Self {
        let in_doubt = attempt.filter(|attempt| attempt.step.is_lasting() && outcome.is_in_doubt());
        self.settled_by = in_doubt.map_or(self.settled_by, |attempt| self.settled_by.max(attempt.deadline));
        self
    }

    /// A new start that waits for `after`.
    pub(crate) fn waiting(&self, now: Time, after: Span) -> Self {
        Self { not_before: now.plus(after.min(caps::RETRY_MAX)), ..self.anew() }
    }

    /// One more attempt has failed.
    pub(crate) fn failed(&self, failure: &Failure, now: Time, after: Span) -> Self {
        let spent = match failure.class {
            FailureClass::Unreachable => self.spent,
            FailureClass::Retryable
            | FailureClass::RejectedByTarget
            | FailureClass::WrongCredential
            | FailureClass::Permanent => self.spent.saturating_add(1),
        };
        Self { spent, last: Some(failure.clone()), ..self.undecided(now, after) }
    }

    /// One more attempt has come to nothing, and nobody is to blame.
    pub(crate) fn undecided(&self, now: Time, after: Span) -> Self {
        let not_before = now.plus(after.min(caps::RETRY_MAX));
        Self { count: self.count.saturating_add(1), not_before, called_off: None, ..self.clone() }
    }

    /// The wait that lost attempts are given, of whom no worker says how long to wait: none at first, then doubling.
    pub(crate) fn lost_wait(&self) -> Span {
        match self.count.checked_sub(1) {
            None => Span(0),
            Some(doublings) => Span(caps::LOST_WAIT.0 << doublings.min(16)).min(caps::LOST_WAIT_MAX),
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it was, which decides what happens next.
    pub class: FailureClass,
    /// What happened, for people; carries no secret.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// Worth another try, up to the policy's number of attempts.
    Retryable,
    /// The target understood and will not take this value or statement.
    RejectedByTarget,
    /// The administrative login was refused; trying on could lock it out.
    WrongCredential,
    /// The target could not be reached; tried for ever.
    Unreachable,
    /// No further try can succeed.
    Permanent,
}

impl FailureClass {
    /// The class as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::RejectedByTarget => "rejected-by-target",
            Self::WrongCredential => "wrong-credential",
            Self::Unreachable => "unreachable",
            Self::Permanent => "permanent",
        }
    }
}

/// What a worker found, as committed with `Finish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOutcome {
    /// The candidate: generated and sealed, not yet known to any target.
    Prepared {
        /// The user it logs in as.
        username: String,
        /// The sealed secret.
        sealed: Sealed,
    },
    /// The step took effect.
    Done {
        /// What was seen, for people, such as `3 sessions cut`.
        note: String,
    },
    /// The step did not take effect.
    Failed {
        /// Why.
        failure: Failure,
        /// How long to wait before the next attempt.
        retry_after: Span,
    },
    /// Nobody knows whether the step took effect; a probe has to tell.
    Unknown {
        /// What happened, for people.
        message: String,
    },
    /// What a probe saw.
    Probed(Probed),
    /// A version that must be dead still logs in.
    StillLive {
        /// What was seen, for people.
        message: String,
        /// How long to wait before it is retired again.
        retry_after: Span,
    },
}

impl StepOutcome {
    /// Whether the step may take effect even after this was said of it.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Failed { failure, .. } => matches!(failure.class, FailureClass::Unreachable),
            Self::Prepared { .. } | Self::Done { .. } | Self::Probed(_) | Self::StillLive { .. } => false,
        }
    }
}

/// What a probe saw of each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The candidate.
    pub candidate: Liveness,
    /// The version before it.
    pub current: Liveness,
    /// How long to wait before the next probe when this one could not tell.
    pub retry_after: Span,
}

/// Whether a target honours a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Liveness {
    /// It logs in.
    Live,
    /// It is refused.
    Refused,
    /// There is no such version.
    Absent,
    /// It could not be found out.
    Unknown,
}

impl Liveness {
    /// The finding as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Refused => "refused",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }
}
