//! Data keys and root keys: nothing sealed is ever left without its key, and no key goes before its time.

use std::collections::BTreeSet;

use super::{
    Machine,
    machine::{adopt, alternating, credential, prepared_for, schedule, sealed, single, target},
    name,
};
use crate::{
    State,
    attempt::{Job, Step, StepOutcome},
    command::{
        AddDataKey, Adopt, AnnounceKeys, ApproveGrant, DestroyDataKey, Finish, FinishRootKey, InstallDataKey,
        PutCredential, PutStore, PutTarget, RequestGrant, Reseal, Resealed, RewrapDataKeys,
    },
    key::{DataKeyState, RootKeyId, RootKeyState},
    name::{GrantId, NodeId},
    outcome::Applied,
    refusal::Code,
    sealed::{Place, Sealed},
    table::LoadError,
    time::{Span, Time},
};

pub(super) const OLD: RootKeyId = RootKeyId([1; 8]);
pub(super) const NEW: RootKeyId = RootKeyId([2; 8]);

/// A value as it is sealed under a key: a header, and what is in it.
pub(super) fn under(key: u32, content: u8) -> Sealed {
    [&[1], &key.to_be_bytes()[..], &[content; 3]].concat().try_into().unwrap()
}

pub(super) fn added(id: u32) -> AddDataKey {
    AddDataKey { id, wrapped: vec![7; 4], root: OLD, reason: "yearly".into() }
}

pub(super) fn announced(node: u64, held: &[RootKeyId]) -> AnnounceKeys {
    AnnounceKeys { node: NodeId(node), held: held.iter().copied().collect() }
}

pub(super) fn rewrapped(state: &State, nodes: &[u64]) -> RewrapDataKeys {
    let living = state.data_keys().into_iter().filter(|key| key.state != DataKeyState::Destroyed);
    RewrapDataKeys {
        from: OLD,
        to: NEW,
        keys: living.map(|key| (key.id, vec![8; 4])).collect(),
        nodes: nodes.iter().copied().map(NodeId).collect(),
        reason: "an operator left".into(),
    }
}

/// Everything under `from`, sealed anew under `to`.
pub(super) fn resealed(state: &State, from: u32, to: u32) -> Reseal {
    let held = state.sealed_after(None).filter(|(_, sealed)| sealed.key() == Some(from));
    let values = held.map(|(place, sealed)| Resealed {
        place,
        was: sealed.digest(),
        sealed: under(to, sealed.as_bytes().last().copied().unwrap_or_default()),
    });
    Reseal { from, values: values.collect() }
}

fn states(machine: &Machine) -> Vec<(u32, DataKeyState)> {
    machine.state.data_keys().into_iter().map(|key| (key.id, key.state)).collect()
}

/// One value of each kind under key 1.
fn machine() -> Machine {
    let mut machine = Machine::with_target();
    machine.ok(added(1));
    machine.ok(PutTarget { admin: Some(under(1, 10)), ..target("db") });
    let access = Some(under(1, 11));
    machine.ok(PutStore { name: name("files"), kind: "file".into(), params: [].into(), access });
    let adopt = Adopt { sealed: under(1, 12), ..adopt(&alternating()) };
    machine.ok(PutCredential { adopt: Some(adopt), ..credential("orders-db", alternating()) });
    machine.ok(schedule("nightly", "orders-db"));
    machine
}

