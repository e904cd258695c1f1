//! Nodes in one process, over real loopback connections and real files.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{Cluster, Progress, ProposeError, Rejoin, Retention, Settings, StartError, Timing};
use model::{
    State,
    command::{Command, PutIdentity},
    name::NodeId,
    time::Time,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const ROOT_KEY: [u8; 32] = [42; 32];
/// Every wait of a test ends by then.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Ports of the nodes. They are below the range from which Linux takes the ports of outgoing connections: one of those
/// would take the port of a node that is down, and be it the connection that another node tries to open to it.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

/// Long enough that a busy machine changes no leader by itself, short enough to wait for one that is lost.
fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1_000),
    }
}

/// A listener on a port that no other node of this process has been given.
async fn listener() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin in different places.
    let begin = u16::try_from(std::process::id() * 97 % PORTS.len() as u32).unwrap();
    for _ in PORTS {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16;
        let port = PORTS.start + (begin + offset) % PORTS.len() as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
    }
    panic!("no port is free in {PORTS:?}")
}

/// The nodes of a cluster with their folders; nodes come and go, addresses and folders stay.
pub struct Nodes {
    pub folder: TempDir,
    pub addresses: BTreeMap<NodeId, String>,
    pub retention: Retention,
    pub rejoin: Rejoin,
    pub running: BTreeMap<NodeId, Cluster>,
    /// The addresses in the settings of each node: those that were there before it.
    pub told: BTreeMap<NodeId, BTreeMap<NodeId, String>>,
    listeners: BTreeMap<NodeId, TcpListener>,
}

impl Nodes {
    pub async fn prepare(count: u64) -> Self {
        let mut addresses = BTreeMap::new();
        let mut listeners = BTreeMap::new();
        for node in (1..=count).map(NodeId) {
            let listener = listener().await;
            addresses.insert(node, listener.local_addr().unwrap().to_string());
            listeners.insert(node, listener);
        }
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            retention: Retention::default(),
            rejoin: Rejoin::default(),
            running: BTreeMap::new(),
            told: addresses.keys().map(|node| (*node, addresses.clone())).collect(),
            addresses,
            listeners,
        }
    }

    pub async fn started(count: u64) -> Self {
        let mut nodes = Self::prepare(count).await;
        for node in (1..=count).map(NodeId) {
            nodes.start(node).await;
        }
        nodes.leader().await;
        nodes
    }

    /// Gives a node that is to come a place, and what it was told of the others when it was let in.
    pub async fn add(&mut self, node: NodeId) {
        let listener = listener().await;
        self.addresses.insert(node, listener.local_addr().unwrap().to_string());
        self.listeners.insert(node, listener);
        self.told.insert(node, self.addresses.clone());
    }

    pub fn data(&self, node: NodeId) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    pub fn settings(&self, node: NodeId) -> Settings {
        let mut settings = Settings::new(node, self.told[&node].clone(), self.data(node));
        settings.timing = timing();
        settings.retention = self.retention;
        settings.rejoin = self.rejoin;
        settings
    }

    pub async fn try_start(&mut self, node: NodeId, root_key: &[u8; 32]) -> Result<(), StartError> {
        let listener = match self.listeners.remove(&node) {
            Some(listener) => listener,
            None => TcpListener::bind(&self.addresses[&node]).await.unwrap(),
        };
        let started =
            Cluster::start(self.settings(node), listener, &[root_key], CancellationToken::new()).await?;
        self.running.insert(node, started);
        Ok(())
    }

    pub async fn start(&mut self, node: NodeId) {
        self.try_start(node, &ROOT_KEY).await.unwrap();
    }

    pub async fn stop(&mut self, node: NodeId) {
        self.running.remove(&node).unwrap().stop().await;
    }

    pub async fn stop_all(&mut self) {
        for (_, node) in std::mem::take(&mut self.running) {
            node.stop().await;
        }
    }

    pub fn node(&self, node: NodeId) -> &Cluster {
        &self.running[&node]
    }

    pub fn any(&self) -> &Cluster {
        self.running.values().next().unwrap()
    }

    /// Waits until all running nodes agree on a running leader.
    pub async fn leader(&self) -> NodeId {
        let begun = Instant::now();
        let mut leader = None;
        'again: loop {
            assert!(begun.elapsed() < PATIENCE, "no leader");
            for node in self.running.values() {
                let seen = until(node, |progress| {
                    progress.leader.is_some_and(|leader| self.running.contains_key(&leader))
                })
                .await
                .leader;
                if leader.is_some() && leader != seen {
                    leader = seen;
                    continue 'again;
                }
                leader = seen;
            }
            return leader.unwrap();
        }
    }

    /// Waits until all running nodes have applied the same, and gives the index.
    pub async fn settled(&self) -> Option<u64> {
        let mut highest = None;
        for node in self.running.values() {
            read(node).await;
            highest = highest.max(node.status().applied);
        }
        for node in self.running.values() {
            until(node, |progress| progress.applied >= highest).await;
        }
        highest
    }
}

/// Waits until a node is as wanted.
pub async fn until(node: &Cluster, wanted: impl Fn(&Progress) -> bool) -> Progress {
    let mut watch = node.watch();
    let seen = tokio::time::timeout(PATIENCE, watch.wait_for(|progress| wanted(progress))).await;
    *seen.unwrap_or_else(|_| panic!("never came: {:?}", node.status())).unwrap()
}

/// Reads what was committed when this was called, again while there is no leader.
pub async fn read(node: &Cluster) -> Arc<State> {
    let begun = Instant::now();
    loop {
        match node.read().await {
            Ok(state) => return state,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

pub fn put(name: &str) -> Command {
    PutIdentity {
        name: name.parse().unwrap(),
        owner: "team".into(),
        purpose: "a test".into(),
        workload: "worker".into(),
        environment: "test".into(),
        review_by: Time(4_000_000_000_000),
    }
    .into()
}

/// Proposes until it is known to be committed; the command may run twice.
pub async fn commit(node: &Cluster, name: &str) {
    commit_put(node, put(name)).await;
}

/// The same with a command of one's own.
pub async fn commit_put(node: &Cluster, command: Command) {
    let begun = Instant::now();
    loop {
        match node.propose("test".into(), command.clone()).await {
            Ok(outcome) => {
                outcome.unwrap();
                return;
            }
            Err(ProposeError::NoLeader | ProposeError::Unknown) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn has(state: &Arc<State>, name: &str) -> bool {
    state.identities().contains(&name.parse().unwrap())
}
