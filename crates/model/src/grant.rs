//! Break-glass grants: a person's permission that ends by itself.

use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Attempt, FailureClass, Liveness, Retry, Step},
    caps,
    name::{GrantId, RevocationId, TargetName},
    sealed::Sealed,
    table::Row,
    time::{Span, Time},
};

/// A time-bound permission for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who asked, and the only one who is shown the secret.
    pub requester: String,
    /// Where.
    pub target: TargetName,
    /// The role at the target that the temporary user becomes a member of.
    pub role: String,
    /// For how long, from approval.
    pub duration: Span,
    /// The ticket it belongs to.
    pub ticket: String,
    /// Why it is needed.
    pub reason: String,
    /// When it was asked for.
    pub requested: Time,
    /// Where it stands.
    pub stage: GrantStage,
    /// Who approved or denied it, and when.
    pub decided: Option<(String, Time)>,
    /// When it ends whatever happens.
    pub expires: Option<Time>,
    /// The temporary user.
    pub username: Option<String>,
    /// Its secret, bound with [`crate::sealed::associated::grant`]; gone once the end is proven.
    pub sealed: Option<Sealed>,
    /// When the secret was shown to the requester: at most once.
    pub revealed: Option<Time>,
    /// The attempt in flight: at most one.
    pub attempt: Option<Attempt>,
    /// How often the present step was tried.
    pub retry: Retry,
    /// Why it ended, and when the end began.
    pub ended: Option<(GrantEnd, Time)>,
    /// When a login with it was seen to be refused.
    pub refused: Option<Time>,
    /// The feed entry that told of its end.
    pub ended_revision: Option<u64>,
    /// The revocation that ended it, if one did.
    pub revocation: Option<RevocationId>,
    /// What the review found.
    pub review: Option<Review>,
}

impl Row for Grant {
    type Key = GrantId;
    const TAG: u8 = 11;
    const STATED: bool = true;

    fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }
}

impl Grant {
    /// Whether it permits anything at `now`.
    #[must_use]
    pub fn is_live(&self, now: Time) -> bool {
        matches!(self.stage, GrantStage::Active) && self.expires.is_some_and(|end| now < end)
    }

    /// The instant at which the present stage ends without anybody's doing.
    #[must_use]
    pub fn ends_by_itself(&self) -> Option<Time> {
        match self.stage {
            GrantStage::Requested => Some(self.requested.plus(caps::REQUEST_LAPSES_AFTER)),
            GrantStage::Prepare | GrantStage::Install | GrantStage::Uncertain | GrantStage::Active => {
                self.expires
            }
            GrantStage::Retire
            | GrantStage::Sever
            | GrantStage::ProveRefused
            | GrantStage::Remove
            | GrantStage::AwaitingReview
            | GrantStage::Reviewed
            | GrantStage::Denied
            | GrantStage::Lapsed => None,
        }
    }
}

/// Why a grant ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantEnd {
    /// Its time was up.
    Expired,
    /// Someone ended it.
    Ended {
        /// Who.
        by: String,
    },
    /// It was revoked.
    Revoked,
    /// It could not be activated.
    ActivationFailed,
}

/// What a review found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// By whom; never the requester.
    pub by: String,
    /// When.
    pub at: Time,
    /// In words.
    pub note: String,
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantStage {
    /// Waiting for an approver.
    Requested,
    /// A secret must be generated and sealed.
    Prepare,
    /// The temporary user must be made.
    Install,
    /// The outcome of that is unknown.
    Uncertain,
    /// In force.
    Active,
    /// The temporary user must be refused.
    Retire,
    /// Its sessions must be cut.
    Sever,
    /// A login must be refused.
    ProveRefused,
    /// The temporary user must be removed.
    Remove,
    /// Over; someone else must look at it.
    AwaitingReview,
    /// Over and reviewed.
    Reviewed,
    /// Never in force: denied.
    Denied,
    /// Never in force: nobody decided in time.
    Lapsed,
}

