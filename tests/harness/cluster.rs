//! A cluster of real `revolve server` processes on loopback, each with its own data folder and log.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use client::{Client, Options, v1};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::{Child, eventually, port, surroundings};

/// How long a cluster may take to elect a leader and answer, on a busy machine.
pub const FORMED_WITHIN: Duration = Duration::from_secs(60);
/// What the nodes log: all of their own doings, so that a leak would show.
const LOG: &str = "debug,h2=warn,hyper=warn,tower=warn";

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: u64,
    /// Environment of every node's process, such as crash points.
    pub environment: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { nodes: 3, environment: Vec::new() }
    }
}

/// A cluster of real processes. Dropping it kills them and removes what they stored.
#[derive(Debug)]
pub struct Cluster {
    // Dropped first: the processes end before their folders go.
    nodes: BTreeMap<u64, Node>,
    folder: TempDir,
    setup: Setup,
}

#[derive(Debug)]
struct Node {
    process: Option<Child>,
    client: SocketAddr,
}

impl Cluster {
    /// Starts three nodes and returns once they have a leader and answer.
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts a cluster and returns once it has a leader and answers.
    ///
    /// # Panics
    ///
    /// When it does not form.
    pub async fn start_with(setup: Setup) -> Self {
        let folder =
            tempfile::Builder::new().prefix("revolve-cluster-").tempdir().expect("a temporary folder");
        let made = revolve(["server", "init", "--nodes", "1", "--dir"]).arg(folder.path()).output();
        let made = made.expect("`revolve` can be run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let ports: BTreeMap<u64, (SocketAddr, SocketAddr)> = (1..=setup.nodes)
            .map(|id| (id, (port::loopback(port::free()), port::loopback(port::free()))))
            .collect();
        let mut nodes = BTreeMap::new();
        for (id, (client, _)) in &ports {
            fs::write(configuration(folder.path(), *id), configuration_text(*id, &ports))
                .expect("a folder of ours");
            nodes.insert(*id, Node { process: None, client: *client });
        }
        let mut cluster = Self { nodes, folder, setup };
        for id in 1..=cluster.setup.nodes {
            cluster.start_node(id);
        }
        cluster.leader().await;
        cluster
    }

    /// Starts a node that is not running, from what its folder holds.
    ///
    /// # Panics
    ///
    /// When it is running.
    pub fn start_node(&mut self, id: u64) {
        let mut command = revolve(["server", "--config"]);
        command.arg(configuration(self.folder.path(), id)).env("REVOLVE_LOG", LOG).env("RUST_BACKTRACE", "1");
        command.envs(self.setup.environment.iter().cloned());
        let node = self.nodes.get_mut(&id).expect("a node of this cluster");
        assert!(node.process.is_none(), "node {id} is running");
        node.process = Some(Child::spawn(&format!("node-{id}"), self.folder.path(), command));
    }

    /// `kill -9` of one node.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn kill_node(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node of this cluster");
        if let Some(mut process) = node.process.take() {
            process.kill();
        }
    }

    /// The nodes whose process has ended by itself since they were started; they can be started again.
    pub fn reap(&mut self) -> Vec<u64> {
        let mut ended = Vec::new();
        for (id, node) in &mut self.nodes {
            if node.process.as_mut().is_some_and(|process| process.ended().is_some()) {
                node.process = None;
                ended.push(*id);
            }
        }
        ended
    }

