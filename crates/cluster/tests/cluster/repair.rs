//! Nodes whose disk was wiped, put back, cut short or damaged: none votes with it, and each comes back by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::nodes::{Nodes, PATIENCE, commit, has, read, until};
use cluster::{Admission, Cluster, Exclusion, Rejoin, SteerError};
use model::name::NodeId;

/// Waits until a condition holds; nothing wakes for those that are asked for here.
async fn eventually(what: &str, node: &Cluster, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never {what}: {:?}", node.status());
        tokio::task::yield_now().await;
    }
}

async fn votes(nodes: &Nodes, node: NodeId) {
    let (one, leader) = (nodes.node(node).clone(), nodes.leader().await);
    let leader = nodes.node(leader).clone();
    eventually("voting", &one, || {
        one.status().admission == Admission::Admitted
            && leader.status().voters.contains(&node)
            && one.status().voters.contains(&node)
    })
    .await;
}

/// Three nodes with something committed, all of it everywhere.
async fn settled() -> Nodes {
    let nodes = Nodes::started(3).await;
    for number in 0..20 {
        commit(nodes.any(), &format!("kept-{number}")).await;
    }
    nodes.settled().await;
    nodes
}

/// Waits until the leader has heard that the node holds all of the log: what was not heard is no promise.
async fn acknowledged_everything(nodes: &Nodes, node: NodeId) {
    let index = nodes.settled().await;
    let leader = nodes.node(nodes.leader().await).clone();
    eventually("acknowledged", &leader, || leader.status().peers[&node].matched >= index).await;
}

