//! Tokens, nodes, the data key, and what is only recorded.

use crate::{
    State,
    command::{
        AnnounceNode, ChangeCluster, ClusterChange, InstallDataKey, IssueToken, RecordRead, RecordRefusals,
        ReportReachable, RevokeToken,
    },
    node::Node,
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    state::DataKey,
    token::{Role, Token},
};

use super::{check, refuse};

impl State {
    pub(super) fn issue_token(&mut self, command: &IssueToken) -> Outcome {
        check::text("principal", &command.principal, Code::TextRequired)?;
        if self.tokens.contains(&command.name) {
            return refuse(
                Code::AlreadyExists,
                format!("a token named `{}` exists or existed", command.name),
            );
        }
        match (&command.consumer, command.role) {
            (Some(consumer), Role::Consumer) => drop(self.known_consumer(consumer)?.name.clone()),
            (None, Role::Admin | Role::Operator | Role::Approver | Role::Auditor) => {}
            (None, Role::Consumer) => {
                return refuse(
                    Code::ConsumerBinding,
                    "a token with role `consumer` must speak for one consumer",
                );
            }
            (Some(_), role) => {
                let message = format!("a token with role `{}` does not speak for a consumer", role.as_str());
                return refuse(Code::ConsumerBinding, message);
            }
        }
        if command.expires.is_some_and(|end| end <= self.now()) {
            return refuse(Code::OutOfRange, "the token would have expired already");
        }
        let token = Token {
            name: command.name.clone(),
            principal: command.principal.clone(),
            role: command.role,
            consumer: command.consumer.clone(),
            hash: command.hash,
            issued: self.now(),
            expires: command.expires,
            revoked: None,
        };
        self.tokens.put(command.name.clone(), token);
        Ok(Applied::Changed)
    }

    pub(super) fn revoke_token(&mut self, command: &RevokeToken) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let now = self.now();
        let Some(token) = self.tokens.get(&command.name) else {
            return refuse(Code::UnknownToken, format!("there is no token `{}`", command.name));
        };
        if token.revoked.is_some() {
            return Ok(Applied::Unchanged);
        }
        let is_admin = |token: &Token| token.role == Role::Admin && token.is_live(now);
        let others = self
            .tokens
            .values()
            .any(|other| other.name != command.name && is_admin(other) && other.expires.is_none());
        if is_admin(token) && !others {
            let message = format!("`{}` is the last admin token that does not expire", command.name);
            return refuse(Code::LastAdmin, message);
        }
        self.tokens.update(&command.name, |token| token.revoked = Some(now));
        Ok(Applied::Changed)
    }

    pub(super) fn announce_node(&mut self, command: &AnnounceNode) -> Outcome {
        check::optional_text("clientAddress", &command.client_address)?;
        check::optional_text("version", &command.version)?;
        if let Some(removal) = self.removal_of(command.id) {
            return refuse(Code::NodeRemoved, format!("`{}` was removed: {}", command.id, removal.reason));
        }
        let old = self.nodes.get(&command.id);
        let node = Node {
            id: command.id,
            client_address: command.client_address.clone(),
            version: command.version.clone(),
            reachable: old.is_some_and(|old| old.reachable),
        };
        if old == Some(&node) {
            return Ok(Applied::Unchanged);
        }
        self.nodes.put(command.id, node);
        Ok(Applied::Changed)
    }

    pub(super) fn report_reachable(&mut self, command: &ReportReachable) -> Outcome {
        let changed: Vec<_> = self
            .nodes
            .values()
            .filter(|node| node.reachable != command.nodes.contains(&node.id))
            .map(|node| node.id)
            .collect();
        for id in &changed {
            self.nodes.update(id, |node| node.reachable = !node.reachable);
        }
        Ok(if changed.is_empty() { Applied::Unchanged } else { Applied::Changed })
    }

    pub(super) fn install_data_key(&mut self, command: &InstallDataKey) -> Outcome {
        if self.facts.data_key.is_some() {
            return refuse(Code::DataKeyExists, "a data key is in place already");
        }
        if command.wrapped.is_empty() || command.wrapped.len() > crate::caps::SEALED_BYTES {
            return refuse(
                Code::OutOfRange,
                format!("a wrapped key of {} bytes is no key", command.wrapped.len()),
            );
        }
        self.facts.data_key = Some(DataKey { id: command.id, wrapped: command.wrapped.clone() });
        Ok(Applied::Changed)
    }

    pub(super) fn record_read(&mut self, command: &RecordRead) -> Outcome {
        let version = self.known_version(&command.credential, command.version)?;
        if version.sealed.is_none() || !version.state.is_live() {
            let message = format!(
                "version {} of `{}` is {}",
                command.version,
                command.credential,
                version.state.as_str()
            );
            return Err(Refusal::new(Code::NoSecret, message));
        }
        Ok(Applied::Unchanged)
    }

    /// The nodes see to it; here stands that it was asked for.
    pub(super) fn change_cluster(&mut self, command: &ChangeCluster) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        if !self.nodes.contains(&command.node) && self.admission_of(command.node).is_none() {
            return refuse(Code::UnknownNode, format!("there is no `{}`", command.node));
        }
        Ok(match command.change {
            ClusterChange::Promote => self.mark_promoted(command.node),
            ClusterChange::TransferLeader | ClusterChange::Rejoin => Applied::Unchanged,
        })
    }

    pub(super) fn record_refusals(&mut self, command: &RecordRefusals) -> Applied {
        let digest = self.content_digest();
        for refusal in &command.refusals {
            let times = if refusal.count > 1 { format!("{} times", refusal.count) } else { String::new() };
            self.record(
                digest,
                &refusal.actor,
                &refusal.action,
                refusal.object.clone(),
                times,
                Some(&refusal.code),
            );
        }
        Applied::Unchanged
    }
}
