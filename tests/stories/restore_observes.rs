//! A restored cluster looks before it acts: it logs in with what it holds, says what it found, and changes nothing at a
//! real PostgreSQL until somebody has confirmed that it may.

use std::{fs, path::PathBuf, process::Output};

use client::v1;
use harness::{Proxy, eventually};
use serde_json::Value;

use super::stage::{Login, Setup, Stage, TARGET, WITHIN, identity};

/// A target that nobody can reach.
const AWAY: &str = "away";

#[tokio::test]
async fn a_restored_cluster_says_what_logs_in_before_anything_is_changed() {
    let cluster = harness::Setup { nodes: 1, ..harness::Setup::default() };
    let mut stage = Stage::bare(Setup { proxy: true, cluster, ..Setup::default() }).await;
    let away = Proxy::start(stage.postgres.address()).await;
    declare(&stage, &away).await;
    assert!(text(&stage.cluster.cli(["cluster", "status"])).contains("backup   none yet"));
    let backup = back_up(&stage);

    // Stated, and not yet carried out when everything is lost: `over` still logs in.
    stage.proxy().refuse();
    away.refuse();
    let subject = v1::revocation_subject::Subject::Credential("over".into());
    let revocation = v1::CreateRevocationRequest {
        subject: Some(v1::RevocationSubject { subject: Some(subject) }),
        reason_code: "cessation-of-operation".into(),
        reason: "not needed any more".into(),
        ack_within_ms: 3_600_000,
    };
    stage.client.create_revocation(revocation).await.unwrap();
    let ledger = stage.cluster.folder().join("kept.ledger").display().to_string();
    ok(&stage.cluster.cli(["ledger", "export", &ledger]));
    stage.cluster.kill_node(1);
    fs::remove_dir_all(stage.cluster.folder().join("node-1")).unwrap();
    // Somebody has replaced this one meanwhile, and no ledger tells of it.
    alter(&stage, "ALTER ROLE app PASSWORD 'replaced-behind-the-back'").await;

    let config = stage.cluster.folder().join("node-1.toml").display().to_string();
    let backup = backup.to_str().unwrap();
    let restore = ["cluster", "snapshot", "restore", backup, "--config", &config, "--ledger", &ledger];
    let restored = stage.cluster.cli(restore);
    assert!(restored.status.success(), "{}", text(&restored));
    stage.proxy().pass();
    let before = verifiers(&stage).await;
    stage.cluster.start_node(1);
    stage.cluster.leader().await;

    let seen = looked(&stage, 1).await;
    let odd: Vec<_> = seen.odd.iter().map(|odd| (odd.credential.as_str(), found(odd))).collect();
    assert_eq!((seen.to_look_at, seen.log_in, seen.refused, seen.not_asked), (4, 2, 1, 1), "{seen:?}");
    assert_eq!(odd, [("away", "unknown"), ("over", "live"), ("replaced", "refused")]);
    let screen = text(&stage.cluster.cli(["status"]));
    for line in [
        "2 of 4 versions log in, 1 are refused, 1 could not be asked",
        "replaced@1 (active) is in use and REFUSED",
        "over@1 (revoked) is over and still LOGS IN",
        "away@1 (active) could not be asked",
    ] {
        assert!(screen.contains(line), "`{line}` is not in: {screen}");
    }
    let shown = text(&stage.cluster.cli(["credential", "get", "replaced", "-o", "yaml"]));
    assert!(shown.contains("found: refused"), "{shown}");
    let report: Value = serde_json::from_slice(&stage.cluster.cli(["doctor", "-o", "json"]).stdout).unwrap();
    let logins = report["findings"].as_array().unwrap().iter().filter(|it| it["check"] == "logins");
    assert_eq!(logins.count(), 3, "{report}");
    assert_eq!(verifiers(&stage).await, before, "something was changed at the target");
    let over = Login { version: 1, username: "app_b".into(), password: "of-over".into() };
    assert!(over.works(&stage.postgres).await, "and this one as well");

    ok(&stage.cluster.cli(["cluster", "snapshot", "confirm", "--reason", "looked at", "--yes"]));
    eventually("what is over to be refused", WITHIN, async || {
        if over.works(&stage.postgres).await { Err("it logs in") } else { Ok(()) }
    })
    .await;
    let status = stage.status().await;
    assert_eq!(status.observing, None);
    let shown = text(&stage.cluster.cli(["credential", "get", "replaced", "-o", "yaml"]));
    assert!(!shown.contains("found:"), "what was found is forgotten: {shown}");
}

/// Four credentials that were there before: one that lives on, one that is replaced, one that is revoked and one whose
/// target is away.
async fn declare(stage: &Stage, away: &Proxy) {
    let roles = [("lives", "app_a", TARGET), ("replaced", "app", TARGET), ("over", "app_b", TARGET)];
    for (name, role, _) in roles {
        alter(stage, &format!("ALTER ROLE {role} LOGIN PASSWORD 'of-{name}'")).await;
    }
    let mut unreachable = v1::Target { name: AWAY.into(), ..stage.target(super::stage::ROTATOR_PASSWORD) };
    unreachable.params.insert("port".into(), away.port().to_string());
    let mut resources =
        vec![identity().into(), stage.target(super::stage::ROTATOR_PASSWORD).into(), unreachable.into()];
    for (name, role, target) in roles.into_iter().chain([("away", "app_a", AWAY)]) {
        let credential = v1::Credential {
            name: name.into(),
            identity: identity().name,
            target: target.into(),
            strategy: "single-user".into(),
            usernames: vec![role.into()],
            adopt_password: format!("of-{name}"),
            ..v1::Credential::default()
        };
        resources.push(credential.into());
    }
    stage.apply(resources).await;
}

/// Takes a backup, which the cluster tells of from then on.
fn back_up(stage: &Stage) -> PathBuf {
    let path = stage.cluster.folder().join("backup");
    ok(&stage.cluster.cli(["cluster", "snapshot", "save", path.to_str().unwrap(), "--reason", "nightly"]));
    let told: Value =
        serde_json::from_slice(&stage.cluster.cli(["cluster", "status", "-o", "json"]).stdout).unwrap();
    let last = &told["lastBackup"];
    assert!(last["at"].is_string() && last["applied"].as_u64() > Some(0), "{told}");
    let screen = text(&stage.cluster.cli(["cluster", "status"]));
    assert!(screen.contains("\nbackup   20") && screen.contains(", up to entry "), "{screen}");
    path
}

/// What was found, once everything was looked at but what is `away`. A login that took too long is tried again.
async fn looked(stage: &Stage, away: u32) -> v1::Restoration {
    eventually("every version to be looked at", WITHIN, async || {
        let seen = stage.status().await.observing.ok_or("it does not observe")?;
        let asked = seen.log_in + seen.refused + seen.not_asked;
        let is_done = asked == seen.to_look_at && asked > 0 && seen.not_asked == away;
        if is_done { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await
}

fn found(odd: &v1::OddVersion) -> &str {
    odd.look.as_ref().map_or("", |look| look.found.as_str())
}

/// What PostgreSQL keeps of every role.
async fn verifiers(stage: &Stage) -> Vec<(String, Option<String>, bool)> {
    let query = "SELECT rolname::text, rolpassword, rolcanlogin FROM pg_authid ORDER BY rolname";
    let rows = stage.postgres.admin().await.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn alter(stage: &Stage, statement: &str) {
    stage.postgres.admin().await.batch_execute(statement).await.unwrap();
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
