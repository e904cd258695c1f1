//! What machines and people are told when something is wrong: gRPC health, `revolve health` and `revolve doctor`, down to
//! the last node that is left.

use std::time::Duration;

use harness::{Cluster, eventually};
use serde_json::Value;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const WITHIN: Duration = Duration::from_secs(120);
const SERVICES: [&str; 4] = ["", "ready", "revolve.v1.AdminService", "revolve.v1.FeedService"];

#[tokio::test]
async fn health_and_doctor_tell_the_truth_down_to_the_last_node() {
    let mut cluster = Cluster::start().await;
    for service in SERVICES.into_iter().chain(["live"]) {
        serves(&cluster, service, ServingStatus::Serving).await;
    }
    assert!(check(&cluster, "nobody").await.is_err(), "a service that is not there");
    says(&cluster, "--ready", |code, line| (code, line) == (Some(0), "ready\n")).await;
    says(&cluster, "--live", |code, line| (code, line) == (Some(0), "live\n")).await;
    // The nodes announce themselves, and are heard by the leader, a moment later.
    eventually("the doctor to find nothing", WITHIN, async || {
        let (code, report) = examined(&cluster);
        let is_well = code == Some(0) && found(&report).is_empty() && report["answered"] == 3;
        if is_well { Ok(()) } else { Err(report) }
    })
    .await;

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
    let is_not_ready = |line: &str| line.starts_with("not ready: ") && line.lines().count() == 1;
    says(&cluster, "--ready", |code, line| code == Some(1) && is_not_ready(line)).await;
    says(&cluster, "--live", |code, line| (code, line) == (Some(0), "live\n")).await;
    eventually("the doctor to miss the leader", WITHIN, async || {
        let (code, report) = examined(&cluster);
        let found = found(&report);
        let is_told =
            ["quorum", "nodes", "readiness"].iter().all(|check| found.contains(&(*check).to_owned()));
        if is_told && code == Some(2) && report["answered"] == 1 { Ok(()) } else { Err(report) }
    })
    .await;
    eventually("the same on the screen", WITHIN, async || {
        let screen = cluster.cli(["doctor"]);
        let text = String::from_utf8_lossy(&screen.stdout).into_owned();
        if text.contains("1 of 3 nodes answer") && text.contains("    next  ") { Ok(()) } else { Err(text) }
    })
    .await;

    let data = cluster.folder().join("node-1").display().to_string();
    assert_eq!(cluster.cli(["doctor", "--data", &data]).status.code(), Some(5), "the node runs");

    cluster.kill_node(1);
    let output = cluster.cli(["doctor"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    says(&cluster, "--live", |code, line| code == Some(1) && line.starts_with("not live: ")).await;
}

/// Waits until `revolve health` ends so and prints that: on a busy machine a node may not answer in its time.
async fn says(cluster: &Cluster, probe: &str, wanted: impl Fn(Option<i32>, &str) -> bool) {
    eventually(format!("health {probe}"), WITHIN, async || {
        let (code, line) = asked(cluster, probe);
        if wanted(code, &line) { Ok(()) } else { Err((code, line)) }
    })
    .await;
}

/// How `revolve health` ends for node 1, asked by its configuration, and what it prints.
fn asked(cluster: &Cluster, probe: &str) -> (Option<i32>, String) {
    let configuration = cluster.folder().join("node-1.toml");
    let output = cluster.cli(["health", probe, "--config", configuration.to_str().unwrap()]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn the_doctor_tells_a_good_folder_from_a_damaged_one_and_changes_neither() {
    let mut cluster = Cluster::start().await;
    let (status, said) = cluster.stop_node(2, WITHIN).await;
    assert!(status.success(), "{said}");
    let folder = cluster.folder().join("node-2");
    let data = folder.display().to_string();
    let before = contents(&folder);
    let output = cluster.cli(["doctor", "--data", &data, "-o", "json"]);
    let parts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{parts}");
    assert!(parts[4]["found"].as_str().unwrap().contains("digest "), "{parts}");

    let (log, mut bytes) = before
        .iter()
        .filter(|(path, _)| path.contains("/log/"))
        .max_by_key(|file| file.1.len())
        .unwrap()
        .clone();
    let early = bytes.len() / 4;
    bytes[early] ^= 0xff;
    std::fs::write(&log, &bytes).unwrap();
    let damaged = contents(&folder);
    let output = cluster.cli(["doctor", "--data", &data, "-o", "json"]);
    let parts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad: Vec<_> = parts.as_array().unwrap().iter().filter(|part| part["ok"] == false).collect();
    assert_eq!(output.status.code(), Some(2), "{parts}");
    assert!(bad.len() == 1 && bad[0]["part"] == "log", "{parts}");
    assert_eq!(contents(&folder), damaged, "the folder was looked at, and nothing more");
}

/// Every file below a folder, and what it holds.
fn contents(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
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
