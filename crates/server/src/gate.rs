//! Who may call what: every call is authenticated, then looked up in one table. What the table does not allow is
//! denied.

use std::sync::Arc;

use model::{
    State,
    name::{ConsumerName, TokenName},
    refusal::Code,
    time::Time,
    token::{Role, Token},
};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use crate::{consensus::Consensus, denied::Denied, fresh::Fresh, token::Bearer};

/// Who acts when nobody could be authenticated.
pub(crate) const ANONYMOUS: &str = "anonymous";

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $($role:ident)*;)*) => {
        /// Everything that can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// All actions.
            #[cfg(test)]
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The action as it is written in the audit log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The roles that may ask for it; every other is denied.
            #[must_use]
            pub const fn roles(self) -> &'static [Role] {
                match self { $(Self::$name => &[$(Role::$role),*],)* }
            }
        }
    };
}

actions! {
    /// Declares resources, or says what declaring them would change.
    Apply = "resource.apply": Admin Operator;
    /// Removes a resource.
    Remove = "resource.remove": Admin Operator;
    /// Reads resources, rotations, revocations, grants, the status and the cluster.
    Look = "state.read": Admin Operator Approver Auditor;
    /// Pauses, resumes and triggers schedules.
    Schedule = "schedule.steer": Admin Operator;
    /// Aborts and retries rotations.
    Rotation = "rotation.steer": Admin Operator;
    /// States that something is no longer valid, and lifts holds.
    Revoke = "revocation.create": Admin Operator;
    /// Excuses a consumer from an event.
    Waive = "feed.waive": Admin Operator;
    /// Asks for break-glass, and is shown what was asked for.
    RequestGrant = "breakglass.request": Admin Operator Approver;
    /// Decides on break-glass, and reviews it; never one's own, which the model sees to.
    DecideGrant = "breakglass.decide": Admin Approver;
    /// Ends break-glass before its time.
    EndGrant = "breakglass.end": Admin Operator Approver;
    /// Is given what a node knows of itself.
    CollectDebug = "debug.collect": Admin;
    /// Changes what the nodes do.
    ChangeCluster = "cluster.change": Admin;
    /// Replaces data keys and root keys.
    ManageKeys = "key.manage": Admin;
    /// Comes into the cluster as a node. No token allows it: see [`crate::join`].
    Join = "node.admit":;
    /// Takes the state away as a backup, and lets one that was put back fire.
    Backup = "cluster.snapshot": Admin;
    /// Follows the ledger.
    ReadLedger = "ledger.read": Admin Auditor;
    /// Issues and revokes tokens.
    Tokens = "token.manage": Admin;
    /// Lists tokens.
    ListTokens = "token.list": Admin Auditor;
    /// Issues and revokes certificates of the client port, and revokes nodes.
    Certificates = "certificate.manage": Admin;
    /// Lists certificates.
    ListCertificates = "certificate.list": Admin Auditor;
    /// Reads and verifies the audit log.
    Audit = "audit.read": Admin Auditor;
    /// Reads the current value of a credential; a consumer, of one its subscription covers.
    ReadSecret = "secret.read": Admin Consumer;
    /// Follows one's own stream of the feed.
    Follow = "feed.watch": Consumer;
    /// Looks at the stream of another, or at the whole feed.
    Observe = "feed.observe": Admin Operator Auditor;
    /// Answers for events of one's own stream.
    Acknowledge = "feed.acknowledge": Consumer;
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token it came with.
    pub token: TokenName,
    /// The person or machine that acts.
    pub principal: String,
    /// What it may do.
    pub role: Role,
    /// The consumer it speaks for.
    pub consumer: Option<ConsumerName>,
    hash: [u8; 32],
    /// When the token stops working by itself.
    pub expires: Option<Time>,
}

impl Caller {
    fn of(token: &Token) -> Self {
        Self {
            token: token.name.clone(),
            principal: token.principal.clone(),
            role: token.role,
            consumer: token.consumer.clone(),
            hash: token.hash,
            expires: token.expires,
        }
    }

    /// Refuses when the token has expired, was revoked or has been replaced.
    ///
    /// # Errors
    /// [`Code::TokenDead`].
    pub fn check_alive(&self, state: &State, now: Time) -> Result<(), Denied> {
        match state.tokens().get(&self.token) {
            Some(token) if token.hash == self.hash && token.is_live(now) => Ok(()),
            Some(_) | None => Err(dead(&self.token)),
        }
    }

    /// Refuses what the role does not allow.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`].
    pub fn check_allowed(&self, action: Action) -> Result<(), Denied> {
        if action.roles().contains(&self.role) {
            return Ok(());
        }
        let roles = action.roles().iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
        let message =
            format!("role `{}` may not ask for {}; allowed: {roles}", self.role.as_str(), action.as_str());
        Err(Denied::edge(Code::PermissionDenied, message))
    }
}

/// Calls with a token that this node does not know, for which the cluster is asked, at the same time. They wait apart
/// from all others: a flood of them keeps nobody out who is known.
const STRANGERS: usize = 64;

/// Finds out who calls.
pub(crate) struct Gate {
    consensus: Arc<dyn Consensus>,
    fresh: Arc<Fresh>,
    strangers: Semaphore,
}

/// A call that was turned away, and who made it as far as is known.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) actor: String,
    pub(crate) denied: Denied,
}