impl GrantStage {
    /// The stage as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Uncertain => "uncertain",
            Self::Active => "active",
            Self::Retire => "retire",
            Self::Sever => "sever",
            Self::ProveRefused => "prove-refused",
            Self::Remove => "remove",
            Self::AwaitingReview => "awaiting-review",
            Self::Reviewed => "reviewed",
            Self::Denied => "denied",
            Self::Lapsed => "lapsed",
        }
    }

    /// The step a worker must perform in this stage.
    #[must_use]
    pub const fn step(self) -> Option<Step> {
        match self {
            Self::Prepare => Some(Step::Prepare),
            Self::Install => Some(Step::Install),
            Self::Uncertain => Some(Step::Probe),
            Self::Retire => Some(Step::Retire),
            Self::Sever => Some(Step::Sever),
            Self::ProveRefused => Some(Step::ProveRefused),
            Self::Remove => Some(Step::Remove),
            Self::Requested
            | Self::Active
            | Self::AwaitingReview
            | Self::Reviewed
            | Self::Denied
            | Self::Lapsed => None,
        }
    }

    /// Whether nothing can happen any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Reviewed | Self::Denied | Self::Lapsed)
    }
}

/// Something that happens to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantEvent {
    /// An approver said yes.
    Approved,
    /// An approver said no.
    Refused,
    /// Nobody decided in time.
    Lapsed,
    /// The stage's step took effect.
    Done,
    /// The step did not take effect.
    Failed(FailureClass),
    /// The outcome is unknown, or the attempt passed its deadline.
    Lost,
    /// A probe reported on the temporary user.
    Probed(Liveness),
    /// The user that must be dead still logs in.
    StillLive,
    /// Its time is up, or someone ended or revoked it.
    Over,
    /// Someone else has looked at it.
    Reviewed,
}

/// The state machine of a grant. Its end is never given up: failures on the way out are tried again for ever.
///
/// # Errors
/// [`crate::rotation::Illegal`] when the pair is not in the table.
pub fn transition(stage: GrantStage, event: GrantEvent) -> Result<GrantStage, crate::rotation::Illegal> {
    use GrantEvent as E;
    use GrantStage as S;

    match (stage, event) {
        (S::Requested, E::Approved) => Ok(S::Prepare),
        (S::Requested, E::Refused) => Ok(S::Denied),
        (S::Requested, E::Lapsed | E::Over) => Ok(S::Lapsed),

        (S::Prepare, E::Done) => Ok(S::Install),
        (S::Install, E::Done) => Ok(S::Active),
        (S::Install, E::Lost) => Ok(S::Uncertain),
        (S::Uncertain, E::Probed(Liveness::Live)) => Ok(S::Active),
        (S::Uncertain, E::Probed(Liveness::Refused | Liveness::Absent)) => Ok(S::Install),
        (S::Uncertain, E::Probed(Liveness::Unknown)) => Ok(S::Uncertain),
        (
            S::Prepare | S::Install | S::Uncertain,
            E::Failed(
                FailureClass::RejectedByTarget | FailureClass::WrongCredential | FailureClass::Permanent,
            ),
        ) => Ok(S::Retire),
        (
            S::Prepare | S::Install | S::Uncertain,
            E::Failed(FailureClass::Retryable | FailureClass::Unreachable),
        ) => Ok(stage),
        (S::Prepare | S::Install | S::Uncertain | S::Active, E::Over) => Ok(S::Retire),

        (S::Retire, E::Done) => Ok(S::Sever),
        (S::Sever, E::Done) => Ok(S::ProveRefused),
        (S::ProveRefused, E::Done) => Ok(S::Remove),
        (S::ProveRefused, E::StillLive) => Ok(S::Retire),
        (S::Remove, E::Done) => Ok(S::AwaitingReview),
        (S::Retire | S::Sever | S::ProveRefused | S::Remove, E::Failed(_) | E::Lost | E::Over) => Ok(stage),
        (S::Prepare | S::Uncertain, E::Lost) => Ok(stage),

        (S::AwaitingReview, E::Reviewed) => Ok(S::Reviewed),
        _ => Err(crate::rotation::Illegal),
    }
}

#[cfg(test)]
mod tests;
