//! Properties: whatever is proposed in whatever order, valid or not, the promises of the model hold.

mod invariants;
mod moves;
mod restore;
mod seen;

use std::sync::LazyLock;

use proptest::{prelude::*, strategy::ValueTree};

use super::machine::{
    adopt, alternating, consumer, credential, identity, overlapping, schedule, single, target,
};
use super::{
    Machine,
    keys::{NEW, OLD, announced},
    name,
};
use crate::{
    State, audit,
    command::{AnnounceNode, InstallDataKey, IssueToken, PutCredential, PutStore, ReportReachable, Stamped},
    name::NodeId,
    table::{LoadError, Record},
    time::Time,
    token::Role,
};
use moves::{Move, keyed};

/// Cases of the default run, over all properties of this file.
const CASES: u32 = 10_000;
/// Commands in most cases; the others go deep.
const MOVES: usize = 14;
/// Commands in one case of twelve.
const MANY_MOVES: usize = 100;

/// What every case begins with: three credentials of three strategies, one of them without a version yet.
static BEGINNING: LazyLock<(State, Time)> = LazyLock::new(|| {
    let mut machine = Machine::new();
    machine.ok(InstallDataKey { id: 1, wrapped: vec![7; 4] });
    machine.ok(announced(1, &[OLD, NEW]));
    machine.ok(identity("orders"));
    machine.ok(keyed(target("db").into(), 1));
    machine.ok(PutStore { name: name("files"), kind: "file".into(), params: [].into(), access: None });
    machine.ok(identity("billing"));
    machine.ok(keyed(target("cache").into(), 1));
    let first = PutCredential { adopt: Some(adopt(&alternating())), ..credential("a", alternating()) };
    machine.ok(keyed(first.into(), 1));
    let elsewhere = |strategy| PutCredential { target: name("cache"), ..credential("b", strategy) };
    let second = PutCredential { adopt: Some(adopt(&single())), ..elsewhere(single()) };
    machine.ok(keyed(second.into(), 1));
    machine.ok(PutCredential { identity: name("billing"), ..credential("c", overlapping()) });
    for (text, credential) in [("sa", "a"), ("sb", "b"), ("sc", "c")] {
        machine.ok(schedule(text, credential));
    }
    machine.ok(consumer("edge", true));
    for node in 1..=2 {
        let (client_address, version) = (format!("node-{node}:7000"), "0.1.0".to_owned());
        machine.ok(AnnounceNode { id: NodeId(node), client_address, version });
    }
    machine.ok(ReportReachable { nodes: [NodeId(1), NodeId(2)].into() });
    let (principal, hash) = ("alice".to_owned(), [7; 32]);
    let token = |role| IssueToken {
        name: name("root"),
        principal: principal.clone(),
        role,
        consumer: None,
        hash,
        expires: None,
    };
    machine.ok(token(Role::Admin));
    machine.state.drain_changes();
    (machine.state.clone(), machine.now)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES / 2, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_commands_breaks_a_promise(moves in sequences()) {
        let (mut state, mut now) = BEGINNING.clone();
        let mut before = state.clone();
        for made in &moves {
            let stamped = made.command(&state, &mut now);
            let outcome = state.apply(&stamped);
            invariants::check(&before, &state, &stamped, &outcome);
            before = state.clone();
        }
        invariants::check_index(&state);
        prop_assert!(audit::verify(state.audit().values(), state.audit_head()).is_ok());
    }

    #[test]
    fn replicas_agree_also_after_a_snapshot_or_a_restart_at_any_point(
        moves in sequences(), cut in any::<prop::sample::Index>(),
    ) {
        let (mut leader, mut now) = BEGINNING.clone();
        let mut follower = leader.clone();
        let mut disk: Vec<Record> = leader.records().collect();
        for (step, made) in moves.iter().enumerate() {
            let stamped = made.command(&leader, &mut now);
            let outcome = leader.apply(&stamped);
            disk.extend(leader.drain_changes());

            let bytes = stamped.encode();
            let read = Stamped::decode(&bytes).unwrap();
            prop_assert_eq!(&read, &stamped);
            prop_assert_eq!(follower.apply(&read), outcome);
            if step == cut.index(moves.len()) {
                follower = load(follower.records());
            }
            prop_assert_eq!(follower.digest(), leader.digest());
            prop_assert_eq!(follower.next_due(), leader.next_due());
        }
        let restarted = load(disk.into_iter());
        prop_assert_eq!(restarted.digest(), leader.digest());
        restarted.assert_derived();
        prop_assert!(restarted.records().eq(leader.records()));
        prop_assert_eq!(restarted.work(NodeId(1), now), leader.work(NodeId(1), now));
    }
}

fn sequences() -> impl Strategy<Value = Vec<Move>> {
    prop_oneof![
        11 => prop::collection::vec(moves::any(), 1..=MOVES),
        1 => prop::collection::vec(moves::diligent(), 1..=MANY_MOVES),
    ]
}

fn load(records: impl Iterator<Item = Record>) -> State {
    State::load(records.map(Ok::<_, LoadError>)).unwrap()
}

/// The moves must lead somewhere, or the properties above say nothing.
#[test]
fn the_moves_reach_every_stage_and_most_refusals() {
    use std::collections::BTreeSet;
    let (mut stages, mut grants, mut codes, mut actions) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(moves::any(), 120);
    for _ in 0..150 {
        let moves: Vec<Move> = strategy.new_tree(&mut runner).unwrap().current();
        let (mut state, mut now) = BEGINNING.clone();
        for made in &moves {
            let (before, stamped) = (state.clone(), made.command(&state, &mut now));
            let outcome = state.apply(&stamped);
            invariants::check(&before, &state, &stamped, &outcome);
            match outcome {
                Ok(_) => drop(actions.insert(stamped.command.action())),
                Err(refusal) => drop(codes.insert(refusal.code)),
            }
            stages.extend(state.rotations().values().map(|row| row.stage));
            grants.extend(state.grants().values().map(|row| row.stage));
        }
        invariants::check_index(&state);
    }
    assert_eq!(stages.len(), 13, "{stages:?}");
    assert_eq!(grants.len(), 13, "{grants:?}");
    assert_eq!(actions.len(), 53, "{actions:?}");
    assert!(codes.len() >= 35, "{} {codes:?}", codes.len());
}
