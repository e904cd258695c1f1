//! Refusals: how the model says no. Each has a stable code, a reason and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a command was refused. The state is as it was, but for the audit record of the refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of refusal it is; stable.
    pub code: Code,
    /// What is wrong, for people; carries no secret.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $remedy:literal;)*) => {
        /// Stable codes of refusals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written on the wire, in audit and in output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What to do next, for people.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// A text is missing where one is required.
    TextRequired = "text_required", "give it and send again";
    /// A text, list or blob is over its limit.
    TooLong = "too_long", "shorten it; `docs/reference/limits.md` lists the limits";
    /// A value is outside its range.
    OutOfRange = "out_of_range", "choose a value inside the range";
    /// An identity needs exactly one owner.
    OwnerRequired = "owner_required", "name the one person or team that answers for it";
    /// An identity needs exactly one purpose.
    PurposeRequired = "purpose_required", "say the one thing it is for";
    /// An identity needs exactly one workload.
    WorkloadRequired = "workload_required", "name the one workload that acts as it";
    /// An identity needs an environment.
    EnvironmentRequired = "environment_required", "name where the workload runs, such as `production`";
    /// An identity needs a review date in the future.
    ReviewDateRequired = "review_date_required", "set `reviewBy` to a day on which its need is looked at again";
    /// Several workloads use one credential and nobody answers for it.
    SharedExceptionRequired = "shared_exception_required",
        "give each workload its own credential, or declare `shared` with owner, reason and end date";
    /// There is no identity of that name.
    UnknownIdentity = "unknown_identity", "list them with `revolve identity list`";
    /// There is no target of that name.
    UnknownTarget = "unknown_target", "list them with `revolve target list`";
    /// There is no store of that name.
    UnknownStore = "unknown_store", "list them with `revolve store list`";
    /// There is no credential of that name.
    UnknownCredential = "unknown_credential", "list them with `revolve credential list`";
    /// The credential has no such version.
    UnknownVersion = "unknown_version", "see its versions with `revolve credential get`";
    /// There is no schedule of that name.
    UnknownSchedule = "unknown_schedule", "list them with `revolve schedule list`";
    /// There is no such rotation.
    UnknownRotation = "unknown_rotation", "list them with `revolve rotation list`";
    /// There is no such revocation.
    UnknownRevocation = "unknown_revocation", "list them with `revolve revocation list`";
    /// There is no consumer of that name.
    UnknownConsumer = "unknown_consumer", "list them with `revolve consumer list`";
    /// There is no such event.
    UnknownRevision = "unknown_revision", "follow the feed with `revolve feed watch`";
    /// There is no such grant.
    UnknownGrant = "unknown_grant", "list them with `revolve breakglass list`";
    /// There is no token of that name.
    UnknownToken = "unknown_token", "list them with `revolve token list`";
    /// There is no such node.
    UnknownNode = "unknown_node", "list them with `revolve cluster members`";
    /// Something else still depends on it.
    InUse = "in_use", "remove or change what depends on it first";
    /// The name is taken and cannot be changed in this way.
    AlreadyExists = "already_exists", "choose another name";
    /// A field that identifies a thing cannot be changed.
    Immutable = "immutable", "declare a new one and remove the old one";
    /// Another schedule already rotates the credential.
    CredentialHasSchedule = "credential_has_schedule", "change that schedule, or remove it first";
    /// The schedule's timing cannot be used.
    InvalidTiming = "invalid_timing", "try it with `revolve schedule preview`";
    /// A rotation of the credential is under way.
    RotationInFlight = "rotation_in_flight", "wait for it, or abort it with `revolve rotation abort`";
    /// Another credential already uses that user, or that place in a store.
    TakenByAnother = "taken_by_another", "give each credential a user and a place of its own";
    /// Somebody else changed it meanwhile.
    Conflict = "conflict", "read it again and repeat";
    /// The rotation has ended.
    RotationEnded = "rotation_ended", "start another with `revolve schedule trigger`";
    /// The rotation is past the point from which it can go back.
    PastAbort = "past_abort", "let it finish; the old version is already being retired";
    /// Only a quarantined rotation can be told to go on.
    NotQuarantined = "not_quarantined", "nothing needs to be done; it goes on by itself";
    /// The step is not what the job needs now.
    WrongStep = "wrong_step", "derive the work anew";
    /// The attempt is not the one in flight.
    StaleAttempt = "stale_attempt", "drop it; another attempt has taken its place";
    /// Another attempt is in flight.
    AttemptInFlight = "attempt_in_flight", "wait for it";
    /// The job is waiting before its next attempt.
    NotYet = "not_yet", "wait until it is due";
    /// The outcome does not fit the step.
    OutcomeMismatch = "outcome_mismatch", "report the outcome of the step that was begun";
    /// There is nothing alive to revoke.
    NothingToRevoke = "nothing_to_revoke", "it is already dead; see `revolve revocation list`";
    /// Only a hold can be lifted.
    NotAHold = "not_a_hold", "make a new version instead; other revocations are final";
    /// The hold was already lifted.
    AlreadyLifted = "already_lifted", "nothing needs to be done";
    /// A subscription that covers nothing.
    EmptySubscription = "empty_subscription", "name credentials or targets, or say `all: true`";
    /// The event was never sent to this consumer.
    NeverDelivered = "never_delivered", "acknowledge only what the feed has delivered to you";
    /// The event is not for this consumer.
    NotSubscribed = "not_subscribed", "acknowledge only events of your own stream";
    /// The range of revisions is empty or reversed.
    InvalidRange = "invalid_range", "give ranges as first and last revision, both included";
    /// The duration of a grant is out of bounds.
    DurationOutOfBounds = "duration_out_of_bounds", "ask for at most 4 hours; ask again when more is needed";
    /// The target does not hand out this role.
    RoleNotAllowed = "role_not_allowed", "ask for a role listed under `breakGlassRoles` of the target";
    /// Nobody decides on or reviews their own grant.
    OwnGrant = "own_grant", "ask someone else";
    /// The grant is not in a stage that allows this.
    WrongStage = "wrong_stage", "see where it stands with `revolve breakglass get`";
    /// The secret belongs to the requester alone.
    NotTheRequester = "not_the_requester", "only the one who asked is shown the secret";
    /// The secret was shown once already.
    AlreadyRevealed = "already_revealed", "end the grant and ask for another";
    /// A consumer's token needs a consumer, others must not have one.
    ConsumerBinding = "consumer_binding", "use `--consumer` with role `consumer` and nowhere else";
    /// The token has expired or was revoked.
    TokenDead = "token_dead", "ask an admin for a new one";
    /// The last admin token cannot be taken away.
    LastAdmin = "last_admin", "issue another admin token first";
    /// A data key is in place already.
    DataKeyExists = "data_key_exists", "nothing needs to be done";
    /// The caller could not be authenticated.
    Unauthenticated = "unauthenticated", "give a valid token in REVOLVE_TOKEN or REVOLVE_TOKEN_FILE";
    /// The caller's role does not allow this.
    PermissionDenied = "permission_denied", "ask someone whose role allows it";
    /// The request is not well formed.
    InvalidRequest = "invalid_request", "correct it and send again";
    /// The version has no secret that could be read.
    NoSecret = "no_secret", "wait for a rotation to publish a version, or start one with `revolve schedule trigger`";
    /// The nodes cannot do what was asked of them.
    ClusterCannot = "cluster_cannot", "see `revolve cluster status`, and ask again when it is as it should be";
    /// Another key is being replaced.
    KeyRotationInFlight = "key_rotation_in_flight", "see how far it is, and what is left to do, with `revolve key status`";
    /// Nodes do not hold the key.
    KeyNotHeld = "key_not_held", "give each node the new key as its `next_root_key_file`, and watch `revolve key status`";
    /// The key is not one to use any more.
    StaleKey = "stale_key", "send again: it is sealed under the new key then";
    /// The state was put back from a backup, and nothing fires yet.
    Observing = "observing",
        "look at what was put back, then let it fire with `revolve cluster snapshot confirm --reason …`";
    /// Nothing waits to be confirmed.
    NotObserving = "not_observing", "nothing needs to be done";
    /// The join token does not let a node in.
    JoinToken = "join_token", "ask an admin for another with `revolve cluster invite`";
    /// The node that asks holds another root key than the cluster.
    RootKeyDiffers = "root_key_differs", "give the new node the root key of the cluster it shall join";
    /// The node was turned out of the cluster for good.
    NodeRemoved = "node_removed", "let the machine join anew with an empty data folder: `revolve cluster join`";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(texts.iter().all(|text| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