#[test]
fn a_data_key_is_replaced_and_destroyed_when_nothing_is_under_it() {
    let mut machine = machine();
    assert_eq!(machine.state.sealed_under(1), 3);
    machine.refused(Code::InUse, DestroyDataKey { id: 1 });
    machine.refused(Code::Conflict, resealed(&machine.state, 1, 1));
    machine.ok(added(2));
    assert_eq!(states(&machine), [(1, DataKeyState::Retiring), (2, DataKeyState::Active)]);
    machine.refused(Code::KeyRotationInFlight, added(3));
    machine.refused(Code::InUse, DestroyDataKey { id: 1 });
    machine.ok(resealed(&machine.state, 1, 2));
    assert_eq!((machine.state.sealed_under(1), machine.state.sealed_under(2)), (0, 3));
    let contents: Vec<u8> =
        machine.state.sealed_after(None).map(|(_, sealed)| sealed.as_bytes()[7]).collect();
    assert_eq!(contents, [10, 11, 12], "the values are what they were");
    assert_eq!(machine.ok(DestroyDataKey { id: 1 }), Applied::Changed);
    assert_eq!(machine.ok(DestroyDataKey { id: 1 }), Applied::Unchanged);
    let gone = machine.state.data_keys()[0].clone();
    assert!(gone.wrapped.is_empty() && gone.state == DataKeyState::Destroyed, "{gone:?}");
    machine.refused(Code::Conflict, DestroyDataKey { id: 9 });
    machine.refused(Code::InUse, DestroyDataKey { id: 2 });
    machine.refused(Code::Conflict, added(2));
    machine.ok(added(3));
}

#[test]
fn a_value_that_was_changed_meanwhile_is_left_alone() {
    let mut machine = machine();
    machine.ok(added(2));
    let read = resealed(&machine.state, 1, 2);
    // Declared anew, under the same old key, after it was read.
    machine.ok(PutTarget { admin: Some(under(1, 99)), ..target("db") });
    let only = |place: &Place| Reseal {
        from: 1,
        values: read.values.iter().filter(|value| value.place == *place).cloned().collect(),
    };
    machine.refused(Code::Conflict, only(&Place::Target(name("db"))));
    machine.ok(read.clone());
    let admin = machine.state.sealed_at(&Place::Target(name("db"))).unwrap();
    assert_eq!(*admin, under(1, 99), "the new value stands");
    assert_eq!(machine.state.sealed_under(1), 1);
    machine.refused(Code::Conflict, read);
    machine.ok(resealed(&machine.state, 1, 2));
    assert_eq!(machine.state.sealed_under(1), 0);
}

#[test]
fn only_the_active_key_seals_anew() {
    let mut machine = machine();
    machine.ok(added(2));
    machine.refused(Code::StaleKey, resealed(&machine.state, 1, 1));
    machine.refused(Code::StaleKey, resealed(&machine.state, 1, 3));
    machine.refused(Code::Conflict, resealed(&machine.state, 2, 2));
    let many = vec![resealed(&machine.state, 1, 2).values[0].clone(); crate::caps::RESEALED + 1];
    machine.refused(Code::TooLong, Reseal { from: 1, values: many });
}

#[test]
fn nothing_is_taken_that_is_sealed_under_a_destroyed_key() {
    let mut machine = machine();
    machine.ok(added(2));
    machine.ok(resealed(&machine.state, 1, 2));
    machine.ok(DestroyDataKey { id: 1 });
    let admin = Some(under(1, 1));
    machine.refused(Code::StaleKey, PutTarget { admin: admin.clone(), ..target("db") });
    let store = PutStore { name: name("late"), kind: "file".into(), params: [].into(), access: admin };
    machine.refused(Code::StaleKey, store);
    let adopted = Adopt { sealed: under(1, 1), ..adopt(&single()) };
    let late = PutCredential { adopt: Some(adopted), ..credential("late", single()) };
    machine.refused(Code::StaleKey, late);
    let id = machine.trigger();
    let fence = machine.begin(Job::Rotation(id), Step::Prepare);
    let StepOutcome::Prepared { username, .. } = machine.prepared(id) else { panic!("a candidate") };
    let stale = StepOutcome::Prepared { username: username.clone(), sealed: under(1, 5) };
    machine.refused(Code::StaleKey, Finish { job: Job::Rotation(id), fence, outcome: stale });
    let outcome = StepOutcome::Prepared { username, sealed: under(2, 5) };
    machine.finish(Job::Rotation(id), fence, outcome);
}

