//! A schedule written in YAML rotates a real role on time, again and again: the new password logs in, the old one is
//! refused, its sessions are cut, and the AWS store holds the right stages, as an independent client reads them.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use client::v1;
use harness::eventually;
use model::credential::Strategy;
use serde_json::Value;
use tempfile::TempDir;

use super::stage::{
    AWS_PATH, CREDENTIAL, GROUP, Login, ROTATOR, ROTATOR_PASSWORD, Setup, Stage, TARGET, WITHIN, alive,
    alternating_users, single_user, told,
};

/// Long enough for a rotation, so that instants are not left out; short enough to see several.
const PERIOD_MS: u64 = 4_000;
/// What the role's password was before Revolve came.
const ADOPTED: &str = "set-by-hand-long-ago";

#[tokio::test]
async fn a_schedule_in_yaml_rotates_one_role_on_time() {
    rotates_on_time(&single_user()).await;
}

#[tokio::test]
async fn a_schedule_in_yaml_rotates_two_roles_in_turn_on_time() {
    rotates_on_time(&alternating_users()).await;
}

async fn rotates_on_time(strategy: &Strategy) {
    let stage = Stage::bare(Setup { moto: true, ..Setup::default() }).await;
    let adopted = adopted(&stage, strategy.usernames()[0]).await;
    let session = adopted.session(&stage.postgres).await;
    let files = Files::write(&stage, strategy);
    let applied = stage.cluster.cli(["apply", "-f", files.yaml.to_str().unwrap()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));

    let settled = eventually("two rotations to settle", WITHIN, async || {
        let all = stage.rotations().await;
        let stuck = all.iter().find(|rotation| rotation.stage == "quarantined");
        if let Some(stuck) = stuck {
            panic!("{} does not go through: {}", stuck.id, told(stuck));
        }
        let count = all.iter().filter(|rotation| rotation.stage == "settled").count();
        if count >= 2 { Ok(all) } else { Err(all.iter().map(told).collect::<Vec<_>>()) }
    })
    .await;
    on_time(&stage, &settled).await;

    let rotated = pause(&stage).await;
    let current = stage.secret().await;
    assert_eq!(current.version, adopted.version + rotated, "each rotation made one version");
    assert!(current.works(&stage.postgres).await);
    assert!(!adopted.works(&stage.postgres).await);
    assert!(!alive(&session).await, "the session opened with the old password is cut");
    stage.assert_only_expected_roles_and_one_live_password().await;
    aws_holds(&stage, &current).await;
}

/// The first instant was the first after the declaration, and every rotation began at or after its own.
async fn on_time(stage: &Stage, newest_first: &[v1::Rotation]) {
    let declared = stage.audit(&format!("schedule/{CREDENTIAL}")).await;
    let declared = declared.first().expect("the declaration is audited").at_ms;
    let first = newest_first.last().unwrap();
    assert_eq!(first.due_ms, (declared / PERIOD_MS + 1) * PERIOD_MS, "the first instant after {declared}");
    for rotation in newest_first {
        assert_eq!((rotation.cause.as_str(), rotation.schedule.as_str()), ("due", CREDENTIAL));
        assert_eq!(rotation.due_ms % PERIOD_MS, 0, "an instant of the schedule");
        assert!(rotation.started_ms >= rotation.due_ms, "{} was early", rotation.id);
    }
    assert!(
        newest_first.windows(2).all(|pair| pair[0].due_ms > pair[1].due_ms),
        "one rotation for an instant"
    );
}

/// Lets nothing more begin, waits until nothing is under way, and says how many rotations there were.
async fn pause(stage: &Stage) -> u32 {
    let request = v1::PauseScheduleRequest { name: CREDENTIAL.into(), reason: "seen enough".into() };
    stage.client.pause_schedule(request).await.unwrap();
    let all = eventually("no rotation under way", WITHIN, async || {
        let all = stage.rotations().await;
        let open = all.iter().find(|rotation| rotation.stage != "settled").map(told);
        open.map_or(Ok(all), Err)
    })
    .await;
    u32::try_from(all.len()).unwrap()
}

