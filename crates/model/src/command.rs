//! Commands: everything that can change the state, with the numbers under which they are persisted.

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

/// The encoding that [`Stamped::encode`] writes.
const VERSION: u8 = 1;

/// A command with the time and the actor it was accepted with. The leader stamps it; `apply` reads no clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The leader's clock when it accepted the command.
    pub at: Time,
    /// Who asked: a principal, `node-N` or `system`.
    pub actor: String,
    /// What was asked.
    pub command: Command,
}

/// The bytes are not a command this build can apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer build wrote it; skipping it would make replicas differ.
    #[error("command encoding version {0} is not known to this build")]
    UnknownVersion(u8),
    /// A newer build wrote it; skipping it would make replicas differ.
    #[error("command number {0} is not known to this build")]
    UnknownCommand(u16),
    /// The bytes are damaged.
    #[error("command bytes do not decode")]
    Damaged,
}

impl Stamped {
    /// The persisted form: version, number, then the fields in postcard.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.command.tag().to_le_bytes());
        let head = postcard::to_extend(&(self.at, &self.actor), bytes)
            .expect("plain data always encodes into memory");
        self.command.encode_body(head)
    }

    /// Reads what [`Stamped::encode`] wrote.
    ///
    /// # Errors
    /// Unknown versions and numbers must stop the node; they must never be skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [version, low, high, rest @ ..] = bytes else { return Err(DecodeError::Damaged) };
        if *version != VERSION {
            return Err(DecodeError::UnknownVersion(*version));
        }
        let ((at, actor), body) = postcard::take_from_bytes(rest).map_err(|_| DecodeError::Damaged)?;
        let command = Command::decode_body(u16::from_le_bytes([*low, *high]), body)?;
        Ok(Self { at, actor, command })
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $tag:literal $action:literal $name:ident;)*) => {
        /// Everything that can change the state.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command { $($(#[$doc])* $name($name),)* }

        impl Command {
            /// The number under which it is persisted; never reused.
            #[must_use]
            pub const fn tag(&self) -> u16 {
                match self { $(Self::$name(_) => $tag,)* }
            }

            /// The action as it is written in the audit log.
            #[must_use]
            pub const fn action(&self) -> &'static str {
                match self { $(Self::$name(_) => $action,)* }
            }

            fn encode_body(&self, head: Vec<u8>) -> Vec<u8> {
                match self { $(Self::$name(body) => postcard::to_extend(body, head),)* }
                    .expect("plain data always encodes into memory")
            }

            fn decode_body(tag: u16, body: &[u8]) -> Result<Self, DecodeError> {
                match tag {
                    $($tag => match postcard::take_from_bytes(body) {
                        Ok((body, [])) => Ok(Self::$name(body)),
                        Ok(_) | Err(_) => Err(DecodeError::Damaged),
                    },)*
                    unknown => Err(DecodeError::UnknownCommand(unknown)),
                }
            }
        }

        $(impl From<$name> for Command {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })*
    };
}

commands! {
    /// Time has passed.
    1 "clock.tick" Tick;
    /// Declares or changes an identity.
    2 "identity.put" PutIdentity;
    /// Removes an identity.
    3 "identity.remove" RemoveIdentity;
    /// Declares or changes a target.
    4 "target.put" PutTarget;
    /// Removes a target.
    5 "target.remove" RemoveTarget;
    /// Declares or changes a store.
    6 "store.put" PutStore;
    /// Removes a store.
    7 "store.remove" RemoveStore;
    /// Declares or changes a credential.
    8 "credential.put" PutCredential;
    /// Removes a credential.
    9 "credential.remove" RemoveCredential;
    /// Declares or changes a schedule.
    10 "schedule.put" PutSchedule;
    /// Removes a schedule.
    11 "schedule.remove" RemoveSchedule;
    /// Stops a schedule from firing.
    12 "schedule.pause" PauseSchedule;
    /// Lets it fire again.
    13 "schedule.resume" ResumeSchedule;
    /// Starts a rotation now.
    14 "schedule.trigger" TriggerSchedule;
    /// Intent: an attempt begins.
    20 "attempt.begin" Begin;
    /// Outcome: an attempt has ended.
    21 "attempt.finish" Finish;
    /// Takes a rotation back.
    22 "rotation.abort" AbortRotation;
    /// Lets a quarantined rotation go on.
    23 "rotation.retry" RetryRotation;
    /// States that something is no longer valid.
    30 "revocation.create" Revoke;
    /// Lifts a hold.
    31 "revocation.lift" LiftRevocation;
    /// Registers or changes a consumer.
    40 "consumer.put" PutConsumer;
    /// Removes a consumer.
    41 "consumer.remove" RemoveConsumer;
    /// Events are about to be handed to consumers.
    42 "feed.deliver" Deliver;
    /// Consumers have answered.
    43 "feed.acknowledge" Acknowledge;
    /// Excuses a consumer from an event.
    44 "feed.waive" WaiveReceipt;
    /// Asks for break-glass.
    50 "breakglass.request" RequestGrant;
    /// Says yes.
    51 "breakglass.approve" ApproveGrant;
    /// Says no.
    52 "breakglass.deny" DenyGrant;
    /// Ends a grant before its time.
    53 "breakglass.end" EndGrant;
    /// Shows the secret to the requester.
    54 "breakglass.reveal" RevealGrant;
    /// Records a review.
    55 "breakglass.review" ReviewGrant;
    /// Issues a token.
    60 "token.issue" IssueToken;
    /// Revokes a token.
    61 "token.revoke" RevokeToken;
    /// A node says where it is.
    70 "node.announce" AnnounceNode;
    /// The leader says which nodes it hears.
    71 "node.reachable" ReportReachable;
    /// Puts the wrapped data key in place.
    80 "key.install" InstallDataKey;
    /// Records refusals made before anything reached the model.
    90 "access.refused" RecordRefusals;
    /// Records that a secret was read.
    91 "secret.read" RecordRead;
}

