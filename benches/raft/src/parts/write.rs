//! Writes of one record each, sent to the leader or to a follower, the two systems in turn.

use anyhow::{Context, Result};
use serde::Serialize;

use super::ratio;
use crate::args::Args;
use crate::load;
use crate::progress::Progress;
use crate::report::Section;
use crate::servers::{NODES, Servers};
use crate::stats::{count, median};

/// To whom the writes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Through {
    /// The node that commits them.
    Leader,
    /// A node that has to hand them on.
    Follower,
}

/// One run of one system.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all three servers.
    cpu_seconds_per_1000: f64,
}

/// All runs with one number of clients.
#[derive(Debug, Serialize)]
struct Step {
    clients: usize,
    revolve: Vec<Run>,
    etcd: Vec<Run>,
    medians: [Run; 2],
}

/// What the design asks for at a step: throughput at least, p99 and processor time at most, each a ratio to etcd.
const P99_GOAL: f64 = 0.7;
const CPU_GOAL: f64 = 0.7;
const fn throughput_goal(clients: usize) -> f64 {
    if clients < 64 { 1.5 } else { 2.0 }
}

const HEADER: [&str; 10] = [
    "clients",
    "revolve/s",
    "etcd/s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "p99 ratio",
    "CPU s per 1,000",
    "CPU ratio",
    "goals",
];

/// Runs every step.
pub async fn run(
    args: &Args,
    through: Through,
    servers: &mut [Servers; 2],
    progress: &Progress,
) -> Result<Section> {
    let title = match through {
        Through::Leader => "Writes sent to the leader",
        Through::Follower => "Writes sent to a follower",
    };
    let mut section = Section::new(title, &HEADER);
    section.notes.push(format!(
        "Medians of {} runs of {} s each, in turn, after {} s of warm-up. Times are revolve / etcd. Goals: throughput at \
         least 2.0 (1.5 below 64 clients), p99 and processor time at most 0.7 of etcd's.",
        args.pairs(),
        args.measured().as_secs(),
        load::WARM_UP.as_secs(),
    ));
    let mut steps = Vec::new();
    for clients in &args.clients {
        let step = step(args, through, servers, *clients, progress).await?;
        section.rows.push(row(&step));
        steps.push(step);
    }
    section.data = serde_json::to_value(steps)?;
    Ok(section)
}

async fn step(
    args: &Args,
    through: Through,
    servers: &mut [Servers; 2],
    clients: usize,
    progress: &Progress,
) -> Result<Step> {
    let mut runs = [Vec::new(), Vec::new()];
    for pair in 1..=args.pairs() {
        for (servers, runs) in servers.iter_mut().zip(&mut runs) {
            let name = servers.system.name();
            let run = one(args, through, servers, clients).await;
            let run = run.with_context(|| format!("{name} with {clients} clients"))?;
            progress.tell(&format!(
                "{clients} clients, pair {pair}, {name}: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {:.3} CPU s per 1,000",
                run.per_second, run.p50_ms, run.p99_ms, run.cpu_seconds_per_1000
            ));
            runs.push(run);
        }
    }
    let medians = [middle(&runs[0]), middle(&runs[1])];
    let [revolve, etcd] = runs;
    Ok(Step { clients, revolve, etcd, medians })
}

async fn one(args: &Args, through: Through, servers: &mut Servers, clients: usize) -> Result<Run> {
    let leader = servers.leader().await?;
    let node = match through {
        Through::Leader => leader,
        Through::Follower => (leader + 1) % NODES,
    };
    let connections = servers.connect_many(node, clients).await?;
    let (measured, before, after) =
        load::measure(connections, args.keys, args.measured(), || servers.cpu_seconds()).await?;
    let [p50_ms, p99_ms] = measured.latencies_ms([0.5, 0.99]);
    let cpu_seconds_per_1000 = (after - before) / count(measured.writes.len()) * 1_000.0;
    Ok(Run { per_second: measured.per_second(), p50_ms, p99_ms, cpu_seconds_per_1000 })
}

fn middle(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
    Run {
        per_second: of(|run| run.per_second),
        p50_ms: of(|run| run.p50_ms),
        p99_ms: of(|run| run.p99_ms),
        cpu_seconds_per_1000: of(|run| run.cpu_seconds_per_1000),
    }
}

fn row(step: &Step) -> Vec<String> {
    let [ours, theirs] = step.medians;
    let mut missed = Vec::new();
    if ours.per_second < throughput_goal(step.clients) * theirs.per_second {
        missed.push("throughput");
    }
    if ours.p99_ms > P99_GOAL * theirs.p99_ms {
        missed.push("p99");
    }
    if ours.cpu_seconds_per_1000 > CPU_GOAL * theirs.cpu_seconds_per_1000 {
        missed.push("CPU");
    }
    let goals = if missed.is_empty() { "met".to_owned() } else { format!("missed: {}", missed.join(", ")) };
    vec![
        step.clients.to_string(),
        format!("{:.0}", ours.per_second),
        format!("{:.0}", theirs.per_second),
        ratio(ours.per_second, theirs.per_second),
        format!("{:.2} / {:.2}", ours.p50_ms, theirs.p50_ms),
        format!("{:.2} / {:.2}", ours.p99_ms, theirs.p99_ms),
        ratio(ours.p99_ms, theirs.p99_ms),
        format!("{:.3} / {:.3}", ours.cpu_seconds_per_1000, theirs.cpu_seconds_per_1000),
        ratio(ours.cpu_seconds_per_1000, theirs.cpu_seconds_per_1000),
        goals,
    ]
}
