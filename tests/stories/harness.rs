//! The harness keeps its own promises: what a story concludes rests on them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::canary::{self, Canary};
use harness::proxy::Reply;
use harness::{Child, Moto, Postgres, Proxy, eventually, postgres};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const SOON: Duration = Duration::from_secs(60);
/// Long enough that bytes which are let through by mistake arrive.
const A_WHILE: Duration = Duration::from_millis(200);

/// A server with one role `app`, and a session of the superuser through a proxy.
async fn behind_a_proxy() -> (Postgres, Proxy, Client) {
    let postgres = Postgres::start().await;
    postgres.admin().await.batch_execute("CREATE ROLE app LOGIN PASSWORD 'first'").await.unwrap();
    let proxy = Proxy::start(postgres.address()).await;
    let client = through(&proxy, &postgres).await.unwrap();
    (postgres, proxy, client)
}

async fn through(proxy: &Proxy, postgres: &Postgres) -> Result<Client, tokio_postgres::Error> {
    postgres::connect(proxy.address(), postgres.superuser(), postgres.password(), "postgres").await
}

/// The processes, other than this one, whose command line mentions `text`.
fn processes_mentioning(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() && command_line(*pid).contains(text)).collect()
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The letter under which the kernel lists the process: S sleeping, T stopped, …
fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn postgresql_accepts_the_right_password_and_refuses_a_wrong_one() {
    let postgres = Postgres::start().await;
    postgres.admin().await.batch_execute("CREATE ROLE app LOGIN PASSWORD 'right'").await.unwrap();
    assert_eq!(postgres.roles().await, ["app"]);

    postgres.try_login("app", "right").await.unwrap();
    for (user, password) in [("app", "wrong"), ("nobody", "right"), (postgres.superuser(), "wrong")] {
        let refused = postgres.try_login(user, password).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{user}: {refused:?}");
    }

    let session = postgres.client("app", "right", "postgres").await.unwrap();
    assert_eq!(postgres.sessions("app").await, 1);
    drop(session);
    eventually("the session's end", SOON, async || postgres.sessions("app").await == 0).await;
}

#[tokio::test]
async fn postgresql_comes_back_on_the_same_port_with_the_same_data() {
    let mut postgres = Postgres::start().await;
    let session = postgres.admin().await;
    session.batch_execute("CREATE ROLE app LOGIN PASSWORD 'kept'").await.unwrap();

    postgres.stop().await;
    session.batch_execute("SELECT 1").await.unwrap_err();
    let down = postgres.try_login("app", "kept").await.unwrap_err();
    assert_eq!(down.code(), None, "the connection itself is refused: {down:?}");

    postgres.start_again().await;
    postgres.try_login("app", "kept").await.unwrap();
}

#[tokio::test]
async fn the_proxy_loses_the_reply_of_a_committed_statement() {
    let (postgres, proxy, client) = behind_a_proxy().await;
    proxy.lose_reply("ALTER ROLE", Reply::Committed);
    client.batch_execute("SELECT 'before'").await.unwrap();

    // The extended protocol: the statement is prepared in one exchange and executed in the next.
    let lost = client.execute("ALTER ROLE app PASSWORD 'second'", &[]).await.unwrap_err();
    assert_eq!(lost.code(), None, "the network failed, not the statement: {lost:?}");
    assert_eq!(proxy.lost(), 1);
    postgres.try_login("app", "second").await.unwrap();
    postgres.try_login("app", "first").await.unwrap_err();

    let again = through(&proxy, &postgres).await.unwrap();
    again.batch_execute("ALTER ROLE app PASSWORD 'third'").await.unwrap();
    assert_eq!(proxy.lost(), 1, "a trap springs once");

    // The simple protocol.
    proxy.lose_reply("ALTER ROLE", Reply::Committed);
    again.batch_execute("ALTER ROLE app PASSWORD 'fourth'").await.unwrap_err();
    assert_eq!(proxy.lost(), 2);
    postgres.try_login("app", "fourth").await.unwrap();
}

