//! Three nodes of one system on loopback: real processes, real data folders, ended when this is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use secrecy::SecretString;
use serde::Serialize;

use crate::args::Args;
use crate::connection::{Connection, Standing};
use crate::{port, usage};

/// How many nodes each system has.
pub const NODES: usize = 3;
/// Longest wait for a leader, and for a node to catch up.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// Wait between two looks at a state that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for the answer to one such look.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Room for etcd's data: its default of 2 GiB is soon reached when nothing is compacted.
const ETCD_QUOTA_BYTES: u64 = 8 * 1_024 * 1_024 * 1_024;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// This product.
    Revolve,
    /// What it is compared with.
    Etcd,
}

impl System {
    /// Both, in the order in which they take turns.
    pub const BOTH: [Self; 2] = [Self::Revolve, Self::Etcd];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revolve => "revolve",
            Self::Etcd => "etcd",
        }
    }
}

/// The running nodes of one system.
#[derive(Debug)]
pub struct Servers {
    /// Which system.
    pub system: System,
    args: Args,
    folder: PathBuf,
    nodes: Vec<Node>,
    token: SecretString,
}

#[derive(Debug)]
struct Node {
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
    /// Whether etcd must join a cluster that is there instead of forming one.
    joins: bool,
}

impl Servers {
    /// Starts a fresh cluster in a folder of its own and returns once it has a leader.
    pub async fn start(system: System, name: &str, args: &Args) -> Result<Self> {
        let folder = args.folder.join(format!("{name}-{}", system.name()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot clear `{}`", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let (client_port, peer_port) = (port::free()?, port::free()?);
            nodes.push(Node { client_port, peer_port, process: None, joins: false });
        }
        let mut servers = Self { system, args: args.clone(), folder, nodes, token: String::new().into() };
        if system == System::Revolve {
            servers.configure()?;
        }
        for node in 0..NODES {
            servers.start_node(node)?;
        }
        servers.leader().await?;
        Ok(servers)
    }

    /// Writes the root key, the token and the configurations of the nodes of Revolve.
    fn configure(&mut self) -> Result<()> {
        let mut init = self.command(&self.args.revolve);
        init.args(["server", "init", "--nodes", "1", "--dir"]).arg(&self.folder);
        let made = init.output().context("cannot start `revolve`")?;
        ensure!(made.status.success(), "`revolve server init`: {}", String::from_utf8_lossy(&made.stderr));
        self.token = fs::read_to_string(self.folder.join("admin.token"))?.trim().to_owned().into();
        let peers: String = (1..)
            .zip(&self.nodes)
            .map(|(number, node)| format!("{number} = \"127.0.0.1:{}\"\n", node.peer_port))
            .collect();
        let Args { heartbeat_ms, silence_ms, .. } = self.args;
        let (lease_ms, wait_ms) = (silence_ms * 3 / 5, silence_ms * 2 / 5);
        for (number, node) in (1..).zip(&self.nodes) {
            let text = format!(
                "node = {number}\ndata = \"node-{number}\"\nroot_key_file = \"root.key\"\n\
                 bootstrap_token_file = \"admin.token\"\n\
                 [listen]\nclient_tls = \"off\"\nclient = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n[peers]\n{peers}\
                 [timing]\nheartbeat_ms = {heartbeat_ms}\nelection_min_ms = {wait_ms}\n\
                 election_max_ms = {lease_ms}\n",
                node.client_port, node.peer_port,
            );
            fs::write(self.folder.join(format!("node-{number}.toml")), text)?;
        }
        Ok(())
    }

    /// Starts a node that does not run, with what its folder holds.
    pub fn start_node(&mut self, node: usize) -> Result<()> {
        let mut command = match self.system {
            System::Revolve => self.revolve_command(node),
            System::Etcd => self.etcd_command(node),
        };
        let log = File::options().create(true).append(true).open(self.log(node))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start `{}`", self.system.name()))?;
        self.nodes[node].process = Some(process);
        Ok(())
    }

    fn revolve_command(&self, node: usize) -> Command {
        let mut command = self.command(&self.args.revolve);
        let configuration = self.folder.join(format!("node-{}.toml", node + 1));
        command.args(["server", "--config"]).arg(configuration).env("REVOLVE_LOG", "warn");
        command
    }

    fn etcd_command(&self, node: usize) -> Command {
        let mut command = self.command(&self.args.etcd);
        let own = &self.nodes[node];
        let name = |node: usize| format!("node-{}", node + 1);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<_> =
            (0..NODES).map(|node| format!("{}={}", name(node), url(self.nodes[node].peer_port))).collect();
        let settings = [
            ("name", name(node)),
            ("data-dir", self.data(node).to_string_lossy().into_owned()),
            ("listen-client-urls", url(own.client_port)),
            ("advertise-client-urls", url(own.client_port)),
            ("listen-peer-urls", url(own.peer_port)),
            ("initial-advertise-peer-urls", url(own.peer_port)),
            ("initial-cluster", members.join(",")),
            ("initial-cluster-state", if own.joins { "existing" } else { "new" }.to_owned()),
            ("heartbeat-interval", self.args.heartbeat_ms.to_string()),
            ("election-timeout", self.args.silence_ms.to_string()),
            ("quota-backend-bytes", ETCD_QUOTA_BYTES.to_string()),
            ("logger", "zap".to_owned()),
            ("log-level", "warn".to_owned()),
        ];
        command.args(settings.map(|(name, value)| format!("--{name}={value}")));
        command
    }

    /// A command without the settings of whoever runs the benchmark.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("REVOLVE_") || text.starts_with("ETCD_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// `kill -9` of one node.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Wipes the disk of a node that was killed, and lets the others know where the system asks for that.
    pub async fn wipe(&mut self, node: usize) -> Result<()> {
        ensure!(self.nodes[node].process.is_none(), "node {} runs", node + 1);
        fs::remove_dir_all(self.data(node))?;
        if self.system == System::Etcd {
            self.replace_member(node).await?;
            self.nodes[node].joins = true;
        }
        Ok(())
    }

    /// Tells etcd that a member is gone and that another one comes in its place.
    async fn replace_member(&mut self, node: usize) -> Result<()> {
        let leader = self.leader().await?;
        let Connection::Etcd(mut client) = self.connect(leader).await? else { bail!("not etcd") };
        let name = format!("node-{}", node + 1);
        let deadline = Instant::now() + READY_WITHIN;
        let members = client.member_list().await?;
        let lost = members.members().iter().find(|member| member.name() == name);
        let lost = lost.context("etcd does not know the node")?.id();
        // For some seconds after a restart etcd holds itself unhealthy, and refuses to change its members.
        while let Err(error) = client.member_remove(lost).await {
            ensure!(Instant::now() < deadline, "etcd does not remove the node: {error}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let address = format!("http://127.0.0.1:{}", self.nodes[node].peer_port);
        while let Err(error) = client.member_add([address.clone()], None).await {
            ensure!(Instant::now() < deadline, "etcd does not add the node: {error}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The process id of a node that runs.
    pub fn pid(&self, node: usize) -> Result<u32> {
        Ok(self.nodes[node].process.as_ref().with_context(|| format!("node {} does not run", node + 1))?.id())
    }

    /// The data folder of a node.
    pub fn data(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{}", node + 1))
    }

    /// What a node has written about itself.
    fn log(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{}.log", node + 1))
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..NODES).filter(|node| self.nodes[*node].process.is_some()).collect()
    }

    /// A new connection to one node.
    pub async fn connect(&self, node: usize) -> Result<Connection> {
        let address = format!("http://127.0.0.1:{}", self.nodes[node].client_port);
        match self.system {
            System::Revolve => Connection::revolve(&address, &self.token),
            System::Etcd => Connection::etcd(&address).await,
        }
    }

    /// As many connections of their own to one node.
    pub async fn connect_many(&self, node: usize, count: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect(node).await?);
        }
        Ok(connections)
    }

    /// The leader, once one of the running nodes leads and the others know it.
    pub async fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let standings = self.standings().await?;
            let led = standings.values().filter(|standing| standing.led).count();
            let mut leaders = standings.iter().filter(|(_, standing)| standing.leads);
            if let (Some((leader, _)), None) = (leaders.next(), leaders.next())
                && led == self.running().len()
            {
                return Ok(*leader);
            }
            ensure!(Instant::now() < deadline, "{} has no leader: {standings:?}", self.system.name());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every running node has applied what the leader had applied when this was called.
    pub async fn caught_up(&mut self) -> Result<()> {
        let leader = self.leader().await?;
        let goal = self.connect(leader).await?.standing().await?.applied;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let standings = self.standings().await?;
            let level = standings.values().filter(|standing| standing.applied >= goal).count();
            if level == self.running().len() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not catch up: {standings:?}", self.system.name());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where the running nodes that answer stand. A node that has ended by itself is an error.
    pub async fn standings(&mut self) -> Result<BTreeMap<usize, Standing>> {
        self.check_running()?;
        let mut standings = BTreeMap::new();
        for node in self.running() {
            let mut connection = self.connect(node).await?;
            // A node that is starting answers late or not at all: the caller looks again.
            if let Ok(Ok(standing)) = tokio::time::timeout(LOOK_WITHIN, connection.standing()).await {
                standings.insert(node, standing);
            }
        }
        Ok(standings)
    }

    fn check_running(&mut self) -> Result<()> {
        for node in self.running() {
            let ended = self.nodes[node].process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                let log = fs::read_to_string(self.log(node)).unwrap_or_default();
                let from = log.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
                bail!("node {} of {} ended with {status}: {}", node + 1, self.system.name(), &log[from..]);
            }
        }
        Ok(())
    }

    /// Processor time of all nodes so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.running().into_iter().map(|node| usage::cpu_seconds(self.pid(node)?)).sum()
    }

    /// Resident memory of each node, in bytes.
    pub fn resident_bytes(&self) -> Result<Vec<u64>> {
        self.running().into_iter().map(|node| usage::resident_bytes(self.pid(node)?)).collect()
    }

    /// Bytes on disk of each node.
    pub fn disk_bytes(&self) -> Result<Vec<u64>> {
        (0..NODES).map(|node| usage::disk_bytes(&self.data(node))).collect()
    }
}

impl Drop for Servers {
    #[expect(clippy::print_stderr, reason = "there is no one to return it to")]
    fn drop(&mut self) {
        for node in 0..NODES {
            if let Err(error) = self.kill(node) {
                eprintln!("node {} of {} could not be ended: {error}", node + 1, self.system.name());
            }
        }
    }
}