/// `AWSCURRENT` is the current version, `AWSPREVIOUS` the one before it, and nothing is pending.
async fn aws_holds(stage: &Stage, current: &Login) {
    let secret = stage.moto().secret(AWS_PATH).await;
    let stages = secret["stages"].as_object().unwrap();
    assert_eq!(stages.keys().collect::<Vec<_>>(), ["AWSCURRENT", "AWSPREVIOUS"]);
    let bundle =
        |label: &str| -> Value { serde_json::from_str(stages[label]["value"].as_str().unwrap()).unwrap() };
    let in_use = bundle("AWSCURRENT");
    assert_eq!(in_use["credential"], CREDENTIAL);
    assert_eq!(in_use["version"], current.version);
    assert_eq!(in_use["username"], current.username.as_str());
    assert_eq!(in_use["password"], current.password.as_str());
    assert_eq!(in_use["host"], stage.postgres.host());
    assert_eq!(in_use["port"], stage.postgres.port());
    let before = bundle("AWSPREVIOUS");
    let before = Login {
        version: u32::try_from(before["version"].as_u64().unwrap()).unwrap(),
        username: before["username"].as_str().unwrap().into(),
        password: before["password"].as_str().unwrap().into(),
    };
    assert_eq!(before.version, current.version - 1);
    assert!(!before.works(&stage.postgres).await, "what AWS calls previous is dead at the server");
}

/// A role in use before Revolve came, with a password that somebody set.
async fn adopted(stage: &Stage, role: &str) -> Login {
    let set = format!("ALTER ROLE {role} PASSWORD '{ADOPTED}'");
    stage.postgres.admin().await.batch_execute(&set).await.unwrap();
    Login { version: 1, username: role.into(), password: ADOPTED.into() }
}

/// What an operator writes, with the secrets in files of their own.
struct Files {
    yaml: PathBuf,
    _folder: TempDir,
}

impl Files {
    fn write(stage: &Stage, strategy: &Strategy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, secret) in [("admin", ROTATOR_PASSWORD), ("adopt", ADOPTED), ("aws", "testing")] {
            write_secret(&folder.path().join(name), secret);
        }
        let yaml = folder.path().join("orders.yaml");
        std::fs::write(&yaml, documents(stage, strategy)).unwrap();
        Self { yaml, _folder: folder }
    }
}

fn write_secret(path: &Path, secret: &str) {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(secret.as_bytes()).unwrap();
}

fn documents(stage: &Stage, strategy: &Strategy) -> String {
    let (host, port) = (stage.postgres.host(), stage.postgres.port());
    let (endpoint, strategy, users) =
        (stage.moto().endpoint(), strategy.as_str(), strategy.usernames().join(", "));
    format!(
        "apiVersion: revolve/v1
kind: Identity
metadata: {{name: orders-service}}
spec:
  owner: team-orders
  purpose: reads and writes orders
  workload: orders
  environment: test
  reviewBy: 2099-12-31
---
apiVersion: revolve/v1
kind: Target
metadata: {{name: {TARGET}}}
spec:
  provider: postgres
  params: {{host: {host}, port: {port}, admin_user: {ROTATOR}}}
  adminPassword: {{file: admin}}
  breakGlassRoles: [{GROUP}]
---
apiVersion: revolve/v1
kind: Store
metadata: {{name: aws}}
spec:
  kind: aws-secrets-manager
  params: {{region: us-east-1, endpoint_url: '{endpoint}'}}
  access:
    access_key_id: {{file: aws}}
    secret_access_key: {{file: aws}}
---
apiVersion: revolve/v1
kind: Credential
metadata: {{name: {CREDENTIAL}}}
spec:
  identity: orders-service
  target: {TARGET}
  strategy: {strategy}
  usernames: [{users}]
  stores: [{{store: aws, path: {AWS_PATH}}}]
  adoptPassword: {{file: adopt}}
---
apiVersion: revolve/v1
kind: Schedule
metadata: {{name: {CREDENTIAL}}}
spec:
  credential: {CREDENTIAL}
  timing: {{every: {PERIOD_MS}ms}}
"
    )
}
