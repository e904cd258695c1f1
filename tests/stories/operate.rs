//! What an operator and what machines ask of a running cluster: whether a node lives and is of use, how it fares, who
//! leads, and to hand the lead over.

use std::time::Duration;

use client::v1;
use harness::http::get;
use harness::{Cluster, eventually};
use secrecy::ExposeSecret;

const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_node_says_whether_it_lives_whether_it_is_of_use_and_how_it_fares() {
    let mut cluster = Cluster::start().await;
    let token = cluster.admin_token();
    for id in cluster.ids() {
        assert_eq!(get(&cluster, id, "/livez", None).await, (200, "ok\n".into()));
        eventually("ready", WITHIN, async || {
            let answer = get(&cluster, id, "/readyz", None).await;
            if answer.0 == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    assert_eq!(get(&cluster, 1, "/metrics", None).await.0, 401, "figures are not for anyone");
    assert_eq!(get(&cluster, 1, "/metrics", Some("rvlt_nobody.AAAA")).await.0, 401);
    let wanted = [
        "revolve_raft_has_leader 1.0",
        "revolve_raft_voters 3.0",
        "revolve_raft_voters_changing 0.0",
        "revolve_storage_full 0.0",
    ];
    eventually("the figures of a healthy node", WITHIN, async || {
        let (code, figures) = get(&cluster, 1, "/metrics", Some(token.expose_secret())).await;
        let has = |line: &&str| figures.lines().any(|found| found == *line);
        if code == 200 && wanted.iter().all(has) { Ok(()) } else { Err(figures) }
    })
    .await;

    // Whoever is left followed the one that died, and must not go on to name it.
    let leader = cluster.leader().await;
    let left = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    for id in cluster.ids().into_iter().filter(|id| *id != left) {
        cluster.kill_node(id);
    }
    eventually("not ready, for want of a leader", WITHIN, async || {
        let answer = get(&cluster, left, "/readyz", None).await;
        if answer == (503, "no leader is known\n".into()) { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(get(&cluster, left, "/livez", None).await.0, 200, "it is not helped by being started again");
}

#[tokio::test]
async fn the_lead_is_handed_over_when_asked_and_before_a_node_stops() {
    let mut cluster = Cluster::start().await;
    let old = cluster.leader().await;
    let new = cluster.ids().into_iter().find(|id| *id != old).unwrap();
    let name = format!("node-{new}");
    let asked = ["cluster", "transfer-leader", &name, "--reason", "maintenance of the rack"];
    let unsure = cluster.cli(asked);
    assert_eq!(unsure.status.code(), Some(64), "nobody can be asked, and nothing was said");
    // On a busy machine a new leader may take longer than the order waits, or lose the lead again; to give the order again
    // does no harm.
    eventually("the lead to be handed over", WITHIN, async || {
        let done = cluster.cli([&asked[..], &["--yes"]].concat());
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        let leader = cluster.leader().await;
        if leader == new { Ok(()) } else { Err(format!("node {leader} leads")) }
    })
    .await;

    let stranger = cluster.cli(["cluster", "transfer-leader", "node-9", "--reason", "no", "--yes"]);
    assert_eq!(stranger.status.code(), Some(5), "{}", String::from_utf8_lossy(&stranger.stderr));
    let present = cluster.cli(["cluster", "rejoin", &name, "--reason", "no", "--yes"]);
    let told = String::from_utf8_lossy(&present.stderr).into_owned();
    assert!(present.status.code() == Some(5) && told.contains("takes part already"), "{told}");

    let (status, said) = cluster.stop_node(new, WITHIN).await;
    assert!(status.success(), "{said}");
    assert!(said.contains("handing the lead over before this node stops"), "{said}");
    assert!(!said.contains("the lead was not taken over in time"), "{said}");
    assert_ne!(cluster.leader().await, new);

    let change = (name.replace("node-", "node/node-"), "transfer-leader: maintenance of the rack".to_owned());
    eventually("the change in the audit log", WITHIN, async || {
        let changes = changes(&cluster).await?;
        if changes.contains(&change) { Ok(()) } else { Err(format!("{changes:?}")) }
    })
    .await;
}

/// The changes of the cluster that are in the audit log: of what, and why.
async fn changes(cluster: &Cluster) -> Result<Vec<(String, String)>, String> {
    let audit = cluster.admin().watch_audit(v1::WatchAuditRequest::default()).await;
    let mut audit = audit.map_err(|error| format!("{error:?}"))?;
    let mut changes = Vec::new();
    while let Some(message) = audit.message().await.map_err(|status| status.to_string())? {
        let record = message.record.expect("a message carries a record");
        if record.action == "cluster.change" {
            changes.push((record.object, record.detail));
        }
    }
    Ok(changes)
}
