//! Backups: whatever has happened, and whenever the backup was taken, with the ledger nothing dead comes back.

use proptest::prelude::*;

use super::{BEGINNING, invariants, load, moves::Move, sequences};
use crate::{
    Loading, Part, Restore, State, audit,
    command::{Command, ConfirmRestore, Stamped, Tick},
    credential::VersionState,
    grant::GrantStage,
    ledger::{BrokenLedger, LedgerEntry, Seen},
    name::NodeId,
    table::{Row, Table},
    time::{Span, Time},
};

pub(super) fn how(at: Time) -> Restore {
    let seen = Seen::default();
    Restore { at, by: "operator".into(), backup_at: at, accepted_loss: None, gap: 0, seen }
}

/// Runs the moves, and gives the state at the end, what the backup at `cut` would hold, and the entries behind it.
pub(super) fn history(moves: &[Move], cut: usize) -> (State, State, Vec<LedgerEntry>, Time) {
    let (mut state, mut now) = BEGINNING.clone();
    state.drain_ledger();
    let (mut backup, mut entries) = (state.clone(), Vec::new());
    for (step, made) in moves.iter().enumerate() {
        if step == cut {
            (backup, entries) = (load(state.records()), Vec::new());
        }
        let stamped = made.command(&state, &mut now);
        drop(state.apply(&stamped));
        entries.extend(state.drain_ledger());
    }
    let now = now.max(state.now());
    (state, backup, entries, now)
}

fn restored(mut backup: State, entries: &[LedgerEntry], now: Time) -> State {
    let entries = entries.iter().cloned().map(Ok::<_, BrokenLedger>);
    backup.restore(entries, &how(now)).unwrap();
    backup
}

fn load_in_parts(state: &State, size: usize) -> State {
    let records: Vec<_> = state.records().collect();
    let mut loading = Loading::default();
    for some in records.chunks(size) {
        let mut part = Part::default();
        some.iter().try_for_each(|record| part.add(record.into())).unwrap();
        loading.take(part);
    }
    loading.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_dead_comes_back_from_a_backup_and_a_ledger(
        moves in sequences(), cut in any::<prop::sample::Index>(),
    ) {
        let (truth, backup, entries, now) = history(&moves, cut.index(moves.len()));
        let mut state = restored(backup.clone(), &entries, now);
        check_versions(&truth, &state);
        check_the_rest(&truth, &backup, &state);
        state.assert_derived();
        // A node that starts while nothing may fire, and reads its state piece by piece.
        load_in_parts(&state, 5).assert_derived();
        prop_assert!(audit::verify(state.audit().values(), state.audit_head()).is_ok());

        let last = entries.last().map_or(backup.ledger_head(), LedgerEntry::head);
        let follow = state.drain_ledger();
        follow.iter().try_fold(last, |head, entry| entry.check_behind(head).map(|()| entry.head())).unwrap();
        prop_assert_eq!(state.ledger_head(), follow.last().unwrap().head(), "the mark is the last entry");

        // Nothing fires, and once it may, the promises of the model hold as ever.
        let far = now.plus(Span::days(400));
        prop_assert!(state.work(NodeId(1), far).iter().all(|work| work.step.only_looks()));
        for command in [Tick {}.into(), ConfirmRestore { reason: "looked at".into() }.into(), Command::from(Tick {})] {
            let before = state.clone();
            let stamped = Stamped { at: now.plus(Span::minutes(1)), actor: "bob".into(), command };
            let rotations = state.rotations().len();
            let outcome = state.apply(&stamped);
            prop_assert!(outcome.is_ok());
            prop_assert!(before.is_observing() == (state.is_observing() || stamped.command.tag() == 131));
            prop_assert!(!state.is_observing() || state.rotations().len() == rotations, "a schedule fired");
            invariants::check(&before, &state, &stamped, &outcome);
        }
        prop_assert!(!state.is_observing());
        state.assert_derived();
    }

    #[test]
    fn a_ledger_that_lacks_an_entry_or_has_it_changed_is_refused(
        moves in sequences(), cut in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), changed: bool,
    ) {
        let (_, mut backup, mut entries, now) = history(&moves, cut.index(moves.len()));
        if entries.len() > 1 {
            // The last one: nothing behind it tells that it is gone.
            let which = which.index(entries.len() - 1);
            if changed {
                entries[which].body[0] ^= 1;
            } else {
                entries.remove(which);
            }
            let refused = backup.restore(entries.into_iter().map(Ok::<_, BrokenLedger>), &how(now));
            prop_assert!(refused.is_err());
        }
    }
}

fn check_versions(truth: &State, state: &State) {
    for (key, true_version) in truth.versions().iter() {
        let version = state.versions().get(key).unwrap_or_else(|| panic!("{key:?} may be used again"));
        assert!(true_version.state.is_live() || !version.state.is_live(), "{key:?} has come back to life");
        assert!(
            true_version.state < VersionState::Destroyed || version.sealed.is_none(),
            "{key:?} has its secret"
        );
    }
    for credential in state.credentials().values() {
        let now = truth.credentials().get(&credential.name).unwrap();
        assert!(
            credential.current.is_none() || credential.current == now.current,
            "of `{}`",
            credential.name
        );
        let lost = state.lost().get(&credential.name).map(|lost| lost.version);
        assert_eq!(credential.current.or(lost), now.current, "what is lost is said to be");
        let active = state.versions_of(&credential.name).filter(|it| it.state == VersionState::Active);
        let active: Vec<u32> = active.map(|it| it.number).collect();
        assert_eq!(active, credential.current.into_iter().collect::<Vec<_>>());
    }
}

fn check_the_rest(truth: &State, backup: &State, state: &State) {
    for (id, _) in truth.grants().iter().filter(|(_, grant)| grant.ended.is_some()) {
        let known = state.grants().get(id).unwrap();
        assert!(known.stage >= GrantStage::Retire && known.ended.is_some(), "{id} has come back to life");
    }
    for (name, token) in truth.tokens().iter().filter(|(_, token)| token.revoked.is_some()) {
        assert!(state.tokens().get(name).is_none_or(|it| it.revoked.is_some()), "`{name}`: {token:?}");
    }
    assert!(truth.revocations().iter().eq(state.revocations().iter()), "revocations and holds");
    gone(truth.identities(), backup.identities(), state.identities());
    gone(truth.targets(), backup.targets(), state.targets());
    gone(truth.credentials(), backup.credentials(), state.credentials());
    gone(truth.schedules(), backup.schedules(), state.schedules());
    gone(truth.consumers(), backup.consumers(), state.consumers());

    assert_eq!(state.revision(), truth.revision(), "the feed goes on where it was");
    assert!(truth.now() <= state.now());
    assert!(
        truth
            .events()
            .iter()
            .map(|(at, it)| (at, &it.about, it.kind))
            .eq(state.events().iter().map(|(at, it)| (at, &it.about, it.kind)))
    );
    for (name, now) in truth.consumers().iter() {
        let Some(row) = state.consumers().get(name) else { continue };
        if backup.consumers().get(name).is_some_and(|old| old.since == now.since) {
            assert!(now.delivered <= row.delivered, "a cursor of `{name}` went back");
            assert!(now.received.cursor() <= row.received.cursor());
            assert!(now.enforced.cursor() <= row.enforced.cursor());
        }
    }
}

fn gone<V: Row<Key: std::fmt::Display>>(truth: &Table<V>, backup: &Table<V>, state: &Table<V>) {
    for (name, _) in backup.iter().filter(|(name, _)| !truth.contains(name)) {
        assert!(!state.contains(name), "`{name}` was removed");
    }
}
