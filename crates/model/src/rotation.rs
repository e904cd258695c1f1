//! Rotations: one run of a schedule, as a state machine.
//!
//! ```text
//! due → prepare → install → verify → publish → drain → retire → sever → prove-refused → settled
//!                    └ outcome unknown → probe → install again, or on with verify
//! any step → retry → quarantined        any stage before retire → rollback → aborted
//! ```
//! A revocation reverses the order ([`Order::RevokeFirst`]): retire, sever and prove, then prepare to publish. If a
//! version that was not revoked is still honoured then, the rotation goes on from drain with it.

use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Attempt, FailureClass, Liveness, Retry, Step},
    name::{CredentialName, RotationId, ScheduleName},
    planted::{Bug, is_planted},
    schedule::RotationPolicy,
    table::Row,
    time::Time,
};

/// One run of a schedule, or one repair after a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Its id.
    pub id: RotationId,
    /// What is rotated.
    pub credential: CredentialName,
    /// Why.
    pub cause: Cause,
    /// In which order.
    pub order: Order,
    /// The version before.
    pub from: Option<u32>,
    /// The candidate, once prepared.
    pub to: Option<u32>,
    /// The versions that must die.
    pub retiring: Vec<u32>,
    /// Where it stands.
    pub stage: Stage,
    /// The stages passed.
    pub passed: Passed,
    /// The attempt in flight: at most one.
    pub attempt: Option<Attempt>,
    /// How often the present step was tried.
    pub retry: Retry,
    /// How often a retired version was seen to log in all the same.
    pub refuted: u32,
    /// The feed entry that told consumers of the candidate.
    pub published_revision: Option<u64>,
    /// When the overlap ends whatever consumers do.
    pub drain_until: Option<Time>,
    /// How it runs.
    pub policy: RotationPolicy,
    /// When it was started.
    pub started: Time,
    /// When it reached `settled` or `aborted`.
    pub ended: Option<Time>,
    /// What happened, newest last; bounded.
    pub history: Vec<Passage>,
}

impl Row for Rotation {
    type Key = RotationId;
    const TAG: u8 = 7;
}

/// Why a rotation runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A schedule fell due at this instant.
    Due {
        /// The schedule.
        schedule: ScheduleName,
        /// The nominal instant.
        at: Time,
    },
    /// A person asked for it.
    Triggered {
        /// Through this schedule.
        schedule: ScheduleName,
    },
    /// A version was revoked.
    Revoked,
}

/// The order in which a rotation goes through its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The new version first; the old one dies after the overlap.
    OverlapFirst,
    /// The old version dies now; then a new one is made.
    RevokeFirst,
    /// The old version dies now and none follows.
    RevokeOnly,
}

impl Order {
    fn stages(self) -> &'static [Stage] {
        use Stage::{Drain, Install, Prepare, ProveRefused, Publish, Retire, Sever, Verify};
        match self {
            Self::OverlapFirst if is_planted(Bug::RetiredUnverified) => {
                &[Prepare, Install, Drain, Retire, Sever, ProveRefused, Verify, Publish]
            }
            Self::OverlapFirst => &[Prepare, Install, Verify, Publish, Drain, Retire, Sever, ProveRefused],
            Self::RevokeFirst => &[Retire, Sever, ProveRefused, Prepare, Install, Verify, Publish],
            Self::RevokeOnly => &[Retire, Sever, ProveRefused],
        }
    }

    /// The first stage not yet passed, or `Settled`. An install of unknown outcome is probed before it is repeated.
    #[must_use]
    pub fn next(self, passed: Passed) -> Stage {
        let skipped = |stage| stage == Stage::Sever && is_planted(Bug::SessionsKept);
        match self.stages().iter().copied().find(|stage| !passed.contains(*stage) && !skipped(*stage)) {
            Some(Stage::Install) if passed.contains(Stage::Uncertain) => Stage::Uncertain,
            Some(stage) => stage,
            None => Stage::Settled,
        }
    }
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// A candidate must be generated and sealed.
    Prepare,
    /// The target must be made to honour it.
    Install,
    /// The outcome of an install is unknown.
    Uncertain,
    /// A login with it must succeed.
    Verify,
    /// The stores must be flipped.
    Publish,
    /// Consumers must acknowledge.
    Drain,
    /// The old version must be removed at the target.
    Retire,
    /// Its sessions must be cut.
    Sever,
    /// A login with it must be refused.
    ProveRefused,
    /// Target and stores must go back.
    Rollback,
    /// A person must decide.
    Quarantined,
    /// Ended: the old version is proven dead.
    Settled,
    /// Ended: rolled back.
    Aborted,
}