#[test]
fn a_key_stays_while_an_attempt_may_still_seal_under_it() {
    let mut machine = machine();
    let id = machine.trigger();
    let fence = machine.begin(Job::Rotation(id), Step::Prepare);
    machine.ok(added(2));
    machine.ok(resealed(&machine.state, 1, 2));
    machine.refused(Code::InUse, DestroyDataKey { id: 1 });
    let StepOutcome::Prepared { username, .. } = machine.prepared(id) else { panic!("a candidate") };
    machine.finish(Job::Rotation(id), fence, StepOutcome::Prepared { username, sealed: under(1, 77) });
    machine.refused(Code::InUse, DestroyDataKey { id: 1 });
    machine.ok(resealed(&machine.state, 1, 2));
    machine.ok(DestroyDataKey { id: 1 });
}

#[test]
fn an_attempt_begun_with_the_new_key_holds_nothing_up() {
    let mut machine = machine();
    machine.ok(added(2));
    machine.ok(resealed(&machine.state, 1, 2));
    let id = machine.trigger();
    machine.begin(Job::Rotation(id), Step::Prepare);
    machine.ok(DestroyDataKey { id: 1 });
}

#[test]
fn the_key_of_an_older_cluster_takes_part() {
    let mut machine = Machine::with_target();
    machine.ok(InstallDataKey { id: 1, wrapped: vec![9; 4] });
    machine.refused(Code::DataKeyExists, InstallDataKey { id: 2, wrapped: vec![9; 4] });
    assert_eq!(machine.state.data_key().map(|key| (key.id, key.root)), Some((1, None)));
    machine.ok(PutTarget { admin: Some(under(1, 10)), ..target("db") });
    let loaded = State::load(machine.state.records().map(Ok::<_, LoadError>)).unwrap();
    assert_eq!((loaded.data_keys(), loaded.sealed_under(1)), (machine.state.data_keys(), 1));
    machine.refused(Code::Conflict, added(1));
    machine.ok(added(2));
    let first = machine.state.data_keys()[0].clone();
    assert_eq!((first.wrapped.as_slice(), first.root, first.created), (&[9; 4][..], Some(OLD), Time(0)));
    assert!(machine.state.facts.data_key.is_none(), "there is one place for it");
    machine.refused(Code::DataKeyExists, InstallDataKey { id: 3, wrapped: vec![9; 4] });
    machine.ok(resealed(&machine.state, 1, 2));
    machine.ok(DestroyDataKey { id: 1 });
}

#[test]
fn a_root_key_is_replaced_when_every_node_holds_the_new_one() {
    let mut machine = machine();
    for node in 1..=3 {
        machine.ok(announced(node, &[OLD]));
    }
    machine.ok(announced(1, &[OLD, NEW]));
    let refusal = machine.send("alice", rewrapped(&machine.state, &[1, 2, 3])).unwrap_err();
    assert_eq!(refusal.code, Code::KeyNotHeld);
    assert!(refusal.message.ends_with("node-2, node-3"), "{}", refusal.message);
    machine.refused(Code::KeyNotHeld, rewrapped(&machine.state, &[]));
    let finish = |id, nodes: &[u64]| FinishRootKey {
        id,
        nodes: nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>(),
        reason: "all nodes have it".into(),
    };
    machine.refused(Code::Conflict, finish(OLD, &[1, 2, 3]));
    machine.ok(announced(2, &[OLD, NEW]));
    machine.ok(announced(3, &[OLD, NEW]));
    machine.ok(rewrapped(&machine.state, &[1, 2, 3]));
    let root = |id| machine.state.root_keys().get(&id).map(|row| row.state);
    assert_eq!((root(OLD), root(NEW)), (Some(RootKeyState::Leaving), Some(RootKeyState::Active)));
    let key = machine.state.data_key().unwrap();
    assert_eq!((key.root, key.wrapped), (Some(NEW), vec![8; 4]));
    machine.refused(Code::KeyRotationInFlight, rewrapped(&machine.state, &[1, 2, 3]));
    machine.refused(Code::Conflict, added(2));

    machine.ok(announced(3, &[OLD]));
    machine.refused(Code::KeyNotHeld, finish(OLD, &[1, 2, 3]));
    machine.ok(announced(3, &[NEW]));
    machine.refused(Code::Conflict, finish(NEW, &[1, 2, 3]));
    machine.ok(finish(OLD, &[1, 2, 3]));
    assert_eq!(machine.state.root_keys().get(&OLD).map(|row| row.state), Some(RootKeyState::Retired));
    machine.refused(Code::Conflict, finish(OLD, &[1, 2, 3]));
    let back = RewrapDataKeys { from: NEW, to: OLD, ..rewrapped(&machine.state, &[1, 2]) };
    machine.refused(Code::StaleKey, back);
    machine.refused(Code::StaleKey, added(2));
    machine.ok(AddDataKey { root: NEW, ..added(2) });
}

