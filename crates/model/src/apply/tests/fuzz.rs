//! The fuzz targets of the model, run briefly.

use fuzzing::{INPUTS, survives, survives_text};

use super::{
    Machine,
    keys::{NEW, OLD, added, announced, resealed, rewrapped, under},
    machine::{alternating, consumer, identity, overlapping, revoke, single, target},
};
use crate::{
    command::{DestroyDataKey, FinishRootKey, PutTarget, Stamped, Tick},
    event::{ReasonCode, Subject},
    fuzz,
    name::NodeId,
};

/// States with something of everything in them, each with the commands that led to it.
fn histories() -> Vec<Machine> {
    [alternating(), single(), overlapping()]
        .into_iter()
        .map(|strategy| {
            let mut machine = Machine::with_credential(strategy);
            machine.ok(identity("billing"));
            machine.ok(consumer("edge", true));
            let id = machine.trigger();
            machine.run(id);
            let held = Subject::Credential(super::name("orders-db"));
            machine.ok(revoke(held, ReasonCode::Hold));
            machine.ok(added(1));
            machine.ok(PutTarget { admin: Some(under(1, 3)), ..target("db") });
            machine.ok(added(2));
            machine.ok(resealed(&machine.state, 1, 2));
            machine.ok(DestroyDataKey { id: 1 });
            machine.ok(announced(1, &[OLD, NEW]));
            machine.ok(rewrapped(&machine.state, &[1]));
            machine.ok(FinishRootKey { id: OLD, nodes: [NodeId(1)].into(), reason: "done".into() });
            machine
        })
        .collect()
}

#[test]
fn commands_of_any_content_are_applied_or_refused() {
    let mut seeds: Vec<Vec<u8>> = histories().iter().map(|machine| fuzz::joined(&machine.sent)).collect();
    let tick = Stamped { at: crate::time::Time(u64::MAX), actor: "system".into(), command: Tick {}.into() };
    seeds.push(fuzz::joined([&tick]));
    survives(INPUTS / 20, seeds, fuzz::commands);
}

#[test]
fn single_commands_of_any_content_are_applied_or_refused() {
    let sent = histories().into_iter().flat_map(|machine| machine.sent.clone());
    let seeds = sent.map(|stamped| fuzz::joined([&stamped])).collect();
    survives(INPUTS, seeds, fuzz::commands);
}

#[test]
fn rows_of_any_content_are_loaded_or_refused() {
    let whole = |machine: &Machine| machine.state.records().collect::<Vec<_>>();
    let encode = |records: &[_]| postcard::to_stdvec(records).unwrap();
    let mut seeds: Vec<Vec<u8>> = histories().iter().map(|machine| encode(&whole(machine))).collect();
    for machine in histories() {
        seeds.extend(whole(&machine).chunks(1).map(encode));
    }
    survives(INPUTS, seeds, fuzz::rows);
}

#[test]
fn words_of_schedules_are_read_or_refused() {
    let seeds = [
        "UTC\n0 3 * * 1",
        "Europe/Prague\n*/15 9-17 1,15 JAN-MAR MON-FRI",
        "Pacific/Apia\n@daily",
        "America/New_York\n30 2 31 12 7",
        "Antarctica/Troll\n@monthly",
        "0 0 29 2 *",
    ];
    survives_text(INPUTS / 5, &seeds, fuzz::timing);
}

#[test]
fn names_of_any_content_are_read_or_refused() {
    survives_text(
        INPUTS,
        &["orders-db.v2_x", "rot-17", "rev-0", "bg-18446744073709551615", "node-+3"],
        fuzz::names,
    );
}
