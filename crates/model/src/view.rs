//! Reading the state: tables, and the questions asked of them more than once.

use std::ops::Bound;

use crate::{
    State,
    attempt::Job,
    audit::{AuditHead, AuditRecord},
    certificate::{Certificate, RevokedNode, Serial},
    consumer::{Consumer, Subscription},
    credential::{Credential, Version},
    event::{About, Event, ReasonCode, Revocation, Subject},
    grant::Grant,
    identity::Identity,
    key::{DataKey, DataKeyState, RootKey, RootKeyState},
    ledger::{LastBackup, Look, Lost, Restoration},
    membership::{JoinToken, Membership},
    name::{CredentialName, TargetName},
    node::Node,
    rotation::Rotation,
    schedule::Schedule,
    sealed::{Place, Sealed},
    store::Store,
    table::Table,
    target::Target,
    time::Time,
    token::Token,
};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $row:ty;)*) => {
        impl State {
            $($(#[$doc])*
            #[must_use]
            pub const fn $name(&self) -> &Table<$row> {
                &self.$name
            })*
        }
    };
}

tables! {
    /// Identities by name.
    identities: Identity;
    /// Targets by name.
    targets: Target;
    /// Stores by name.
    stores: Store;
    /// Credentials by name.
    credentials: Credential;
    /// Versions by credential and number.
    versions: Version;
    /// Schedules by name.
    schedules: Schedule;
    /// Rotations by id.
    rotations: Rotation;
    /// Events by revision; those kept.
    events: Event;
    /// Revocations by id.
    revocations: Revocation;
    /// Consumers by name.
    consumers: Consumer;
    /// Grants by id.
    grants: Grant;
    /// Tokens by name.
    tokens: Token;
    /// Nodes by id.
    nodes: Node;
    /// Audit records by sequence.
    audit: AuditRecord;
    /// Certificates of clients by serial.
    certificates: Certificate;
    /// Nodes whose certificates are good no more, by id.
    revoked_nodes: RevokedNode;
    /// Root keys by id.
    root_keys: RootKey;
    /// That the state was put back from a backup, under 0.
    restoration: Restoration;
    /// Credentials whose current secret was lost by that.
    lost: Lost;
    /// What probes have found since then, by credential and version; empty once it was confirmed.
    looks: Look;
    /// What was decided about nodes that came or went, by id.
    memberships: Membership;
    /// Join tokens by name.
    join_tokens: JoinToken;
}

impl State {
    /// The last backup that was handed out whole.
    #[must_use]
    pub fn last_backup(&self) -> Option<&LastBackup> {
        self.last_backup.get(&0)
    }

    /// When the first thing was done; [`Time`] 0 before it.
    #[must_use]
    pub fn founded(&self) -> Time {
        self.audit.values().next().map(|record| record.at).unwrap_or_default()
    }

    /// Model time: the latest stamp seen.
    #[must_use]
    pub fn now(&self) -> Time {
        self.facts.now
    }