#[tokio::test]
async fn the_proxy_loses_the_reply_to_commit_of_a_transaction() {
    let (postgres, proxy, mut client) = behind_a_proxy().await;
    proxy.lose_reply("ALTER ROLE", Reply::Committed);

    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("ALTER ROLE app PASSWORD 'rolled back'").await.unwrap();
    transaction.rollback().await.unwrap();
    postgres.try_login("app", "first").await.unwrap();

    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("ALTER ROLE app PASSWORD 'committed'").await.unwrap();
    assert_eq!(proxy.lost(), 0);
    transaction.commit().await.unwrap_err();
    assert_eq!(proxy.lost(), 1);
    postgres.try_login("app", "committed").await.unwrap();
}

#[tokio::test]
async fn the_proxy_delivers_the_reply_of_a_failed_statement() {
    let (_postgres, proxy, client) = behind_a_proxy().await;
    proxy.lose_reply("ALTER ROLE", Reply::Committed);
    let failed = client.execute("ALTER ROLE unknown PASSWORD 'x'", &[]).await.unwrap_err();
    assert_eq!(failed.code(), Some(&SqlState::UNDEFINED_OBJECT), "{failed:?}");
    assert_eq!(proxy.lost(), 0);
}

#[tokio::test]
async fn the_proxy_cuts_refuses_and_swallows() {
    let (postgres, proxy, client) = behind_a_proxy().await;
    assert_eq!((proxy.open(), proxy.accepted()), (1, 1));

    proxy.refuse();
    assert!(through(&proxy, &postgres).await.is_err());
    client.batch_execute("SELECT 'an open connection goes on'").await.unwrap();
    proxy.cut_all();
    client.batch_execute("SELECT 'cut'").await.unwrap_err();
    eventually("the connection's end", SOON, async || proxy.open() == 0).await;

    proxy.pass();
    let client = through(&proxy, &postgres).await.unwrap();
    proxy.blackhole();
    let mut query = Box::pin(client.batch_execute("ALTER ROLE app PASSWORD 'delayed'"));
    tokio::time::timeout(A_WHILE, &mut query).await.expect_err("nothing comes out of a black hole");
    postgres.try_login("app", "first").await.expect("nothing went into it");
    proxy.pass();
    query.await.unwrap();
    postgres.try_login("app", "delayed").await.unwrap();
}

#[tokio::test]
async fn moto_keeps_the_stages_of_a_secret() {
    let moto = Moto::start().await;
    assert_eq!(moto.secret("db/app").await, Value::Null);

    let first = moto.call("create_secret", json!({"Name": "db/app", "SecretString": "one"})).await.unwrap();
    let first = first["VersionId"].as_str().unwrap();
    let pending = json!({"SecretId": "db/app", "SecretString": "two", "VersionStages": ["AWSPENDING"]});
    let second = moto.call("put_secret_value", pending).await.unwrap();
    let second = second["VersionId"].as_str().unwrap();
    let stages = moto.secret("db/app").await["stages"].clone();
    assert_eq!(stages["AWSCURRENT"], json!({"version": first, "value": "one"}));
    assert_eq!(stages["AWSPENDING"], json!({"version": second, "value": "two"}));

    let promoted = json!({
        "SecretId": "db/app", "VersionStage": "AWSCURRENT", "MoveToVersionId": second, "RemoveFromVersionId": first,
    });
    moto.call("update_secret_version_stage", promoted).await.unwrap();
    let secret = moto.secret("db/app").await;
    assert_eq!(secret["stages"]["AWSCURRENT"], json!({"version": second, "value": "two"}));
    assert_eq!(secret["stages"]["AWSPREVIOUS"], json!({"version": first, "value": "one"}));
    assert_eq!(secret["versions"][first], json!({"stages": ["AWSPREVIOUS"], "value": "one"}));

    let unknown = moto.call("describe_secret", json!({"SecretId": "none"})).await;
    assert_eq!(unknown, Err("ResourceNotFoundException".to_string()));
}