#[test]
fn data_keys_are_wrapped_anew_all_or_none() {
    let mut machine = machine();
    machine.ok(announced(1, &[OLD, NEW]));
    machine.ok(added(2));
    let whole = rewrapped(&machine.state, &[1]);
    machine.refused(Code::Conflict, RewrapDataKeys { keys: whole.keys[..1].to_vec(), ..whole.clone() });
    let twice = vec![whole.keys[0].clone(), whole.keys[1].clone(), whole.keys[1].clone()];
    machine.refused(Code::Conflict, RewrapDataKeys { keys: twice, ..whole.clone() });
    machine.refused(Code::OutOfRange, RewrapDataKeys { keys: vec![(1, Vec::new())], ..whole.clone() });
    machine.refused(Code::Conflict, RewrapDataKeys { from: NEW, to: OLD, ..whole.clone() });
    machine.refused(Code::Conflict, RewrapDataKeys { to: OLD, ..whole.clone() });
    machine.refused(Code::TextRequired, RewrapDataKeys { reason: String::new(), ..whole.clone() });
    machine.ok(whole);
    // The replacement of the data key goes on under the new root key.
    machine.ok(resealed(&machine.state, 1, 2));
    machine.ok(DestroyDataKey { id: 1 });
}

#[test]
fn what_nodes_hold_is_kept_as_they_say_it() {
    let mut machine = Machine::new();
    assert_eq!(machine.ok(announced(1, &[OLD])), Applied::Changed);
    assert_eq!(machine.ok(announced(1, &[OLD])), Applied::Unchanged);
    machine.ok(announced(2, &[OLD]));
    machine.ok(announced(1, &[NEW]));
    let holders = |id| machine.state.root_keys().get(&id).map(|row| row.holders.clone());
    assert_eq!(holders(OLD), Some([NodeId(2)].into()));
    assert_eq!(holders(NEW), Some([NodeId(1)].into()));
    machine.ok(announced(2, &[]));
    assert!(machine.state.root_keys().get(&OLD).is_none(), "nobody holds it and nothing needs it");
    let many: BTreeSet<_> = (0..=9).map(|byte| RootKeyId([byte; 8])).collect();
    machine.refused(Code::TooLong, AnnounceKeys { node: NodeId(1), held: many });
}

#[test]
fn places_are_gone_through_in_order_from_anywhere() {
    let mut machine = machine();
    machine.ok(PutTarget { admin: Some(under(1, 13)), ..target("cache") });
    let (role, ticket, reason) = ("reader".to_owned(), "T".to_owned(), "why".to_owned());
    machine.ok(RequestGrant { target: name("db"), role, duration: Span::minutes(45), ticket, reason });
    let id = GrantId(1);
    machine.ok_by("bob", ApproveGrant { id });
    machine.attempt(Job::Grant(id), Step::Prepare, prepared_for("bg_x"));
    let all: Vec<Place> = machine.state.sealed_after(None).map(|(place, _)| place).collect();
    let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "target/cache/admin",
            "target/db/admin",
            "store/files/access",
            "credential/orders-db/version/1",
            "grant/bg-1"
        ]
    );
    for (number, place) in all.iter().enumerate() {
        let rest: Vec<Place> = machine.state.sealed_after(Some(place)).map(|(place, _)| place).collect();
        assert_eq!(rest, all[number + 1..]);
        assert!(machine.state.sealed_at(place).is_some());
    }
    assert_eq!(sealed(2).key(), None, "no header is no key");
}
