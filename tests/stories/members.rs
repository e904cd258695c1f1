//! Nodes come and go while the cluster works: each on a machine of its own, let in with a join token, and turned out for
//! good. Whatever was acknowledged meanwhile is there at the end.

mod machines;
mod midst;
mod writers;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use api::v1::{self as wire, peer_client::PeerClient};
use client::{Client, Error, v1};
use futures::{StreamExt as _, stream};
use harness::certificates::{Authorities, connector};
use harness::{answered, eventually};
use tonic::Code;
use tonic::transport::Endpoint;

use machines::{Machines, refused};
use writers::Writers;

const WITHIN: Duration = Duration::from_secs(120);
/// Reads under way at once at the end.
const READS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_to_five_and_shrinks_to_three_under_load_and_loses_nothing() {
    let mut machines = Machines::start(3).await;
    let more = [machines.prepare(), machines.prepare()];
    let writers = Writers::start(&machines.admin_of_each());
    writers.have_written(50).await;
    for machine in more {
        let token = machines.invite(&[]);
        machines.join_at(machine, &token, &[]).await;
    }
    machines.voters(&[1, 2, 3, 4, 5]).await;
    writers.have_written(50).await;

    // The leader goes first: it hands over, is taken out, and its process ends and says why.
    let leader = machines.leader().await;
    machines.order("remove", leader, "it is the oldest").await;
    let said = machines.ended(leader).await;
    assert!(said.contains("was removed from the cluster: it is the oldest"), "{said}");
    writers.have_written(50).await;
    let mut left: Vec<u64> = (1..=5).filter(|node| *node != leader).collect();
    machines.voters(&left).await;
    let next = left.remove(0);
    machines.order("remove", next, "three are enough").await;
    machines.ended(next).await;
    machines.voters(&left).await;
    writers.have_written(50).await;

    let written = writers.stop().await;
    nothing_is_lost(&machines, &left, &written).await;
    assert!(written.len() >= 200, "{}", written.len());
    healthy(&machines).await;
}

/// Reads at each of these nodes everything that was acknowledged.
async fn nothing_is_lost(machines: &Machines, nodes: &[u64], written: &[String]) {
    for node in nodes {
        let client = machines.admin_of(*node);
        let reads = written.iter().map(|name| {
            let client = client.clone();
            async move { read(&client, name).await.map_err(|error| format!("{name}: {error}")) }
        });
        let lost = stream::iter(reads).buffer_unordered(READS).filter_map(async |read| read.err());
        let lost: Vec<String> = lost.collect().await;
        assert!(lost.is_empty(), "at node {node}: {lost:?}");
    }
}

/// Reads an identity, again while nobody answers.
async fn read(client: &Client, name: &str) -> Result<(), Error> {
    let kind = v1::ResourceKind::Identity.into();
    let request = || v1::GetResourceRequest { kind, name: name.to_owned() };
    answered(name, WITHIN, async || client.get_resource(request()).await).await.map(drop)
}

