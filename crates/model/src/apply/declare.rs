//! Identities, targets, stores and credentials: declared, changed, removed.

use crate::{
    State, caps,
    command::{
        Adopt, PutCredential, PutIdentity, PutStore, PutTarget, RemoveCredential, RemoveIdentity,
        RemoveStore, RemoveTarget,
    },
    credential::{Credential, Strategy, Version, VersionState},
    identity::Identity,
    name::CredentialName,
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    store::Store,
    table::{Row, Table},
    target::Target,
};

use super::{check, refuse};

impl State {
    pub(super) fn put_identity(&mut self, command: &PutIdentity) -> Outcome {
        check::text("owner", &command.owner, Code::OwnerRequired)?;
        if command.owner.contains([',', ';']) {
            return refuse(Code::OwnerRequired, format!("`{}` names more than one owner", command.owner));
        }
        check::text("purpose", &command.purpose, Code::PurposeRequired)?;
        check::text("workload", &command.workload, Code::WorkloadRequired)?;
        check::text("environment", &command.environment, Code::EnvironmentRequired)?;
        let identity = Identity {
            name: command.name.clone(),
            owner: command.owner.clone(),
            purpose: command.purpose.clone(),
            workload: command.workload.clone(),
            environment: command.environment.clone(),
            review_by: command.review_by,
        };
        if self.identities.get(&command.name) == Some(&identity) {
            return Ok(Applied::Unchanged);
        }
        if command.review_by <= self.now() {
            return refuse(Code::ReviewDateRequired, "`reviewBy` is missing or lies in the past");
        }
        let old = self.identities.get(&command.name);
        if old.map(|row| row.review_by) != Some(identity.review_by) {
            if let Some(old) = old {
                self.index.remove_identity(old);
            }
            self.index.add_identity(&identity);
        }
        Ok(put(&mut self.identities, command.name.clone(), identity))
    }

    pub(super) fn remove_identity(&mut self, command: &RemoveIdentity) -> Outcome {
        self.known_identity(&command.name)?;
        if let Some(user) = self.credentials.values().find(|row| row.identity == command.name) {
            return refuse(
                Code::InUse,
                format!("identity `{}` has the credential `{}`", command.name, user.name),
            );
        }
        if let Some(row) = self.identities.remove(&command.name) {
            self.index.remove_identity(&row);
        }
        Ok(Applied::Changed)
    }

    pub(super) fn put_target(&mut self, command: &PutTarget) -> Outcome {
        check::text("provider", &command.provider, Code::TextRequired)?;
        params(&command.params)?;
        self.check_key(command.admin.as_ref())?;
        check::count("breakGlassRoles", command.break_glass_roles.len(), caps::LIST)?;
        for role in &command.break_glass_roles {
            check::text("breakGlassRoles", role, Code::TextRequired)?;
        }
        let length = command.secrets.length;
        if !(caps::SECRET_MIN..=caps::SECRET_MAX).contains(&length) {
            let (min, max) = (caps::SECRET_MIN, caps::SECRET_MAX);
            return refuse(
                Code::OutOfRange,
                format!("a secret length of {length} is outside {min} to {max}"),
            );
        }
        let old = self.targets.get(&command.name);
        if let Some(old) = old.filter(|old| old.provider != command.provider) {
            return refuse(
                Code::Immutable,
                format!("target `{}` is of provider `{}`", command.name, old.provider),
            );
        }
        let target = Target {
            name: command.name.clone(),
            provider: command.provider.clone(),
            params: command.params.clone(),
            admin: command.admin.clone().or_else(|| old.and_then(|old| old.admin.clone())),
            secrets: command.secrets.clone(),
            break_glass_roles: command.break_glass_roles.clone(),
        };
        Ok(put(&mut self.targets, command.name.clone(), target))
    }

    pub(super) fn remove_target(&mut self, command: &RemoveTarget) -> Outcome {
        self.known_target(&command.name)?;
        if let Some(user) = self.credentials.values().find(|row| row.target == command.name) {
            return refuse(
                Code::InUse,
                format!("credential `{}` is honoured at target `{}`", user.name, command.name),
            );
        }
        if let Some(grant) =
            self.grants.values().find(|row| row.target == command.name && !row.stage.is_terminal())
        {
            return refuse(Code::InUse, format!("grant `{}` is for target `{}`", grant.id, command.name));
        }
        self.targets.remove(&command.name);
        Ok(Applied::Changed)
    }

