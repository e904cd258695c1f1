//! Who holds what: rows found by something other than their key. Derived from the tables and never persisted, so
//! that declaring a credential costs the same whether there are ten or a million others.

use imbl::{OrdMap, OrdSet};

use crate::{
    credential::Credential,
    name::{CredentialName, RotationId, ScheduleName, StoreName, TargetName},
    rotation::Rotation,
    schedule::Schedule,
};

/// The reverse directions of references between rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// The credential that uses a user at a target.
    users: OrdMap<(TargetName, String), CredentialName>,
    /// The credential that fills a place in a store.
    places: OrdMap<(StoreName, String), CredentialName>,
    /// The schedule that rotates a credential.
    schedules: OrdMap<CredentialName, ScheduleName>,
    /// The rotations of a credential that have ended, oldest first.
    ended: OrdSet<(CredentialName, RotationId)>,
}

impl Index {
    pub(crate) fn add_credential(&mut self, row: &Credential) {
        for user in row.strategy.usernames() {
            self.users.insert((row.target.clone(), user.to_owned()), row.name.clone());
        }
        for place in &row.stores {
            self.places.insert((place.store.clone(), place.path.clone()), row.name.clone());
        }
    }

    pub(crate) fn remove_credential(&mut self, row: &Credential) {
        for user in row.strategy.usernames() {
            self.users.remove(&(row.target.clone(), user.to_owned()));
        }
        for place in &row.stores {
            self.places.remove(&(place.store.clone(), place.path.clone()));
        }
    }

    pub(crate) fn add_schedule(&mut self, row: &Schedule) {
        self.schedules.insert(row.credential.clone(), row.name.clone());
    }

    pub(crate) fn remove_schedule(&mut self, row: &Schedule) {
        self.schedules.remove(&row.credential);
    }

    pub(crate) fn add_ended(&mut self, row: &Rotation) {
        self.ended.insert((row.credential.clone(), row.id));
    }

    pub(crate) fn remove_ended(&mut self, credential: &CredentialName, id: RotationId) {
        self.ended.remove(&(credential.clone(), id));
    }

    /// The credential that uses `user` at `target`.
    pub(crate) fn user_of(&self, target: &TargetName, user: &str) -> Option<&CredentialName> {
        self.users.get(&(target.clone(), user.to_owned()))
    }

    /// The credential that fills `path` in `store`.
    pub(crate) fn holder_of(&self, store: &StoreName, path: &str) -> Option<&CredentialName> {
        self.places.get(&(store.clone(), path.to_owned()))
    }

    /// The schedule that rotates `credential`.
    pub(crate) fn schedule_of(&self, credential: &CredentialName) -> Option<&ScheduleName> {
        self.schedules.get(credential)
    }

    /// The ended rotations of `credential`, newest first.
    pub(crate) fn ended_of(&self, credential: &CredentialName) -> impl Iterator<Item = RotationId> {
        let all = (credential.clone(), RotationId(0))..=(credential.clone(), RotationId(u64::MAX));
        self.ended.range(all).rev().map(|(_, id)| *id)
    }
}