/// Waits until `cluster status` finds nothing wrong.
async fn healthy(machines: &Machines) {
    eventually("a healthy cluster", WITHIN, async || {
        let status = machines.cli(&["cluster", "status"]);
        if status.status.code() == Some(0) { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_machine_is_replaced_and_does_not_come_back() {
    let mut machines = Machines::start(3).await;
    let leader = machines.leader().await;
    let lost = (1..=3).find(|node| *node != leader).unwrap();
    machines.kill(lost);
    eventually("the loss is seen", WITHIN, async || {
        let status = machines.cli(&["cluster", "status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains(&format!("node-{lost} does not answer")) { Ok(()) } else { Err(text) }
    })
    .await;
    // Another cannot go as well: two would be left, and one of them is away.
    let other = (1..=3).find(|node| *node != leader && *node != lost).unwrap();
    let name = format!("node-{other}");
    eventually("word of why another cannot go", WITHIN, async || {
        let told = refused(&machines.cli(&["cluster", "remove", &name, "--reason", "too many", "--yes"]), 5);
        let is_told = told.contains(&format!("without `{name}`")) && told.contains("[cluster_cannot]");
        if is_told { Ok(()) } else { Err(told) }
    })
    .await;

    machines.order("remove", lost, "its disk is gone").await;
    assert_eq!(machines.join(&[]).await, 4, "the number is not used again");
    let mut voters = vec![leader, other, 4];
    voters.sort_unstable();
    machines.voters(&voters).await;

    // What was copied from the old machine opens nothing: its certificate may ask whether it was removed, and no more.
    let keys = Authorities::of(Path::new(&machines.path(1, "node")));
    let endpoint = Endpoint::from_shared(format!("http://{}", machines.peer(leader))).unwrap();
    let as_lost = connector(&keys, leader, &keys.node(lost));
    let mut peer = PeerClient::new(endpoint.connect_with_connector_lazy(as_lost));
    let told = peer.describe(wire::PeerDescribeRequest { node: lost }).await.unwrap().into_inner();
    assert_eq!(told.removed.as_deref(), Some("its disk is gone"));
    let refusals = [
        peer.fetch_snapshot(wire::PeerFetchSnapshotRequest::default()).await.unwrap_err(),
        peer.fetch_ledger(wire::PeerFetchLedgerRequest::default()).await.unwrap_err(),
        peer.propose(wire::PeerProposeRequest::default()).await.unwrap_err(),
        peer.read_index(wire::PeerReadIndexRequest::default()).await.unwrap_err(),
        peer.steer(wire::PeerSteerRequest::default()).await.unwrap_err(),
        peer.rejoin(wire::PeerRejoinRequest { node: lost, ..Default::default() }).await.unwrap_err(),
        peer.vote(wire::PeerVoteRequest::default()).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    }
    let as_nobody = connector(&keys, leader, &keys.node(77));
    let mut peer = PeerClient::new(endpoint.connect_with_connector_lazy(as_nobody));
    let refusal = peer.fetch_snapshot(wire::PeerFetchSnapshotRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    let mut as_member =
        PeerClient::new(endpoint.connect_with_connector_lazy(connector(&keys, leader, &keys.node(4))));
    as_member.fetch_ledger(wire::PeerFetchLedgerRequest::default()).await.unwrap();
    eventually("the refusals in the audit log", WITHIN, async || {
        let audit = machines.audit().await;
        let has = |code: &str| audit.iter().any(|it| it.action == "peer.connect" && it.refused == code);
        if has("node_removed") && has("node_unknown") { Ok(()) } else { Err(audit) }
    })
    .await;

    // The old machine is found again and switched on.
    machines.run(lost);
    let said = machines.ended(lost).await;
    assert!(said.contains("was removed from the cluster: its disk is gone"), "{said}");
    assert!(said.contains("revolve cluster join"), "{said}");
    // Nor does it come in under its old number with an empty folder.
    fs::remove_dir_all(machines.data(lost)).unwrap();
    machines.run(lost);
    let said = machines.ended(lost).await;
    assert_eq!(said.matches("this node must stop").count(), 2, "{said}");
    machines.voters(&voters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_works_once_for_a_while_and_with_the_right_root_key() {
    let mut machines = Machines::start(1).await;
    let token = machines.invite(&["--name", "rack-7"]);
    // With another root key nothing is given, and the token is not used up.
    let stranger = machines.prepare();
    fs::remove_file(machines.root_key(stranger)).unwrap();
    let made = machines.cli(&["server", "init", "--nodes", "1", "--dir", &machines.path(stranger, "other")]);
    assert!(made.status.success(), "{made:?}");
    fs::rename(machines.path(stranger, "other/root.key"), machines.root_key(stranger)).unwrap();
    // It does not get so far as to ask: the token names the authority that follows from the right root key.
    let told = refused(&machines.ask(stranger, &token, &[]), 5);
    assert!(told.contains("the root key is not that of the cluster"), "{told}");
    assert!(!told.contains(&token), "a secret is in {told}");

    fs::remove_file(machines.root_key(stranger)).unwrap();
    fs::copy(machines.path(1, "node/root.key"), machines.root_key(stranger)).unwrap();
    assert_eq!(machines.join_at(stranger, &token, &[]).await, 2);
    let late = machines.prepare();
    let told = refused(&machines.ask(late, &token, &[]), 4);
    assert!(told.contains("has let `node-2` in already") && told.contains("[join_token]"), "{told}");

    let short = machines.invite(&["--expires", "1s"]);
    eventually("it has expired", WITHIN, async || {
        let list = machines.cli(&["cluster", "invitations"]);
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        if text.contains("expired") { Ok(()) } else { Err(text) }
    })
    .await;
    let told = refused(&machines.ask(late, &short, &[]), 4);
    assert!(told.contains("has expired"), "{told}");

    machines.invite(&["--name", "mistake"]);
    let revoke = ["cluster", "revoke-invitation", "mistake", "--reason", "wrong rack", "--yes"];
    assert!(machines.cli(&revoke).status.success());
    let forged = token.replace("rack-7", "mistake");
    let told = refused(&machines.ask(late, &forged, &[]), 4);
    assert!(told.contains("is not valid"), "{told}");
    let told = refused(&machines.ask(late, "rvlt_admin.x", &[]), 64);
    assert!(told.contains("not a join token"), "{told}");

    // What is refused before the model sees it is gathered first.
    let audit = eventually("the refusals in the audit log", WITHIN, async || {
        let audit = machines.audit().await;
        let refused =
            |record: &&v1::AuditRecord| record.action == "node.admit" && record.refused == "join_token";
        if audit.iter().filter(refused).count() >= 3 { Ok(audit) } else { Err(audit) }
    })
    .await;
    let admitted = |record: &&v1::AuditRecord| record.action == "node.admit" && record.refused.is_empty();
    let admitted: Vec<_> = audit.iter().filter(admitted).map(|record| record.actor.as_str()).collect();
    assert_eq!(admitted, ["join-token/rack-7"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_promoted_and_a_node_without_a_number_joins_by_itself() {
    let mut machines = Machines::start(1).await;
    assert_eq!(machines.join(&["--learner"]).await, 2);
    eventually("a learner", WITHIN, async || {
        let status = machines.cli(&["cluster", "status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains("node-2 does not vote until") { Ok(()) } else { Err(text) }
    })
    .await;
    machines.order("promote", 2, "it has proven itself").await;
    machines.voters(&[1, 2]).await;

    // Without a token a node is let in only where the configuration of the node that it asks says so.
    let alone = machines.prepare();
    machines.configure_to_join(alone, 1);
    machines.run(alone);
    eventually("it is told why it is not let in", WITHIN, async || {
        let said = machines.said(alone);
        if said.contains("with a join token alone") { Ok(()) } else { Err(said) }
    })
    .await;
    machines.admit_by_root_key(1).await;
    machines.voters(&[1, 2, 3]).await;
    // All of this goes over mutual TLS, and so does the question of whoever watches the process.
    for machine in [1, 2, alone] {
        machines.ready(machine).await;
    }
    // It keeps its number.
    machines.restart(alone).await;
    machines.voters(&[1, 2, 3]).await;
    let audit = machines.audit().await;
    // Who has not heard the answer asks again, and is given the same number.
    let by_key = audit.iter().filter(|record| record.action == "node.admit" && record.actor == "root-key");
    let numbers: BTreeSet<&str> = by_key.map(|record| record.object.as_str()).collect();
    assert_eq!(numbers.len(), 1, "{audit:#?}");
}
