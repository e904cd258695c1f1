//! The pages for operators tell today's truth: what stands in their console blocks is typed at machines with real
//! nodes, in that order, and is answered as written; and the alerts, the runbook and the figures of a node fit together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use harness::console::{self, Typed};
use harness::http::get;
use harness::{Cluster, Machines, eventually, surroundings};
use secrecy::ExposeSecret;
use snapbox::IntoData;

/// How long one command may take.
const WITHIN: Duration = Duration::from_secs(90);
/// How long it may take until a command is answered as written, when it may be typed again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(180);
/// What changes nothing and says how things stand, or changes nothing more when it is typed again.
const REPEATABLE: [&str; 8] = [
    "revolve status",
    "revolve cluster status",
    "revolve cluster members",
    "revolve cluster transfer-leader",
    "revolve cluster remove",
    "revolve key status",
    "revolve rotation list",
    "revolve certificate list",
];
/// How a command ends that nobody has answered.
const UNANSWERED: i32 = 3;

/// Pages without commands for the nodes here.
const PROSE: &[&str] = &["alerts", "deploy", "members"];
/// Pages that are played.
const PLAYED: &[&str] = &[
    "certificates",
    "do-not-panic",
    "first-cluster",
    "observe",
    "replace-a-node",
    "restore",
    "rotate-keys",
    "upgrade",
];

#[tokio::test]
async fn a_first_cluster_on_three_machines() {
    play("first-cluster", Machines::bare).await;
}

#[tokio::test]
async fn watching_a_node_and_steering_it() {
    play("observe", Machines::with_cluster).await;
}

#[tokio::test]
async fn the_quorum_is_gone_and_comes_back() {
    play("do-not-panic", Machines::with_cluster).await;
}

#[tokio::test]
async fn a_node_is_replaced() {
    play("replace-a-node", Machines::with_cluster).await;
}

#[tokio::test]
async fn a_backup_is_restored() {
    play("restore", Machines::with_cluster).await;
}

#[tokio::test]
async fn the_keys_are_rotated() {
    play("rotate-keys", Machines::with_cluster).await;
}

#[tokio::test]
async fn certificates_are_issued_and_revoked() {
    play("certificates", Machines::with_cluster).await;
}

#[tokio::test]
async fn an_upgrade_goes_one_node_at_a_time() {
    play("upgrade", Machines::with_cluster).await;
}

#[test]
fn every_page_for_operators_is_played_and_listed() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let mut pages = BTreeSet::new();
    for entry in fs::read_dir(docs().join("operate")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(summary.contains(&format!("(operate/{name}.md)")), "`{name}` is not in docs/SUMMARY.md");
        let typed = console::page(&fs::read_to_string(&path).unwrap());
        assert_eq!(typed.is_empty(), PROSE.contains(&name.as_str()), "console blocks of `{name}`");
        pages.insert(name);
    }
    let known: BTreeSet<String> = [PLAYED, PROSE].concat().into_iter().map(ToOwned::to_owned).collect();
    assert_eq!(pages, known);
}

#[test]
fn every_alert_has_its_place_in_the_runbook_and_the_other_way_round() {
    let rules = fs::read_to_string(deploy().join("prometheus/rules.yaml")).unwrap();
    let tests = fs::read_to_string(deploy().join("prometheus/rules.test.yaml")).unwrap();
    let runbook = fs::read_to_string(docs().join("operate/alerts.md")).unwrap();
    let named = |text: &str, mark: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.trim().strip_prefix(mark)).map(ToOwned::to_owned).collect()
    };
    let alerts = named(&rules, "- alert: ");
    assert!(alerts.len() >= 12, "{alerts:?}");
    assert_eq!(alerts, named(&runbook, "## "), "the runbook has them in the same order");
    let places: Vec<String> =
        alerts.iter().map(|alert| format!("docs/operate/alerts.md#{}", alert.to_lowercase())).collect();
    assert_eq!(places, named(&rules, "runbook_url: "));
    for alert in &alerts {
        let asked = tests.split(&format!("alertname: {alert}\n")).skip(1).collect::<Vec<_>>();
        let fires = asked.iter().any(|rest| rest.trim_start().starts_with("exp_alerts:\n"));
        let is_silent = asked.iter().any(|rest| rest.trim_start().starts_with("exp_alerts: []"));
        assert!(fires && is_silent, "{alert} is tested to fire and not to: {fires}, {is_silent}");
    }
}

#[tokio::test]
async fn prometheus_takes_the_figures_of_a_node_and_every_alert_finds_its_own() {
    let cluster = Cluster::start().await;
    let registered = cluster.cli(["consumer", "register", "gateway", "--owner", "team-edge", "--all"]);
    assert!(registered.status.success(), "{}", String::from_utf8_lossy(&registered.stderr));
    let (leader, token) = (cluster.leader().await, cluster.admin_token());
    let figures = eventually("figures of a leader that hears the others", WITHIN, async || {
        let (_, text) = get(&cluster, leader, "/metrics", Some(token.expose_secret())).await;
        if text.contains("\nrevolve_raft_peer_reachable{") { Ok(text) } else { Err(text) }
    })
    .await;
    let mut check = Command::new(surroundings::promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), figures.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}{figures}", String::from_utf8_lossy(&checked.stderr));

    let rules = fs::read_to_string(deploy().join("prometheus/rules.yaml")).unwrap();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let wanted: BTreeSet<&str> =
        rules.split(|c| !is_name(c)).filter(|word| word.starts_with("revolve_")).collect();
    let missing: Vec<&str> =
        wanted.into_iter().filter(|name| !figures.contains(&format!("# TYPE {name} "))).collect();
    assert_eq!(missing, [""; 0], "figures that alerts are written for");
}

/// Types what stands on a page, and compares what is answered.
async fn play(page: &str, begin: fn() -> Machines) {
    let text = fs::read_to_string(docs().join(format!("operate/{page}.md"))).unwrap();
    let script = console::page(&text);
    let mut machines = begin();
    if page != "first-cluster" {
        eventually("the cluster", WITHIN, async || {
            let status = machines.type_at("you", "revolve cluster status", WITHIN).await;
            if status.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&status.stdout).into_owned())
            }
        })
        .await;
    }
    for typed in script {
        let what = format!("{page}: {}$ {}", typed.machine, typed.command);
        // Between two leaders nobody answers, and on a busy machine a node is not heard for a moment: whoever sits before
        // the screen would type it again.
        let is_repeatable = REPEATABLE.iter().any(|command| typed.command.contains(command));
        eventually(format!("the answer to `{what}`"), ANSWERED_WITHIN, async || {
            let output = machines.type_at(&typed.machine, &typed.command, WITHIN).await;
            let answer = is_as_written(&output, &typed);
            let may_repeat = is_repeatable || output.status.code() == Some(UNANSWERED);
            assert!(answer.is_ok() || may_repeat, "`{what}`\n{}", answer.unwrap_err());
            answer
        })
        .await;
    }
}

/// Whether a command has ended and was answered as its page shows; else what is different.
fn is_as_written(output: &Output, typed: &Typed) -> Result<(), String> {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    if output.status.code() != Some(typed.code) {
        return Err(format!(
            "it ended with {:?} in place of {}\n{stdout}\n{stderr}",
            output.status, typed.code
        ));
    }
    if typed.output.is_empty() {
        return Ok(());
    }
    // Where a block shows an error it is stderr that is shown.
    let shown = if typed.code > 2 { stderr } else { stdout };
    let same = snapbox::Assert::new().try_eq(None, shown.into_data(), typed.output.clone().into_data());
    same.map(drop).map_err(|difference| difference.to_string())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}
