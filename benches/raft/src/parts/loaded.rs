//! What a cluster with very many records does: memory, restart, readers, and an empty node that joins.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::readers::{self, Readers};
use super::{FIGURES, figure, load};
use crate::args::{Args, Part};
use crate::first_write;
use crate::load::{OnFailure, Writers};
use crate::progress::Progress;
use crate::report::Section;
use crate::servers::{NODES, Servers, System};
use crate::stats::amount;

/// Longest wait for the first write after a restart.
const WITHIN: Duration = Duration::from_secs(300);
/// Clients that write while an empty node joins.
const WRITERS: usize = 4;
/// Time from a restart to the first write that the design allows, in seconds.
const RESTART_GOAL_SECONDS: f64 = 5.0;
/// What an empty node must take on each second, in MB of what was declared: what it keeps is packed, and may lie in its log.
const REJOIN_GOAL_MB: f64 = 50.0;
/// Records that memory is told for.
const MEMORY_OF: f64 = 1_000_000.0;

/// The figures of one system; each part is `None` when it was not wanted, and an error when it failed.
#[derive(Debug)]
pub struct Loaded {
    live_bytes: u64,
    load_seconds: f64,
    memory: Option<Result<Memory>>,
    restart: Option<Result<Restart>>,
    readers: Option<Result<Readers>>,
    rejoin: Option<Result<Rejoin>>,
}

/// Resident memory, in bytes: the largest of three nodes.
#[derive(Debug, Serialize)]
struct Memory {
    empty: u64,
    loaded: u64,
}

/// Seconds from the start of the processes to the first committed write.
#[derive(Debug, Serialize)]
struct Restart {
    node: f64,
    cluster: f64,
}

/// An empty node that joins.
#[derive(Debug, Serialize)]
struct Rejoin {
    /// Until it has applied what the leader has.
    seconds: f64,
    /// Writes each second meanwhile.
    writes_meanwhile: f64,
}

/// Loads one system and measures what is wanted.
pub async fn run(args: &Args, system: System, progress: &Progress) -> Result<Loaded> {
    let name = system.name();
    let mut servers = Servers::start(system, "loaded", args).await?;
    let empty = largest(&servers.resident_bytes()?);
    let leader = servers.leader().await?;
    servers.connect(leader).await?.prepare_pairs().await?;
    let start = Instant::now();
    let send =
        async |mut connection: crate::connection::Connection, numbers| connection.load_pairs(numbers).await;
    let live_bytes = load(&servers, args.records() / 2, send).await.context("loading")?;
    servers.caught_up().await?;
    let load_seconds = start.elapsed().as_secs_f64();
    progress.tell(&format!("{name}: {} records loaded in {load_seconds:.0} s", args.records()));
    let mut loaded =
        Loaded { live_bytes, load_seconds, memory: None, restart: None, readers: None, rejoin: None };
    if args.wants(Part::Memory) {
        let memory = servers.resident_bytes().map(|bytes| Memory { empty, loaded: largest(&bytes) });
        loaded.memory = Some(told(progress, name, memory));
    }
    if args.wants(Part::Restart) {
        loaded.restart = Some(told(progress, name, restart(&mut servers).await));
    }
    if args.wants(Part::Readers) {
        loaded.readers = Some(told(progress, name, readers::run(args, &mut servers).await));
    }
    if args.wants(Part::Rejoin) {
        loaded.rejoin = Some(told(progress, name, rejoin(args, &mut servers).await));
    }
    Ok(loaded)
}

fn told<T: std::fmt::Debug>(progress: &Progress, name: &str, outcome: Result<T>) -> Result<T> {
    match &outcome {
        Ok(figures) => progress.tell(&format!("{name}: {figures:?}")),
        Err(error) => progress.tell(&format!("{name}: {error:#}")),
    }
    outcome
}

async fn restart(servers: &mut Servers) -> Result<Restart> {
    let leader = servers.leader().await?;
    let node = (leader + 1) % NODES;
    servers.kill(node)?;
    let start = Instant::now();
    servers.start_node(node)?;
    let own = servers.connect(node).await?;
    let one = first_write::since(start, &[own], WITHIN).await.context("one node")?;
    servers.caught_up().await?;
    for node in 0..NODES {
        servers.kill(node)?;
    }
    let start = Instant::now();
    let mut connections = Vec::new();
    for node in 0..NODES {
        servers.start_node(node)?;
        connections.push(servers.connect(node).await?);
    }
    let cluster = first_write::since(start, &connections, WITHIN).await.context("the whole cluster")?;
    servers.caught_up().await?;
    Ok(Restart { node: one.as_secs_f64(), cluster: cluster.as_secs_f64() })
}

async fn rejoin(args: &Args, servers: &mut Servers) -> Result<Rejoin> {
    let leader = servers.leader().await?;
    let node = (leader + 1) % NODES;
    servers.kill(node)?;
    servers.wipe(node).await?;
    let connections = servers.connect_many(leader, WRITERS).await?;
    let mut writers = Writers::start(connections, args.keys, OnFailure::End);
    writers.reach(1).await?;
    let (start, written) = (Instant::now(), writers.written());
    servers.start_node(node)?;
    servers.caught_up().await?;
    let seconds = start.elapsed().as_secs_f64();
    let writes_meanwhile = amount(writers.written() - written) / seconds;
    writers.end().await?;
    Ok(Rejoin { seconds, writes_meanwhile })
}

