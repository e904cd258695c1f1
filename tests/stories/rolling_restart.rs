//! One node after the other is told to stop and started again, as in an upgrade, while schedules fall due every few
//! seconds and clients write: no instant is missed or doubled, no acknowledged write is lost, and no call fails twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::{Client, v1};
use harness::{Cluster, eventually};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use super::stage::demo::{DemoStage, assert_none_missed_none_doubled, every};
use super::stage::{WITHIN, identity, told};

const PERIOD_MS: u64 = 5_000;
const SCHEDULES: usize = 3;
const WRITERS: usize = 4;
/// Writes of each writer between two restarts.
const WRITES: u64 = 20;
const STOPS_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_misses_nothing_doubles_nothing_and_loses_no_write() {
    let mut stage = DemoStage::start(harness::Setup::default()).await;
    let names: Vec<String> = (1..=SCHEDULES).map(|n| format!("db-{n}")).collect();
    let timings: Vec<_> = names.iter().map(|name| (name.clone(), every(PERIOD_MS))).collect();
    stage.declare(&timings).await;
    let load = Load::start(&stage.cluster);
    rotated(&stage, &names).await;

    // The leader last would be kindest; the order of the numbers is what a script does.
    for (id, signal) in
        stage.cluster.ids().into_iter().zip([Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM])
    {
        load.goes_on().await;
        let led = stage.cluster.leader().await == id;
        let (status, said) = stage.cluster.stop_node_with(id, signal, STOPS_WITHIN).await;
        assert!(status.success(), "node-{id} after {signal}: {said}");
        assert!(!said.contains("the lead was not taken over in time"), "{said}");
        assert!(!led || said.contains("handing the lead over before this node stops"), "{signal}: {said}");
        stage.cluster.start_node(id);
        ready(&stage.cluster, id).await;
        rotated(&stage, &names).await;
    }
    load.goes_on().await;
    let (acknowledged, retried) = load.stop().await;
    assert_eq!(acknowledged.len(), WRITERS);
    for (name, written) in &acknowledged {
        assert_eq!(
            purpose(&stage.client, name).await,
            written.to_string(),
            "an acknowledged write of {name}"
        );
    }
    println!("writes {acknowledged:?}, of which {retried} were sent a second time");

    stage.pause(&names).await;
    for name in &names {
        assert_none_missed_none_doubled(&stage.due(name).await, PERIOD_MS, stage.cluster.ids().len());
    }
}

/// Waits until each schedule has had one more rotation that began after this was called and settled.
async fn rotated(stage: &DemoStage, names: &[String]) {
    for name in names {
        let seen = stage.rotations(name).await.last().map_or(0, |rotation| rotation.due_ms);
        eventually(format!("one more rotation of {name}"), WITHIN, async || {
            let all = stage.rotations(name).await;
            let next = all.iter().find(|rotation| rotation.due_ms > seen && rotation.stage == "settled");
            next.map(drop).ok_or_else(|| all.last().map(told))
        })
        .await;
    }
}

/// Waits until a node says that it is of use again, as a script would.
async fn ready(cluster: &Cluster, id: u64) {
    let client = cluster.client_of(id);
    eventually(format!("node-{id} to be ready"), WITHIN, async || {
        match client.health(client::Probe::Ready).await {
            Ok(reasons) if reasons.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn purpose(client: &Client, name: &str) -> String {
    let kind = v1::ResourceKind::Identity.into();
    let request = || v1::GetResourceRequest { kind, name: name.into() };
    let found = eventually(name, WITHIN, async || client.get_resource(request()).await).await;
    match found.resource.and_then(|resource| resource.kind) {
        Some(v1::resource::Kind::Identity(identity)) => identity.purpose,
        other => panic!("not an identity: {other:?}"),
    }
}

/// Clients that write, each to an identity of its own, one number after the other.
struct Load {
    progress: Arc<Progress>,
    writers: Vec<JoinHandle<(String, u64)>>,
}

#[derive(Default)]
struct Progress {
    stopping: AtomicBool,
    written: AtomicU64,
    retried: AtomicU64,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let progress = Arc::new(Progress::default());
        let writers = (1..=WRITERS).map(|n| {
            let (client, progress) = (cluster.admin(), Arc::clone(&progress));
            tokio::spawn(write(client, format!("writer-{n}"), progress))
        });
        Self { writers: writers.collect(), progress }
    }

    /// Waits for some more writes of all writers together.
    async fn goes_on(&self) {
        let wanted = self.progress.written.load(Ordering::Relaxed) + WRITES * WRITERS as u64;
        eventually("the writers to go on", WITHIN, async || {
            let failed = self.writers.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a writer has ended");
            let written = self.progress.written.load(Ordering::Relaxed);
            if written >= wanted { Ok(()) } else { Err(written) }
        })
        .await;
    }

    /// The last number of each that was acknowledged, and how many calls were repeated.
    async fn stop(self) -> (BTreeMap<String, u64>, u64) {
        self.progress.stopping.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for writer in self.writers {
            let (name, written) = writer.await.unwrap();
            acknowledged.insert(name, written);
        }
        (acknowledged, self.progress.retried.load(Ordering::Relaxed))
    }
}

/// Writes until told to stop; a call that fails is repeated once, and must succeed then.
async fn write(client: Client, name: String, progress: Arc<Progress>) -> (String, u64) {
    let mut written = 0;
    while !progress.stopping.load(Ordering::Relaxed) {
        let purpose = (written + 1).to_string();
        let resource = v1::Identity { name: name.clone(), purpose, ..identity() };
        let request = || v1::ApplyRequest { resources: vec![resource.clone().into()], dry_run: false };
        if let Err(first) = client.apply(request()).await {
            progress.retried.fetch_add(1, Ordering::Relaxed);
            let again = client.apply(request()).await;
            again.unwrap_or_else(|second| panic!("{name} failed twice: {first:?}, then {second:?}"));
        }
        written += 1;
        progress.written.fetch_add(1, Ordering::Relaxed);
    }
    (name, written)
}
