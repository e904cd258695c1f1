//! Nodes that come and go, and the tokens that let new ones in.

use crate::{
    State, caps,
    command::{AdmitNode, CreateJoinToken, Invitation, RemoveNode, RevokeJoinToken},
    membership::{Admission, JoinToken, Membership, Removal},
    name::{JoinTokenName, NodeId},
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
};

use super::{check, refuse};

impl State {
    pub(super) fn create_join_token(&mut self, actor: &str, command: &CreateJoinToken) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        check::span("expires", command.ttl, caps::JOIN_TOKEN_MIN, caps::JOIN_TOKEN_MAX)?;
        if self.join_tokens.contains(&command.name) {
            let message = format!("a join token named `{}` exists or existed", command.name);
            return refuse(Code::AlreadyExists, message);
        }
        self.make_room_for_join_token()?;
        let token = JoinToken {
            name: command.name.clone(),
            hash: command.hash,
            issued_by: actor.to_owned(),
            issued: self.now(),
            expires: self.now().plus(command.ttl),
            used_by: None,
            revoked: None,
        };
        self.join_tokens.put(command.name.clone(), token);
        Ok(Applied::Changed)
    }

    /// Forgets the dead token that was made first when as many are kept as may be.
    fn make_room_for_join_token(&mut self) -> Result<(), Refusal> {
        if self.join_tokens.len() < caps::JOIN_TOKENS {
            return Ok(());
        }
        let now = self.now();
        let dead = self.join_tokens.values().filter(|token| !token.is_live(now));
        let Some(oldest) = dead.min_by_key(|token| token.issued).map(|token| token.name.clone()) else {
            return refuse(Code::TooLong, format!("{} join tokens are open already", caps::JOIN_TOKENS));
        };
        self.join_tokens.remove(&oldest);
        Ok(())
    }

    pub(super) fn revoke_join_token(&mut self, command: &RevokeJoinToken) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let now = self.now();
        let Some(token) = self.join_tokens.get(&command.name) else {
            return refuse(Code::JoinToken, format!("there is no join token `{}`", command.name));
        };
        if let Some(node) = token.used_by {
            let message = format!("join token `{}` has let `{node}` in already", command.name);
            return refuse(Code::JoinToken, message);
        }
        if token.revoked.is_some() {
            return Ok(Applied::Unchanged);
        }
        self.join_tokens.update(&command.name, |token| token.revoked = Some(now));
        Ok(Applied::Changed)
    }

    /// A node that asks again, because it has not heard the answer, is given the same id.
    pub(super) fn admit_node(&mut self, command: &AdmitNode) -> Outcome {
        check::text("peerAddress", &command.peer_address, Code::InvalidRequest)?;
        let same = |row: &&Membership| {
            row.admission.as_ref().is_some_and(|admission| admission.storage == command.storage)
        };
        let known = self.memberships.values().find(same).map(|row| (row.id, row.removal.is_some()));
        if let Some(known) = known {
            return self.admit_again(known, command);
        }
        if let Some(invitation) = &command.invitation {
            self.check_invitation(invitation)?;
        }
        let Some(id) = self.highest_node(command.highest).0.checked_add(1).map(NodeId) else {
            return refuse(Code::OutOfRange, "there is no id left");
        };
        let token = command.invitation.as_ref().map(|invitation| invitation.token.clone());
        let admission = Admission {
            at: self.now(),
            storage: command.storage,
            peer_address: command.peer_address.clone(),
            learner: command.learner,
            token: token.clone(),
        };
        self.memberships.put(id, Membership { id, admission: Some(admission), removal: None });
        if let Some(token) = token {
            self.join_tokens.update(&token, |token| token.used_by = Some(id));
        }
        Ok(Applied::Admitted(id))
    }

    fn admit_again(&mut self, (id, removed): (NodeId, bool), command: &AdmitNode) -> Outcome {
        if removed {
            let message = format!("the data folder is that of `{id}`, which was removed");
            return refuse(Code::NodeRemoved, message);
        }
        if let Some(Invitation { token, hash }) = &command.invitation {
            let mine = |row: &JoinToken| row.hash == *hash && row.used_by == Some(id);
            if !self.join_tokens.get(token).is_some_and(mine) {
                self.check_invitation(&Invitation { token: token.clone(), hash: *hash })?;
            }
        }
        if self.admission_of(id).is_some_and(|known| known.peer_address != command.peer_address) {
            self.memberships.update(&id, |row| {
                if let Some(admission) = row.admission.as_mut() {
                    admission.peer_address.clone_from(&command.peer_address);
                }
            });
        }
        Ok(Applied::Admitted(id))
    }

    fn check_invitation(&self, invitation: &Invitation) -> Result<(), Refusal> {
        let dead = |why: String| refuse(Code::JoinToken, format!("join token `{}` {why}", invitation.token));
        let Some(token) = self.join_tokens.get(&invitation.token).filter(|row| row.hash == invitation.hash)
        else {
            return refuse(Code::JoinToken, unknown_join_token(&invitation.token));
        };
        match (token.used_by, token.revoked) {
            (Some(node), _) => dead(format!("has let `{node}` in already, and works once")),
            (None, Some(_)) => dead("was revoked".into()),
            (None, None) if !token.is_live(self.now()) => dead("has expired".into()),
            (None, None) => Ok(()),
        }
    }

    /// The highest id that was ever known: also those of removed nodes, and what Raft's membership holds.
    fn highest_node(&self, member: NodeId) -> NodeId {
        let announced = self.nodes.iter().next_back().map(|(id, _)| *id);
        let decided = self.memberships.iter().next_back().map(|(id, _)| *id);
        member.max(announced.unwrap_or_default()).max(decided.unwrap_or_default())
    }

    /// From here on no leader counts the node in; the one there is takes it out.
    pub(super) fn remove_node(&mut self, command: &RemoveNode) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let id = command.node;
        if id == NodeId(0) || id > self.highest_node(command.highest) {
            return refuse(Code::UnknownNode, format!("there is no `{id}`"));
        }
        let row = self.memberships.get(&id).cloned();
        let mut row = row.unwrap_or(Membership { id, admission: None, removal: None });
        if row.removal.is_some() {
            return Ok(Applied::Unchanged);
        }
        row.removal = Some(Removal { at: self.now(), reason: command.reason.clone() });
        self.memberships.put(id, row);
        self.nodes.remove(&id);
        Ok(Applied::Changed)
    }

    /// An operator wants the node to vote: it does not stay a learner any more.
    pub(super) fn mark_promoted(&mut self, node: NodeId) -> Applied {
        if !self.admission_of(node).is_some_and(|admission| admission.learner) {
            return Applied::Unchanged;
        }
        self.memberships.update(&node, |row| {
            if let Some(admission) = row.admission.as_mut() {
                admission.learner = false;
            }
        });
        Applied::Changed
    }
}

/// The same words whether there is no such token or it is another: nothing is learned about what exists.
fn unknown_join_token(name: &JoinTokenName) -> String {
    format!("join token `{name}` is not valid")
}
