//! Who is let in on the peer port, who may form a cluster, and how a damaged node is helped.

use std::fs;

use crate::nodes::{Nodes, PATIENCE, ROOT_KEY, commit, has, put, read};
use cluster::{ProposeError, Retention, StartError};
use model::name::NodeId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_root_key_is_refused() {
    let mut nodes = Nodes::prepare(3).await;
    nodes.start(NodeId(1)).await;
    nodes.start(NodeId(2)).await;
    nodes.try_start(NodeId(3), &[7; 32]).await.unwrap();
    // No cluster is formed with it: it does not count as having answered.
    let stranger = nodes.node(NodeId(3)).clone();
    let proposed = stranger.propose("test".into(), put("never")).await;
    assert_eq!(proposed, Err(ProposeError::NoLeader));
    assert!(nodes.running.values().all(|node| node.status().leader.is_none()));
    // With the right key it is formed.
    nodes.stop(NodeId(3)).await;
    nodes.start(NodeId(3)).await;
    nodes.leader().await;
    // And a member that comes back with another key hears nothing any more.
    nodes.stop(NodeId(3)).await;
    nodes.try_start(NodeId(3), &[7; 32]).await.unwrap();
    commit(nodes.node(NodeId(1)), "without-three").await;
    assert!(nodes.node(NodeId(3)).read().await.is_err());
    assert!(!has(&nodes.node(NodeId(3)).local(), "without-three"));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_refused() {
    let mut nodes = Nodes::started(1).await;
    let mut connection = TcpStream::connect(&nodes.addresses[&NodeId(1)]).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    // Closed, at most with a TLS alert (record type 21): never an HTTP/2 frame.
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut answer)).await;
    read.expect("the connection is closed").ok();
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_does_not_keep_a_node_from_stopping() {
    let mut nodes = Nodes::started(1).await;
    let _silent = TcpStream::connect(&nodes.addresses[&NodeId(1)]).await.unwrap();
    tokio::time::timeout(PATIENCE, nodes.stop_all()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_does_not_form_a_second_cluster() {
    let mut nodes = Nodes::started(3).await;
    commit(nodes.any(), "before").await;
    nodes.settled().await;
    let storage = nodes.node(NodeId(1)).status().storage;
    nodes.stop_all().await;
    fs::remove_dir_all(nodes.data(NodeId(1))).unwrap();
    // Alone with one of its peers down it cannot know, and waits.
    nodes.start(NodeId(1)).await;
    assert_eq!(nodes.node(NodeId(1)).propose("test".into(), put("never")).await, Err(ProposeError::NoLeader));
    nodes.start(NodeId(2)).await;
    nodes.start(NodeId(3)).await;
    let caught_up = read(nodes.node(NodeId(1))).await;
    assert!(has(&caught_up, "before"));
    assert_ne!(nodes.node(NodeId(1)).status().storage, storage);
    nodes.stop_all().await;
}

/// Three nodes of which all have purged their logs.
async fn purged() -> Nodes {
    let mut nodes = Nodes::prepare(3).await;
    nodes.retention = Retention { snapshot_every: 20, kept_entries: 5, ..Retention::default() };
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    nodes.leader().await;
    for number in 0..50 {
        commit(nodes.any(), &format!("name-{number}")).await;
    }
    nodes.settled().await;
    for node in nodes.running.values() {
        let wait = async {
            let mut watch = node.watch();
            while node.status().purged < Some(20) {
                commit(node, &format!("more-{}", node.status().applied.unwrap_or(0))).await;
                watch.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("every node purges");
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_state_builds_it_from_snapshot_and_log() {
    let mut nodes = purged().await;
    nodes.stop(NodeId(2)).await;
    fs::remove_dir_all(nodes.data(NodeId(2)).join("state")).unwrap();
    nodes.start(NodeId(2)).await;
    assert!(has(&nodes.node(NodeId(2)).local(), "name-0"));
    nodes.settled().await;
    assert_eq!(nodes.node(NodeId(1)).status().digest, nodes.node(NodeId(2)).status().digest);
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_state_and_snapshot_is_given_them_by_a_peer() {
    let mut nodes = purged().await;
    nodes.stop(NodeId(2)).await;
    fs::remove_dir_all(nodes.data(NodeId(2)).join("state")).unwrap();
    fs::remove_dir_all(nodes.data(NodeId(2)).join("snapshots")).unwrap();
    nodes.start(NodeId(2)).await;
    assert!(has(&nodes.node(NodeId(2)).local(), "name-0"));
    nodes.settled().await;
    assert_eq!(nodes.node(NodeId(1)).status().digest, nodes.node(NodeId(2)).status().digest);

    // With nobody to ask it says what it needs.
    nodes.stop_all().await;
    fs::remove_dir_all(nodes.data(NodeId(2)).join("state")).unwrap();
    fs::remove_dir_all(nodes.data(NodeId(2)).join("snapshots")).unwrap();
    let started = nodes.try_start(NodeId(2), &ROOT_KEY).await;
    assert!(matches!(started, Err(StartError::Damaged { .. })), "{started:?}");
}
