//! The power fails, for the whole cluster at once: what was not made durable is lost, or torn, or kept in part. No
//! acknowledged write is lost, every node starts again, and all hold the same state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, v1};
use harness::power::Power;
use harness::{Cluster, Setup, eventually};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

/// Half of all cuts: two clusters share the machine, because each spends most of its time on elections.
const CUTS: u64 = 10;
/// Writers at each node.
const WRITERS: usize = 6;
const WITHIN: Duration = Duration::from_secs(120);
/// Before a writer whose node does not answer tries again.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_power_keeps_every_acknowledged_write() {
    lose_power(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_that_loses_power_keeps_every_acknowledged_write() {
    lose_power(CUTS).await;
}

async fn lose_power(first_seed: u64) {
    // Less to log makes more of the time a time in which something is written.
    let environment = vec![("REVOLVE_LOG".into(), "info".into())];
    // Snapshots and purges are to be cut too.
    let limits = vec![("snapshot_every_entries".into(), 40), ("kept_entries".into(), 10)];
    let setup = Setup { volatile: true, environment, limits, ..Setup::default() };
    let mut cluster = Cluster::start_with(setup).await;
    let mut power = Power::default();
    let writes = Arc::new(Writes::default());
    for seed in first_seed..first_seed + CUTS {
        let mut random = StdRng::seed_from_u64(seed);
        let writing = write(&cluster, &writes);
        // Every fourth cut comes while the nodes are still finding each other after the last one.
        if random.random_bool(0.25) {
            let bytes = random.random_range(1..20_000);
            eventually("some bytes in the journals", WITHIN, async || Power::activity(&cluster) >= bytes)
                .await;
        } else {
            let enough = writes.acknowledged() + random.random_range(20..250);
            eventually("acknowledged writes", WITHIN, async || {
                let now = writes.acknowledged();
                if now >= enough { Ok(()) } else { Err(now) }
            })
            .await;
            next_activity(&cluster).await;
        }
        let fates = power.cut(&mut cluster, seed);
        drop(writing);
        for id in fates.keys() {
            cluster.start_node(*id);
        }
        cluster.leader().await;
        writes.confirm(&cluster, seed).await;
        assert_nodes_agree(&mut cluster, seed).await;
    }
    assert!(writes.acknowledged() > CUTS * 20, "{} writes were acknowledged", writes.acknowledged());
}

/// Waits for a moment in which something was written and is hardly durable yet.
async fn next_activity(cluster: &Cluster) {
    let before = Power::activity(cluster);
    let moved = async {
        while Power::activity(cluster) == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, moved).await.expect("the writers write");
}

/// What was written: names that stand for good, and names that are given one value after another.
#[derive(Debug, Default)]
struct Writes {
    rows: Mutex<BTreeMap<String, Row>>,
    acknowledged: AtomicU64,
    writers: AtomicU64,
}

/// The numbers that a name was given.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// The last one that was acknowledged, if any was.
    acknowledged: Option<u64>,
    /// The last one that was sent.
    sent: u64,
}

impl Writes {
    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Writes `number` under `name`, and remembers it when that is acknowledged.
    async fn put(&self, client: &Client, name: &str, number: u64) -> bool {
        self.rows.lock().unwrap().entry(name.to_owned()).or_default().sent = number;
        let request = v1::ApplyRequest { resources: vec![identity(name, number).into()], dry_run: false };
        let acknowledged = client.apply(request).await.is_ok();
        if acknowledged {
            self.rows.lock().unwrap().get_mut(name).unwrap().acknowledged = Some(number);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        acknowledged
    }

    /// Reads everything back from every node.
    async fn confirm(&self, cluster: &Cluster, seed: u64) {
        let expected = self.rows.lock().unwrap().clone();
        for id in cluster.running() {
            let held = held(&cluster.client_of(id)).await;
            for (name, row) in &expected {
                let (first, last) = (row.acknowledged, row.sent);
                let sound = match held.get(name) {
                    Some(number) => first.is_none_or(|first| first <= *number) && *number <= last,
                    None => first.is_none(),
                };
                assert!(
                    sound,
                    "after cut {seed} node {id} holds {:?} for `{name}`, of which {row:?}",
                    held.get(name)
                );
            }
        }
    }
}

/// Writers at every node, until what is returned is dropped.
fn write(cluster: &Cluster, writes: &Arc<Writes>) -> JoinSet<()> {
    let mut writing = JoinSet::new();
    for client in cluster.running().into_iter().flat_map(|id| vec![cluster.client_of(id); WRITERS]) {
        let writes = Arc::clone(writes);
        let writer = writes.writers.fetch_add(1, Ordering::SeqCst);
        writing.spawn(async move {
            let mut name = format!("writer-{writer}-0");
            for number in 0.. {
                let acknowledged = match number % 2 {
                    0 => writes.put(&client, &name, number).await,
                    _ => writes.put(&client, &format!("write-{writer}-{number}"), number).await,
                };
                if !acknowledged {
                    // What has no answer may still come to be, even after the next write: the name is given up.
                    name = format!("writer-{writer}-{number}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
    writing
}

/// All numbers that are held, by name.
async fn held(client: &Client) -> BTreeMap<String, u64> {
    let mut held = BTreeMap::new();
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
            held.insert(row.name, row.purpose.parse().unwrap());
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return held;
        }
    }
}

fn identity(name: &str, number: u64) -> v1::Identity {
    v1::Identity {
        name: name.into(),
        owner: "power".into(),
        // Long, so that what is in flight together fills more than one page of the log.
        purpose: format!("{number:0>1000}"),
        workload: "power".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    }
}

async fn assert_nodes_agree(cluster: &mut Cluster, seed: u64) {
    let clients: Vec<Client> = cluster.running().into_iter().map(|id| cluster.client_of(id)).collect();
    let digests = eventually("all nodes at one entry", WITHIN, async || {
        let mut seen = Vec::new();
        for client in &clients {
            let node =
                client.get_cluster(v1::GetClusterRequest {}).await.map_err(|error| error.to_string())?;
            seen.push((node.applied, node.digest));
        }
        let (applied, _) = seen[0];
        if seen.iter().all(|(other, _)| *other == applied) { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert!(digests.iter().all(|node| *node == digests[0]), "after cut {seed} states differ: {digests:?}");
    assert_eq!(cluster.reap(), Vec::<u64>::new(), "after cut {seed} no node ends");
    assert_eq!(digests.len(), 3);
}
