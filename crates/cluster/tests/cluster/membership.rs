//! Nodes that come, vote and go.

use std::{fs, time::Instant};

use crate::nodes::{Nodes, PATIENCE, commit, has, read, until};
use cluster::{Cluster, SteerError};
use model::{
    command::{AdmitNode, ChangeCluster, ClusterChange, Command, RemoveNode},
    name::NodeId,
    outcome::Applied,
};

async fn propose(node: &Cluster, command: impl Into<Command>) -> Applied {
    let command = command.into();
    let begun = Instant::now();
    loop {
        match node.propose("test".into(), command.clone()).await {
            Ok(outcome) => return outcome.unwrap(),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// Lets a new node in and starts it.
async fn join(nodes: &mut Nodes, learner: bool) -> NodeId {
    let leader = nodes.leader().await;
    let highest = *nodes.addresses.keys().next_back().unwrap();
    let node = NodeId(highest.0 + 1);
    nodes.add(node).await;
    let command = AdmitNode {
        invitation: None,
        storage: [u8::try_from(node.0).unwrap(); 16],
        peer_address: nodes.addresses[&node].clone(),
        learner,
        highest,
    };
    assert_eq!(propose(nodes.node(leader), command).await, Applied::Admitted(node));
    nodes.start(node).await;
    node
}

async fn remove(by: &Cluster, node: NodeId) -> Result<(), SteerError> {
    by.may_remove(node).await?;
    propose(by, RemoveNode { node, reason: "a test".into(), highest: node }).await;
    by.remove(node).await
}

async fn voters(node: &Cluster, wanted: &[u64]) {
    let wanted: Vec<NodeId> = wanted.iter().copied().map(NodeId).collect();
    let begun = Instant::now();
    let mut watch = node.watch();
    while !node.status().voters.iter().eq(&wanted) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", node.status());
        // The membership may change without a change of the progress.
        drop(tokio::time::timeout(std::time::Duration::from_millis(100), watch.changed()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows_to_three_and_outlives_its_first_node() {
    let mut nodes = Nodes::started(1).await;
    commit(nodes.any(), "alone").await;
    assert_eq!(join(&mut nodes, false).await, NodeId(2));
    voters(nodes.node(NodeId(1)), &[1, 2]).await;
    assert_eq!(join(&mut nodes, false).await, NodeId(3));
    voters(nodes.node(NodeId(1)), &[1, 2, 3]).await;
    commit(nodes.node(NodeId(3)), "three").await;
    nodes.settled().await;

    // The leader is removed: it hands over first.
    nodes.node(NodeId(3)).transfer_leadership(NodeId(1)).await.unwrap();
    let first = nodes.node(NodeId(1)).clone();
    remove(nodes.node(NodeId(3)), NodeId(1)).await.unwrap();
    voters(nodes.node(NodeId(3)), &[2, 3]).await;
    let reason = tokio::time::timeout(PATIENCE, first.fatal()).await.expect("the removed node ends");
    assert!(reason.contains("was removed from the cluster: a test"), "{reason}");
    nodes.stop(NodeId(1)).await;
    nodes.leader().await;
    commit(nodes.any(), "without-one").await;

    // Neither with what it held nor wiped does it come back, and it does not form a cluster of its own.
    for wiped in [false, true] {
        if wiped {
            fs::remove_dir_all(nodes.data(NodeId(1))).unwrap();
        }
        nodes.start(NodeId(1)).await;
        let again = nodes.node(NodeId(1)).clone();
        let reason = tokio::time::timeout(PATIENCE, again.fatal()).await.expect("it is told");
        assert!(reason.contains("was removed"), "{reason}");
        nodes.stop(NodeId(1)).await;
    }
    assert_eq!(join(&mut nodes, false).await, NodeId(4));
    voters(nodes.node(NodeId(2)), &[2, 3, 4]).await;
    let state = read(nodes.node(NodeId(4))).await;
    assert!(["alone", "three", "without-one"].into_iter().all(|name| has(&state, name)));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_node_that_was_wiped_finds_those_that_came_after_it() {
    let mut nodes = Nodes::started(1).await;
    join(&mut nodes, false).await;
    join(&mut nodes, false).await;
    voters(nodes.node(NodeId(1)), &[1, 2, 3]).await;
    commit(nodes.any(), "before").await;
    nodes.settled().await;
    nodes.stop(NodeId(1)).await;
    fs::remove_dir_all(nodes.data(NodeId(1))).unwrap();
    // Its settings name itself alone.
    nodes.start(NodeId(1)).await;
    assert!(has(&read(nodes.node(NodeId(1))).await, "before"));
    voters(nodes.node(NodeId(1)), &[1, 2, 3]).await;
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_the_cluster_is_refused() {
    let mut nodes = Nodes::started(3).await;
    commit(nodes.any(), "before").await;
    nodes.settled().await;
    let leader = nodes.leader().await;
    let others: Vec<NodeId> = nodes.running.keys().copied().filter(|node| *node != leader).collect();
    nodes.stop(others[0]).await;
    let by = nodes.node(leader).clone();
    let begun = Instant::now();
    while by.status().peers.get(&others[0]).is_none_or(|peer| peer.reachable) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", by.status());
        tokio::task::yield_now().await;
    }
    let refused = by.may_remove(others[1]).await.unwrap_err().to_string();
    assert!(refused.contains("without"), "{refused}");
    let refused = by.promote(NodeId(9)).await.unwrap_err().to_string();
    assert!(refused.contains("is no member yet"), "{refused}");
    // The one that is away can go, and then the one that is there.
    remove(&by, others[0]).await.unwrap();
    remove(&by, others[1]).await.unwrap();
    voters(&by, &[leader.0]).await;
    commit(&by, "alone").await;
    let refused = by.may_remove(leader).await.unwrap_err().to_string();
    assert!(refused.contains("the last voter"), "{refused}");
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_votes_when_it_is_promoted() {
    let mut nodes = Nodes::started(1).await;
    commit(nodes.any(), "before").await;
    let learner = join(&mut nodes, true).await;
    until(nodes.node(learner), |progress| progress.leader.is_some()).await;
    assert!(has(&read(nodes.node(learner)).await, "before"), "it reads");
    let by = nodes.node(NodeId(1)).clone();
    voters(&by, &[1]).await;
    // It stays one when it is started again.
    nodes.stop(learner).await;
    nodes.start(learner).await;
    nodes.settled().await;
    voters(&by, &[1]).await;
    let promote = ChangeCluster { node: learner, change: ClusterChange::Promote, reason: "a test".into() };
    assert_eq!(propose(&by, promote).await, Applied::Changed);
    by.promote(learner).await.unwrap();
    voters(&by, &[1, 2]).await;
    nodes.stop_all().await;
}
