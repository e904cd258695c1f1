//! Who is not let in: on each port plain text, another authority, a certificate that is over, another's name and a
//! revoked party are refused, while the cluster goes on writing. Certificates are renewed and files are loaded anew while
//! it runs, and a node that is revoked is cut off at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use api::v1::{self, peer_client::PeerClient};
use client::{CertificateProblem, Client, Error};
use harness::certificates::{Authorities, connector, now, speak_plainly};
use harness::{Cluster, Setup, eventually};
use tls::{Facts, Kind, facts};
use tonic::Code;
use tonic::transport::Endpoint;

/// How long anything here may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate is good that is to end while a test waits.
const BRIEF: Duration = Duration::from_secs(15);
/// The same for a connection that says nothing, which is cut before long for its silence.
const BRIEF_AND_SILENT: Duration = Duration::from_secs(6);

async fn mutual() -> Cluster {
    Cluster::start_with(Setup { mutual_tls: true, ..Setup::default() }).await
}

fn client_port(cluster: &Cluster, id: u64) -> SocketAddr {
    cluster.client_address(id).parse().unwrap()
}

async fn write(client: &Client, name: &str) -> Result<(), Error> {
    let identity = v1::Identity {
        name: name.into(),
        owner: "ann".into(),
        purpose: "to be written".into(),
        workload: "writer".into(),
        environment: "test".into(),
        review_by_ms: 4_000_000_000_000,
    };
    let kind = Some(v1::resource::Kind::Identity(identity));
    let request = v1::ApplyRequest { resources: vec![v1::Resource { kind }], dry_run: false };
    client.apply(request).await.map(drop)
}

/// What was refused to nobody in particular, as it stands in the audit log.
async fn refused(cluster: &Cluster, action: &str) -> Result<BTreeSet<String>, String> {
    let audit = cluster.admin().watch_audit(v1::WatchAuditRequest::default()).await;
    let mut audit = audit.map_err(|error| error.to_string())?;
    let mut codes = BTreeSet::new();
    while let Some(message) = audit.message().await.map_err(|status| status.to_string())? {
        let record = message.record.unwrap();
        if record.action == action {
            codes.insert(record.refused);
        }
    }
    Ok(codes)
}