fn largest(bytes: &[u64]) -> u64 {
    bytes.iter().copied().max().unwrap_or_default()
}

/// The sections of both systems, or why a part has none.
pub fn sections(args: &Args, [ours, theirs]: [Loaded; 2]) -> Vec<(Part, Result<Section>)> {
    let about = format!(
        "{} records: half of them credentials, half their schedules; at etcd, keys with 256 bytes each. Declared in {:.1} \
         MB and {:.1} MB, loaded in {:.0} s and {:.0} s. One system at a time.",
        args.records(),
        amount(ours.live_bytes) / 1e6,
        amount(theirs.live_bytes) / 1e6,
        ours.load_seconds,
        theirs.load_seconds,
    );
    let mut sections = Vec::new();
    let records = amount(args.records());
    let mut add =
        |part, section: Option<Result<Section>>| {
            sections.extend(section.map(|section| {
                (part, section.map(|section| Section { notes: vec![about.clone()], ..section }))
            }));
        };
    add(Part::Memory, both(ours.memory, theirs.memory, |pair| memory(pair, records)));
    add(Part::Restart, both(ours.restart, theirs.restart, restarts));
    add(Part::Readers, both(ours.readers, theirs.readers, |pair| reading(pair, args.readers)));
    let declared = [amount(ours.live_bytes) / 1e6, amount(theirs.live_bytes) / 1e6];
    add(Part::Rejoin, both(ours.rejoin, theirs.rejoin, |pair| rejoins(pair, records, declared)));
    sections
}

/// The section of a part that was measured at both.
fn both<T: Serialize>(
    ours: Option<Result<T>>,
    theirs: Option<Result<T>>,
    section: impl Fn(&[T; 2]) -> Section,
) -> Option<Result<Section>> {
    let pair =
        ours?.context("revolve").and_then(|ours| Ok([ours, theirs.context("not run")?.context("etcd")?]));
    Some(pair.and_then(|pair| {
        let data = serde_json::to_value(&pair)?;
        Ok(Section { data, ..section(&pair) })
    }))
}

fn of<T>(pair: &[T; 2], figure: impl Fn(&T) -> f64) -> [f64; 2] {
    [figure(&pair[0]), figure(&pair[1])]
}

fn memory(pair: &[Memory; 2], records: f64) -> Section {
    let mut section = Section::new("Memory", &FIGURES);
    let per =
        |memory: &Memory| amount(memory.loaded.saturating_sub(memory.empty)) / records * MEMORY_OF / 1e6;
    section.rows = vec![
        figure("resident when loaded, MB", of(pair, |memory| amount(memory.loaded) / 1e6), 0, None),
        figure("grown by, per 1,000,000 records, MB", of(pair, per), 0, None),
    ];
    section
}

fn restarts(pair: &[Restart; 2]) -> Section {
    let mut section = Section::new("Restart after `kill -9`, to the first committed write", &FIGURES);
    let goal = |seconds: f64| Some(("at most 5 s", seconds <= RESTART_GOAL_SECONDS));
    section.rows = vec![
        figure("one node, s", of(pair, |restart| restart.node), 2, goal(pair[0].node)),
        figure("whole cluster, s", of(pair, |restart| restart.cluster), 2, goal(pair[0].cluster)),
    ];
    section
}

fn reading(pair: &[Readers; 2], readers: usize) -> Section {
    let title = format!("{readers} readers of status at once, 16 clients writing (etcd: readers of one key)");
    let mut section = Section::new(&title, &FIGURES);
    section.rows = vec![
        figure("until all have their answer, s", of(pair, |readers| readers.seconds), 2, None),
        figure("p50, ms", of(pair, |readers| readers.p50_ms), 0, None),
        figure("p99, ms", of(pair, |readers| readers.p99_ms), 0, None),
        figure("turned away and asked again", of(pair, |readers| amount(readers.turned_away)), 0, None),
        figure("writes/s before", of(pair, |readers| readers.writes_before), 0, None),
        figure("writes/s meanwhile", of(pair, |readers| readers.writes_meanwhile), 0, None),
        figure(
            "writes that failed and were sent again",
            of(pair, |readers| amount(readers.writes_failed)),
            0,
            None,
        ),
    ];
    section
}

/// `declared`: MB, of each system.
fn rejoins(pair: &[Rejoin; 2], records: f64, declared: [f64; 2]) -> Section {
    let mut section = Section::new("An empty node joins while writes go on", &FIGURES);
    let [ours, theirs] = of(pair, |rejoin| rejoin.seconds);
    let speed = [declared[0] / ours, declared[1] / theirs];
    let goal = Some(("at least 50 MB/s", speed[0] >= REJOIN_GOAL_MB));
    section.rows = vec![
        figure("until it has what the leader has, s", [ours, theirs], 2, None),
        figure("records taken on each second", [records / ours, records / theirs], 0, None),
        figure("taken on, MB/s of what was declared", speed, 1, goal),
        figure("writes/s meanwhile", of(pair, |rejoin| rejoin.writes_meanwhile), 0, None),
    ];
    section
}
