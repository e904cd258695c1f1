//! What consumers were told beyond the end of the ledger, carried out on a state that is put back. Nothing vouches for it
//! but the consumer: it ends what the state holds to be alive, and brings nothing back to life.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    State,
    credential::{Version, VersionState},
    event::{About, Event, EventKind, ReasonCode, Revocation, Subject},
    grant::{GrantEnd, GrantEvent, transition},
    ledger::{Seen, SeenSnapshot, SeenState},
    name::{CredentialName, GrantId, RevocationId},
    time::{Span, Time},
};

use super::restore::Touched;

/// Who acts on the word of a consumer.
const BY: &str = "restore";

/// How long consumers have to answer for an event whose deadline was not kept.
const ACK_WITHIN: Span = Span::hours(1);

type VersionKey = (CredentialName, u32);

/// Holds that only a consumer knows of: they end by its word as well.
type Holds = BTreeMap<VersionKey, RevocationId>;

impl State {
    /// Carries out what is `seen` behind the last revision, in order, and gives the number of events.
    pub(super) fn take_in(&mut self, seen: &Seen, touched: &mut Touched) -> u64 {
        let known = self.facts.revision;
        let (mut told, mut holds) = (0, Holds::new());
        for revision in seen.revisions_behind(known) {
            if let Some(event) = seen.events_at(revision) {
                self.take_in_event(event, touched, &mut holds);
                self.tell_again(self.dated(event));
                told += 1;
            }
            for snapshot in seen.snapshots_at(revision) {
                self.take_in_snapshot(snapshot, touched);
            }
        }
        self.go_on_from(seen.revision().saturating_add(1));
        for (consumer, upto) in seen.delivered() {
            self.consumers.update(consumer, |row| row.delivered = row.delivered.max(*upto));
        }
        told
    }

    /// The event with the instants that its consumer has not kept.
    fn dated(&self, event: &Event) -> Event {
        let at = if event.at == Time(0) { self.now() } else { event.at };
        let deadline = if event.deadline == Time(0) { self.now().plus(ACK_WITHIN) } else { event.deadline };
        Event { at, deadline, ..event.clone() }
    }

    /// Carries out `events` that the state tells of already.
    pub(super) fn take_in_events(&mut self, events: &[Event], touched: &mut Touched) {
        let mut holds = Holds::new();
        for event in events {
            self.take_in_event(event, touched, &mut holds);
        }
    }

    fn take_in_event(&mut self, event: &Event, touched: &mut Touched, holds: &mut Holds) {
        if let Some(id) = event.revocation {
            self.facts.revocations = self.facts.revocations.max(id.0);
        }
        match &event.about {
            About::Version { credential, version } => {
                let key = (credential.clone(), *version);
                touched.credentials.insert(credential.clone());
                self.row_of(&key);
                match event.kind {
                    EventKind::CredentialRotated | EventKind::CredentialRestored => self.seen_active(&key),
                    EventKind::CredentialRevoked if event.reason == ReasonCode::Hold => {
                        self.seen_held(key, event, holds);
                    }
                    EventKind::CredentialRevoked => self.seen_dead(&key, Some(event.revision)),
                    EventKind::HoldLifted => self.seen_lifted(&key, holds),
                    EventKind::GrantEnded => {}
                }
            }
            About::Grant(id) => {
                touched.grants.insert(*id);
                self.seen_ended(*id, event);
            }
        }
    }

    /// Of each credential that is named, every other version that the target may honour is over.
    fn take_in_snapshot(&mut self, snapshot: &SeenSnapshot, touched: &mut Touched) {
        let named: BTreeSet<&CredentialName> = snapshot.keys().map(|(credential, _)| credential).collect();
        for credential in named {
            touched.credentials.insert(credential.clone());
            let over = |row: &&Version| {
                matches!(row.state, VersionState::Active | VersionState::Tainted)
                    && !snapshot.contains_key(&(credential.clone(), row.number))
            };
            let over: Vec<u32> = self.versions_of(credential).filter(over).map(|row| row.number).collect();
            for number in over {
                self.seen_dead(&(credential.clone(), number), None);
            }
        }
        for (key, state) in snapshot {
            match state {
                SeenState::Active => self.seen_active(key),
                SeenState::Tainted | SeenState::Held => {
                    self.row_of(key);
                }
            }
        }
    }