async fn audited(cluster: &Cluster, action: &str, codes: &[&str]) {
    eventually(format!("{codes:?} of {action} in the audit log"), WITHIN, async || {
        let found = refused(cluster, action).await?;
        if codes.iter().all(|code| found.contains(*code)) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

fn has(answer: Result<Facts, String>, why: &str) {
    let found = answer.expect_err("it is refused");
    assert!(found.contains(why), "`{found}` does not say `{why}`");
}

#[tokio::test]
async fn the_client_port_takes_nobody_without_a_good_certificate() {
    let cluster = mutual().await;
    let (good, bad) = (Authorities::of(cluster.folder()), Authorities::false_ones());
    let (address, name) = (client_port(&cluster, 1), "node-1.client.revolve");
    good.call(Kind::Client, address, name, &good.client("ci")).await.unwrap();

    let plain = speak_plainly(address).await;
    assert!(plain.is_empty() || plain[0] == 21, "at most an alert: {plain:?}");
    let foreign = bad.client("ci");
    has(good.call(Kind::Client, address, name, &foreign).await, "alert");
    let over = good.issue(Kind::Client, "ci", || now() - 2 * DAY);
    has(good.call(Kind::Client, address, name, &over).await, "CertificateExpired");
    has(good.call(Kind::Client, address, name, &good.node(1)).await, "alert");
    has(good.call(Kind::Client, address, "node-2.client.revolve", &good.client("ci")).await, "certificate");
    has(bad.call(Kind::Client, address, name, &bad.client("ci")).await, "certificate");

    let bare = Client::connect(client::Options { certificate: None, ..cluster.options_of(1) }).unwrap();
    let error = bare.get_cluster(v1::GetClusterRequest {}).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { problem: CertificateProblem::Wanted, .. }), "{error:?}");
    audited(
        &cluster,
        "client.connect",
        &["tls_plaintext", "tls_unknown_authority", "tls_expired", "tls_no_certificate"],
    )
    .await;
    write(&cluster.admin(), "goes-on").await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_issued_used_and_revoked_from_the_command_line() {
    let cluster = mutual().await;
    let folder = cluster.folder().join("ci");
    let out = folder.to_str().unwrap();
    let issued = cluster.cli(["certificate", "issue", "ci", "--out", out, "--days", "1"]);
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
    let again = cluster.cli(["certificate", "issue", "ci", "--out", out]);
    assert_eq!(again.status.code(), Some(64), "nothing is overwritten");

    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let options = cluster.options_of(1).ca(read("ca.pem")).certificate(read("ci.pem"), read("ci.key").into());
    let client = Client::connect(options).unwrap();
    let mut feed =
        client.watch_audit(v1::WatchAuditRequest { follow: true, ..Default::default() }).await.unwrap();
    assert!(feed.message().await.unwrap().is_some());

    let listed =
        cluster.admin().list_certificates(v1::ListCertificatesRequest {}).await.unwrap().certificates;
    let row = listed.iter().find(|row| row.name == "ci").unwrap();
    let order =
        ["certificate", "revoke", &row.serial, "--reason-code", "key-compromise", "--reason", "stolen"];
    let unsure = cluster.cli(order);
    assert_eq!(unsure.status.code(), Some(64), "nobody can be asked, and nothing was said");
    let done = cluster.cli([&order[..], &["--yes"]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let cut = async { while let Ok(Some(_)) = feed.message().await {} };
    tokio::time::timeout(WITHIN, cut).await.expect("the open connection is cut");
    let problem = eventually("a refusal for the certificate", WITHIN, async || {
        match client.get_cluster(v1::GetClusterRequest {}).await {
            Err(Error::Certificate { problem, .. }) => Ok(problem),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(problem, CertificateProblem::Revoked);
    audited(&cluster, "client.connect", &["tls_revoked"]).await;
    write(&cluster.admin(), "goes-on").await.unwrap();
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let cluster = mutual().await;
    let good = Authorities::of(cluster.folder());
    // Issued nearly a day ago, for a day.
    let brief = good.issue(Kind::Client, "ci", || now() - DAY + BRIEF);
    let authority = good.at(Kind::Client).pem().to_owned();
    let options =
        cluster.options_of(1).ca(authority).certificate(brief.pem.clone(), brief.key_pem.to_string().into());
    let client = Client::connect(options).unwrap();
    let follow = v1::WatchAuditRequest { follow: true, ..Default::default() };
    let mut feed = client.watch_audit(follow).await.unwrap();
    assert!(feed.message().await.unwrap().is_some());

    let cut = async { while let Ok(Some(_)) = feed.message().await {} };
    tokio::time::timeout(WITHIN, cut).await.expect("the open connection is cut");
    assert!(now() > facts(&brief.certificate).unwrap().not_after, "not before its time");
    let problem = eventually("a refusal for the certificate", WITHIN, async || {
        match client.get_cluster(v1::GetClusterRequest {}).await {
            Err(Error::Certificate { problem, .. }) => Ok(problem),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(problem, CertificateProblem::Expired);
    audited(&cluster, "client.connect", &["tls_expired"]).await;

    // Between nodes it is the same.
    let (address, name) = (cluster.peer_address(1), "node-1.peer.revolve");
    let over = good.issue(Kind::Peer, "node-2.peer.revolve", || now() - DAY + BRIEF_AND_SILENT);
    tokio::time::timeout(WITHIN, good.hold(Kind::Peer, address, name, &over)).await.expect("it is cut");
    assert!(now() > facts(&over.certificate).unwrap().not_after, "not before its time");
    write(&cluster.admin(), "goes-on").await.unwrap();
}

#[tokio::test]
async fn the_peer_port_takes_nobody_but_nodes_and_each_in_its_own_name() {
    let cluster = Cluster::start().await;
    let (good, bad) = (Authorities::of(cluster.folder()), Authorities::false_ones());
    let (address, name) = (cluster.peer_address(1), "node-1.peer.revolve");
    good.call(Kind::Peer, address, name, &good.node(2)).await.unwrap();

    let plain = speak_plainly(address).await;
    assert!(plain.is_empty() || plain[0] == 21, "at most an alert: {plain:?}");
    has(good.call(Kind::Peer, address, name, &bad.node(2)).await, "alert");
    let over = good.issue(Kind::Peer, "node-2.peer.revolve", || now() - 2 * DAY);
    has(good.call(Kind::Peer, address, name, &over).await, "CertificateExpired");
    has(good.call(Kind::Peer, address, name, &good.client("node-2.peer.revolve")).await, "alert");
    has(good.call(Kind::Peer, address, "node-2.peer.revolve", &good.node(2)).await, "certificate");

    // With the certificate of node 2, a vote in the name of node 3.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_with_connector_lazy(connector(&good, 1, &good.node(2)));
    let mut peer = PeerClient::new(channel);
    let storage = peer.describe(v1::PeerDescribeRequest { node: 1 }).await.unwrap().into_inner().storage;
    let ballot = Some(v1::PeerBallot { term: 1_000_000, node: 3, committed: false });
    let vote = v1::PeerVoteRequest { ballot, last: None, leadership_transfer: true, pre_vote: false };
    let mut request = tonic::Request::new(vote);
    request.metadata_mut().insert("revolve-storage", uuid(&storage).parse().unwrap());
    let refused = peer.vote(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    audited(
        &cluster,
        "peer.connect",
        &["tls_plaintext", "tls_unknown_authority", "tls_expired", "tls_wrong_name"],
    )
    .await;
    write(&cluster.admin(), "goes-on").await.unwrap();
    let cluster = cluster.admin().get_cluster(v1::GetClusterRequest {}).await.unwrap();
    assert!(cluster.term < 1_000_000, "the vote has moved nothing");
}

fn uuid(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[tokio::test]
async fn a_node_that_is_revoked_is_cut_off_and_the_others_go_on() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let gone = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let good = Authorities::of(cluster.folder());
    let (address, name) = (cluster.peer_address(leader), format!("node-{leader}.peer.revolve"));
    good.call(Kind::Peer, address, &name, &good.node(gone)).await.unwrap();

    let party = format!("node-{gone}");
    // Refused while one of the others is not heard for a moment: without both of them there would be no majority.
    eventually("the node to be revoked", WITHIN, async || {
        let order = ["certificate", "revoke", &party, "--reason", "rack was broken into", "--yes"];
        let done = cluster.cli(order);
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    })
    .await;
    // What is revoked is heeded as soon as the leader has applied it, and the answer may be another node's.
    eventually("the revoked node is refused", WITHIN, async || {
        let answer = good.call(Kind::Peer, address, &name, &good.node(gone)).await;
        if answer.as_ref().is_err_and(|told| told.contains("CertificateRevoked")) {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;

    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != gone).collect();
    let client = cluster.client_of(others[0]);
    eventually("the others to miss it", WITHIN, async || {
        let seen = client.get_cluster(v1::GetClusterRequest {}).await.map_err(|error| error.to_string())?;
        let member = seen.members.iter().find(|member| member.id == gone).cloned();
        if member.as_ref().is_some_and(|member| !member.reachable) {
            Ok(())
        } else {
            Err(format!("{member:?}"))
        }
    })
    .await;
    for number in 0..20 {
        let name = format!("without-{number}");
        eventually("a write of the others", WITHIN, async || write(&client, &name).await).await;
    }
    let stands = cluster.client_of(gone).get_cluster(v1::GetClusterRequest {}).await.unwrap();
    let ahead = client.get_cluster(v1::GetClusterRequest {}).await.unwrap();
    assert!(
        stands.applied < ahead.applied,
        "{} of {}: it hears nothing any more",
        stands.applied,
        ahead.applied
    );
    assert_eq!(
        client.get_cluster(v1::GetClusterRequest {}).await.unwrap().term,
        ahead.term,
        "nor disturbs it"
    );
    audited_by(&client, "tls_revoked").await;

    let last = format!("node-{}", others[1]);
    let refused =
        cluster_cli(&cluster, others[0], &["certificate", "revoke", &last, "--reason", "no", "--yes"]);
    assert!(refused.contains("no majority"), "{refused}");
}

/// What the command line says on standard error, when it asks one node.
fn cluster_cli(cluster: &Cluster, id: u64, arguments: &[&str]) -> String {
    let address = format!("http://{}", cluster.client_address(id));
    let output = cluster.cli([arguments, &["--addr", &address]].concat());
    assert_eq!(output.status.code(), Some(5));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn audited_by(client: &Client, code: &str) {
    eventually(format!("{code} in the audit log"), WITHIN, async || {
        let Ok(mut audit) = client.watch_audit(v1::WatchAuditRequest::default()).await else { return false };
        while let Ok(Some(message)) = audit.message().await {
            if message.record.is_some_and(|record| record.action == "peer.connect" && record.refused == code)
            {
                return true;
            }
        }
        false
    })
    .await;
}

#[tokio::test]
async fn certificates_are_renewed_under_load_and_no_write_fails() {
    let configuration = "[certificates]\nlifetime_hours = 0.004\n".to_owned();
    let cluster = Cluster::start_with(Setup { mutual_tls: true, configuration, ..Setup::default() }).await;
    let good = Authorities::of(cluster.folder());
    let shown = async |kind| {
        let (address, name) = match kind {
            Kind::Client => (client_port(&cluster, 1), "node-1.client.revolve"),
            Kind::Peer => (cluster.peer_address(1), "node-1.peer.revolve"),
        };
        let own = if kind == Kind::Client { good.client("ci") } else { good.node(2) };
        good.call(kind, address, name, &own).await.unwrap()
    };

    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (until, count, client) = (Arc::clone(&done), Arc::clone(&written), cluster.admin());
    let load = tokio::spawn(async move {
        while !until.load(Ordering::SeqCst) {
            let number = count.fetch_add(1, Ordering::SeqCst);
            write(&client, &format!("w-{number}")).await.unwrap();
        }
    });
    for kind in [Kind::Client, Kind::Peer] {
        let mut serials = BTreeSet::new();
        let begin = shown(kind).await.not_after;
        eventually(format!("the third certificate of {kind:?}"), WITHIN, async || {
            let facts = shown(kind).await;
            serials.insert(facts.serial);
            // The first has ended by then.
            if serials.len() >= 3 && now() > begin { Ok(()) } else { Err(serials.len()) }
        })
        .await;
    }
    eventually("enough writes", WITHIN, async || {
        let count = written.load(Ordering::SeqCst);
        if count > 20 { Ok(()) } else { Err(count) }
    })
    .await;
    done.store(true, Ordering::SeqCst);
    load.await.expect("no write fails");
    assert_eq!(cluster.running().len(), 3);
    let (admin, kind) = (cluster.admin(), v1::ResourceKind::Identity.into());
    for number in 0..written.load(Ordering::SeqCst) {
        let request = || v1::GetResourceRequest { kind, name: format!("w-{number}") };
        eventually(format!("w-{number}"), WITHIN, async || admin.get_resource(request()).await).await;
    }
}

#[tokio::test]
async fn files_that_are_written_anew_are_shown_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("port.pem"), folder.path().join("port.key"));
    let maker = Authorities::false_ones();
    let put = |issued: &tls::Issued| {
        std::fs::write(&certificate, &issued.pem).unwrap();
        std::fs::write(&key, issued.key_pem.as_bytes()).unwrap();
        tls::facts(&issued.certificate).unwrap().serial
    };
    let first = put(&maker.client("127.0.0.1"));
    let configuration =
        format!("[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", certificate.display(), key.display());
    // The certificates of clients are still those of the cluster.
    let ca = Some(maker.at(Kind::Client).pem().to_owned());
    let setup = Setup { nodes: 1, mutual_tls: true, configuration, ca, ..Setup::default() };
    let cluster = Cluster::start_with(setup).await;
    let own = Authorities::of(cluster.folder()).client("ci");
    let shown = async || {
        maker.call(Kind::Client, client_port(&cluster, 1), "127.0.0.1", &own).await.map(|facts| facts.serial)
    };
    assert_eq!(shown().await.unwrap(), first);

    let second = put(&maker.client("127.0.0.1"));
    eventually("the second certificate", WITHIN, async || {
        let serial = shown().await?;
        if serial == second { Ok(()) } else { Err(serial) }
    })
    .await;
    std::fs::write(&certificate, "broken").unwrap();
    let log = cluster.folder().join("node-1.stderr");
    eventually("a word about it", WITHIN, async || {
        std::fs::read_to_string(&log).unwrap().contains("the new certificate files cannot be used")
    })
    .await;
    assert_eq!(shown().await.unwrap(), second);
    let third = put(&maker.client("127.0.0.1"));
    eventually("the third certificate", WITHIN, async || {
        let serial = shown().await?;
        if serial == third { Ok(()) } else { Err(serial) }
    })
    .await;
}