    pub(super) fn put_store(&mut self, command: &PutStore) -> Outcome {
        check::text("kind", &command.kind, Code::TextRequired)?;
        params(&command.params)?;
        self.check_key(command.access.as_ref())?;
        let old = self.stores.get(&command.name);
        if let Some(old) = old.filter(|old| old.kind != command.kind) {
            return refuse(Code::Immutable, format!("store `{}` is of kind `{}`", command.name, old.kind));
        }
        let store = Store {
            name: command.name.clone(),
            kind: command.kind.clone(),
            params: command.params.clone(),
            access: command.access.clone().or_else(|| old.and_then(|old| old.access.clone())),
        };
        Ok(put(&mut self.stores, command.name.clone(), store))
    }

    pub(super) fn remove_store(&mut self, command: &RemoveStore) -> Outcome {
        self.known_store(&command.name)?;
        let holds = |row: &&Credential| row.stores.iter().any(|place| place.store == command.name);
        if let Some(user) = self.credentials.values().find(holds) {
            return refuse(
                Code::InUse,
                format!("store `{}` holds the credential `{}`", command.name, user.name),
            );
        }
        self.stores.remove(&command.name);
        Ok(Applied::Changed)
    }

    pub(super) fn put_credential(&mut self, command: &PutCredential) -> Outcome {
        let workloads = self.check_credential(command)?;
        let old = self.credentials.get(&command.name);
        if let Some(old) = old {
            unchanged_binding(old, command)?;
        }
        if let Some(adopt) = &command.adopt {
            self.check_adoption(command, adopt)?;
        }
        let credential = Credential {
            name: command.name.clone(),
            identity: command.identity.clone(),
            target: command.target.clone(),
            strategy: command.strategy.clone(),
            stores: command.stores.clone(),
            workloads,
            shared: command.shared.clone(),
            current: old.and_then(|old| old.current).or(command.adopt.as_ref().map(|adopt| adopt.version)),
            rotation: old.and_then(|old| old.rotation),
        };
        if let Some(adopt) = &command.adopt {
            self.versions.put((command.name.clone(), adopt.version), adopted(command, adopt, self.facts.now));
        }
        if let Some(old) = old {
            self.index.remove_credential(old);
        }
        self.index.add_credential(&credential);
        Ok(put(&mut self.credentials, command.name.clone(), credential))
    }

    pub(super) fn remove_credential(&mut self, command: &RemoveCredential) -> Outcome {
        let credential = self.known_credential(&command.name)?;
        if let Some(rotation) = credential.rotation {
            return refuse(
                Code::InUse,
                format!("credential `{}` is being rotated by {rotation}", command.name),
            );
        }
        if let Some(live) = self.versions_of(&command.name).find(|version| version.state.is_live()) {
            let message = format!(
                "version {} of credential `{}` is still honoured; revoke it first",
                live.number, command.name
            );
            return refuse(Code::InUse, message);
        }
        if let Some(schedule) = self.index.schedule_of(&command.name) {
            return refuse(
                Code::InUse,
                format!("schedule `{schedule}` rotates credential `{}`", command.name),
            );
        }
        self.lost.remove(&command.name);
        if let Some(row) = self.credentials.remove(&command.name) {
            self.index.remove_credential(&row);
        }
        Ok(Applied::Changed)
    }

    /// Checks everything but the relation to what is declared already; answers with the workloads that count.
    fn check_credential(&self, command: &PutCredential) -> Result<Vec<String>, Refusal> {
        let identity = self.known_identity(&command.identity)?;
        self.known_target(&command.target)?;
        check::count("stores", command.stores.len(), caps::LIST)?;
        for place in &command.stores {
            self.known_store(&place.store)?;
            check::text("path", &place.path, Code::TextRequired)?;
        }
        usernames(&command.strategy)?;
        self.check_unshared(command)?;

        let own = std::slice::from_ref(&identity.workload);
        let workloads = if command.workloads.is_empty() { own } else { &command.workloads };
        check::count("workloads", workloads.len(), caps::LIST)?;
        for workload in workloads {
            check::text("workloads", workload, Code::WorkloadRequired)?;
        }
        match &command.shared {
            None if workloads == own => {}
            None => {
                let message = format!(
                    "credential `{}` is used by {}, but identity `{}` belongs to `{}` alone",
                    command.name,
                    workloads.join(", "),
                    identity.name,
                    identity.workload
                );
                return refuse(Code::SharedExceptionRequired, message);
            }
            Some(exception) => {
                check::text("shared.owner", &exception.owner, Code::SharedExceptionRequired)?;
                check::text("shared.reason", &exception.reason, Code::SharedExceptionRequired)?;
                if exception.ends <= self.now() {
                    return refuse(
                        Code::SharedExceptionRequired,
                        "`shared.ends` is missing or lies in the past",
                    );
                }
            }
        }
        Ok(workloads.to_vec())
    }

