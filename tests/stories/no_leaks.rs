//! No secret is found where none may be: in no log, no data file, no audit record, no output but the one reveal, and
//! in nothing that PostgreSQL was told.

use client::v1;
use harness::{
    canary::{self, Canary, Sighting},
    eventually,
};
use secrecy::ExposeSecret;

use super::stage::{CREDENTIAL, GROUP, ROTATOR_PASSWORD, Setup, Stage, TARGET, WITHIN, alternating_users};

/// How many of the canaries were set at PostgreSQL by the test itself: the first ones.
const OWN: usize = 2;
const ADOPTED: &str = "adopted-canary-4f1c9b27";

/// With all that nodes do in their logs.
fn loud() -> Setup {
    Setup { cluster: harness::Setup::default().loud(), ..Setup::default() }
}

#[tokio::test]
async fn no_secret_is_found_anywhere_but_in_the_one_reveal() {
    let stage = Stage::bare(Setup { moto: true, ..loud() }).await;
    let mut canaries = vec![
        Canary::new("the admin password of the target", ROTATOR_PASSWORD),
        Canary::new("the adopted password", ADOPTED),
    ];
    adopt(&stage).await;
    for round in 1..=2 {
        stage.rotate().await;
        canaries.push(Canary::new(&format!("the password of round {round}"), stage.secret().await.password));
    }
    let grant = break_glass(&stage, &mut canaries).await;
    refusals(&stage).await;
    for name in ["auditor-1", "operator-1"] {
        let role = name.split('-').next().unwrap_or_default();
        let token = stage.cluster.token(name, name, role).await;
        canaries.push(Canary::new(name, token.expose_secret().rsplit('.').next().unwrap_or_default()));
    }

    let mut found = outputs(&stage, &canaries, &grant);
    found.extend(audit(&stage, &canaries).await);
    found.extend(canary::search(&canaries, stage.cluster.folder()).unwrap());
    // What this test itself has told PostgreSQL in plain SQL is not looked for there.
    let postgres_log = std::fs::read(stage.postgres.folder().join("postgres.stderr")).unwrap();
    found.extend(canaries[OWN..].iter().flat_map(|canary| canary.find("PostgreSQL's log", &postgres_log)));
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn the_files_of_keys_and_tokens_are_the_only_ones_that_hold_them() {
    let stage = Stage::bare(loud()).await;
    let token = stage.cluster.admin_token();
    let root_key = std::fs::read_to_string(stage.cluster.folder().join("root.key")).unwrap();
    let canaries = [
        Canary::new("the admin token", token.expose_secret().rsplit('.').next().unwrap_or_default()),
        Canary::new("the root key", root_key.trim()),
    ];
    let mut places: Vec<String> = canary::search(&canaries, stage.cluster.folder())
        .unwrap()
        .into_iter()
        .map(|found| found.place)
        .collect();
    places.dedup();
    let names: Vec<&str> = places.iter().filter_map(|place| place.rsplit('/').next()).collect();
    assert!(names.iter().all(|name| ["admin.token", "root.key"].contains(name)), "{places:?}");
    assert_eq!(names.len(), 2, "each is found in its own file: {places:?}");
}

#[tokio::test]
async fn the_debug_bundle_holds_no_secret_and_says_what_is_in_it() {
    let stage = Stage::bare(loud()).await;
    let in_url = "swordfish-in-a-url-81c2";
    let mut canaries = planted(&stage, in_url).await;
    let grant = break_glass(&stage, &mut canaries).await;
    refusals(&stage).await;
    let operator = stage.cluster.token("operator-1", "operator-1", "operator").await;
    let secret = |token: &str| token.trim().rsplit('.').next().unwrap_or_default().to_owned();
    canaries.push(Canary::new("a token", secret(operator.expose_secret())));
    canaries.push(Canary::new("the admin token", secret(stage.cluster.admin_token().expose_secret())));
    let root_key = std::fs::read_to_string(stage.cluster.folder().join("root.key")).unwrap();
    canaries.push(Canary::new("the root key", root_key.trim()));
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, root_key.trim()).unwrap();
    canaries.push(Canary::new("the bytes of the root key", bytes));

    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.gz");
    let file = archive.to_str().unwrap();
    let token_file = folder.path().join("operator");
    std::fs::write(&token_file, operator.expose_secret()).unwrap();
    std::fs::set_permissions(&token_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let denied = stage.cluster.cli_as(&token_file, ["debug", "bundle", "--out", file]);
    assert_eq!(denied.status.code(), Some(4), "{}", String::from_utf8_lossy(&denied.stderr));
    assert!(!archive.exists(), "nothing is left of what was refused");
    std::fs::remove_file(&token_file).unwrap();

    let made = stage.cluster.cli(["debug", "bundle", "--out", file, "--reason", "the canaries"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let packed = std::fs::read(&archive).unwrap();
    let unpacked = run("tar", &["-xzf", file, "-C", folder.path().to_str().unwrap()], folder.path());
    assert!(unpacked.contains("ended well"), "{unpacked}");
    let inside = folder.path().join("revolve-debug");
    holds_what_it_says(&inside);
    let mut found = canary::search(&canaries, folder.path()).unwrap();
    found.extend(canaries.iter().flat_map(|canary| canary.find("the archive", &packed)));
    assert!(found.is_empty(), "{found:#?}");
    let summary = std::fs::read_to_string(inside.join("node-1/summary.json")).unwrap();
    assert!(summary.contains("\"grantsByStage\"") && !summary.contains(&grant), "{summary}");
    let collected = stage.audit("").await.into_iter().filter(|record| record.action == "debug.collect");
    let reasons: Vec<_> = collected.filter(|record| record.refused.is_empty()).map(|it| it.detail).collect();
    assert_eq!(reasons, ["the canaries"; 3], "once for each node");
}

/// Secrets wherever the stage takes one, and one inside of URLs where people write them.
async fn planted(stage: &Stage, in_url: &str) -> Vec<Canary> {
    let url = format!("https://bob:{in_url}@wiki.example/runbook");
    let identity = v1::Identity { purpose: format!("see {url}"), ..super::stage::identity() };
    let mut credential = super::stage::credential(&alternating_users());
    let sql = format!("ALTER ROLE app_a PASSWORD '{ADOPTED}'");
    stage.postgres.admin().await.batch_execute(&sql).await.unwrap();
    credential.adopt_password = ADOPTED.into();
    let schedule = super::stage::schedule(v1::RotationPolicy::default());
    let target = stage.target(ROTATOR_PASSWORD);
    stage.apply(vec![identity.into(), target.into(), credential.into(), schedule.into()]).await;
    let mut elsewhere = stage.target(ROTATOR_PASSWORD);
    elsewhere.params.insert("host".into(), format!("postgres://bob:{in_url}@db"));
    let request = v1::ApplyRequest { resources: vec![elsewhere.into()], dry_run: false };
    // Whether it is taken or not, it must not be shown.
    drop(stage.client.apply(request).await);
    stage.apply(vec![stage.target(ROTATOR_PASSWORD).into()]).await;
    stage.rotate().await;
    vec![
        Canary::new("the admin password of the target", ROTATOR_PASSWORD),
        Canary::new("the adopted password", ADOPTED),
        Canary::new("a password in a URL", in_url),
        Canary::new("the generated password", stage.secret().await.password),
    ]
}

/// Every node has its files, they are the ones that the manifest lists, and none of them is empty.
fn holds_what_it_says(inside: &std::path::Path) {
    let manifest = std::fs::read(inside.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut sums = String::new();
    let mut names = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let (path, sum) = (file["path"].as_str().unwrap(), file["sha256"].as_str().unwrap());
        assert!(file["bytes"].as_u64().unwrap() > 2, "{file}");
        sums.push_str(&format!("{sum}  {path}\n"));
        names.push(path.to_owned());
    }
    for id in 1..=3 {
        for name in ["about.json", "summary.json", "log.txt", "metrics.txt", "cluster.txt", "settings.json"] {
            assert!(names.contains(&format!("node-{id}/{name}")), "{names:?}");
        }
    }
    let list = inside.join("sums");
    std::fs::write(&list, sums).unwrap();
    let checked = run("sha256sum", &["--check", "--quiet", "sums"], inside);
    assert!(checked.contains("ended well"), "{checked}");
    let log = std::fs::read_to_string(inside.join("node-1/log.txt")).unwrap();
    assert!(log.lines().count() > 10, "{log}");
}

/// Runs a program that is not ours; what it says, and that it ended well if it did.
fn run(program: &str, arguments: &[&str], folder: &std::path::Path) -> String {
    let output = std::process::Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let end = if output.status.success() { "ended well" } else { "failed" };
    format!("{}{end}", String::from_utf8_lossy(&said))
}

/// Declares the credential with the value in use today, and sets that value at the server.
async fn adopt(stage: &Stage) {
    let sql = format!("ALTER ROLE app_a PASSWORD '{ADOPTED}'");
    stage.postgres.admin().await.batch_execute(&sql).await.unwrap();
    let mut credential = super::stage::credential(&alternating_users());
    credential.adopt_password = ADOPTED.into();
    credential.stores = vec![v1::Placement { store: "aws".into(), path: super::stage::AWS_PATH.into() }];
    let resources = vec![
        super::stage::identity().into(),
        stage.target(ROTATOR_PASSWORD).into(),
        super::stage::aws_store(stage.moto()).into(),
        credential.into(),
        super::stage::schedule(v1::RotationPolicy::default()).into(),
    ];
    stage.apply(resources).await;
    assert_eq!(stage.secret().await.password, ADOPTED);
}

/// A grant in force, whose secret the command line has shown to the requester; answers its id.
async fn break_glass(stage: &Stage, canaries: &mut Vec<Canary>) -> String {
    let token = stage.cluster.token("alice", "alice", "operator").await;
    let alice = stage.cluster.client(token.clone());
    let request = v1::RequestGrantRequest {
        target: TARGET.into(),
        role: GROUP.into(),
        duration_ms: 600_000,
        ticket: "INC-1".into(),
        reason: "canaries".into(),
    };
    let id = alice.request_grant(request).await.unwrap().id;
    stage.client.approve_grant(v1::ApproveGrantRequest { id: id.clone() }).await.unwrap();
    eventually("the grant to be active", WITHIN, async || {
        let grant = alice.get_grant(v1::GetGrantRequest { id: id.clone() }).await;
        let grant = grant.map_err(|error| error.to_string())?.grant.unwrap();
        if grant.stage == "active" { Ok(()) } else { Err(format!("{grant:?}")) }
    })
    .await;
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), token.expose_secret()).unwrap();
    let output = stage.cluster.cli_as(token_file.path(), ["breakglass", "reveal", &id, "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let password = answer["password"].as_str().expect("the reveal shows the password").to_owned();
    let login = super::stage::Login {
        version: 0,
        username: answer["username"].as_str().unwrap_or_default().to_owned(),
        password: password.clone(),
    };
    assert!(login.works(&stage.postgres).await);
    canaries.push(Canary::new("the password of the grant", password));
    id
}

/// Calls that fail in ways that could tempt someone to print what was given.
async fn refusals(stage: &Stage) {
    let mut other = super::stage::credential(&super::stage::single_user());
    other.adopt_password = ADOPTED.into();
    let request = v1::ApplyRequest { resources: vec![other.into()], dry_run: false };
    stage.client.apply(request).await.expect_err("the strategy of a credential cannot be changed");
    let mut nowhere = stage.target(ROTATOR_PASSWORD);
    nowhere.params.insert("no_such_parameter".into(), "x".into());
    let request = v1::ApplyRequest { resources: vec![nowhere.into()], dry_run: false };
    stage.client.apply(request).await.expect_err("an unknown parameter");
}

/// Everything that the command line can print of the state, searched.
fn outputs(stage: &Stage, canaries: &[Canary], grant: &str) -> Vec<Sighting> {
    let commands: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["cluster", "status"],
        vec!["key", "status"],
        vec!["identity", "list"],
        vec!["target", "get", TARGET],
        vec!["store", "get", "aws"],
        vec!["credential", "get", CREDENTIAL],
        vec!["schedule", "get", CREDENTIAL],
        vec!["rotation", "list"],
        vec!["rotation", "get", "rot-1"],
        vec!["breakglass", "get", grant],
        vec!["breakglass", "list"],
        vec!["token", "list"],
        vec!["audit", "list"],
        vec!["audit", "verify"],
    ];
    let mut found = Vec::new();
    for command in commands {
        for format in ["table", "json", "yaml"] {
            let output = stage.cluster.cli(command.iter().copied().chain(["-o", format]));
            let place = format!("revolve {} -o {format}", command.join(" "));
            let usable = matches!(output.status.code(), Some(0 | 2));
            assert!(usable, "{place}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!output.stdout.is_empty(), "{place} prints something");
            for canary in canaries {
                found.extend(canary.find(&place, &output.stdout));
                found.extend(canary.find(&place, &output.stderr));
            }
        }
    }
    found
}

async fn audit(stage: &Stage, canaries: &[Canary]) -> Vec<Sighting> {
    let records = stage.audit("").await;
    assert!(records.len() > 20, "there is something to search");
    let texts: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    texts
        .iter()
        .flat_map(|text| canaries.iter().flat_map(move |canary| canary.find("an audit record", text)))
        .collect()
}
