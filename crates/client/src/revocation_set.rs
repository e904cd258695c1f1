//! What is no longer valid, as far as the feed has told: a local answer for every request, without a call.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Update,
    v1::{Event, EventKind, Snapshot},
};

/// The reason code of a revocation that can be lifted.
const HOLD: &str = "hold";

/// How one version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Valid.
    Active,
    /// Still honoured; holders must move to its successor.
    Tainted,
    /// Not valid for the time being.
    Held,
    /// Not valid.
    Revoked,
    /// The feed has not spoken of it.
    Unknown,
}

/// What is no longer valid, built from the updates of a [`crate::Subscriber`].
///
/// Its answer is right for everything up to [`RevocationSet::complete_up_to`]; how old that is tells
/// [`crate::Progress::staleness`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationSet {
    complete_up_to: u64,
    /// Whether a snapshot was seen: from then on a version that was never listed is not valid.
    listed: bool,
    versions: BTreeMap<String, BTreeMap<u32, Standing>>,
    grants: BTreeSet<String>,
}

impl RevocationSet {
    /// A set that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an update in. Repeats and stragglers change nothing.
    pub fn observe(&mut self, update: &Update) {
        match update {
            Update::Snapshot(snapshot) if snapshot.revision >= self.complete_up_to => self.restart(snapshot),
            Update::Event(event) if event.revision > self.complete_up_to => self.learn(event),
            Update::CaughtUp { revision, .. } => self.complete_up_to = self.complete_up_to.max(*revision),
            Update::Snapshot(_) | Update::Event(_) => {}
        }
    }

    /// The revision up to which nothing is missing.
    #[must_use]
    pub const fn complete_up_to(&self) -> u64 {
        self.complete_up_to
    }

    /// Whether `version` of `credential` must not be accepted: revoked, held, or missing from the last snapshot.
    #[must_use]
    pub fn is_revoked(&self, credential: &str, version: u32) -> bool {
        match self.standing(credential, version) {
            Standing::Held | Standing::Revoked => true,
            Standing::Active | Standing::Tainted => false,
            Standing::Unknown => self.listed,
        }
    }

    /// How `version` of `credential` stands.
    #[must_use]
    pub fn standing(&self, credential: &str, version: u32) -> Standing {
        let known = self.versions.get(credential).and_then(|versions| versions.get(&version));
        known.copied().unwrap_or(Standing::Unknown)
    }

    /// Whether the grant, such as `bg-7`, has ended.
    #[must_use]
    pub fn has_ended(&self, grant: &str) -> bool {
        self.grants.contains(grant)
    }

    /// All versions that are revoked or held, in order.
    pub fn revoked(&self) -> impl Iterator<Item = (&str, u32)> {
        self.versions.iter().flat_map(|(credential, versions)| {
            versions
                .iter()
                .filter(|(_, standing)| matches!(standing, Standing::Held | Standing::Revoked))
                .map(move |(&version, _)| (credential.as_str(), version))
        })
    }

    fn restart(&mut self, snapshot: &Snapshot) {
        self.complete_up_to = snapshot.revision;
        self.listed = true;
        self.versions.clear();
        for listed in &snapshot.versions {
            let standing = match listed.state.as_str() {
                "active" => Standing::Active,
                "tainted" => Standing::Tainted,
                "held" => Standing::Held,
                // A word of a later protocol: refusing is the side to err on.
                _ => Standing::Revoked,
            };
            self.versions.entry(listed.credential.clone()).or_default().insert(listed.version, standing);
        }
    }

    fn learn(&mut self, event: &Event) {
        self.complete_up_to = event.revision;
        match event.kind() {
            EventKind::CredentialRotated => {
                let versions = self.versions.entry(event.credential.clone()).or_default();
                for standing in versions.values_mut().filter(|standing| **standing == Standing::Active) {
                    *standing = Standing::Tainted;
                }
                versions.insert(event.version, Standing::Active);
            }
            EventKind::CredentialRestored | EventKind::HoldLifted => self.set(event, Standing::Active),
            EventKind::CredentialRevoked if event.reason_code == HOLD => self.set(event, Standing::Held),
            EventKind::CredentialRevoked => self.set(event, Standing::Revoked),
            EventKind::GrantEnded => {
                self.grants.insert(event.grant.clone());
            }
            // A kind of a later protocol that names a version: refusing it is the side to err on.
            EventKind::Unspecified if event.version > 0 => self.set(event, Standing::Revoked),
            EventKind::Unspecified => {}
        }
    }

    fn set(&mut self, event: &Event, standing: Standing) {
        self.versions.entry(event.credential.clone()).or_default().insert(event.version, standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::VersionStanding;

    fn event(revision: u64, kind: EventKind, version: u32, reason_code: &str) -> Update {
        Update::Event(Event {
            revision,
            kind: kind.into(),
            credential: "orders-db".into(),
            version,
            reason_code: reason_code.into(),
            ..Event::default()
        })
    }

    #[test]
    fn a_rotation_leaves_the_old_version_honoured_until_it_is_revoked() {
        let mut set = RevocationSet::new();
        set.observe(&event(1, EventKind::CredentialRotated, 1, ""));
        set.observe(&event(2, EventKind::CredentialRotated, 2, ""));
        assert_eq!(set.standing("orders-db", 1), Standing::Tainted);
        assert!(!set.is_revoked("orders-db", 1));
        set.observe(&event(3, EventKind::CredentialRevoked, 1, "superseded"));
        assert!(set.is_revoked("orders-db", 1) && !set.is_revoked("orders-db", 2));
        assert_eq!(set.complete_up_to(), 3);
        assert_eq!(set.revoked().collect::<Vec<_>>(), [("orders-db", 1)]);
    }

    #[test]
    fn a_hold_can_be_lifted_and_a_late_repeat_does_not_bring_it_back() {
        let mut set = RevocationSet::new();
        let hold = event(1, EventKind::CredentialRevoked, 1, "hold");
        set.observe(&hold);
        assert_eq!(set.standing("orders-db", 1), Standing::Held);
        set.observe(&event(2, EventKind::HoldLifted, 1, "hold"));
        set.observe(&hold);
        assert!(!set.is_revoked("orders-db", 1));
    }

    #[test]
    fn after_a_snapshot_what_is_not_listed_is_not_valid() {
        let mut set = RevocationSet::new();
        assert!(!set.is_revoked("orders-db", 1), "nothing was said of it");
        let versions =
            vec![VersionStanding { credential: "orders-db".into(), version: 2, state: "active".into() }];
        set.observe(&Update::Snapshot(Snapshot { revision: 9, versions }));
        assert!(set.is_revoked("orders-db", 1) && !set.is_revoked("orders-db", 2));
        assert_eq!(set.complete_up_to(), 9);
    }

    #[test]
    fn heartbeats_move_completeness_but_never_back() {
        let mut set = RevocationSet::new();
        set.observe(&Update::CaughtUp { revision: 5, at_ms: 0 });
        set.observe(&Update::CaughtUp { revision: 4, at_ms: 0 });
        assert_eq!(set.complete_up_to(), 5);
    }
}
