//! A node is killed again and again, mid-write; everything it acknowledged is there when it comes back.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::nodes::{ROOT_KEY, commit, has, read};
use cluster::{Cluster, Retention, Settings, Timing};
use futures::{StreamExt as _, stream};
use model::name::NodeId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const KILLS: u64 = 12;
const DATA: &str = "REVOLVE_TEST_KILLED_DATA";
const ROUND: &str = "REVOLVE_TEST_KILLED_ROUND";

async fn start(data: &Path) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = BTreeMap::from([(NodeId(1), listener.local_addr().unwrap().to_string())]);
    let mut settings = Settings::new(NodeId(1), peers, data.to_path_buf());
    settings.timing = Timing {
        heartbeat: Duration::from_millis(20),
        election_min: Duration::from_millis(60),
        election_max: Duration::from_millis(120),
    };
    // Snapshots and purges fall between the kills too.
    settings.retention = Retention { snapshot_every: 40, kept_entries: 10, ..Retention::default() };
    Cluster::start(settings, listener, &[&ROOT_KEY], CancellationToken::new()).await.unwrap()
}

/// The process that is killed. It does nothing when the tests are run as usual.
#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let (Ok(data), Ok(round)) = (std::env::var(DATA), std::env::var(ROUND)) else { return };
    let node = start(Path::new(&data)).await;
    let names = (0..u64::MAX).map(|number| format!("kill-{round}-{number}"));
    let writes = names.map(|name| {
        let node = node.clone();
        async move {
            commit(&node, &name).await;
            name
        }
    });
    let mut acknowledged = stream::iter(writes).buffer_unordered(16);
    while let Some(name) = acknowledged.next().await {
        writeln!(std::io::stdout(), "\nack {name}").unwrap();
    }
}

fn spawn(data: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::killed", "--nocapture"])
        .env(DATA, data)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kill_dash_nine() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let mut child = spawn(folder.path(), round);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acks = lines.filter_map(|line| line.strip_prefix("ack ").map(str::to_owned));
        // The kill comes at another place every time.
        let enough = usize::try_from(3 + round * 37 % 200).unwrap();
        acknowledged.extend(acks.by_ref().take(enough));
        child.kill().unwrap();
        acknowledged.extend(acks);
        child.wait().unwrap();
    }
    assert!(acknowledged.len() > 500, "only {} acknowledged", acknowledged.len());
    let node = start(folder.path()).await;
    let state = read(&node).await;
    let lost: Vec<_> = acknowledged.iter().filter(|name| !has(&state, name)).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
    node.stop().await;
}