    /// A version is what holders should use, unless it is over by all that is known.
    fn seen_active(&mut self, key: &VersionKey) {
        let (credential, number) = key;
        if !self.row_of(key).state.is_live() {
            return;
        }
        let others: Vec<u32> = self
            .versions_of(credential)
            .filter(|row| row.number != *number && row.state == VersionState::Active)
            .map(|row| row.number)
            .collect();
        for other in others {
            self.versions.update(&(credential.clone(), other), |row| row.state = VersionState::Tainted);
        }
        self.versions.update(key, |row| row.state = VersionState::Active);
        self.credentials.update(credential, |row| row.current = Some(*number));
    }

    fn seen_dead(&mut self, key: &VersionKey, revision: Option<u64>) {
        if !self.row_of(key).state.is_live() {
            return;
        }
        let now = self.now();
        self.versions.update(key, |row| {
            row.state = VersionState::Revoked;
            row.revoked = Some(now);
            row.revoked_revision = revision;
        });
        self.credentials.update(&key.0, |row| row.current = row.current.filter(|current| *current != key.1));
    }

    fn seen_held(&mut self, key: VersionKey, event: &Event, holds: &mut Holds) {
        if !self.credentials.contains(&key.0) || self.is_held(&key.0, key.1) {
            return;
        }
        let free = event.revocation.filter(|id| !self.revocations.contains(id));
        let id = free.unwrap_or_else(|| self.next_revocation());
        let held = Revocation {
            id,
            subject: Subject::Version(key.0.clone(), key.1),
            code: ReasonCode::Hold,
            reason: "a consumer was told so".to_owned(),
            by: BY.to_owned(),
            at: event.at,
            revisions: vec![event.revision],
            deadline: event.deadline,
            lifted: None,
        };
        self.revocations.put(id, held);
        holds.insert(key, id);
    }

    /// A hold of which the ledger knows is lifted by people alone.
    fn seen_lifted(&mut self, key: &VersionKey, holds: &mut Holds) {
        let now = self.now();
        if let Some(id) = holds.remove(key) {
            self.revocations.update(&id, |row| row.lifted = Some((now, BY.to_owned())));
        }
    }

    /// A grant is over. One that the state does not know keeps its number.
    fn seen_ended(&mut self, id: GrantId, event: &Event) {
        self.facts.grants = self.facts.grants.max(id.0);
        let now = self.now();
        let Some(grant) = self.grants.get(&id).filter(|row| row.ended.is_none()) else { return };
        let Ok(stage) = transition(grant.stage, GrantEvent::Over) else { return };
        self.grants.update(&id, |row| {
            row.stage = stage;
            row.retry = row.retry.after_calling_off(row.attempt.take());
            row.ended = Some((GrantEnd::Ended { by: BY.to_owned() }, now));
            row.ended_revision = Some(event.revision);
        });
    }

    /// The version; where the state does not know it, as one of which nothing is left but its number, which is not used
    /// again.
    fn row_of(&mut self, key: &VersionKey) -> Version {
        if let Some(row) = self.versions.get(key) {
            return row.clone();
        }
        let (credential, number) = key;
        let before = self.versions_of(credential).next_back().map(|row| row.username.clone());
        let strategy = self.credentials.get(credential).map(|row| &row.strategy);
        let row = Version {
            credential: credential.clone(),
            number: *number,
            state: VersionState::Tainted,
            username: strategy.map(|it| it.successor_of(before.as_deref()).to_owned()).unwrap_or_default(),
            sealed: None,
            created: self.now(),
            verified: None,
            revoked: None,
            refused: None,
            revoked_revision: None,
        };
        self.versions.put(key.clone(), row.clone());
        row
    }
}
