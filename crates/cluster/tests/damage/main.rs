//! Damage trials: a file of a node that stands still is damaged, and the node is started again beside two sound ones.
//! Whatever the file and the damage, it comes back as a voter, all have the same state, and what two of them hold of the
//! log is the same. Damage that it does not speak of is harmless: it is started once more from a copy of the damaged
//! files, out of reach of the others, and has everything that it held before.
//!
//! A part is run by default; `REVOLVE_TEST_DAMAGE_TRIALS=200` runs so many of each kind, with a table at the end.

#![allow(clippy::unwrap_used)]

#[path = "../cluster/nodes.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod nodes;
mod notes;
mod trial;

use std::collections::BTreeMap;

use trial::{Damage, Ground, Outcome};

/// Trials of each kind in an ordinary run.
const TRIALS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damaged_file_is_noticed_or_harmless_and_the_node_comes_back() {
    let trials = std::env::var("REVOLVE_TEST_DAMAGE_TRIALS").map_or(TRIALS, |text| text.parse().unwrap());
    notes::keep();
    let mut ground = Ground::prepare().await;
    let mut table: BTreeMap<(Damage, &'static str), [u64; 3]> = BTreeMap::new();
    for seed in 0..trials {
        for damage in Damage::ALL {
            let (file, outcome) = ground.trial(damage, seed).await;
            let row = table.entry((damage, file)).or_default();
            row[0] += 1;
            row[1] += u64::from(outcome == Outcome::Detected);
            row[2] += u64::from(outcome == Outcome::Harmless);
        }
    }
    let mut lines = String::from("| damage | file | trials | detected | harmless |\n|---|---|---|---|---|\n");
    for ((damage, file), [trials, detected, harmless]) in &table {
        lines += &format!("| {damage:?} | {file} | {trials} | {detected} | {harmless} |\n");
    }
    println!("{lines}");
    let run: u64 = table.values().map(|row| row[0]).sum();
    assert_eq!(run, trials * Damage::ALL.len() as u64);
    ground.end().await;
}