impl Gate {
    pub(crate) fn new(consensus: Arc<dyn Consensus>, fresh: Arc<Fresh>) -> Self {
        Self { consensus, fresh, strangers: Semaphore::new(STRANGERS) }
    }

    /// The caller, from `authorization: Bearer …`.
    pub(crate) async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Rejected> {
        let anonymous = |denied| Rejected { actor: ANONYMOUS.to_owned(), denied };
        let bearer = bearer(metadata).map_err(anonymous)?;
        let token = self.find(&bearer).await.map_err(anonymous)?;
        // The name is only claimed: the audit log must not read as if its holder had called.
        let Some(token) = token else {
            let actor = format!("{ANONYMOUS} as token/{}", bearer.name());
            return Err(Rejected {
                actor,
                denied: Denied::edge(Code::Unauthenticated, "the token is not valid"),
            });
        };
        if token.is_live(self.consensus.now()) {
            Ok(Caller::of(&token))
        } else {
            Err(Rejected { denied: dead(&token.name), actor: token.principal })
        }
    }

    /// The kept token that `bearer` is. One that is not known here may have been issued a moment ago on another node:
    /// the cluster is asked once, together with everyone else who waits for the same.
    async fn find(&self, bearer: &Bearer) -> Result<Option<Token>, Denied> {
        let matching = |state: &State| {
            let token = state.tokens().get(bearer.name());
            bearer.matches(token.map(|token| &token.hash)).then(|| token.cloned()).flatten()
        };
        if let Some(token) = matching(&self.consensus.local()) {
            return Ok(Some(token));
        }
        let _permit = self.strangers.try_acquire().map_err(|_| Denied::Busy("unknown tokens"))?;
        Ok(matching(&self.fresh.read().await?.state))
    }
}

fn bearer(metadata: &MetadataMap) -> Result<Bearer, Denied> {
    let refused = |message: &str| Denied::edge(Code::Unauthenticated, message);
    let mut values = metadata.get_all("authorization").iter();
    let value = values.next().ok_or_else(|| refused("the call carries no token"))?;
    if values.next().is_some() {
        return Err(refused("the call carries more than one token"));
    }
    let text = value.to_str().map_err(|_| refused("the token is not valid"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Bearer::parse(token.trim()).map_err(|_| refused("the token is not valid"))
        }
        Some(_) | None => Err(refused("`authorization` must read `Bearer <token>`")),
    }
}

fn dead(name: &TokenName) -> Denied {
    Denied::edge(Code::TokenDead, format!("token `{name}` has expired or was revoked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per action, one column per role in the order of [`Role::ALL`]: admin, operator, approver, auditor,
    /// consumer.
    const TABLE: &[(Action, &str)] = &[
        (Action::Apply, "yy..."),
        (Action::Remove, "yy..."),
        (Action::Look, "yyyy."),
        (Action::Schedule, "yy..."),
        (Action::Rotation, "yy..."),
        (Action::Revoke, "yy..."),
        (Action::Waive, "yy..."),
        (Action::RequestGrant, "yyy.."),
        (Action::DecideGrant, "y.y.."),
        (Action::EndGrant, "yyy.."),
        (Action::CollectDebug, "y...."),
        (Action::ChangeCluster, "y...."),
        (Action::ManageKeys, "y...."),
        (Action::Join, "....."),
        (Action::Backup, "y...."),
        (Action::ReadLedger, "y..y."),
        (Action::Tokens, "y...."),
        (Action::ListTokens, "y..y."),
        (Action::Certificates, "y...."),
        (Action::ListCertificates, "y..y."),
        (Action::Audit, "y..y."),
        (Action::ReadSecret, "y...y"),
        (Action::Follow, "....y"),
        (Action::Observe, "yy.y."),
        (Action::Acknowledge, "....y"),
    ];

    fn caller(role: Role) -> Caller {
        Caller {
            token: "t".parse().unwrap(),
            principal: "alice".into(),
            role,
            consumer: None,
            hash: [0; 32],
            expires: None,
        }
    }

    #[test]
    fn the_table_of_roles_and_actions_is_this_one() {
        assert_eq!(TABLE.iter().map(|(action, _)| *action).collect::<Vec<_>>(), Action::ALL);
        for (action, row) in TABLE {
            for (role, cell) in Role::ALL.into_iter().zip(row.chars()) {
                let allowed = caller(role).check_allowed(*action);
                assert_eq!(allowed.is_ok(), cell == 'y', "{} {}", role.as_str(), action.as_str());
                if let Err(denied) = allowed {
                    assert_eq!(denied.reason(), "permission_denied");
                }
            }
        }
    }

    #[test]
    fn nothing_but_one_bearer_token_is_read() {
        let good = Bearer::generate("ci".parse().unwrap()).to_text();
        let good = secrecy::ExposeSecret::expose_secret(&good);
        let with = |values: &[String]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("authorization", value.parse().unwrap());
            }
            bearer(&metadata).is_ok()
        };
        assert!(with(&[format!("Bearer {good}")]));
        assert!(with(&[format!("bearer {good}")]));
        assert!(!with(&[]));
        assert!(!with(&[good.to_owned()]));
        assert!(!with(&[format!("Basic {good}")]));
        assert!(!with(&[format!("Bearer {good} {good}")]));
        assert!(!with(&[format!("Bearer {good}"), format!("Bearer {good}")]));
    }
}