impl Stage {
    /// The stage as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Uncertain => "uncertain",
            Self::Verify => "verify",
            Self::Publish => "publish",
            Self::Drain => "drain",
            Self::Retire => "retire",
            Self::Sever => "sever",
            Self::ProveRefused => "prove-refused",
            Self::Rollback => "rollback",
            Self::Quarantined => "quarantined",
            Self::Settled => "settled",
            Self::Aborted => "aborted",
        }
    }

    /// Whether nothing can happen any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Settled | Self::Aborted)
    }

    /// The step a worker must perform in this stage; none while waiting for consumers, a person or nothing.
    #[must_use]
    pub const fn step(self) -> Option<Step> {
        match self {
            Self::Prepare => Some(Step::Prepare),
            Self::Install => Some(Step::Install),
            Self::Uncertain => Some(Step::Probe),
            Self::Verify => Some(Step::Verify),
            Self::Publish => Some(Step::Publish),
            Self::Retire => Some(Step::Retire),
            Self::Sever => Some(Step::Sever),
            Self::ProveRefused => Some(Step::ProveRefused),
            Self::Rollback => Some(Step::Rollback),
            Self::Drain | Self::Quarantined | Self::Settled | Self::Aborted => None,
        }
    }
}

/// The set of stages a rotation has passed. `Uncertain` is in it while an install's outcome is unknown, and
/// `Rollback` from the moment the old version is wanted back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed(u16);

impl Passed {
    /// This set with `stage`.
    #[must_use]
    pub const fn with(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u16)
    }

    /// This set without `stage`.
    #[must_use]
    pub const fn without(self, stage: Stage) -> Self {
        Self(self.0 & !(1 << stage as u16))
    }

    /// Whether `stage` is in the set.
    #[must_use]
    pub const fn contains(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u16) != 0
    }
}

/// Something that happens to a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stage's step took effect.
    Done,
    /// The step did not take effect; `exhausted` says that the policy's attempts are used up.
    Failed {
        /// The kind of failure.
        class: FailureClass,
        /// Whether this was the last attempt allowed.
        exhausted: bool,
    },
    /// The outcome is unknown, or the attempt passed its deadline.
    Lost,
    /// A probe reported on the candidate.
    Probed(Liveness),
    /// A version that must be dead still logs in.
    StillLive {
        /// Whether this was the last attempt allowed.
        exhausted: bool,
    },
    /// All required receipts are in, or the overlap ended and the policy says to retire.
    Drained,
    /// The overlap ended and the policy says to hold.
    Held,
    /// A person, or the policy, wants the old version back.
    AbortRequested,
    /// A person wants a quarantined rotation to go on.
    RetryRequested,
    /// A version was revoked: the order was reversed.
    Reordered,
}

/// The event is not legal in the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal;

