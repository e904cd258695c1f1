//! What each command carries. The fields and their order are persisted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Job, Step, StepOutcome},
    consumer::Subscription,
    credential::{Placement, SharedException, Strategy},
    event::{ReasonCode, Subject},
    name::{
        ConsumerName, CredentialName, GrantId, IdentityName, NodeId, RevocationId, RotationId, ScheduleName,
        StoreName, TargetName, TokenName,
    },
    schedule::{Misfire, RotationPolicy},
    sealed::Sealed,
    target::SecretPolicy,
    time::{Span, Time},
    timing::Timing,
    token::Role,
};

/// See [`Command::Tick`](super::Command::Tick).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {}

/// See [`Command::PutIdentity`](super::Command::PutIdentity).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutIdentity {
    /// Its name.
    pub name: IdentityName,
    /// The one person or team that answers for it.
    pub owner: String,
    /// The one thing it is for.
    pub purpose: String,
    /// The one workload that acts as it.
    pub workload: String,
    /// Where that workload runs.
    pub environment: String,
    /// When its need must be looked at again; zero when none was given.
    pub review_by: Time,
}

/// See [`Command::RemoveIdentity`](super::Command::RemoveIdentity).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveIdentity {
    /// Its name.
    pub name: IdentityName,
}

/// See [`Command::PutTarget`](super::Command::PutTarget).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutTarget {
    /// Its name.
    pub name: TargetName,
    /// Which provider reaches it.
    pub provider: String,
    /// What the provider needs to know.
    pub params: BTreeMap<String, String>,
    /// The administrative secret; `None` keeps the one there is.
    pub admin: Option<Sealed>,
    /// What generated secrets look like here.
    pub secrets: SecretPolicy,
    /// Roles that break-glass may hand out here.
    pub break_glass_roles: Vec<String>,
}

/// See [`Command::RemoveTarget`](super::Command::RemoveTarget).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTarget {
    /// Its name.
    pub name: TargetName,
}

/// See [`Command::PutStore`](super::Command::PutStore).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutStore {
    /// Its name.
    pub name: StoreName,
    /// Which kind it is.
    pub kind: String,
    /// What the kind needs to know.
    pub params: BTreeMap<String, String>,
    /// The secret that opens it; `None` keeps the one there is.
    pub access: Option<Sealed>,
}

/// See [`Command::RemoveStore`](super::Command::RemoveStore).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveStore {
    /// Its name.
    pub name: StoreName,
}

/// See [`Command::PutCredential`](super::Command::PutCredential).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutCredential {
    /// Its name.
    pub name: CredentialName,
    /// Whose it is.
    pub identity: IdentityName,
    /// Where it is honoured.
    pub target: TargetName,
    /// How old and new versions live beside each other.
    pub strategy: Strategy,
    /// Stores beside `builtin`.
    pub stores: Vec<Placement>,
    /// The workloads that use it; empty means the identity's own.
    pub workloads: Vec<String>,
    /// Leave for more than one workload.
    pub shared: Option<SharedException>,
    /// The secret in use today, adopted as the first version; only when the credential is new.
    pub adopt: Option<Adopt>,
}

/// A secret that is in use already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// The user it logs in as.
    pub username: String,
    /// The version it was sealed for: what [`crate::State::next_version`] says, else it is refused.
    pub version: u32,
    /// The secret, bound to that version.
    pub sealed: Sealed,
}

/// See [`Command::RemoveCredential`](super::Command::RemoveCredential).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveCredential {
    /// Its name.
    pub name: CredentialName,
}

/// See [`Command::PutSchedule`](super::Command::PutSchedule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// The credential.
    pub credential: CredentialName,
    /// The due instants.
    pub timing: Timing,
    /// Most that a due instant is moved later.
    pub jitter: Span,
    /// What to do with missed instants.
    pub misfire: Misfire,
    /// How its rotations run.
    pub policy: RotationPolicy,
}

/// See [`Command::RemoveSchedule`](super::Command::RemoveSchedule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::PauseSchedule`](super::Command::PauseSchedule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// Why.
    pub reason: String,
}

/// See [`Command::ResumeSchedule`](super::Command::ResumeSchedule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::TriggerSchedule`](super::Command::TriggerSchedule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::Begin`](super::Command::Begin).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// For what.
    pub job: Job,
    /// The step.
    pub step: Step,
    /// The node whose worker acts.
    pub node: NodeId,
}

/// See [`Command::Finish`](super::Command::Finish).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// For what.
    pub job: Job,
    /// The number that `Begin` returned.
    pub fence: u64,
    /// What was found.
    pub outcome: StepOutcome,
}

/// See [`Command::AbortRotation`](super::Command::AbortRotation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRotation {
    /// Which.
    pub id: RotationId,
    /// Why.
    pub reason: String,
}

/// See [`Command::RetryRotation`](super::Command::RetryRotation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRotation {
    /// Which.
    pub id: RotationId,
}

/// See [`Command::Revoke`](super::Command::Revoke).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Of what.
    pub subject: Subject,
    /// Why, as a code.
    pub code: ReasonCode,
    /// Why, in words.
    pub reason: String,
    /// How long required consumers have to enforce it.
    pub ack_within: Span,
}

/// See [`Command::LiftRevocation`](super::Command::LiftRevocation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiftRevocation {
    /// Which.
    pub id: RevocationId,
    /// Why.
    pub reason: String,
}

