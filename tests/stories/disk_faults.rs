//! Disks fail, fill up and stall under nodes that are written to: a node whose disk has failed ends and says why, one
//! without room refuses and comes back by itself, one that waits for its disk does not lead. No acknowledged write is
//! lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, SubscribeOptions, Update, v1};
use harness::bad_disk::{hinder, leave, order};
use harness::http::get;
use harness::{Cluster, Setup, eventually};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use volatile::orders::{Call, Fate, Orders};

const WITHIN: Duration = Duration::from_secs(120);
/// Writers at each node.
const WRITERS: usize = 4;
/// Before a writer that was not answered tries again.
const PAUSE: Duration = Duration::from_millis(20);
const MEBIBYTE: u64 = 1024 * 1024;
/// With so much left, the reserve not counted in, a node takes on nothing more. The disk fills up to there before it fills
/// up to its end: a node whose last room goes while it writes ends, as with any other error of its disk.
const REFUSED_AT: u64 = 12 * MEBIBYTE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_fails_ends_and_nothing_acknowledged_is_lost() {
    let mut play = Play::start().await;
    for (call, below, at_leader) in [
        (Call::Sync, "log/", true),
        (Call::Sync, "log/", false),
        (Call::Write, "log/", true),
        (Call::Write, "log/", false),
        (Call::Sync, "state/", false),
        (Call::Write, "state/", true),
        (Call::Sync, "snapshots/", true),
        (Call::Write, "snapshots/", false),
    ] {
        let leader = play.cluster.leader().await;
        let victim = if at_leader { leader } else { play.others(leader)[0] };
        let writing = play.write();
        order(&play.cluster, victim, &hinder(call, Fate::Fails, below));
        let (status, said) = play.cluster.wait_for_end(victim, WITHIN).await;
        let what = format!("{call:?} below {below} of node {victim}, leader {leader}");
        assert_eq!(status.code(), Some(6), "{what}");
        let last = said.lines().last().unwrap_or_default();
        for word in
            ["stopped to protect what is stored", "node-", "Input/output error", "start this node again"]
        {
            assert!(last.contains(word), "{what}: `{word}` is not in: {last}");
        }
        play.more_are_acknowledged().await;
        drop(writing);
        order(&play.cluster, victim, &Orders::default());
        play.cluster.start_node(victim);
        play.nothing_is_lost(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_hands_over_and_the_cluster_goes_on() {
    let mut play = Play::start().await;
    for bytes in [11 * MEBIBYTE, 40_000] {
        let full = play.cluster.leader().await;
        let writing = play.write();
        order(&play.cluster, full, &leave(REFUSED_AT));
        play.until_led_by("another", |leader| leader != full).await;
        order(&play.cluster, full, &leave(bytes));
        play.more_are_acknowledged().await;
        order(&play.cluster, full, &Orders::default());
        drop(writing);
        play.nothing_is_lost(&format!("{bytes} bytes for the leader")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_room_refuses_serves_reads_and_goes_on_when_there_is_room() {
    let mut play = Play::start().await;
    // From nothing at all to what leaves the reserve alone, so that the end comes at different places.
    for bytes in [0, 3_000, 50_000, 400_000, 3 * MEBIBYTE, 9 * MEBIBYTE] {
        let writing = play.write();
        play.more_are_acknowledged().await;
        let what = format!("{bytes} bytes for each node");
        for left in [REFUSED_AT, bytes] {
            for id in play.cluster.ids() {
                order(&play.cluster, id, &leave(left));
            }
            play.everyone_refuses(&what).await;
        }
        drop(writing);
        // Reads, also after a change of the leader, which takes room.
        play.everything_is_read(&what).await;
        let leader = play.cluster.leader().await;
        play.cluster.pause_node(leader);
        play.until_led_by("another, while there is no room", |next| next != leader).await;
        play.cluster.resume_node(leader);
        play.everything_is_read(&what).await;
        for id in play.cluster.ids() {
            order(&play.cluster, id, &Orders::default());
        }
        let writing = play.write();
        play.more_are_acknowledged().await;
        drop(writing);
        play.nothing_is_lost(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stalls_hands_over_and_catches_up_later() {
    let mut play = Play::start().await;
    for call in [Call::Sync, Call::Write] {
        let stalled = play.cluster.leader().await;
        let writing = play.write();
        order(&play.cluster, stalled, &hinder(call, Fate::Stalls, ""));
        play.until_led_by("another", |leader| leader != stalled).await;
        play.more_are_acknowledged().await;
        order(&play.cluster, stalled, &Orders::default());
        drop(writing);
        play.nothing_is_lost(&format!("{call:?} stalled")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_while_a_snapshot_arrives_ends_the_node_and_the_next_start_takes_it() {
    let mut play = Play::start().await;
    for call in [Call::Write, Call::Sync] {
        let victim = play.fall_behind().await;
        order(&play.cluster, victim, &hinder(call, Fate::Fails, "snapshots/"));
        play.cluster.start_node(victim);
        let (status, said) = play.cluster.wait_for_end(victim, WITHIN).await;
        assert_eq!(status.code(), Some(6), "{call:?}");
        let last = said.lines().last().unwrap_or_default();
        for word in ["a snapshot cannot be written", "Input/output error", "start this node again"] {
            assert!(last.contains(word), "{call:?}: `{word}` is not in: {last}");
        }
        order(&play.cluster, victim, &Orders::default());
        play.cluster.start_node(victim);
        play.nothing_is_lost(&format!("{call:?} of a snapshot that arrives")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_finds_no_room_is_taken_when_there_is_some() {
    let mut play = Play::start().await;
    let victim = play.fall_behind().await;
    order(&play.cluster, victim, &leave(REFUSED_AT / 2));
    play.cluster.start_node(victim);
    let log = play.cluster.folder().join(format!("node-{victim}.stderr"));
    eventually("a snapshot that finds no room", WITHIN, async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("a snapshot finds no room") { Ok(()) } else { Err("it does not say so") }
    })
    .await;
    assert_eq!(play.cluster.reap(), Vec::<u64>::new(), "it waits");
    let writing = play.write();
    play.more_are_acknowledged().await;
    drop(writing);
    order(&play.cluster, victim, &Orders::default());
    play.nothing_is_lost("a snapshot that found no room").await;
}

struct Play {
    cluster: Cluster,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    writers: usize,
}

impl Play {
    async fn start() -> Self {
        let environment = vec![("REVOLVE_LOG".into(), "info".into())];
        // Snapshots and purges meet the faults too.
        let limits = vec![("snapshot_every_entries".into(), 40), ("kept_entries".into(), 10)];
        let cluster =
            Cluster::start_with(Setup { bad_disks: true, environment, limits, ..Setup::default() }).await;
        Self { cluster, acknowledged: Arc::default(), writers: 0 }
    }

    fn others(&self, id: u64) -> Vec<u64> {
        self.cluster.ids().into_iter().filter(|other| *other != id).collect()
    }

    /// Ends a follower, and writes until the others have purged what it lacks: it needs a snapshot.
    async fn fall_behind(&mut self) -> u64 {
        let victim = self.others(self.cluster.leader().await)[0];
        self.cluster.kill_node(victim);
        let others = self.others(victim);
        let mut held = 0;
        for id in &others {
            held = held.max(self.figure(*id, "revolve_raft_log_last_index").await);
        }
        let writing = self.write();
        for id in others {
            eventually(format!("node {id} to purge what node {victim} lacks"), WITHIN, async || {
                let purged = self.figure(id, "revolve_raft_log_purged_index").await;
                if purged > held { Ok(()) } else { Err(format!("{purged} of {held}")) }
            })
            .await;
        }
        drop(writing);
        victim
    }

    /// A figure of a node.
    async fn figure(&self, id: u64, name: &str) -> u64 {
        let token = self.cluster.admin_token();
        eventually(format!("the figure {name} of node {id}"), WITHIN, async || {
            let (_, figures) = get(&self.cluster, id, "/metrics", Some(token.expose_secret())).await;
            // All figures are fractions: an index is one of `.0`.
            let value = |line: &str| line.strip_prefix(name)?.trim().strip_suffix(".0")?.parse().ok();
            figures.lines().find_map(value).ok_or(figures)
        })
        .await
    }

    /// Writers at every node, until what is returned is dropped.
    fn write(&mut self) -> JoinSet<()> {
        let mut writing = JoinSet::new();
        for client in
            self.cluster.running().into_iter().flat_map(|id| vec![self.cluster.client_of(id); WRITERS])
        {
            let acknowledged = Arc::clone(&self.acknowledged);
            self.writers += 1;
            let writer = self.writers;
            writing.spawn(async move {
                for number in 0.. {
                    let name = format!("write-{writer}-{number}");
                    if client.apply(request(&name)).await.is_ok() {
                        acknowledged.lock().unwrap().insert(name);
                    } else {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            });
        }
        writing
    }

    async fn everyone_refuses(&self, what: &str) {
        for id in self.cluster.ids() {
            let client = self.cluster.client_of(id);
            eventually(format!("refusal by node {id} with {what}"), WITHIN, async || {
                let answer = client.apply(request("refused")).await.map_err(|error| format!("{error:?}"));
                let error = answer.err().ok_or("acknowledged")?;
                if error.contains("\"disk_full\"") { Ok(()) } else { Err(error) }
            })
            .await;
        }
    }

    async fn more_are_acknowledged(&self) {
        let count = || self.acknowledged.lock().unwrap().len();
        let enough = count() + 20;
        eventually("more acknowledged writes", WITHIN, async || {
            let now = count();
            if now >= enough { Ok(()) } else { Err(format!("{now} of {enough}")) }
        })
        .await;
    }

    async fn until_led_by(&self, what: &str, wanted: impl Fn(u64) -> bool) {
        let ids = self.cluster.running();
        let clients: Vec<Client> = ids.iter().map(|id| self.cluster.client_of(*id)).collect();
        eventually(format!("a leader: {what}"), WITHIN, async || {
            let mut votes = Vec::new();
            for client in &clients {
                let asked = client.get_cluster(v1::GetClusterRequest {});
                // One that is paused does not answer.
                if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(1), asked).await {
                    votes.push(answer.leader);
                }
            }
            let agreed = votes.iter().filter(|leader| **leader != 0 && wanted(**leader)).count();
            if agreed * 2 > ids.len() { Ok(()) } else { Err(votes) }
        })
        .await;
    }

    /// Every node gives a linearizable read of everything that was acknowledged, the audit log, and the feed with the
    /// word that nothing of it is missing.
    async fn everything_is_read(&self, what: &str) {
        let expected = self.acknowledged.lock().unwrap().clone();
        for id in self.cluster.running() {
            let client = self.cluster.client_of(id);
            let held = held(&client).await;
            let lost: Vec<_> = expected.difference(&held).collect();
            assert!(lost.is_empty(), "{what}: node {id} lacks {lost:?}");
            let audit = eventually("the audit log", WITHIN, async || {
                client.verify_audit(v1::VerifyAuditRequest {}).await
            })
            .await;
            assert!(audit.intact, "{what}: {}", audit.problem);
            let mut feed = client.subscribe(SubscribeOptions { all: true, ..SubscribeOptions::default() });
            let told = async {
                while !matches!(feed.next().await.expect("the feed can be read"), Update::CaughtUp { .. }) {}
            };
            let told = tokio::time::timeout(WITHIN, told).await;
            assert!(told.is_ok(), "{what}: node {id} says nothing on the feed");
        }
    }

    /// Everything acknowledged is at every node, and all are equal.
    async fn nothing_is_lost(&mut self, what: &str) {
        self.cluster.leader().await;
        self.everything_is_read(what).await;
        let clients: Vec<Client> =
            self.cluster.running().into_iter().map(|id| self.cluster.client_of(id)).collect();
        let digests = eventually("all nodes at one entry", WITHIN, async || {
            let mut seen = Vec::new();
            for client in &clients {
                let node = client.get_cluster(v1::GetClusterRequest {}).await;
                let node = node.map_err(|error| error.to_string())?;
                seen.push((node.applied, node.digest));
            }
            if seen.iter().all(|node| node.0 == seen[0].0) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await;
        assert!(digests.iter().all(|node| *node == digests[0]), "{what}: states differ: {digests:?}");
        assert_eq!(self.cluster.reap(), Vec::<u64>::new(), "{what}: no node ends");
        assert_eq!(digests.len(), 3);
    }
}

/// The names that are held.
async fn held(client: &Client) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let kind = v1::ResourceKind::Identity.into();
        let page = eventually("a page of identities", WITHIN, async || {
            let page_token = page_token.clone();
            client.list_resources(v1::ListResourcesRequest { kind, page_size: 0, page_token }).await
        })
        .await;
        for resource in page.resources {
            let Some(v1::resource::Kind::Identity(row)) = resource.kind else {
                panic!("identities were asked for")
            };
            held.insert(row.name);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return held;
        }
    }
}

fn request(name: &str) -> v1::ApplyRequest {
    let identity = v1::Identity {
        name: name.into(),
        owner: "disk".into(),
        purpose: "p".repeat(1_000),
        workload: "disk".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    };
    v1::ApplyRequest { resources: vec![identity.into()], dry_run: false }
}
