//! Who holds what: rows found by something other than their key. Derived from the tables and never persisted, so
//! that declaring a credential costs the same whether there are ten or a million others.

use std::{fmt, sync::Arc};

use imbl::{OrdMap, OrdSet};

use crate::{
    credential::Credential,
    identity::Identity,
    name::{CredentialName, IdentityName, RotationId, ScheduleName, StoreName, TargetName},
    rotation::Rotation,
    schedule::Schedule,
    time::Time,
};

/// Something whose need must be looked at again at some time. Displayed as `identity/NAME` and `credential/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reviewed {
    /// An identity, at its `review_by`.
    Identity(IdentityName),
    /// A credential whose leave to be shared ends.
    Credential(CredentialName),
}

impl fmt::Display for Reviewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => write!(f, "identity/{name}"),
            Self::Credential(name) => write!(f, "credential/{name}"),
        }
    }
}

/// The reverse directions of references between rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// The credential that uses a user at a target.
    users: OrdMap<(TargetName, Arc<str>), CredentialName>,
    /// The credential that fills a place in a store.
    places: OrdMap<(StoreName, Arc<str>), CredentialName>,
    /// The schedule that rotates a credential.
    schedules: OrdMap<CredentialName, ScheduleName>,
    /// The rotations of a credential that have ended, oldest first.
    ended: OrdSet<(CredentialName, RotationId)>,
    /// What must be looked at again, by when.
    reviews: OrdSet<(Time, Reviewed)>,
}

impl Index {
    pub(crate) fn add_identity(&mut self, row: &Identity) {
        self.reviews.insert((row.review_by, Reviewed::Identity(row.name.clone())));
    }

    pub(crate) fn remove_identity(&mut self, row: &Identity) {
        self.reviews.remove(&(row.review_by, Reviewed::Identity(row.name.clone())));
    }

    pub(crate) fn add_credential(&mut self, row: &Credential) {
        for user in row.strategy.usernames() {
            self.users.insert((row.target.clone(), user.into()), row.name.clone());
        }
        for place in &row.stores {
            self.places.insert((place.store.clone(), place.path.as_str().into()), row.name.clone());
        }
        if let Some(shared) = &row.shared {
            self.reviews.insert((shared.ends, Reviewed::Credential(row.name.clone())));
        }
    }

    pub(crate) fn remove_credential(&mut self, row: &Credential) {
        for user in row.strategy.usernames() {
            self.users.remove(&(row.target.clone(), user.into()));
        }
        for place in &row.stores {
            self.places.remove(&(place.store.clone(), place.path.as_str().into()));
        }
        if let Some(shared) = &row.shared {
            self.reviews.remove(&(shared.ends, Reviewed::Credential(row.name.clone())));
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
        self.users.get(&(target.clone(), user.into()))
    }

    /// The credential that fills `path` in `store`.
    pub(crate) fn holder_of(&self, store: &StoreName, path: &str) -> Option<&CredentialName> {
        self.places.get(&(store.clone(), path.into()))
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

    /// What had to be looked at again by `now`, the longest overdue first.
    pub(crate) fn reviews_due(&self, now: Time) -> impl Iterator<Item = &Reviewed> {
        self.reviews.iter().take_while(move |(at, _)| *at <= now).map(|(_, what)| what)
    }
}
