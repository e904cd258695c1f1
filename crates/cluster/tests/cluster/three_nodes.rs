//! Three nodes over loopback: elect, propose and read anywhere, lose the leader, restart, catch up.

use crate::nodes::{Nodes, PATIENCE, commit, has, put, read, until};
use cluster::{Cluster, Retention, SteerError};
use futures::future::join_all;
use model::name::NodeId;

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_proposals_and_linearizable_reads() {
    let mut nodes = Nodes::started(3).await;
    for (id, node) in &nodes.running {
        let name = format!("from-{}", id.0);
        commit(node, &name).await;
        for reader in nodes.running.values() {
            assert!(has(&read(reader).await, &name), "{name} is acknowledged and must be read");
        }
    }
    nodes.settled().await;
    let digests: Vec<_> = nodes.running.values().map(|node| node.status().digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_proposals_share_entries() {
    let mut nodes = Nodes::started(3).await;
    let leader = nodes.leader().await;
    let before = nodes.node(leader).status().last_log.unwrap();
    let names: Vec<_> = (0..600).map(|number| format!("many-{number}")).collect();
    let proposals = names.iter().zip(nodes.running.values().cycle()).map(|(name, node)| commit(node, name));
    join_all(proposals).await;
    let entries = nodes.node(leader).status().last_log.unwrap() - before;
    assert!(entries < 300, "600 proposals took {entries} entries");
    let state = read(nodes.any()).await;
    assert!(names.iter().all(|name| has(&state, name)));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_comes_back_from_disk() {
    let mut nodes = Nodes::started(3).await;
    commit(nodes.any(), "before").await;
    let old = nodes.leader().await;
    nodes.stop(old).await;
    let new = nodes.leader().await;
    assert_ne!(old, new);
    commit(nodes.any(), "without").await;
    nodes.start(old).await;
    let returned = read(nodes.node(old)).await;
    assert!(has(&returned, "before") && has(&returned, "without"));
    nodes.settled().await;
    assert_eq!(nodes.node(old).status().digest, nodes.node(new).status().digest);
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_from_disk() {
    let mut nodes = Nodes::started(3).await;
    let names: Vec<_> = (0..20).map(|number| format!("kept-{number}")).collect();
    join_all(names.iter().map(|name| commit(nodes.any(), name))).await;
    nodes.stop_all().await;
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    let state = read(nodes.any()).await;
    assert!(names.iter().all(|name| has(&state, name)));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_kept_log_is_given_a_snapshot() {
    let mut nodes = Nodes::prepare(3).await;
    nodes.retention = Retention { snapshot_every: 20, kept_entries: 5, ..Retention::default() };
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    let leader = nodes.leader().await;
    let lagging = *nodes.running.keys().find(|node| **node != leader).unwrap();
    nodes.stop(lagging).await;
    let names: Vec<_> = (0..60).map(|number| format!("late-{number}")).collect();
    for name in &names {
        commit(nodes.node(leader), name).await;
    }
    purged_beyond(nodes.node(leader), 20).await;
    nodes.start(lagging).await;
    let caught_up = read(nodes.node(lagging)).await;
    assert!(names.iter().all(|name| has(&caught_up, name)));
    given_a_snapshot(nodes.node(lagging)).await;
    nodes.settled().await;
    assert_eq!(nodes.node(lagging).status().digest, nodes.node(leader).status().digest);
    // And what it was given survives its restart.
    nodes.stop(lagging).await;
    nodes.start(lagging).await;
    let restarted = nodes.node(lagging).local();
    assert!(names[..20].iter().all(|name| has(&restarted, name)));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_on_request() {
    let mut nodes = Nodes::started(3).await;
    let old = nodes.leader().await;
    let new = *nodes.running.keys().find(|node| **node != old).unwrap();
    commit(nodes.any(), "before").await;
    nodes.settled().await;
    // Asked of a node that neither leads nor is to lead.
    let third = *nodes.running.keys().find(|node| ![old, new].contains(node)).unwrap();
    nodes.node(third).transfer_leadership(new).await.unwrap();
    until(nodes.node(old), |progress| progress.leader == Some(new)).await;
    commit(nodes.node(old), "after").await;
    let stranger = nodes.node(third).transfer_leadership(NodeId(9)).await;
    assert_eq!(stranger, Err(SteerError::Refused("`node-9` is no voter".into())));
    nodes.node(new).step_down().await;
    assert!(!nodes.node(new).status().is_leader);
    assert_ne!(nodes.leader().await, new, "before it stops");
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_alone_is_a_quorum_of_one() {
    let mut nodes = Nodes::started(1).await;
    commit(nodes.any(), "alone").await;
    let status = nodes.any().status();
    assert!(status.is_leader && status.voters.len() == 1, "{status:?}");
    nodes.stop_all().await;
    nodes.start(NodeId(1)).await;
    assert!(has(&read(nodes.any()).await, "alone"));
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_neither_commits_nor_reads() {
    let mut nodes = Nodes::started(3).await;
    commit(nodes.any(), "before").await;
    let leader = nodes.leader().await;
    let others: Vec<_> = nodes.running.keys().copied().filter(|node| *node != leader).collect();
    for node in others {
        nodes.stop(node).await;
    }
    let alone = nodes.node(leader);
    let (proposed, read) = tokio::join!(alone.propose("test".into(), put("never")), alone.read());
    assert!(proposed.is_err() && read.is_err(), "{proposed:?}");
    assert!(has(&alone.local(), "before"));
    nodes.stop_all().await;
}

/// Waits until Raft says that a node has a snapshot: it says so after the state shows what was in it.
async fn given_a_snapshot(node: &Cluster) {
    let begun = std::time::Instant::now();
    while node.status().snapshot.is_none() {
        assert!(begun.elapsed() < PATIENCE, "no snapshot: {:?}", node.status());
        tokio::task::yield_now().await;
    }
}

/// Waits until a node has purged its log beyond an index. Raft purges when it next hears of a peer, or fails to.
async fn purged_beyond(node: &Cluster, index: u64) {
    let begun = std::time::Instant::now();
    while node.status().purged <= Some(index) {
        assert!(begun.elapsed() < PATIENCE, "never purged: {:?}", node.status());
        tokio::task::yield_now().await;
    }
}
