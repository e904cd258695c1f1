//! The gap in writing when the leader is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::ratio;
use crate::args::Args;
use crate::first_write;
use crate::progress::Progress;
use crate::report::Section;
use crate::servers::Servers;
use crate::stats::{percentile, sorted};

/// Longest gap that is waited for.
const WITHIN: Duration = Duration::from_secs(60);
/// p99 of the gap that the design asks for, in seconds.
const GOAL_SECONDS: f64 = 1.5;

const HEADER: [&str; 5] = ["s", "revolve", "etcd", "ratio", "goal"];

/// Kills leaders of both systems in turn.
pub async fn run(args: &Args, servers: &mut [Servers; 2], progress: &Progress) -> Result<Section> {
    let mut gaps = [Vec::new(), Vec::new()];
    for round in 1..=args.kills() {
        for (servers, gaps) in servers.iter_mut().zip(&mut gaps) {
            let name = servers.system.name();
            let gap = kill_leader(servers).await.with_context(|| format!("{name}, kill {round}"))?;
            progress.tell(&format!("kill {round} of {}, {name}: {:.2} s", args.kills(), gap.as_secs_f64()));
            gaps.push(gap.as_secs_f64());
        }
    }
    let [ours, theirs] = gaps.map(sorted);
    let mut section = Section::new("Write gap after `kill -9` of the leader", &HEADER);
    section.notes.push(format!(
        "{} kills of each, in turn. From the kill to the acknowledgement of a write that was sent after it to one of the \
         two other nodes, each of which is sent one every 20 ms.",
        args.kills()
    ));
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let (own, other) = (percentile(&ours, share), percentile(&theirs, share));
        let goal = match name {
            "p99" if own <= GOAL_SECONDS && own <= other => "met",
            "p99" => "missed: p99 at most 1.5 s, ratio at most 1.0",
            _ => "",
        };
        section.rows.push(vec![
            name.to_owned(),
            format!("{own:.2}"),
            format!("{other:.2}"),
            ratio(own, other),
            goal.to_owned(),
        ]);
    }
    section.data = json!({ "revolve_seconds": ours, "etcd_seconds": theirs });
    Ok(section)
}

async fn kill_leader(servers: &mut Servers) -> Result<Duration> {
    servers.caught_up().await?;
    let leader = servers.leader().await?;
    let mut survivors = Vec::new();
    for node in servers.running().into_iter().filter(|node| *node != leader) {
        let mut connection = servers.connect(node).await?;
        // Connected before the kill: what is measured is the cluster, not the handshake.
        connection.standing().await?;
        survivors.push(connection);
    }
    let start = Instant::now();
    servers.kill(leader)?;
    let gap = first_write::since(start, &survivors, WITHIN).await?;
    servers.start_node(leader)?;
    servers.caught_up().await?;
    Ok(gap)
}