async fn holds_everything(nodes: &Nodes, node: NodeId) {
    let state = read(nodes.node(node)).await;
    assert!((0..20).all(|number| has(&state, &format!("kept-{number}"))));
    nodes.settled().await;
    assert_eq!(nodes.node(node).status().digest, nodes.any().status().digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_comes_back_as_a_learner_and_votes_when_it_has_caught_up() {
    let mut nodes = settled().await;
    let wiped = nodes.leader().await;
    let storage = nodes.node(wiped).status().storage;
    nodes.stop(wiped).await;
    fs::remove_dir_all(nodes.data(wiped)).unwrap();
    nodes.leader().await;
    nodes.start(wiped).await;
    votes(&nodes, wiped).await;
    assert_ne!(nodes.node(wiped).status().storage, storage);
    holds_everything(&nodes, wiped).await;
    // Its vote counts again: with one of the others gone there is still a quorum.
    let other = *nodes.running.keys().find(|node| **node != wiped).unwrap();
    nodes.stop(other).await;
    commit(nodes.node(wiped), "with-its-vote").await;
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_does_not_help_one_that_lacks_what_was_committed() {
    // The sequence that loses data when a wiped node votes: an entry on two nodes, one of them is wiped, and with it
    // the third, which never had the entry, would be a majority.
    let mut nodes = settled().await;
    let leader = nodes.leader().await;
    let others: Vec<_> = nodes.running.keys().copied().filter(|node| *node != leader).collect();
    let (behind, wiped) = (others[0], others[1]);
    nodes.stop(behind).await;
    commit(nodes.node(leader), "acknowledged").await;
    nodes.stop(wiped).await;
    nodes.stop(leader).await;
    fs::remove_dir_all(nodes.data(wiped)).unwrap();
    nodes.start(behind).await;
    nodes.start(wiped).await;
    let (node, alone) = (nodes.node(wiped).clone(), nodes.node(behind).clone());
    eventually("excluded", &node, || node.status().admission == Admission::Excluded(Exclusion::OtherStorage))
        .await;
    assert!(alone.read().await.is_err(), "{:?}", alone.status());
    nodes.start(leader).await;
    votes(&nodes, wiped).await;
    assert!(has(&read(nodes.node(behind)).await, "acknowledged"));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_an_old_copy_of_its_disk_does_not_vote_with_it() {
    let mut nodes = settled().await;
    let node = *nodes.running.keys().next_back().unwrap();
    nodes.stop(node).await;
    let copy = nodes.folder.path().join("old");
    copy_folder(&nodes.data(node), &copy);
    nodes.start(node).await;
    let storage = nodes.node(node).status().storage;
    for number in 0..5 {
        commit(nodes.any(), &format!("later-{number}")).await;
    }
    acknowledged_everything(&nodes, node).await;
    nodes.stop(node).await;
    fs::remove_dir_all(nodes.data(node)).unwrap();
    copy_folder(&copy, &nodes.data(node));
    nodes.start(node).await;
    let one = nodes.node(node).clone();
    eventually("given another storage", &one, || one.status().storage != storage).await;
    votes(&nodes, node).await;
    assert!(has(&read(nodes.node(node)).await, "later-4"));
    holds_everything(&nodes, node).await;
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_was_cut_short_does_not_vote_with_it() {
    let mut nodes = settled().await;
    let node = *nodes.running.keys().next_back().unwrap();
    let storage = nodes.node(node).status().storage;
    acknowledged_everything(&nodes, node).await;
    nodes.stop(node).await;
    // Also without the state, which would stand for what the log has lost.
    fs::remove_dir_all(nodes.data(node).join("state")).unwrap();
    let chunk = last_chunk(&nodes.data(node));
    let whole = fs::read(&chunk).unwrap();
    fs::write(&chunk, &whole[..whole.len() - 200]).unwrap();
    nodes.start(node).await;
    let one = nodes.node(node).clone();
    eventually("given another storage", &one, || one.status().storage != storage).await;
    votes(&nodes, node).await;
    holds_everything(&nodes, node).await;
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_is_damaged_repairs_itself() {
    let mut nodes = settled().await;
    let node = *nodes.running.keys().next_back().unwrap();
    for share in [0, 3, 8] {
        nodes.stop(node).await;
        let chunk = last_chunk(&nodes.data(node));
        let mut bytes = fs::read(&chunk).unwrap();
        let place = bytes.len() * share / 10 + 3;
        bytes[place] ^= 0x10;
        fs::write(&chunk, bytes).unwrap();
        nodes.start(node).await;
        votes(&nodes, node).await;
        holds_everything(&nodes, node).await;
        assert!(nodes.data(node).join("damaged").exists(), "what was there is kept");
    }
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_repair_itself_waits_to_be_told() {
    let mut nodes = settled().await;
    let node = *nodes.running.keys().next_back().unwrap();
    nodes.stop(node).await;
    fs::remove_dir_all(nodes.data(node)).unwrap();
    nodes.rejoin = Rejoin::Manual;
    nodes.start(node).await;
    let one = nodes.node(node).clone();
    eventually("excluded", &one, || one.status().admission == Admission::Excluded(Exclusion::OtherStorage))
        .await;
    commit(nodes.any(), "meanwhile").await;
    assert!(nodes.any().status().voters.contains(&node), "the membership was not touched");
    assert!(!has(&one.local(), "kept-0"));
    // Said at any node.
    nodes.any().permit_rejoin(node).await.unwrap();
    votes(&nodes, node).await;
    holds_everything(&nodes, node).await;
    let again = nodes.any().permit_rejoin(node).await;
    assert_eq!(again, Err(SteerError::Refused(format!("`{node}` takes part already"))));

    // A damaged log: it does not start, and nothing was touched.
    nodes.stop(node).await;
    let chunk = last_chunk(&nodes.data(node));
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[3] ^= 0x10;
    fs::write(&chunk, &bytes).unwrap();
    nodes.try_start(node, &crate::nodes::ROOT_KEY).await.unwrap_err();
    assert_eq!(fs::read(&chunk).unwrap(), bytes);
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_that_lost_nothing_keeps_its_storage() {
    let mut nodes = settled().await;
    for node in (1..=3).map(NodeId) {
        let storage = nodes.node(node).status().storage;
        nodes.stop(node).await;
        nodes.leader().await;
        nodes.start(node).await;
        votes(&nodes, node).await;
        assert_eq!(nodes.node(node).status().storage, storage);
    }
    until(nodes.any(), |progress| progress.leader.is_some()).await;
    nodes.stop_all().await;
}

fn last_chunk(data: &Path) -> PathBuf {
    let mut chunks: Vec<_> =
        fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    chunks.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    chunks.sort();
    chunks.pop().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Damages the log of a node that runs alone: `torn` behind what was durable, otherwise in the midst of it.
fn damage_the_end(data: &Path, torn: bool) {
    let chunk = last_chunk(data);
    let mut bytes = fs::read(&chunk).unwrap();
    if torn {
        // As a power cut leaves what was never synced: a hole, and behind it a part of what was written.
        bytes.extend([0; 512]);
        bytes.extend([0x5a; 512]);
    } else {
        // In the last entry; behind it stands only what can be done without.
        let place = bytes.windows(5).rposition(|text| text == b"after").unwrap();
        bytes[place] ^= 0x10;
    }
    fs::write(&chunk, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_cuts_off_what_was_never_durable_and_nothing_else() {
    let mut nodes = Nodes::started(1).await;
    let node = NodeId(1);
    commit(nodes.any(), "kept").await;
    nodes.stop_all().await;
    damage_the_end(&nodes.data(node), true);
    nodes.start(node).await;
    assert!(has(&read(nodes.any()).await, "kept"));
    commit(nodes.any(), "after").await;
    nodes.stop_all().await;
    damage_the_end(&nodes.data(node), false);
    let before = fs::read(last_chunk(&nodes.data(node))).unwrap();
    nodes.try_start(node, &crate::nodes::ROOT_KEY).await.unwrap_err();
    assert_eq!(fs::read(last_chunk(&nodes.data(node))).unwrap(), before, "it is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_logs_were_all_torn_loses_nothing() {
    let mut nodes = settled().await;
    nodes.stop_all().await;
    for node in (1..=3).map(NodeId) {
        damage_the_end(&nodes.data(node), true);
    }
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    nodes.leader().await;
    for node in (1..=3).map(NodeId) {
        votes(&nodes, node).await;
        holds_everything(&nodes, node).await;
    }
    nodes.stop_all().await;
}