#[tokio::test]
async fn the_proxy_loses_the_reply_of_an_http_server() {
    let moto = Moto::start().await;
    let proxy = Proxy::start(harness::port::loopback(moto.port())).await;
    proxy.lose_reply("CreateSecret", Reply::Bytes(1));
    let through_proxy = |url: String| url.replace(&moto.port().to_string(), &proxy.port().to_string());
    let mut client = tokio::process::Command::new(harness::surroundings::python());
    let script = "import boto3; boto3.client('secretsmanager').create_secret(Name='lost', SecretString='x')";
    client.args(["-c", script]).envs(moto.environment()).env("AWS_MAX_ATTEMPTS", "1");
    client.env("AWS_ENDPOINT_URL", through_proxy(moto.endpoint()));

    let output = client.output().await.unwrap();
    assert!(!output.status.success(), "the client saw an answer");
    assert_eq!(proxy.lost(), 1);
    assert_eq!(moto.secret("lost").await["stages"]["AWSCURRENT"]["value"], "x");
}

#[tokio::test]
async fn no_process_and_no_file_is_left_behind() {
    let postgres = Postgres::start().await;
    let session = postgres.admin().await;
    let moto = Moto::start().await;
    let folders = [postgres.folder().to_path_buf(), moto.folder().to_path_buf()];
    let pids = [postgres.pid().unwrap(), moto.pid()];
    let servers = || {
        let by_folder = processes_mentioning(folders[0].to_str().unwrap());
        by_folder
            .into_iter()
            .chain(pids.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()))
    };
    assert!(servers().count() >= pids.len());
    let backend: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);

    drop(postgres);
    drop(moto);
    assert_eq!(servers().collect::<Vec<_>>(), Vec::<u32>::new());
    assert!(!Path::new(&format!("/proc/{backend}")).exists(), "a session's process is left");
    assert!(folders.iter().all(|folder| !folder.exists()));
}

#[tokio::test]
async fn a_child_is_paused_resumed_and_killed_by_its_id() {
    let logs = tempfile::tempdir().unwrap();
    let mut child = Child::spawn("sleeper", logs.path(), shell("echo out; echo err >&2; exec sleep 600"));
    let pid = child.pid();
    eventually("its output", SOON, async || child.stdout() == "out\n" && child.stderr() == "err\n").await;
    assert!(child.tail().contains("--- sleeper stderr\nerr"), "{}", child.tail());

    child.pause();
    eventually("a stopped process", SOON, async || process_state(pid) == Some('T')).await;
    child.resume();
    eventually("a running process", SOON, async || process_state(pid) == Some('S')).await;
    assert_eq!(child.ended(), None);
    child.kill();
    assert_eq!(process_state(pid), None);
    child.pause();

    let mut restarted = Child::spawn("sleeper", logs.path(), shell("echo again; exit 7"));
    assert_eq!(restarted.wait(SOON).await.code(), Some(7));
    assert_eq!(restarted.stdout(), "out\nagain\n");

    let forgotten = Child::spawn("forgotten", logs.path(), shell("exec sleep 600"));
    let pid = forgotten.pid();
    drop(forgotten);
    assert_eq!(process_state(pid), None);
}

#[tokio::test]
async fn a_child_does_not_inherit_the_settings_of_the_tests() {
    let logs = tempfile::tempdir().unwrap();
    let mut command = shell("env");
    command.env("REVOLVE_ADDR", "chosen");
    let mut child = Child::spawn("env", logs.path(), command);
    child.wait(SOON).await;
    let output = child.stdout();
    let settings: Vec<&str> = output.lines().filter(|line| line.starts_with("REVOLVE_")).collect();
    assert_eq!(settings, ["REVOLVE_ADDR=chosen"]);
}

#[tokio::test]
async fn a_canary_in_a_servers_log_is_sighted() {
    let postgres = Postgres::start().await;
    let canary = [Canary::new("a password in a statement", "correct-horse-battery")];
    assert_eq!(canary::search(&canary, postgres.folder()).unwrap(), []);

    let statement = "CREATE ROLE leaky PASSWORD 'correct-horse-battery'";
    postgres.admin().await.batch_execute(statement).await.unwrap();
    let sightings = canary::search(&canary, postgres.folder()).unwrap();
    assert!(sightings.iter().any(|sighting| sighting.place.ends_with("postgres.stderr")), "{sightings:?}");
    assert!(!format!("{sightings:?}").contains("correct-horse"), "a report does not leak it again");
}