    /// The revision of the last event; 0 before the first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.facts.revision
    }

    /// The end of the audit chain.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.facts.audit
    }

    /// Every data key there is or was, by number. One from before there could be several is among them.
    #[must_use]
    pub fn data_keys(&self) -> Vec<DataKey> {
        let first = self.facts.data_key.as_ref().map(|first| DataKey {
            id: first.id,
            wrapped: first.wrapped.clone(),
            root: None,
            created: Time(0),
            state: DataKeyState::Active,
            since: Time(0),
            fence: 0,
        });
        first.into_iter().chain(self.data_keys.values().cloned()).collect()
    }

    /// The data key that seals what is sealed now, once there is one.
    #[must_use]
    pub fn data_key(&self) -> Option<DataKey> {
        self.data_keys().into_iter().find(|key| key.state == DataKeyState::Active)
    }

    /// The data key that is being replaced.
    #[must_use]
    pub fn retiring_data_key(&self) -> Option<&DataKey> {
        self.data_keys.values().find(|key| key.state == DataKeyState::Retiring)
    }

    /// The root key that wraps the data keys; `None` before it is known.
    #[must_use]
    pub fn active_root_key(&self) -> Option<&RootKey> {
        self.root_keys.values().find(|key| key.state == RootKeyState::Active)
    }

    /// The root key that another has taken the place of, while nodes may still know each other by it.
    #[must_use]
    pub fn leaving_root_key(&self) -> Option<&RootKey> {
        self.root_keys.values().find(|key| key.state == RootKeyState::Leaving)
    }

    /// How many values are sealed under a data key.
    #[must_use]
    pub fn sealed_under(&self, key: u32) -> u64 {
        self.targets.sealed_under(key)
            + self.stores.sealed_under(key)
            + self.versions.sealed_under(key)
            + self.grants.sealed_under(key)
    }

    /// Everything that is sealed, in the order of the places, behind `after`.
    pub fn sealed_after<'a>(
        &'a self,
        after: Option<&'a Place>,
    ) -> impl Iterator<Item = (Place, &'a Sealed)> + 'a {
        let targets = self
            .targets
            .iter()
            .filter_map(|(name, row)| row.admin.as_ref().map(|sealed| (Place::Target(name.clone()), sealed)));
        let stores = self
            .stores
            .iter()
            .filter_map(|(name, row)| row.access.as_ref().map(|sealed| (Place::Store(name.clone()), sealed)));
        let past_versions = matches!(after, Some(Place::Grant(_)));
        let versions = match after {
            Some(Place::Version(name, number)) => Bound::Excluded((name.clone(), *number)),
            Some(Place::Target(_) | Place::Store(_) | Place::Grant(_)) | None => Bound::Unbounded,
        };
        let versions = self.versions.range((versions, Bound::Unbounded));
        let versions = versions.take_while(move |_| !past_versions).filter_map(|((name, number), row)| {
            row.sealed.as_ref().map(|sealed| (Place::Version(name.clone(), *number), sealed))
        });
        let grants = self
            .grants
            .iter()
            .filter_map(|(id, row)| row.sealed.as_ref().map(|sealed| (Place::Grant(*id), sealed)));
        targets
            .chain(stores)
            .chain(versions)
            .chain(grants)
            .filter(move |(place, _)| after.is_none_or(|after| place > after))
    }

    /// What is sealed at a place.
    #[must_use]
    pub fn sealed_at(&self, place: &Place) -> Option<&Sealed> {
        match place {
            Place::Target(name) => self.targets.get(name)?.admin.as_ref(),
            Place::Store(name) => self.stores.get(name)?.access.as_ref(),
            Place::Version(name, number) => self.versions.get(&(name.clone(), *number))?.sealed.as_ref(),
            Place::Grant(id) => self.grants.get(id)?.sealed.as_ref(),
        }
    }

    /// The serials of clients' certificates that are good no more.
    pub fn revoked_serials(&self) -> impl Iterator<Item = &Serial> {
        self.certificates.values().filter(|row| row.revoked.is_some()).map(|row| &row.serial)
    }

    /// The versions of a credential, oldest first.
    pub fn versions_of(&self, credential: &CredentialName) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions
            .range((credential.clone(), 0)..=(credential.clone(), u32::MAX))
            .map(|(_, version)| version)
    }

    /// Rotations and grants that have not reached their end.
    pub fn open_jobs(&self) -> impl Iterator<Item = Job> {
        self.open.iter().copied()
    }

    /// The first revision of which everything after it is still kept: a consumer below it needs a snapshot.
    #[must_use]
    pub fn history_starts_after(&self) -> u64 {
        self.events.iter().next().map_or(self.revision(), |(first, _)| first - 1)
    }

    /// The kept events for `consumer` after `revision`, oldest first.
    pub fn stream_of<'a>(&'a self, consumer: &'a Consumer, after: u64) -> impl Iterator<Item = &'a Event> {
        let rest = (Bound::Excluded(after), Bound::Unbounded);
        self.events.range(rest).map(|(_, event)| event).filter(|event| consumer.is_owed(event))
    }

    /// The kept events owed to `consumer` that it has neither enforced nor been excused from, oldest first.
    pub fn outstanding_of<'a>(&'a self, consumer: &'a Consumer) -> impl Iterator<Item = &'a Event> {
        self.stream_of(consumer, consumer.enforced.cursor())
            .filter(|event| !consumer.has_settled(event.revision))
    }

    /// The required consumers that have not settled `revision`.
    pub fn missing_receipts(&self, revision: u64) -> impl Iterator<Item = &Consumer> {
        let event = self.events.get(&revision);
        self.consumers.values().filter(move |consumer| {
            consumer.required
                && event.is_some_and(|event| consumer.is_owed(event))
                && !consumer.has_settled(revision)
        })
    }

    /// The required consumers that have not settled the news of `rotation`'s new version, whether or not its event
    /// is still kept. Empty before there is such an event.
    pub fn awaited_by<'a>(&'a self, rotation: &'a Rotation) -> impl Iterator<Item = &'a Consumer> {
        let target = self.credentials.get(&rotation.credential).map(|row| &row.target);
        let news = rotation.published_revision.zip(target);
        self.consumers.values().filter(move |consumer| {
            consumer.required
                && news.is_some_and(|(revision, target)| {
                    revision > consumer.since
                        && consumer.subscription.covers_credential(&rotation.credential, target)
                        && !consumer.has_settled(revision)
                })
        })
    }

    /// Whether every required consumer has settled every event of `revocation`, kept or not.
    #[must_use]
    pub fn is_acked(&self, revocation: &Revocation) -> bool {
        revocation.revisions.iter().all(|revision| {
            self.told_of(revocation, *revision)
                .all(|consumer| !consumer.required || consumer.has_settled(*revision))
        })
    }

    /// The consumers that are owed the event `revision` of `revocation`. When the event is no longer kept, the
    /// subject of the revocation tells: what was never answered does not become answered by being old.
    pub fn told_of<'a>(
        &'a self,
        revocation: &'a Revocation,
        revision: u64,
    ) -> impl Iterator<Item = &'a Consumer> {
        let event = self.events.get(&revision);
        self.consumers.values().filter(move |consumer| match event {
            Some(event) => consumer.is_owed(event),
            None => revision > consumer.since && self.concerns(&revocation.subject, &consumer.subscription),
        })
    }

    /// Whether anything of `subject` falls under `subscription`.
    fn concerns(&self, subject: &Subject, subscription: &Subscription) -> bool {
        let covers = |row: &Credential| subscription.covers_credential(&row.name, &row.target);
        match subject {
            Subject::Credential(name) | Subject::Version(name, _) => {
                self.credentials.get(name).is_some_and(covers)
            }
            Subject::Identity(name) => {
                self.credentials.values().any(|row| &row.identity == name && covers(row))
            }
            Subject::Grant(id) => {
                let target = self.grants.get(id).map(|row| &row.target);
                subscription.all || target.is_some_and(|target| subscription.targets.contains(target))
            }
        }
    }

    /// The target an event's subject lives at.
    #[must_use]
    pub fn target_of(&self, about: &About) -> Option<&TargetName> {
        match about {
            About::Version { credential, .. } => self.credentials.get(credential).map(|row| &row.target),
            About::Grant(id) => self.grants.get(id).map(|row| &row.target),
        }
    }

    /// Whether a hold on this version stands.
    #[must_use]
    pub fn is_held(&self, credential: &CredentialName, version: u32) -> bool {
        let Some(identity) = self.credentials.get(credential).map(|row| &row.identity) else { return false };
        self.revocations.values().rev().any(|revocation| {
            revocation.code == ReasonCode::Hold
                && revocation.lifted.is_none()
                && match &revocation.subject {
                    Subject::Credential(name) => name == credential,
                    Subject::Version(name, number) => name == credential && *number == version,
                    Subject::Identity(name) => name == identity,
                    Subject::Grant(_) => false,
                }
        })
    }

    /// The number that the next version of `credential` will get; numbers are never used twice, not even when a
    /// credential is removed and declared again.
    #[must_use]
    pub fn next_version(&self, credential: &CredentialName) -> u32 {
        self.versions_of(credential).next_back().map_or(1, |version| version.number + 1)
    }
}
