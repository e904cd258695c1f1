//! Keys are replaced while everything goes on: nothing is lost, nothing fails, and the former key is then worth nothing. A
//! node that could not open what the cluster seals refuses to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use client::{Client, v1};
use harness::{
    Cluster, answered,
    canary::{self, Canary},
    eventually,
};
use tokio::task::JoinHandle;

use super::stage::{ROTATOR_PASSWORD, Setup, Stage, WITHIN, alternating_users, identity};

/// Secrets beside the one that is rotated: enough for many batches.
const TARGETS: usize = 200;
/// Most of one request.
const CHUNK: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_key_is_replaced_under_load_though_the_leader_dies_in_the_middle() {
    let mut stage = Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await;
    declare_targets(&stage).await;
    let load = Load::start(stage.client.clone());
    let before = stage.secret().await;
    let leader = stage.cluster.leader().await;
    let unsure = stage.cluster.cli(["key", "rotate", "data", "--reason", "yearly"]);
    assert_eq!(unsure.status.code(), Some(64), "nobody can be asked, and nothing was said");
    said(&stage.cluster.cli(["key", "rotate", "data", "--reason", "yearly", "--yes"]), 0);
    // One at a time. After some seconds it is over: another leader might be asked too late.
    let request = || v1::RotateDataKeyRequest { reason: "too soon".into() };
    let ask = async || stage.client.rotate_data_key(request()).await;
    let again = answered("another replacement", WITHIN, ask).await.expect_err("it is refused");
    assert!(again.to_string().contains("still being replaced"), "{again}");
    stage.cluster.kill_node(leader);
    assert_eq!(keys_of(&stage.cluster).await.data_keys.len(), 2);
    stage.cluster.leader().await;
    let rotation = stage.rotate().await;
    stage.cluster.start_node(leader);

    let keys = eventually("the old key to be destroyed", WITHIN, async || {
        let keys = keys_of(&stage.cluster).await;
        if keys.data_keys[0].state == "destroyed" { Ok(keys) } else { Err(format!("{keys:?}")) }
    })
    .await;
    let (old, new) = (&keys.data_keys[0], &keys.data_keys[1]);
    assert_eq!((old.values, new.state.as_str()), (0, "active"));
    assert!(new.values > TARGETS as u64, "{new:?}");
    load.end(1).await;
    // Each target's secret is compared with what is declared: it opens, and it is what it was.
    for change in declare_targets(&stage).await {
        assert_eq!(change.action(), v1::ChangeAction::Unchanged, "{} was lost", change.name);
    }
    assert!(stage.secret().await.works(&stage.postgres).await, "the secret in use logs in");
    assert!(!before.works(&stage.postgres).await, "{} has replaced it", rotation.id);
    stage.rotate().await;
    assert!(stage.secret().await.works(&stage.postgres).await);
    let replaced = stage.audit("data-key/2").await;
    assert!(replaced.iter().any(|record| record.action == "key.add" && record.detail == "yearly"));
    let waited = stage.cluster.cli([
        "key",
        "rotate",
        "data",
        "--reason",
        "again",
        "--yes",
        "--wait",
        "--timeout",
        "2m",
    ]);
    assert!(said(&waited, 0).contains("data key 2 is destroyed"));
    stage.assert_nodes_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_key_is_replaced_node_by_node_under_load_and_the_former_one_is_then_refused() {
    let setup = harness::Setup { own_root_keys: true, ..harness::Setup::default() };
    let setup = Setup { cluster: setup.loud(), ..Setup::default() };
    let mut stage = Stage::start(setup, &alternating_users(), v1::RotationPolicy::default()).await;
    let load = Load::start(stage.client.clone());
    let new = generate(stage.cluster.folder(), "new.key");
    let former = fs::read_to_string(stage.cluster.root_key_file(1)).unwrap();
    let rotate = ["key", "rotate", "root", "--reason", "an operator left", "--yes"];
    let finish = ["key", "finish", "root", "--reason", "all nodes have it", "--yes"];
    assert!(said(&stage.cluster.cli(rotate), 5).contains("[key_not_held]"));
    assert!(said(&stage.cluster.cli(finish), 5).contains("no root key is being replaced"));

    bring(&new, &stage.cluster, 1);
    held_by(&stage.cluster, &[1]).await;
    assert!(said(&stage.cluster.cli(rotate), 5).contains("not held by: node-2, node-3"));
    bring(&new, &stage.cluster, 2);
    bring(&new, &stage.cluster, 3);
    let id = held_by(&stage.cluster, &[1, 2, 3]).await;
    assert!(said(&stage.cluster.cli(rotate), 0).contains(&id));
    assert!(said(&stage.cluster.cli(rotate), 5).contains("not finished"));
    said(&stage.cluster.cli(finish), 0);
    for node in stage.cluster.ids() {
        let own = stage.cluster.root_key_file(node);
        fs::rename(next_to(&own), &own).unwrap();
    }
    eventually("nothing left to do", WITHIN, async || {
        let status = stage.cluster.cli(["key", "status"]);
        if status.status.success() { Ok(()) } else { Err(text(&status)) }
    })
    .await;
    // The nodes announce what they hold a moment after they have read it.
    let keys = eventually("the new key alone to be held", WITHIN, async || {
        let keys = keys_of(&stage.cluster).await;
        let states = keys.root_keys.iter().map(|key| (key.state.as_str(), key.holders.len()));
        let states: Vec<_> = states.collect();
        let is_done = states.contains(&("active", 3)) && states.contains(&("retired", 0));
        if is_done { Ok(keys) } else { Err(format!("{states:?}")) }
    })
    .await;
    assert!(keys.data_keys.iter().all(|key| key.root_key == id), "{keys:?}");
    stage.rotate().await;
    load.end(3).await;

    for node in stage.cluster.ids() {
        stage.cluster.kill_node(node);
    }
    let own = stage.cluster.root_key_file(3);
    write_private(&own, &former);
    stage.cluster.start_node(3);
    let (status, told) = stage.cluster.wait_for_end(3, WITHIN).await;
    assert_eq!(status.code(), Some(5), "{told}");
    assert!(told.contains(&id) && told.contains("set `root_key_file`"), "{told}");
    fs::copy(&new, &own).unwrap();
    for node in stage.cluster.ids() {
        stage.cluster.start_node(node);
    }
    stage.cluster.leader().await;
    stage.rotate().await;
    assert!(stage.secret().await.works(&stage.postgres).await);

    let fresh = fs::read_to_string(&new).unwrap();
    let canaries = [Canary::new("the former key", former.trim()), Canary::new("the new key", fresh.trim())];
    let found = canary::search(&canaries, stage.cluster.folder()).unwrap();
    let stray: Vec<_> = found.iter().filter(|found| !found.place.ends_with(".key")).collect();
    assert!(stray.is_empty(), "{stray:#?}");
}

#[tokio::test]
async fn a_node_refuses_to_start_without_the_root_key_it_needs_and_says_which() {
    let setup = harness::Setup { nodes: 1, own_root_keys: true, ..harness::Setup::default() };
    let mut cluster = Cluster::start_with(setup).await;
    let own = cluster.root_key_file(1);
    let right = fs::read_to_string(&own).unwrap();
    let id = eventually("the node's key to be known", WITHIN, async || {
        let keys = keys_of(&cluster).await;
        let active = keys.root_keys.iter().find(|key| key.state == "active" && key.holders == [1]);
        active.map(|key| key.id.clone()).ok_or(format!("{keys:?}"))
    })
    .await;
    let wrong = generate(cluster.folder(), "wrong.key");
    cluster.kill_node(1);

    fs::copy(&wrong, &own).unwrap();
    cluster.start_node(1);
    let (status, told) = cluster.wait_for_end(1, WITHIN).await;
    let last = told.lines().rev().take(3).collect::<Vec<_>>().join("\n");
    assert_eq!(status.code(), Some(5), "{last}");
    assert!(last.contains(&format!("data key 1 is wrapped by root key {id}")), "{last}");
    assert!(last.contains("this node holds") && last.contains("restore it"), "{last}");

    fs::remove_file(&own).unwrap();
    cluster.start_node(1);
    let (status, told) = cluster.wait_for_end(1, WITHIN).await;
    assert_eq!(status.code(), Some(64), "{told}");
    assert!(told.lines().rev().take(3).any(|line| line.contains("cannot read the root key file")), "{told}");

    write_private(&own, &right);
    cluster.start_node(1);
    cluster.leader().await;
}

#[tokio::test]
async fn a_node_with_the_former_key_alone_stops_as_soon_as_it_has_caught_up() {
    let setup = harness::Setup { own_root_keys: true, ..harness::Setup::default() };
    let mut cluster = Cluster::start_with(setup).await;
    let new = generate(cluster.folder(), "new.key");
    for node in cluster.ids() {
        bring(&new, &cluster, node);
    }
    let id = held_by(&cluster, &[1, 2, 3]).await;
    said(&cluster.cli(["key", "rotate", "root", "--reason", "yearly", "--yes"]), 0);
    // Half way: this node loses its disk, and its copy of the new key with it.
    let leader = cluster.leader().await;
    let lost = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    cluster.kill_node(lost);
    fs::remove_dir_all(cluster.folder().join(format!("node-{lost}"))).unwrap();
    let own = cluster.root_key_file(lost);
    fs::remove_file(next_to(&own)).unwrap();
    cluster.start_node(lost);
    let (status, told) = cluster.wait_for_end(lost, WITHIN).await;
    assert_eq!(status.code(), Some(5), "{told}");
    let last = told.lines().rev().take(3).collect::<Vec<_>>().join("\n");
    assert!(last.contains(&format!("wrapped by root key {id}")), "{last}");

    fs::copy(&new, next_to(&own)).unwrap();
    cluster.start_node(lost);
    let client = cluster.client_of(lost);
    eventually("the node to answer for all that was committed", WITHIN, async || {
        client.get_key_status(v1::GetKeyStatusRequest {}).await.map_err(|error| error.to_string())
    })
    .await;
    // The node announces what it holds a moment later.
    eventually("the end of the replacement", WITHIN, async || {
        let finished = cluster.cli(["key", "finish", "root", "--reason", "all nodes have it", "--yes"]);
        if finished.status.success() { Ok(()) } else { Err(text(&finished)) }
    })
    .await;
}

/// Applies identities, one after the other, until it is told to end.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    client: Client,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(client: Client) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, caller) = (Arc::clone(&stop), Arc::clone(&done), client.clone());
        let task = tokio::spawn(async move {
            let mut written = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let name = format!("load-{}", written.len());
                let one = v1::Identity { name: name.clone(), ..identity() };
                let request = || v1::ApplyRequest { resources: vec![one.clone().into()], dry_run: false };
                // Between two leaders it is asked again; anything else is a failure.
                let asked = async {
                    while let Err(error) = caller.apply(request()).await {
                        assert!(error.is_transient(), "a write failed: {error:?}");
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(WITHIN, asked).await.expect("a write is answered in time");
                written.push(name);
                counted.fetch_add(1, Ordering::SeqCst);
            }
            written
        });
        Self { stop, done, client, task }
    }

    /// Ends it after at least `least` writes, and checks that each of them is there.
    async fn end(self, least: u64) {
        eventually("some load", WITHIN, async || {
            let done = self.done.load(Ordering::SeqCst);
            if done >= least { Ok(()) } else { Err(done) }
        })
        .await;
        self.stop.store(true, Ordering::SeqCst);
        let written = self.task.await.expect("no write fails");
        for name in written {
            let kind = v1::ResourceKind::Identity.into();
            let request = || v1::GetResourceRequest { kind, name: name.clone() };
            let found = answered(&name, WITHIN, async || self.client.get_resource(request()).await).await;
            assert!(found.is_ok(), "{name} was acknowledged and is lost: {found:?}");
        }
    }
}