/// The state machine: the stage that follows `stage` upon `event`, and the stages passed by then.
///
/// # Errors
/// [`Illegal`] when the pair is not in the table; the rotation stays as it is.
pub fn transition(
    stage: Stage,
    event: Event,
    order: Order,
    passed: Passed,
) -> Result<(Stage, Passed), Illegal> {
    use Event as E;
    use Stage as S;

    let onward = |passed: Passed| Ok((order.next(passed), passed));
    match (stage, event) {
        (
            S::Prepare | S::Install | S::Verify | S::Publish | S::Retire | S::Sever | S::ProveRefused,
            E::Done,
        ) => onward(passed.with(stage)),
        (S::Rollback, E::Done) => Ok((S::Aborted, passed)),

        (S::Install, E::Lost) => Ok((S::Uncertain, passed.with(S::Uncertain))),
        (working, E::Lost) if working.step().is_some() => Ok((stage, passed)),
        (S::Uncertain, E::Probed(Liveness::Live)) => onward(passed.with(S::Install).without(S::Uncertain)),
        (S::Uncertain, E::Probed(Liveness::Refused | Liveness::Absent)) => {
            onward(passed.without(S::Uncertain))
        }
        (S::Uncertain, E::Probed(Liveness::Unknown)) => Ok((S::Uncertain, passed)),

        (working, E::Failed { class, exhausted }) if working.step().is_some() => {
            Ok((if gives_up(class, exhausted) { S::Quarantined } else { stage }, passed))
        }
        (S::ProveRefused, E::StillLive { exhausted }) => Ok((
            if exhausted { S::Quarantined } else { S::Retire },
            passed.without(S::Retire).without(S::Sever),
        )),

        (S::Drain, E::Drained) => onward(passed.with(S::Drain)),
        (S::Drain, E::Held) => Ok((S::Quarantined, passed)),

        (
            S::Prepare | S::Install | S::Uncertain | S::Verify | S::Publish | S::Drain | S::Quarantined,
            E::AbortRequested,
        ) if can_go_back(stage, order, passed) => Ok(if passed.contains(S::Prepare) {
            (S::Rollback, passed.with(S::Rollback))
        } else {
            (S::Aborted, passed)
        }),
        (S::Quarantined, E::RetryRequested) if passed.contains(S::Rollback) => Ok((S::Rollback, passed)),
        (S::Quarantined, E::RetryRequested) => onward(passed),
        (open, E::Reordered) if !open.is_terminal() => {
            onward(if passed.contains(S::Rollback) { turned_again(passed) } else { passed })
        }
        _ => Err(Illegal),
    }
}

/// Whether the old version is untouched yet, so that it can be gone back to.
fn can_go_back(stage: Stage, order: Order, passed: Passed) -> bool {
    let ahead = match stage {
        Stage::Quarantined if passed.contains(Stage::Rollback) => Stage::Rollback,
        Stage::Quarantined => order.next(passed),
        Stage::Prepare
        | Stage::Install
        | Stage::Uncertain
        | Stage::Verify
        | Stage::Publish
        | Stage::Drain
        | Stage::Retire
        | Stage::Sever
        | Stage::ProveRefused
        | Stage::Rollback
        | Stage::Settled
        | Stage::Aborted => stage,
    };
    let gone = matches!(ahead, Stage::Retire | Stage::Sever | Stage::ProveRefused);
    matches!(order, Order::OverlapFirst) && !gone
}

/// The way back is given up and nobody knows how far it has come: the install is in doubt, and what follows it is
/// done again.
const fn turned_again(passed: Passed) -> Passed {
    let passed = passed.without(Stage::Rollback).without(Stage::Verify).without(Stage::Publish);
    if passed.contains(Stage::Prepare) {
        passed.without(Stage::Install).with(Stage::Uncertain)
    } else {
        passed
    }
}

const fn gives_up(class: FailureClass, exhausted: bool) -> bool {
    match class {
        FailureClass::Retryable => exhausted,
        FailureClass::Unreachable => false,
        FailureClass::RejectedByTarget | FailureClass::WrongCredential | FailureClass::Permanent => true,
    }
}

/// One entry of a rotation's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// When.
    pub at: Time,
    /// The stage it happened in.
    pub stage: Stage,
    /// What happened, for people.
    pub note: String,
}

#[cfg(test)]
mod tests;
