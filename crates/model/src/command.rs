//! Commands: everything that can change the state, with the numbers under which they are persisted.

use crate::time::Time;

mod body;
mod certificate;
mod key;
mod membership;
mod restore;

pub use body::*;
pub use certificate::*;
pub use key::*;
pub use membership::*;
pub use restore::*;

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
    #[error(
        "the log holds a command in encoding {0}, which is not known to this build: a newer one wrote it; upgrade this \
         node and start it again"
    )]
    UnknownVersion(u8),
    /// A newer build wrote it; skipping it would make replicas differ.
    #[error(
        "the log holds command {0}, which is not known to this build: a newer one wrote it; upgrade this node and start \
         it again"
    )]
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
    /// Records that an operator changes what the nodes do, before they are asked to.
    92 "cluster.change" ChangeCluster;
    /// Records that an operator is given what a node knows of itself, for a report of a fault.
    93 "debug.collect" RecordCollection;
    /// Records a certificate of a client before it is issued.
    110 "certificate.record" RecordCertificate;
    /// Lets a certificate, or every certificate of a node, be good no more.
    111 "certificate.revoke" RevokeCertificate;
    /// Gives a new node its id.
    120 "node.admit" AdmitNode;
    /// Turns a node out for good.
    121 "node.remove" RemoveNode;
    /// Makes a token that lets one node in.
    122 "join-token.create" CreateJoinToken;
    /// Revokes a join token.
    123 "join-token.revoke" RevokeJoinToken;
    /// Puts a new data key in place; the one before is retired.
    140 "key.add" AddDataKey;
    /// Values of a retiring data key are sealed under the active one.
    141 "key.reseal" Reseal;
    /// Destroys a retired data key that nothing is sealed under.
    142 "key.destroy" DestroyDataKey;
    /// Another root key wraps the data keys from now on.
    143 "key.rewrap" RewrapDataKeys;
    /// A node says which root keys it holds.
    144 "key.announce" AnnounceKeys;
    /// The root key that was replaced is not accepted any more.
    145 "key.finish" FinishRootKey;
    /// Marks a state that was put back from a backup. It is not proposed, but applied by who puts it back.
    130 "cluster.restored" Restored;
    /// Lets everything fire again after a restore.
    131 "cluster.restore.confirm" ConfirmRestore;
    /// Records that a backup is taken, before it is.
    132 "cluster.snapshot.save" RecordBackup;
    /// Records that a backup was handed out whole.
    133 "cluster.snapshot.taken" BackupTaken;
    /// Records what probes have found while a restored cluster observes.
    134 "cluster.restore.look" RecordLooks;
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