    /// The nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.process.is_some()).map(|(id, _)| *id).collect()
    }

    /// The leader, once a majority that runs agrees on one that runs.
    pub async fn leader(&self) -> u64 {
        let clients: Vec<(u64, Client)> =
            self.running().into_iter().map(|id| (id, self.client_of(id))).collect();
        eventually("a leader", FORMED_WITHIN, async || {
            let mut votes = BTreeMap::<u64, usize>::new();
            let mut silent = Vec::new();
            for (id, client) in &clients {
                match client.get_cluster(v1::GetClusterRequest {}).await {
                    Ok(answer) => *votes.entry(answer.leader).or_default() += 1,
                    Err(error) => silent.push(format!("node {id}: {error}")),
                }
            }
            let agreed = votes.iter().find(|(leader, count)| {
                **leader != 0 && **count * 2 > self.nodes.len() && clients.iter().any(|(id, _)| id == *leader)
            });
            agreed.map(|(leader, _)| *leader).ok_or(format!("leaders by votes {votes:?}, {silent:?}"))
        })
        .await
    }

    /// A client of all nodes with the admin token.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.client(self.admin_token())
    }

    /// A client of all nodes with this token.
    ///
    /// # Panics
    ///
    /// When the addresses cannot be used.
    #[must_use]
    pub fn client(&self, token: SecretString) -> Client {
        let addresses = self.nodes.values().map(|node| format!("http://{}", node.client));
        Client::connect(Options::new(addresses).token(token)).expect("loopback addresses")
    }

    /// A client of one node with the admin token.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn client_of(&self, id: u64) -> Client {
        let options = Options::new([format!("http://{}", self.nodes[&id].client)]).token(self.admin_token());
        Client::connect(options).expect("a loopback address")
    }

    /// The admin token made by `revolve server init`.
    ///
    /// # Panics
    ///
    /// When the file is gone.
    #[must_use]
    pub fn admin_token(&self) -> SecretString {
        fs::read_to_string(self.token_file()).expect("the token file of the cluster").trim().to_owned().into()
    }

    /// The file with the admin token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    /// The folder with all data, logs and keys of the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Issues a token for `principal` and returns it.
    ///
    /// # Panics
    ///
    /// When the cluster refuses.
    pub async fn token(&self, name: &str, principal: &str, role: &str) -> SecretString {
        let request = v1::IssueTokenRequest {
            name: name.into(),
            principal: principal.into(),
            role: role.into(),
            ..Default::default()
        };
        self.admin().issue_token(request).await.expect("a token").token.into()
    }

    /// Issues a token that speaks for `consumer` and returns it.
    ///
    /// # Panics
    ///
    /// When the cluster refuses.
    pub async fn consumer_token(&self, consumer: &str) -> SecretString {
        let request = v1::IssueTokenRequest {
            name: format!("{consumer}-token"),
            role: "consumer".into(),
            consumer: consumer.into(),
            ..Default::default()
        };
        self.admin().issue_token(request).await.expect("a token").token.into()
    }

    /// Runs the `revolve` command line against this cluster as admin.
    pub fn cli<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.cli_as(&self.token_file(), arguments)
    }

    /// Runs the `revolve` command line against this cluster with the token in a file.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn cli_as<'a>(&self, token_file: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let addresses: Vec<String> =
            self.nodes.values().map(|node| format!("http://{}", node.client)).collect();
        revolve(arguments)
            .env("REVOLVE_ADDR", addresses.join(","))
            .env("REVOLVE_TOKEN_FILE", token_file)
            .env("XDG_CONFIG_HOME", self.folder.path())
            .output()
            .expect("`revolve` can be run")
    }
}

/// The `revolve` binary with these arguments.
pub fn revolve<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(surroundings::revolve_bin());
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REVOLVE_") {
            command.env_remove(name);
        }
    }
    command
}

fn configuration(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("node-{id}.toml"))
}

fn configuration_text(id: u64, ports: &BTreeMap<u64, (SocketAddr, SocketAddr)>) -> String {
    let (client, peer) = ports[&id];
    let peers: String = ports.iter().map(|(id, (_, peer))| format!("{id} = \"{peer}\"\n")).collect();
    format!(
        "node = {id}\ndata = \"node-{id}\"\nroot_key_file = \"root.key\"\nbootstrap_token_file = \"admin.token\"\n\
         [listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
         [peers]\n{peers}\
         [timing]\nheartbeat_ms = 100\nelection_min_ms = 500\nelection_max_ms = 1000\n\
         [limits]\nschedule_floor_ms = 1000\n"
    )
}