/// See [`Command::PutConsumer`](super::Command::PutConsumer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutConsumer {
    /// Its name.
    pub name: ConsumerName,
    /// Who answers for it.
    pub owner: String,
    /// Which events are for it.
    pub subscription: Subscription,
    /// Whether rotations wait for it.
    pub required: bool,
}

/// See [`Command::RemoveConsumer`](super::Command::RemoveConsumer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveConsumer {
    /// Its name.
    pub name: ConsumerName,
}

/// See [`Command::Deliver`](super::Command::Deliver). One command speaks for many consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// Each consumer with the highest revision about to be handed to it.
    pub upto: BTreeMap<ConsumerName, u64>,
}

/// See [`Command::Acknowledge`](super::Command::Acknowledge). One command speaks for many consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The answers, in the order they arrived.
    pub answers: Vec<Answer>,
}

/// One consumer's answer for events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose.
    pub consumer: ConsumerName,
    /// What it says.
    pub receipt: Receipt,
    /// For which events: first and last revision, both included.
    pub ranges: Vec<(u64, u64)>,
}

/// What a consumer says of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// It has the event.
    Received,
    /// It acts by it.
    Enforced,
    /// It could not act by it.
    Failed {
        /// In its words.
        detail: String,
    },
}

/// See [`Command::WaiveReceipt`](super::Command::WaiveReceipt).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiveReceipt {
    /// Who is excused.
    pub consumer: ConsumerName,
    /// From which event.
    pub revision: u64,
    /// Why.
    pub reason: String,
}

/// See [`Command::RequestGrant`](super::Command::RequestGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestGrant {
    /// Where.
    pub target: TargetName,
    /// The role there.
    pub role: String,
    /// For how long, from approval.
    pub duration: Span,
    /// The ticket it belongs to.
    pub ticket: String,
    /// Why.
    pub reason: String,
}

/// See [`Command::ApproveGrant`](super::Command::ApproveGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveGrant {
    /// Which.
    pub id: GrantId,
}

/// See [`Command::DenyGrant`](super::Command::DenyGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyGrant {
    /// Which.
    pub id: GrantId,
    /// Why.
    pub reason: String,
}

/// See [`Command::EndGrant`](super::Command::EndGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndGrant {
    /// Which.
    pub id: GrantId,
    /// Why.
    pub reason: String,
}

/// See [`Command::RevealGrant`](super::Command::RevealGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealGrant {
    /// Which.
    pub id: GrantId,
}

/// See [`Command::ReviewGrant`](super::Command::ReviewGrant).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewGrant {
    /// Which.
    pub id: GrantId,
    /// What was found.
    pub note: String,
}

/// See [`Command::IssueToken`](super::Command::IssueToken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueToken {
    /// Its name.
    pub name: TokenName,
    /// The person or machine that acts with it.
    pub principal: String,
    /// What it may do.
    pub role: Role,
    /// The consumer it speaks for.
    pub consumer: Option<ConsumerName>,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// When it stops working by itself.
    pub expires: Option<Time>,
}

/// See [`Command::RevokeToken`](super::Command::RevokeToken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeToken {
    /// Its name.
    pub name: TokenName,
    /// Why.
    pub reason: String,
}

/// See [`Command::AnnounceNode`](super::Command::AnnounceNode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceNode {
    /// Its id.
    pub id: NodeId,
    /// Where clients reach it.
    pub client_address: String,
    /// The version it runs.
    pub version: String,
}

/// See [`Command::ReportReachable`](super::Command::ReportReachable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReachable {
    /// The nodes the leader hears, itself included.
    pub nodes: BTreeSet<NodeId>,
}

/// See [`Command::InstallDataKey`](super::Command::InstallDataKey).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallDataKey {
    /// The key's id, as it stands in the header of what it seals.
    pub id: u32,
    /// The key, wrapped by the root key.
    pub wrapped: Vec<u8>,
}

/// See [`Command::RecordRefusals`](super::Command::RecordRefusals).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRefusals {
    /// The refusals, oldest first.
    pub refusals: Vec<EdgeRefusal>,
}

/// A refusal made at the edge: nothing of the request reached the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRefusal {
    /// Who asked, as far as is known.
    pub actor: String,
    /// What was asked.
    pub action: String,
    /// Of what.
    pub object: String,
    /// The code of the refusal.
    pub code: String,
    /// How many of the same kind this one stands for.
    pub count: u32,
}

/// See [`Command::RecordRead`](super::Command::RecordRead).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRead {
    /// The credential.
    pub credential: CredentialName,
    /// The version that was read.
    pub version: u32,
}

/// See [`Command::ChangeCluster`](super::Command::ChangeCluster).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCluster {
    /// The node that it concerns.
    pub node: NodeId,
    /// What is asked.
    pub change: ClusterChange,
    /// Why.
    pub reason: String,
}

/// See [`Command::RecordCollection`](super::Command::RecordCollection).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCollection {
    /// The node whose particulars are given.
    pub node: NodeId,
    /// Why.
    pub reason: String,
}

/// What an operator may ask of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterChange {
    /// The node is to lead.
    TransferLeader,
    /// The node does not vote, and may come back as a learner.
    Rejoin,
    /// The node is to vote as soon as it has caught up.
    Promote,
}

impl ClusterChange {
    /// The change as words are written in output and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransferLeader => "transfer-leader",
            Self::Rejoin => "rejoin",
            Self::Promote => "promote",
        }
    }
}