    /// No other credential may use the same user at the same target, or the same place in a store.
    fn check_unshared(&self, command: &PutCredential) -> Result<(), Refusal> {
        let foreign = |holder: &&CredentialName| **holder != command.name;
        for user in command.strategy.usernames() {
            if let Some(other) = self.index.user_of(&command.target, user).filter(foreign) {
                let message =
                    format!("user `{user}` at target `{}` belongs to credential `{other}`", command.target);
                return refuse(Code::TakenByAnother, message);
            }
        }
        let mut places = std::collections::BTreeSet::new();
        for place in &command.stores {
            if !places.insert((&place.store, &place.path)) {
                let message = format!("`{}` in store `{}` is named twice", place.path, place.store);
                return refuse(Code::TakenByAnother, message);
            }
            if let Some(other) = self.index.holder_of(&place.store, &place.path).filter(foreign) {
                let message =
                    format!("`{}` in store `{}` belongs to credential `{other}`", place.path, place.store);
                return refuse(Code::TakenByAnother, message);
            }
        }
        Ok(())
    }

    fn check_adoption(&self, command: &PutCredential, adopt: &Adopt) -> Result<(), Refusal> {
        self.check_key(Some(&adopt.sealed))?;
        if self.credentials.contains(&command.name) {
            return refuse(
                Code::AlreadyExists,
                format!("credential `{}` is declared already; its value is not adopted anew", command.name),
            );
        }
        if adopt.version != self.next_version(&command.name) {
            return refuse(
                Code::Conflict,
                format!("the value was sealed for version {}, which is taken", adopt.version),
            );
        }
        if !command.strategy.usernames().contains(&adopt.username.as_str()) {
            return refuse(
                Code::OutOfRange,
                format!("`{}` is not a user of credential `{}`", adopt.username, command.name),
            );
        }
        Ok(())
    }
}

fn put<V: Row + PartialEq>(table: &mut Table<V>, key: V::Key, row: V) -> Applied {
    if table.get(&key) == Some(&row) {
        return Applied::Unchanged;
    }
    table.put(key, row);
    Applied::Changed
}

fn adopted(command: &PutCredential, adopt: &Adopt, now: crate::time::Time) -> Version {
    Version {
        credential: command.name.clone(),
        number: adopt.version,
        state: VersionState::Active,
        username: adopt.username.clone(),
        sealed: Some(adopt.sealed.clone()),
        created: now,
        verified: None,
        revoked: None,
        refused: None,
        revoked_revision: None,
    }
}

fn unchanged_binding(old: &Credential, command: &PutCredential) -> Result<(), Refusal> {
    let changed = [
        ("identity", old.identity != command.identity),
        ("target", old.target != command.target),
        ("strategy", old.strategy != command.strategy),
    ];
    match changed.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => {
            refuse(Code::Immutable, format!("`{field}` of credential `{}` cannot be changed", old.name))
        }
        None => Ok(()),
    }
}

fn usernames(strategy: &Strategy) -> Result<(), Refusal> {
    let names = strategy.usernames();
    for name in &names {
        check::text("username", name, Code::TextRequired)?;
        if name.len() > caps::USERNAME_BYTES {
            return refuse(
                Code::TooLong,
                format!("user name `{name}` is longer than {} bytes", caps::USERNAME_BYTES),
            );
        }
    }
    if let [first, second] = names[..]
        && first == second
    {
        return refuse(Code::OutOfRange, format!("`alternating-users` needs two users, both are `{first}`"));
    }
    Ok(())
}

fn params(params: &std::collections::BTreeMap<String, String>) -> Result<(), Refusal> {
    check::count("params", params.len(), caps::PARAMS)?;
    for (key, value) in params {
        check::text("params", key, Code::TextRequired)?;
        check::optional_text(key, value)?;
    }
    Ok(())
}