/// See [`Command::Tick`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {}

/// See [`Command::PutIdentity`].
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

/// See [`Command::RemoveIdentity`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveIdentity {
    /// Its name.
    pub name: IdentityName,
}

/// See [`Command::PutTarget`].
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

/// See [`Command::RemoveTarget`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTarget {
    /// Its name.
    pub name: TargetName,
}

/// See [`Command::PutStore`].
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

/// See [`Command::RemoveStore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveStore {
    /// Its name.
    pub name: StoreName,
}

/// See [`Command::PutCredential`].
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

/// See [`Command::RemoveCredential`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveCredential {
    /// Its name.
    pub name: CredentialName,
}

/// See [`Command::PutSchedule`].
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

/// See [`Command::RemoveSchedule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::PauseSchedule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// Why.
    pub reason: String,
}

/// See [`Command::ResumeSchedule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::TriggerSchedule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSchedule {
    /// Its name.
    pub name: ScheduleName,
}

/// See [`Command::Begin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// For what.
    pub job: Job,
    /// The step.
    pub step: Step,
    /// The node whose worker acts.
    pub node: NodeId,
}

/// See [`Command::Finish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// For what.
    pub job: Job,
    /// The number that `Begin` returned.
    pub fence: u64,
    /// What was found.
    pub outcome: StepOutcome,
}

/// See [`Command::AbortRotation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRotation {
    /// Which.
    pub id: RotationId,
    /// Why.
    pub reason: String,
}

/// See [`Command::RetryRotation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRotation {
    /// Which.
    pub id: RotationId,
}

/// See [`Command::Revoke`].
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

/// See [`Command::LiftRevocation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiftRevocation {
    /// Which.
    pub id: RevocationId,
    /// Why.
    pub reason: String,
}

/// See [`Command::PutConsumer`].
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

/// See [`Command::RemoveConsumer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveConsumer {
    /// Its name.
    pub name: ConsumerName,
}

/// See [`Command::Deliver`]. One command speaks for many consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// Each consumer with the highest revision about to be handed to it.
    pub upto: BTreeMap<ConsumerName, u64>,
}

/// See [`Command::Acknowledge`]. One command speaks for many consumers.
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

/// See [`Command::WaiveReceipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiveReceipt {
    /// Who is excused.
    pub consumer: ConsumerName,
    /// From which event.
    pub revision: u64,
    /// Why.
    pub reason: String,
}

/// See [`Command::RequestGrant`].
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

/// See [`Command::ApproveGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveGrant {
    /// Which.
    pub id: GrantId,
}

/// See [`Command::DenyGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyGrant {
    /// Which.
    pub id: GrantId,
    /// Why.
    pub reason: String,
}

/// See [`Command::EndGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndGrant {
    /// Which.
    pub id: GrantId,
    /// Why.
    pub reason: String,
}

/// See [`Command::RevealGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealGrant {
    /// Which.
    pub id: GrantId,
}

/// See [`Command::ReviewGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewGrant {
    /// Which.
    pub id: GrantId,
    /// What was found.
    pub note: String,
}

/// See [`Command::IssueToken`].
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

/// See [`Command::RevokeToken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeToken {
    /// Its name.
    pub name: TokenName,
    /// Why.
    pub reason: String,
}

/// See [`Command::AnnounceNode`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceNode {
    /// Its id.
    pub id: NodeId,
    /// Where clients reach it.
    pub client_address: String,
    /// The version it runs.
    pub version: String,
}

/// See [`Command::ReportReachable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReachable {
    /// The nodes the leader hears, itself included.
    pub nodes: BTreeSet<NodeId>,
}

/// See [`Command::InstallDataKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallDataKey {
    /// The key's id, as it stands in the header of what it seals.
    pub id: u32,
    /// The key, wrapped by the root key.
    pub wrapped: Vec<u8>,
}

/// See [`Command::RecordRefusals`].
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

/// See [`Command::RecordRead`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRead {
    /// The credential.
    pub credential: CredentialName,
    /// The version that was read.
    pub version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped() -> Stamped {
        let command = RemoveIdentity { name: "orders".parse().unwrap() }.into();
        Stamped { at: Time(7), actor: "alice".into(), command }
    }

    #[test]
    fn the_persisted_form_is_fixed() {
        let bytes = stamped().encode();
        assert_eq!(bytes, b"\x01\x03\x00\x07\x05alice\x06orders");
        assert_eq!(Stamped::decode(&bytes), Ok(stamped()));
    }

    #[test]
    fn unknown_versions_and_numbers_are_named() {
        let mut bytes = stamped().encode();
        bytes[0] = 9;
        assert_eq!(Stamped::decode(&bytes), Err(DecodeError::UnknownVersion(9)));
        bytes[..3].copy_from_slice(&[1, 0xff, 0xff]);
        assert_eq!(Stamped::decode(&bytes), Err(DecodeError::UnknownCommand(0xffff)));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = stamped().encode();
        for cut in 0..bytes.len() {
            assert!(Stamped::decode(&bytes[..cut]).is_err());
        }
        assert_eq!(Stamped::decode(&[&bytes[..], b"x"].concat()), Err(DecodeError::Damaged));
    }
}