/// Declares targets with an administrative secret each, and gives what that has changed.
async fn declare_targets(stage: &Stage) -> Vec<v1::ResourceChange> {
    let target = |number: usize| v1::Target {
        name: format!("target-{number}"),
        ..stage.target(&format!("{ROTATOR_PASSWORD}-{number}"))
    };
    let all: Vec<v1::Resource> = (0..TARGETS).map(|number| target(number).into()).collect();
    let mut changes = Vec::new();
    for chunk in all.chunks(CHUNK) {
        let request = || v1::ApplyRequest { resources: chunk.to_vec(), dry_run: false };
        let answer = stage.asked("targets", async || stage.client.apply(request()).await).await;
        changes.extend(answer.changes);
    }
    changes
}

async fn keys_of(cluster: &Cluster) -> v1::GetKeyStatusResponse {
    let client = cluster.admin();
    eventually("the status of the keys", WITHIN, async || {
        client.get_key_status(v1::GetKeyStatusRequest {}).await.map_err(|error| error.to_string())
    })
    .await
}

/// Waits until the root key that is to come is held by these nodes, and gives its id.
async fn held_by(cluster: &Cluster, nodes: &[u64]) -> String {
    eventually(format!("the next root key on {nodes:?}"), WITHIN, async || {
        let keys = keys_of(cluster).await;
        let next = keys.root_keys.iter().find(|key| key.state == "held" && key.holders == nodes);
        next.map(|key| key.id.clone()).ok_or(format!("{keys:?}"))
    })
    .await
}

/// Makes a root key with the command line.
fn generate(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let made = harness::cluster::revolve(["key", "generate", "root", "--to"]).arg(&path).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    path
}

/// Puts the next root key where the node looks for it, whole and private from the first moment.
fn bring(key: &Path, cluster: &Cluster, node: u64) {
    let next = next_to(&cluster.root_key_file(node));
    let draft = next.with_extension("draft.key");
    fs::copy(key, &draft).unwrap();
    fs::rename(draft, next).unwrap();
}

fn next_to(own: &Path) -> PathBuf {
    let mut name = own.to_path_buf().into_os_string();
    name.push(".next");
    name.into()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What a command has said on both streams, after the check of its exit code.
fn said(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    text(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
