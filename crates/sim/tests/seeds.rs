//! The promises hold in many worlds, and a seed is a world.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Seeds of the default run.
const SEEDS: u64 = 300;
/// What is to happen to the membership in some of them.
const TURNOVER: [&str; 6] = [
    "membership-change",
    "node-let-in",
    "node-promoted",
    "node-turned-out",
    "leader-turned-out",
    "leader-crash-in-a-change",
];

#[test]
fn every_promise_holds_in_every_world() {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let reports: Vec<sim::Report> = thread::scope(|scope| {
        let work = || {
            let seeds = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            seeds.take_while(|seed| *seed < SEEDS).map(|seed| sim::run(seed, false)).collect::<Vec<_>>()
        };
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let broken = reports.iter().filter_map(|report| Some(told(report, report.violation.as_ref()?)));
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));

    let mut faults = BTreeMap::<&str, u64>::new();
    for (kind, count) in reports.iter().flat_map(|report| &report.tally.faults) {
        *faults.entry(kind).or_default() += count;
    }
    println!("{faults:#?}");
    for kind in TURNOVER {
        assert!(faults.get(kind).is_some_and(|count| *count >= 5), "{kind} is rare: {faults:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [1, 7, 42, 4_711] {
        let (first, second) = (sim::run(seed, true), sim::run(seed, true));
        assert!(first.trace.count > 200, "something happens");
        let differs = first.trace.lines.iter().zip(&second.trace.lines).position(|(one, two)| one != two);
        assert_eq!(differs.map(|at| (&first.trace.lines[at], &second.trace.lines[at])), None, "seed {seed}");
        assert_eq!(first, second);
    }
    assert_ne!(sim::run(1, true).trace.hash, sim::run(2, true).trace.hash, "another seed is another world");
}

#[test]
fn every_promise_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> =
        sim::Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
    assert_eq!(names.len(), sim::Invariant::ALL.len());
    assert!(names.len() >= 16);
}

fn told(report: &sim::Report, violation: &sim::Violation) -> String {
    format!(
        "seed {}: `{}` is broken: {}\n{}\nreplay: cargo xtask sim --seeds 1 --from {} --trace",
        report.seed,
        violation.invariant,
        violation.detail,
        report.trace.lines.join("\n"),
        report.seed,
    )
}
