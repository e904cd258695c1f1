//! Revocations: stated at once in the feed, then carried out at the target.

use std::collections::BTreeMap;

use crate::{
    State,
    attempt::Step,
    caps,
    command::{LiftRevocation, Revoke},
    credential::{Credential, Version, VersionState},
    event::{About, EventKind, ReasonCode, Revocation, Subject},
    name::{CredentialName, RevocationId, RotationId},
    outcome::{Applied, Outcome},
    planted::{Bug, is_planted},
    refusal::{Code, Refusal},
    rotation::{Cause, Event, Order, Rotation, Stage, transition},
    schedule::RotationPolicy,
    time::Span,
};

use super::{check, refuse};

impl State {
    pub(super) fn revoke(&mut self, actor: &str, command: &Revoke) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        check::span("ackWithin", command.ack_within, Span::seconds(1), caps::ACK_WITHIN_MAX)?;
        if command.code == ReasonCode::BreakGlassEnded {
            return refuse(Code::OutOfRange, "`break-glass-ended` is stated by the system alone");
        }
        if let Subject::Grant(id) = command.subject {
            return self.revoke_grant(id, actor, command);
        }
        let versions = self.live_versions(&command.subject)?;
        let unwanted = self.unwanted_repairs(command);
        let is_hold = command.code == ReasonCode::Hold;
        let repeats = |row: &&Revocation| {
            row.subject == command.subject
                && row.lifted.is_none()
                && (row.code == ReasonCode::Hold) == is_hold
        };
        let standing = self.revocations.values().rev().find(repeats);
        let nothing_new = versions.is_empty() && unwanted.is_empty();
        let told = match standing {
            Some(standing) if nothing_new || is_hold => {
                return Ok(Applied::Revoked { id: standing.id, revisions: standing.revisions.clone() });
            }
            None if nothing_new => {
                let message = format!("{} has no version that is still honoured", command.subject);
                return refuse(Code::NothingToRevoke, message);
            }
            Some(standing) if versions.is_empty() => standing.revisions.clone(),
            Some(_) | None => Vec::new(),
        };
        let (id, revisions) = self.state_revocation(actor, command, &versions, told);
        if !is_hold {
            for (credential, numbers) in versions {
                self.kill(&credential, numbers, command.code);
            }
        }
        for rotation in unwanted {
            self.call_off_repair(rotation);
        }
        Ok(Applied::Revoked { id, revisions })
    }

    /// Writes the statement and its events, and marks the versions unless it is a hold. `told` are events that have
    /// said it already.
    fn state_revocation(
        &mut self,
        actor: &str,
        command: &Revoke,
        versions: &BTreeMap<CredentialName, Vec<u32>>,
        told: Vec<u64>,
    ) -> (RevocationId, Vec<u64>) {
        let id = self.next_revocation();
        let now = self.now();
        let mut revisions = told;
        for (credential, numbers) in versions {
            for number in numbers {
                let about = About::Version { credential: credential.clone(), version: *number };
                let revision = self.append_event(
                    EventKind::CredentialRevoked,
                    about,
                    command.code,
                    Some(id),
                    command.ack_within,
                );
                revisions.extend(revision);
                if command.code == ReasonCode::Hold {
                    continue;
                }
                self.versions.update(&(credential.clone(), *number), |version| {
                    version.state = VersionState::Revoked;
                    version.revoked = Some(now);
                    version.revoked_revision = revision;
                });
            }
        }
        self.put_revocation(id, actor, command, revisions.clone());
        (id, revisions)
    }

    pub(super) fn put_revocation(
        &mut self,
        id: RevocationId,
        actor: &str,
        command: &Revoke,
        revisions: Vec<u64>,
    ) {
        let revocation = Revocation {
            id,
            subject: command.subject.clone(),
            code: command.code,
            reason: command.reason.clone(),
            by: actor.to_owned(),
            at: self.now(),
            revisions,
            deadline: self.now().plus(command.ack_within),
            lifted: None,
        };
        self.revocations.put(id, revocation);
    }

    pub(super) fn next_revocation(&mut self) -> RevocationId {
        self.facts.revocations += 1;
        RevocationId(self.facts.revocations)
    }

    /// Makes sure that a rotation removes `numbers` at the target before anything else.
    fn kill(&mut self, credential: &CredentialName, numbers: Vec<u32>, code: ReasonCode) {
        let Some(row) = self.credentials.get(credential).cloned() else { return };
        if row.current.is_some_and(|current| numbers.contains(&current)) {
            self.credentials.update(credential, |row| row.current = None);
        }
        let survives = self.versions_of(credential).any(|version| version.state.is_live());
        let order = if code.asks_for_repair() || survives { Order::RevokeFirst } else { Order::RevokeOnly };
        match row.rotation {
            Some(_) if is_planted(Bug::RevokedPromoted) => {}
            Some(id) => self.reorder(id, order, numbers),
            None => {
                let policy = self.policy_of(credential);
                let id = self.start_rotation(credential, Cause::Revoked, order, policy);
                let Some(mut rotation) = self.rotations.get(&id).cloned() else { return };
                rotation.retiring = numbers;
                self.write_rotation(rotation);
            }
        }
    }

    /// Turns the rotation under way around: first the revoked versions die, then it goes on.
    fn reorder(&mut self, id: RotationId, order: Order, numbers: Vec<u32>) {
        let Some(mut rotation) = self.rotations.get(&id).cloned() else { return };
        let called_off = rotation.attempt.take();
        let mut passed = rotation.passed;
        if called_off.as_ref().is_some_and(|attempt| attempt.step == Step::Install) {
            passed = passed.with(Stage::Uncertain);
        }
        if rotation.to.is_some_and(|to| numbers.contains(&to)) {
            rotation.to = None;
            rotation.published_revision = None;
            for stage in [Stage::Prepare, Stage::Install, Stage::Uncertain, Stage::Verify, Stage::Publish] {
                passed = passed.without(stage);
            }
        }
        for stage in [Stage::Retire, Stage::Sever, Stage::ProveRefused] {
            passed = passed.without(stage);
        }
        if passed.contains(Stage::Rollback) {
            self.withdraw(&rotation);
        }
        rotation.from = rotation.from.filter(|from| !numbers.contains(from));
        // A version that was to be retired in due course, but is not revoked, is left alone for now.
        let dying = |number: &u32| {
            let key = (rotation.credential.clone(), *number);
            self.versions.get(&key).is_some_and(|version| version.state == VersionState::Revoked)
        };
        let others = numbers.iter().filter(|number| !rotation.retiring.contains(number));
        let retiring: Vec<u32> = rotation.retiring.iter().chain(others).copied().filter(dying).collect();
        rotation.retiring = retiring;
        rotation.order = order;
        let Ok((stage, passed)) = transition(rotation.stage, Event::Reordered, order, passed) else { return };
        self.note(&mut rotation, "turned around by a revocation".to_owned());
        rotation.retry = rotation.retry.after_calling_off(called_off);
        rotation.refuted = 0;
        rotation.drain_until = None;
        rotation.passed = passed;
        self.enter(rotation, stage);
    }

    /// The way back may have removed the candidate at the target: nobody is told to use it until it is published anew.
    fn withdraw(&mut self, rotation: &Rotation) {
        let Some(to) = rotation.to else { return };
        self.credentials.update(&rotation.credential, |row| row.current = row.current.filter(|it| *it != to));
        self.change_versions(rotation, Some(to), |version| {
            if version.state == VersionState::Active {
                version.state = VersionState::Tainted;
            }
        });
    }

    /// The repairs under way that `command`, which wants nothing alive, leaves without a purpose.
    fn unwanted_repairs(&self, command: &Revoke) -> Vec<RotationId> {
        if command.code == ReasonCode::Hold || command.code.asks_for_repair() {
            return Vec::new();
        }
        let repair = |row: &Credential| {
            let rotation = self.rotations.get(&row.rotation?)?;
            let lives = self.versions_of(&row.name).any(|version| version.state.is_live());
            (rotation.order == Order::RevokeFirst && !lives).then_some(rotation.id)
        };
        match &command.subject {
            Subject::Credential(name) => self.credentials.get(name).and_then(repair).into_iter().collect(),
            Subject::Identity(name) => {
                self.credentials.values().filter(|row| &row.identity == name).filter_map(repair).collect()
            }
            Subject::Version(..) | Subject::Grant(_) => Vec::new(),
        }
    }

    /// The old versions still die, but none follows them.
    fn call_off_repair(&mut self, id: RotationId) {
        let Some(mut rotation) = self.rotations.get(&id).cloned() else { return };
        let order = Order::RevokeOnly;
        let Ok((stage, passed)) = transition(rotation.stage, Event::Reordered, order, rotation.passed) else {
            return;
        };
        self.note(&mut rotation, "nothing is to follow, by a further revocation".to_owned());
        if stage != rotation.stage {
            rotation.retry = rotation.retry.after_calling_off(rotation.attempt.take());
        }
        (rotation.order, rotation.passed) = (order, passed);
        self.enter(rotation, stage);
    }

    pub(super) fn policy_of(&self, credential: &CredentialName) -> RotationPolicy {
        self.index
            .schedule_of(credential)
            .and_then(|name| self.schedules.get(name))
            .map_or_else(RotationPolicy::default, |schedule| schedule.policy.clone())
    }

    fn live_versions(&self, subject: &Subject) -> Result<BTreeMap<CredentialName, Vec<u32>>, Refusal> {
        let live = |credential: &CredentialName| -> Vec<u32> {
            self.versions_of(credential)
                .filter(|version| version.state.is_live())
                .map(|version| version.number)
                .collect()
        };
        let mut found = BTreeMap::new();
        match subject {
            Subject::Credential(name) => {
                self.known_credential(name)?;
                found.insert(name.clone(), live(name));
            }
            Subject::Version(name, number) => {
                self.known_credential(name)?;
                let version: &Version = self.known_version(name, *number)?;
                found.insert(name.clone(), version.state.is_live().then_some(*number).into_iter().collect());
            }
            Subject::Identity(name) => {
                self.known_identity(name)?;
                for row in self.credentials.values().filter(|row| &row.identity == name) {
                    found.insert(row.name.clone(), live(&row.name));
                }
            }
            Subject::Grant(_) => {}
        }
        found.retain(|_, numbers| !numbers.is_empty());
        Ok(found)
    }

    pub(super) fn lift_revocation(&mut self, actor: &str, command: &LiftRevocation) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let Some(revocation) = self.revocations.get(&command.id).cloned() else {
            return refuse(Code::UnknownRevocation, format!("there is no revocation {}", command.id));
        };
        if revocation.code != ReasonCode::Hold {
            let message =
                format!("{} was stated as `{}`, which is final", command.id, revocation.code.as_str());
            return refuse(Code::NotAHold, message);
        }
        if revocation.lifted.is_some() {
            return refuse(Code::AlreadyLifted, format!("{} was lifted already", command.id));
        }
        let now = self.now();
        self.revocations.update(&command.id, |row| row.lifted = Some((now, actor.to_owned())));
        let told = revocation.revisions.first().and_then(|first| self.events.get(first));
        let within =
            told.map_or(RotationPolicy::default().ack_within, |event| event.deadline.since(event.at));
        // What has died meanwhile was told as dead, and what has come meanwhile was held too.
        let held = self.live_versions(&revocation.subject).unwrap_or_default();
        let mut revisions = Vec::new();
        for (credential, number) in
            held.iter().flat_map(|(name, numbers)| numbers.iter().map(move |n| (name, *n)))
        {
            if self.is_held(credential, number) {
                continue;
            }
            let about = About::Version { credential: credential.clone(), version: number };
            revisions.extend(self.append_event(
                EventKind::HoldLifted,
                about,
                ReasonCode::Hold,
                Some(command.id),
                within,
            ));
        }
        Ok(Applied::Revoked { id: command.id, revisions })
    }
}
