//! Data keys and root keys: replaced while everything they protect stays readable, and destroyed only when nothing
//! needs them.

use std::collections::BTreeSet;

use crate::{
    State,
    attempt::Step,
    caps,
    command::{
        AddDataKey, AnnounceKeys, DestroyDataKey, FinishRootKey, InstallDataKey, Reseal, Resealed,
        RewrapDataKeys,
    },
    key::{DataKey, DataKeyState, RootKey, RootKeyId, RootKeyState},
    name::NodeId,
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    sealed::{Place, Sealed},
    state::FirstDataKey,
};

use super::{check, refuse};

impl State {
    /// How a cluster got its data key before there could be several: logs from then hold this command.
    pub(super) fn install_data_key(&mut self, command: &InstallDataKey) -> Outcome {
        if !self.data_keys().is_empty() {
            return refuse(Code::DataKeyExists, "a data key is in place already");
        }
        check_wrapped(&command.wrapped)?;
        self.facts.data_key = Some(FirstDataKey { id: command.id, wrapped: command.wrapped.clone() });
        Ok(Applied::Changed)
    }

    pub(super) fn add_data_key(&mut self, command: &AddDataKey) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        check_wrapped(&command.wrapped)?;
        if let Some(old) = self.retiring_data_key() {
            let message = format!("data key {} is still being replaced", old.id);
            return refuse(Code::KeyRotationInFlight, message);
        }
        let keys = self.data_keys();
        let next = keys.last().map_or(Some(1), |last| last.id.checked_add(1));
        if next != Some(command.id) {
            return refuse(Code::Conflict, format!("data key {} is not the next one", command.id));
        }
        self.check_root(command.root)?;
        self.settle_first_data_key(command.root);
        let (now, fence) = (self.now(), self.facts.fence);
        if let Some(old) = self.data_key() {
            self.data_keys.update(&old.id, |row| {
                (row.state, row.since, row.fence) = (DataKeyState::Retiring, now, fence);
            });
        }
        let row = DataKey {
            id: command.id,
            wrapped: command.wrapped.clone(),
            root: Some(command.root),
            created: now,
            state: DataKeyState::Active,
            since: now,
            fence: 0,
        };
        self.data_keys.put(command.id, row);
        self.set_root_key(command.root, RootKeyState::Active);
        Ok(Applied::Changed)
    }

    pub(super) fn reseal(&mut self, command: &Reseal) -> Outcome {
        check::count("values", command.values.len(), caps::RESEALED)?;
        if self.retiring_data_key().map(|key| key.id) != Some(command.from) {
            return refuse(Code::Conflict, format!("data key {} is not being replaced", command.from));
        }
        let active = self.data_key().map(|key| key.id);
        if let Some(stray) = command.values.iter().find(|value| value.sealed.key() != active) {
            let message = format!("{} is not sealed under the active data key", stray.place);
            return refuse(Code::StaleKey, message);
        }
        let mut replaced = 0;
        for value in &command.values {
            replaced += usize::from(self.replace_sealed(command.from, value));
        }
        if replaced == 0 {
            return refuse(Code::Conflict, "none of the places holds what was read there");
        }
        Ok(Applied::Changed)
    }

    pub(super) fn destroy_data_key(&mut self, command: &DestroyDataKey) -> Outcome {
        let id = command.id;
        let Some(key) = self.data_keys.get(&id) else {
            return refuse(Code::Conflict, format!("data key {id} is not being replaced"));
        };
        match key.state {
            DataKeyState::Destroyed => return Ok(Applied::Unchanged),
            DataKeyState::Active => {
                return refuse(Code::InUse, format!("data key {id} seals what is sealed now"));
            }
            DataKeyState::Retiring => {}
        }
        let sealed = self.sealed_under(id);
        if sealed > 0 {
            return refuse(Code::InUse, format!("{sealed} values are sealed under data key {id}"));
        }
        if self.may_seal_under(key) {
            return refuse(Code::InUse, format!("an attempt under way may seal under data key {id}"));
        }
        let now = self.now();
        self.data_keys.update(&id, |row| {
            row.wrapped.clear();
            (row.state, row.since) = (DataKeyState::Destroyed, now);
        });
        Ok(Applied::Changed)
    }

    pub(super) fn rewrap_data_keys(&mut self, command: &RewrapDataKeys) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        command.keys.iter().try_for_each(|(_, wrapped)| check_wrapped(wrapped))?;
        if let Some(old) = self.leaving_root_key() {
            let message = format!("the replacement of root key {} is not finished", old.id);
            return refuse(Code::KeyRotationInFlight, message);
        }
        self.check_root(command.from)?;
        if command.to == command.from {
            return refuse(Code::Conflict, format!("{} is the root key already", command.to));
        }
        self.check_not_retired(command.to)?;
        let living = self.data_keys().into_iter().filter(|key| key.state != DataKeyState::Destroyed);
        let living: BTreeSet<u32> = living.map(|key| key.id).collect();
        let given: BTreeSet<u32> = command.keys.iter().map(|(id, _)| *id).collect();
        if living.is_empty() || given != living || given.len() != command.keys.len() {
            return refuse(Code::Conflict, "the data keys are not those that were wrapped anew");
        }
        self.check_held(command.to, &command.nodes)?;
        self.settle_first_data_key(command.from);
        for (id, wrapped) in &command.keys {
            self.data_keys.update(id, |row| {
                row.wrapped.clone_from(wrapped);
                row.root = Some(command.to);
            });
        }
        self.set_root_key(command.from, RootKeyState::Leaving);
        self.set_root_key(command.to, RootKeyState::Active);
        Ok(Applied::Changed)
    }

    pub(super) fn announce_keys(&mut self, command: &AnnounceKeys) -> Outcome {
        check::count("held", command.held.len(), caps::ROOT_KEYS)?;
        let known = self.root_keys.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>();
        let mut applied = Applied::Unchanged;
        for id in known.union(&command.held) {
            let holds = command.held.contains(id);
            let row = self.root_key(*id);
            if row.holders.contains(&command.node) == holds {
                continue;
            }
            applied = Applied::Changed;
            let mut row = row;
            if holds {
                row.holders.insert(command.node);
            } else {
                row.holders.remove(&command.node);
            }
            // One that wraps nothing and nobody holds was never of any account.
            if row.state == RootKeyState::Held && row.holders.is_empty() {
                self.root_keys.remove(id);
            } else {
                self.root_keys.put(*id, row);
            }
        }
        Ok(applied)
    }

    pub(super) fn finish_root_key(&mut self, command: &FinishRootKey) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let (Some(leaving), Some(active)) = (self.leaving_root_key(), self.active_root_key()) else {
            return refuse(Code::Conflict, "no root key is being replaced");
        };
        let (leaving, active) = (leaving.id, active.id);
        if leaving != command.id {
            return refuse(Code::Conflict, format!("the root key being replaced is {leaving}"));
        }
        self.check_held(active, &command.nodes)?;
        self.set_root_key(leaving, RootKeyState::Retired);
        Ok(Applied::Changed)
    }

    /// Refuses a secret that nobody could open any more.
    pub(super) fn check_key(&self, sealed: Option<&Sealed>) -> Result<(), Refusal> {
        let key = sealed.and_then(Sealed::key).and_then(|id| self.data_keys.get(&id));
        match key.filter(|key| key.state == DataKeyState::Destroyed) {
            Some(key) => refuse(Code::StaleKey, format!("data key {} is destroyed", key.id)),
            None => Ok(()),
        }
    }

    /// Whether an attempt under way was begun before `key` was retired, and may end with something sealed under it.
    fn may_seal_under(&self, key: &DataKey) -> bool {
        let attempts = self.open.iter().filter_map(|job| self.need(*job)?.attempt);
        attempts.filter(|attempt| attempt.step == Step::Prepare).any(|attempt| attempt.fence <= key.fence)
    }

    /// Puts a value sealed anew in the place of the one that was read; `false` when that is no longer there.
    fn replace_sealed(&mut self, from: u32, value: &Resealed) -> bool {
        let held = self.sealed_at(&value.place);
        if !held.is_some_and(|held| held.key() == Some(from) && held.digest() == value.was) {
            return false;
        }
        let sealed = Some(value.sealed.clone());
        match &value.place {
            Place::Target(name) => self.targets.update(name, |row| row.admin = sealed),
            Place::Store(name) => self.stores.update(name, |row| row.access = sealed),
            Place::Version(name, number) => {
                self.versions.update(&(name.clone(), *number), |row| row.sealed = sealed)
            }
            Place::Grant(id) => self.grants.update(id, |row| row.sealed = sealed),
        }
        .is_some()
    }

    /// Moves the data key of before there could be several to the table of them.
    fn settle_first_data_key(&mut self, root: RootKeyId) {
        if let Some(first) = self.data_keys().into_iter().next().filter(|key| key.root.is_none()) {
            self.data_keys.put(first.id, DataKey { root: Some(root), ..first });
            self.facts.data_key = None;
        }
    }

    /// The root key must be the one that wraps the data keys, as far as that is known.
    fn check_root(&self, id: RootKeyId) -> Result<(), Refusal> {
        self.check_not_retired(id)?;
        match self.active_root_key().filter(|active| active.id != id) {
            Some(active) => refuse(Code::Conflict, format!("the root key is {}, not {id}", active.id)),
            None => Ok(()),
        }
    }

    fn check_not_retired(&self, id: RootKeyId) -> Result<(), Refusal> {
        match self.root_keys.get(&id) {
            Some(key) if key.state == RootKeyState::Retired => {
                refuse(Code::StaleKey, format!("root key {id} was retired"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Every one of `nodes` must have said that it holds the root key.
    fn check_held(&self, id: RootKeyId, nodes: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        let holders = self.root_key(id).holders;
        let missing: Vec<_> = nodes.difference(&holders).map(ToString::to_string).collect();
        if nodes.is_empty() || !missing.is_empty() {
            let message = format!("root key {id} is not held by: {}", missing.join(", "));
            return refuse(Code::KeyNotHeld, message);
        }
        Ok(())
    }

    fn root_key(&self, id: RootKeyId) -> RootKey {
        let unknown =
            || RootKey { id, state: RootKeyState::Held, since: self.now(), holders: BTreeSet::new() };
        self.root_keys.get(&id).cloned().unwrap_or_else(unknown)
    }

    fn set_root_key(&mut self, id: RootKeyId, state: RootKeyState) {
        let row = self.root_key(id);
        if row.state != state {
            self.root_keys.put(id, RootKey { state, since: self.now(), ..row });
        }
    }
}

fn check_wrapped(wrapped: &[u8]) -> Result<(), Refusal> {
    if (1..=caps::SEALED_BYTES).contains(&wrapped.len()) {
        return Ok(());
    }
    refuse(Code::OutOfRange, format!("a wrapped key of {} bytes is no key", wrapped.len()))
}
