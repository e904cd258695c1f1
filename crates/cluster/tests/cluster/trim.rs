//! A log of large entries is purged long before there are as many as Raft would wait for.

use std::time::{Duration, Instant};

use cluster::Retention;
use futures::future::join_all;
use model::name::NodeId;

use crate::{
    nodes::{Nodes, PATIENCE, commit_put, until},
    resume::{incompressible, long_row},
};

/// Rows of 3 kB: more than two files of the log.
const ROWS: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_large_entries_is_purged_by_bytes_and_who_is_behind_is_sent_a_snapshot() {
    let mut nodes = Nodes::prepare(3).await;
    nodes.retention = Retention { snapshot_every: 1_000_000, kept_entries: 500_000, kept_bytes: 1_000_000 };
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    let leader = nodes.leader().await;
    let behind = NodeId(if leader == NodeId(3) { 2 } else { 3 });
    nodes.settled().await;
    let held = nodes.node(behind).status().last_log;
    nodes.stop(behind).await;
    let mut noise = 1;
    for first in (0..ROWS).step_by(500) {
        let puts = (first..first + 500).map(|row| {
            let [purpose, workload, environment] = [(); 3].map(|()| incompressible(&mut noise));
            commit_put(nodes.node(leader), long_row(row, purpose, workload, environment))
        });
        join_all(puts).await;
    }
    let begun = Instant::now();
    loop {
        let status = nodes.node(leader).status();
        assert!(status.purged <= status.snapshot, "only what a snapshot covers is purged");
        if status.purged > held {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = std::fs::read_dir(nodes.data(leader).join("log")).unwrap();
    let bytes: u64 = log.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 9_000_000, "{bytes} bytes of log are left");

    nodes.start(behind).await;
    let wanted = nodes.node(leader).status();
    until(nodes.node(behind), |progress| progress.applied >= wanted.applied).await;
    assert!(nodes.node(behind).status().snapshot_frames > 0, "it was sent a snapshot");
    nodes.settled().await;
    assert_eq!(nodes.node(behind).status().digest, nodes.node(leader).status().digest);
    nodes.stop_all().await;
}
