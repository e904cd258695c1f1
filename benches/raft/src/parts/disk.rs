//! Bytes on disk after every record was overwritten three times.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::CompactionOptions;
use serde_json::json;

use super::{FIGURES, figure, load};
use crate::args::Args;
use crate::connection::Connection;
use crate::load::payload;
use crate::progress::Progress;
use crate::report::Section;
use crate::servers::{NODES, Servers, System};
use crate::stats::amount;

const OVERWRITES: usize = 3;
/// The disk has settled when it was the same for as many looks: a node gathers rows for some seconds before it stores them,
/// and gives room back when nothing has come for another.
const SETTLED_LOOKS: usize = 12;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What grows without end is taken as it is then.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Bytes on disk for each byte of live data that the design allows.
const GOAL: f64 = 3.0;

/// What one system has come to.
struct Outcome {
    live: u64,
    disk: Vec<u64>,
    /// For etcd, which keeps every version until it is told to compact.
    compacted: Option<Vec<u64>>,
}

/// Measures one system after the other.
pub async fn run(args: &Args, progress: &Progress) -> Result<Section> {
    let mut outcomes = Vec::new();
    for system in System::BOTH {
        progress.tell(&format!("disk: {}, {} records", system.name(), args.overwritten()));
        outcomes.push(one(args, system).await.with_context(|| system.name())?);
    }
    let share =
        |disk: &[u64], live: u64| amount(disk.iter().copied().max().unwrap_or_default()) / amount(live);
    let [ours, theirs] = &outcomes[..] else { bail!("two systems are compared") };
    let mut section = Section::new("Bytes on disk after 3 overwrites of each record", &FIGURES);
    section.notes.push(format!(
        "{} records with {} bytes of payload: {:.1} MB of live data at Revolve, {:.1} MB at etcd. The largest of three \
         data folders, logs included, once it has stopped changing. etcd keeps all versions until it is compacted and \
         defragmented, so that is shown too; Revolve needs neither.",
        args.overwritten(),
        crate::connection::PAYLOAD_BYTES,
        amount(ours.live) / 1e6,
        amount(theirs.live) / 1e6,
    ));
    let own = share(&ours.disk, ours.live);
    let goal = Some(("at most 3", own <= GOAL));
    section.rows.push(figure("disk / live data", [own, share(&theirs.disk, theirs.live)], 2, goal));
    if let Some(compacted) = &theirs.compacted {
        let name = "the same, etcd compacted and defragmented";
        section.rows.push(figure(name, [own, share(compacted, theirs.live)], 2, None));
    }
    section.data = json!({
        "revolve": { "live_bytes": ours.live, "disk_bytes": ours.disk },
        "etcd": { "live_bytes": theirs.live, "disk_bytes": theirs.disk, "compacted_bytes": theirs.compacted },
    });
    Ok(section)
}

async fn one(args: &Args, system: System) -> Result<Outcome> {
    let mut servers = Servers::start(system, "disk", args).await?;
    let mut live = 0;
    for _ in 0..=OVERWRITES {
        live = load(&servers, args.overwritten(), async |mut connection, numbers| {
            let records = numbers.map(|number| (format!("k-{number}"), payload(""))).collect();
            connection.put_many(records).await
        })
        .await?;
    }
    servers.caught_up().await?;
    let disk = settled(&servers).await?;
    let compacted = match system {
        System::Revolve => None,
        System::Etcd => Some(compact(&servers).await?),
    };
    Ok(Outcome { live, disk, compacted })
}

async fn compact(servers: &Servers) -> Result<Vec<u64>> {
    for node in 0..NODES {
        let Connection::Etcd(mut client) = servers.connect(node).await? else { bail!("not etcd") };
        if node == 0 {
            let newest = client.get("k-0", None).await?;
            let revision = newest.header().context("etcd leaves its header out")?.revision();
            client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
        }
        client.defragment().await?;
    }
    settled(servers).await
}

async fn settled(servers: &Servers) -> Result<Vec<u64>> {
    let start = Instant::now();
    let (mut last, mut same) = (servers.disk_bytes()?, 0);
    while same < SETTLED_LOOKS && start.elapsed() < SETTLED_WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = servers.disk_bytes()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
