//! Ledgers that end early: what died behind their end, and a consumer was told, stays dead all the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    invariants,
    moves::Move,
    restore::{history, how},
    sequences,
};
use crate::{
    Restore, State, audit,
    command::{ConfirmRestore, Stamped},
    event::{About, Event, EventKind, ReasonCode},
    ledger::{BrokenLedger, LedgerEntry, Seen, SeenState, What},
    name::CredentialName,
    time::Span,
};

/// What has come to pass, what the backup holds, the entries of a ledger that ends early, and the revision it ends at.
struct Scene {
    truth: State,
    backup: State,
    entries: Vec<LedgerEntry>,
    known: u64,
    how: Restore,
}

fn scene(moves: &[Move], cut: usize, end: prop::sample::Index) -> Scene {
    let (truth, backup, mut entries, now) = history(moves, cut);
    entries.truncate(end.index(entries.len() + 1));
    let mut told = entries.iter().filter_map(|entry| {
        let What::Event(event) = entry.statement().unwrap().what else { return None };
        Some(event.revision)
    });
    let known = told.next_back().unwrap_or_default().max(backup.revision());
    Scene { truth, backup, entries, known, how: how(now) }
}

impl Scene {
    fn restore(&self, seen: Seen) -> (State, u64) {
        let mut state = self.backup.clone();
        let entries = self.entries.iter().cloned().map(Ok::<_, BrokenLedger>);
        let summary = state.restore(entries, &Restore { seen, ..self.how.clone() }).unwrap();
        (state, summary.told)
    }
}

impl Scene {
    /// The versions that are over by the backup and the ledger alone.
    fn dead(&self) -> BTreeSet<(CredentialName, u32)> {
        let mut states: BTreeMap<_, _> =
            self.backup.versions().iter().map(|(key, row)| (key.clone(), row.state)).collect();
        for entry in &self.entries {
            if let What::Version(row) = entry.statement().unwrap().what {
                states.insert((row.credential, row.number), row.state);
            }
        }
        states.into_iter().filter(|(_, state)| !state.is_live()).map(|(key, _)| key).collect()
    }
}

fn all(truth: &State) -> Seen {
    let mut seen = Seen::default();
    truth.events().values().for_each(|event| seen.tell(event.clone()).unwrap());
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_consumer_was_told_is_dead_stays_dead(
        moves in sequences(), cut in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
    ) {
        let scene = scene(&moves, cut.index(moves.len()), end);
        let seen = all(&scene.truth);
        prop_assert_eq!(seen.complete_up_to(scene.known), scene.truth.revision());
        let (mut state, told) = scene.restore(seen);
        prop_assert_eq!(told, scene.truth.revision() - scene.known);
        prop_assert_eq!(state.revision(), scene.truth.revision());
        check_deaths(&scene.truth, &state);
        state.assert_derived();
        prop_assert!(audit::verify(state.audit().values(), state.audit_head()).is_ok());

        // What only the consumer knew stands in the ledger from now on, and the next restore carries it out.
        let last = scene.entries.last().map_or(scene.backup.ledger_head(), LedgerEntry::head);
        let stated = state.drain_ledger();
        stated.iter().try_fold(last, |head, entry| entry.check_behind(head).map(|()| entry.head())).unwrap();
        let longer = scene.entries.iter().chain(&stated).cloned().map(Ok::<_, BrokenLedger>);
        let mut again = scene.backup.clone();
        again.restore(longer, &scene.how).unwrap();
        check_deaths(&scene.truth, &again);
        prop_assert_eq!(again.revision(), scene.truth.revision());

        let before = state.clone();
        let command = ConfirmRestore { reason: "looked at".into() }.into();
        let stamped = Stamped { at: scene.how.at.plus(Span::minutes(1)), actor: "bob".into(), command };
        let outcome = state.apply(&stamped);
        prop_assert!(outcome.is_ok());
        invariants::check(&before, &state, &stamped, &outcome);
        state.assert_derived();
    }

    #[test]
    fn a_ledger_that_ends_in_the_midst_of_a_command_kills_whatever_it_tells_the_death_of(
        moves in sequences(), cut in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
    ) {
        let scene = scene(&moves, cut.index(moves.len()), end);
        let (mut state, _) = scene.restore(Seen::default());
        let told = state.events().values().filter(|event| event.kind == EventKind::CredentialRevoked);
        for event in told.filter(|event| event.reason != ReasonCode::Hold) {
            let About::Version { credential, version } = &event.about else { continue };
            let row = state.versions().get(&(credential.clone(), *version)).unwrap();
            prop_assert!(!row.state.is_live(), "`{credential}@{version}` has come back to life");
        }
        state.assert_derived();
        let before = state.clone();
        let command = ConfirmRestore { reason: "looked at".into() }.into();
        let stamped = Stamped { at: scene.how.at.plus(Span::minutes(1)), actor: "bob".into(), command };
        let outcome = state.apply(&stamped);
        invariants::check(&before, &state, &stamped, &outcome);
    }

    #[test]
    fn the_word_of_a_consumer_brings_nothing_to_life(
        moves in sequences(), cut in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
    ) {
        let scene = scene(&moves, cut.index(moves.len()), end);
        let (without, _) = scene.restore(Seen::default());
        let mut lies = Seen::default();
        let mut revision = scene.known;
        for version in without.versions().values() {
            let credential = version.credential.clone();
            let about = About::Version { credential: credential.clone(), version: version.number };
            for kind in [EventKind::CredentialRotated, EventKind::CredentialRestored, EventKind::HoldLifted] {
                revision += 1;
                let target = "pg-main".parse().unwrap();
                let (at, deadline) = (scene.how.at, scene.how.at);
                let reason = ReasonCode::Superseded;
                let about = about.clone();
                lies.tell(Event { revision, at, kind, about, target, reason, revocation: None, deadline, escalated: false })
                    .unwrap();
            }
            lies.list(revision, [((credential, version.number), SeenState::Active)].into()).unwrap();
        }
        let (state, _) = scene.restore(lies);
        for key in scene.dead() {
            prop_assert!(!state.versions().get(&key).unwrap().state.is_live(), "{key:?} has come back to life");
        }
        for id in without.revocations().values().filter(|row| row.lifted.is_none()).map(|row| row.id) {
            prop_assert!(state.revocations().get(&id).unwrap().lifted.is_none(), "{id} was lifted");
        }
        state.assert_derived();
    }
}

fn check_deaths(truth: &State, state: &State) {
    for event in truth.events().values() {
        let is_hold = event.reason == ReasonCode::Hold;
        match &event.about {
            About::Version { credential, version } => {
                let key = (credential.clone(), *version);
                let row = state.versions().get(&key).unwrap_or_else(|| panic!("{key:?} may be used again"));
                if event.kind == EventKind::CredentialRevoked && !is_hold {
                    assert!(!row.state.is_live(), "{key:?} has come back to life");
                }
                let held = truth.is_held(credential, *version);
                let known =
                    state.credentials().contains(credential) && truth.credentials().contains(credential);
                let told = event.kind == EventKind::CredentialRevoked && is_hold;
                assert!(!(held && known && told) || state.is_held(credential, *version), "{key:?} was held");
            }
            About::Grant(id) => {
                let open =
                    state.grants().get(id).is_some_and(|row| row.ended.is_none() && !row.stage.is_terminal());
                assert!(!open, "{id} has come back to life");
            }
        }
    }
}
