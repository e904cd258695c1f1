//! What machines and people are told when something is wrong: gRPC health, `revolve health` and `revolve doctor`, down to
//! the last node that is left.

use std::time::Duration;

use harness::{Cluster, eventually};
use serde_json::Value;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const WITHIN: Duration = Duration::from_secs(60);
const SERVICES: [&str; 4] = ["", "ready", "revolve.v1.AdminService", "revolve.v1.FeedService"];

#[tokio::test]
async fn health_and_doctor_tell_the_truth_down_to_the_last_node() {
    let mut cluster = Cluster::start().await;
    for service in SERVICES.into_iter().chain(["live"]) {
        serves(&cluster, service, ServingStatus::Serving).await;
    }
    assert!(check(&cluster, "nobody").await.is_err(), "a service that is not there");
    assert_eq!(asked(&cluster, "--ready"), (Some(0), "ready\n".into()));
    assert_eq!(asked(&cluster, "--live"), (Some(0), "live\n".into()));
    let (code, report) = examined(&cluster);
    assert_eq!((code, found(&report).len()), (Some(0), 0), "{report}");
    assert_eq!(report["answered"], 3);

    cluster.kill_node(3);
    eventually("the doctor to miss node-3", WITHIN, async || {
        let (code, report) = examined(&cluster);
        let is_told = code == Some(2) && found(&report) == ["quorum", "nodes"];
        if is_told && report["answered"] == 2 { Ok(()) } else { Err(report) }
    })
    .await;

    cluster.kill_node(2);
    for service in SERVICES {
        serves(&cluster, service, ServingStatus::NotServing).await;
    }
    serves(&cluster, "live", ServingStatus::Serving).await;
    let (code, line) = asked(&cluster, "--ready");
    assert!(code == Some(1) && line.starts_with("not ready: ") && line.lines().count() == 1, "{line}");
    assert_eq!(asked(&cluster, "--live"), (Some(0), "live\n".into()));
    eventually("the doctor to miss the leader", WITHIN, async || {
        let (code, report) = examined(&cluster);
        let found = found(&report);
        let is_told =
            ["quorum", "nodes", "readiness"].iter().all(|check| found.contains(&(*check).to_owned()));
        if is_told && code == Some(2) && report["answered"] == 1 { Ok(()) } else { Err(report) }
    })
    .await;
    let screen = cluster.cli(["doctor"]);
    let text = String::from_utf8_lossy(&screen.stdout);
    assert!(text.contains("1 of 3 nodes answer") && text.contains("    next  "), "{text}");

    cluster.kill_node(1);
    let output = cluster.cli(["doctor"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    let (code, line) = asked(&cluster, "--live");
    assert!(code == Some(1) && line.starts_with("not live: "), "{line}");
}

/// How `revolve health` ends for node 1, asked by its configuration, and what it prints.
fn asked(cluster: &Cluster, probe: &str) -> (Option<i32>, String) {
    let configuration = cluster.folder().join("node-1.toml");
    let output = cluster.cli(["health", probe, "--config", configuration.to_str().unwrap()]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn serves(cluster: &Cluster, service: &str, expected: ServingStatus) {
    eventually(format!("`{service}` to be {expected:?}"), WITHIN, async || {
        match check(cluster, service).await {
            Ok(status) if status == expected => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// What node 1 says over gRPC, without a token.
async fn check(cluster: &Cluster, service: &str) -> Result<ServingStatus, tonic::Status> {
    let channel =
        Channel::from_shared(format!("http://{}", cluster.client_address(1))).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: service.into() };
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
}

fn examined(cluster: &Cluster) -> (Option<i32>, Value) {
    let output = cluster.cli(["doctor", "-o", "json"]);
    let report = serde_json::from_slice(&output.stdout);
    let report =
        report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
}
