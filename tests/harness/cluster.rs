//! A cluster of real `revolve server` processes on loopback, each with its own data folder and log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use client::{Client, Options, v1};
use nix::sys::signal::Signal;
use secrecy::SecretString;
use tempfile::TempDir;
use tls::Kind;

use crate::answer::granted;
use crate::certificates::Authorities;
use crate::network::{Network, Wiring};
use crate::{Child, bad_disk, eventually, false_clock, power, surroundings};

/// How long a cluster may take to elect a leader and answer, on a busy machine.
pub const FORMED_WITHIN: Duration = Duration::from_secs(120);
/// For a machine that is busy with other tests: no leader and no node is given up early.
pub const PATIENT: &str = "[timing]\nheartbeat_ms = 150\nelection_min_ms = 1000\nelection_max_ms = 2000\n";
/// For stories of short faults, which are to be noticed while they last.
pub const QUICK: &str = "[timing]\nheartbeat_ms = 100\nelection_min_ms = 500\nelection_max_ms = 1000\n";
/// How long a client waits for one answer: a busy machine is slow, and what was not answered is of unknown outcome.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// How a command ends that nobody has answered, or not to the end.
const UNANSWERED: i32 = 3;
/// Before a command that was not answered is typed again.
const PAUSE: Duration = Duration::from_millis(100);
/// What the nodes log.
const LOG: &str = "debug,openraft=info,h2=warn,hyper=warn,tower=warn";
/// What they log where leaks are looked for: each step of Raft too, of which there are very many.
const LOUD: &str = "debug,h2=warn,hyper=warn,tower=warn";

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: u64,
    /// Environment of every node's process, such as crash points.
    pub environment: Vec<(String, String)>,
    /// What lies between the nodes.
    pub wiring: Wiring,
    /// How soon nodes give each other up: [`PATIENT`] or [`QUICK`].
    pub timing: &'static str,
    /// Whether the nodes' disks lose on a power cut what was not made durable, see [`crate::power::Power`].
    pub volatile: bool,
    /// Whether the nodes' disks take orders, see [`crate::bad_disk`].
    pub bad_disks: bool,
    /// Whether the nodes' wall clocks can be set, see [`crate::false_clock`].
    pub false_clocks: bool,
    /// How far such clocks are ahead when a node is started.
    pub clocks_ahead: Duration,
    /// Whether each node has a file of its own with the root key, see [`Cluster::root_key_file`].
    pub own_root_keys: bool,
    /// What stands under `[limits]` in every node's configuration beside the shortest interval of a schedule.
    pub limits: Vec<(String, u64)>,
    /// Whether clients and nodes show each other certificates on the client port; else it speaks plain text, or what the
    /// wiring wants.
    pub mutual_tls: bool,
    /// What clients check the nodes against, PEM; the cluster's own authority where none is given.
    pub ca: Option<String>,
    /// What stands at the end of every node's configuration.
    pub configuration: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 3,
            environment: Vec::new(),
            wiring: Wiring::Direct,
            timing: PATIENT,
            volatile: false,
            bad_disks: false,
            false_clocks: false,
            clocks_ahead: Duration::ZERO,
            own_root_keys: false,
            limits: Vec::new(),
            mutual_tls: false,
            ca: None,
            configuration: String::new(),
        }
    }
}

impl Setup {
    /// The same, with all that nodes do in their logs, so that a leak would show.
    #[must_use]
    pub fn loud(mut self) -> Self {
        self.environment.push(("REVOLVE_LOG".to_owned(), LOUD.to_owned()));
        self
    }
}

/// A cluster of real processes. Dropping it kills them and removes what they stored.
#[derive(Debug)]
pub struct Cluster {
    // Dropped first: the processes end before their network and their folders go.
    nodes: BTreeMap<u64, Option<Child>>,
    network: Network,
    folder: TempDir,
    setup: Setup,
}

impl Cluster {
    /// Starts three nodes and returns once they have a leader and each of them answers.
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts a cluster and returns once it has a leader and each node answers and is of use.
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
        let network = Network::lay(setup.wiring, setup.nodes, folder.path()).await;
        let ids = 1..=setup.nodes;
        for id in ids.clone() {
            let text = configuration_text(id, &network, &setup);
            fs::write(configuration(folder.path(), id), text).expect("a folder of ours");
            if setup.own_root_keys {
                fs::copy(folder.path().join("root.key"), folder.path().join(root_key_file(id, &setup)))
                    .expect("the root key of the cluster");
            }
        }
        if setup.mutual_tls {
            let authorities = Authorities::of(folder.path());
            let admin = authorities.client("admin");
            let write = |name, text: &str| private(&folder.path().join(name), text);
            let own = authorities.at(Kind::Client).pem();
            write("ca.pem", setup.ca.as_deref().unwrap_or(own));
            write("admin.pem", &admin.pem);
            write("admin.key", &admin.key_pem);
        }
        let mut cluster = Self { nodes: ids.map(|id| (id, None)).collect(), network, folder, setup };
        for id in 1..=cluster.setup.nodes {
            cluster.start_node(id);
        }
        cluster.leader().await;
        for id in cluster.running() {
            cluster.ready(id).await;
        }
        cluster
    }

    /// Waits until a node says that it is of use: that it takes part and knows a leader. The others may have one before.
    pub async fn ready(&self, id: u64) {
        let client = self.client_of(id);
        eventually(format!("node {id} is of use"), FORMED_WITHIN, async || {
            let answer = client.get_cluster(v1::GetClusterRequest {}).await;
            let unready = answer.map_err(|error| format!("{error:?}"))?.unready;
            if unready.is_empty() { Ok(()) } else { Err(unready.join("; ")) }
        })
        .await;
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
        if self.setup.volatile {
            power::watch(&mut command, self.folder.path(), id);
        }
        if self.setup.bad_disks {
            bad_disk::command(&mut command, self.folder.path(), id);
        }
        if self.setup.false_clocks {
            false_clock::command(&mut command, self.folder.path(), id, self.setup.clocks_ahead);
        }
        let command = self.network.inside(id, command);
        let node = self.nodes.get_mut(&id).expect("a node of this cluster");
        assert!(node.is_none(), "node {id} is running");
        *node = Some(Child::spawn(&format!("node-{id}"), self.folder.path(), command));
    }

    /// `kill -9` of one node.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn kill_node(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node of this cluster");
        if let Some(mut process) = node.take() {
            process.kill();
        }
    }

    /// Asks a node to end (SIGTERM), and gives how it ended and all that it has said on standard error; it can be started
    /// again.
    ///
    /// # Panics
    ///
    /// When it does not run, or goes on for longer than `within`.
    pub async fn stop_node(&mut self, id: u64, within: Duration) -> (ExitStatus, String) {
        self.stop_node_with(id, Signal::SIGTERM, within).await
    }

    /// The same by another signal.
    ///
    /// # Panics
    ///
    /// When it does not run, or goes on for longer than `within`.
    pub async fn stop_node_with(
        &mut self,
        id: u64,
        signal: Signal,
        within: Duration,
    ) -> (ExitStatus, String) {
        let process = self.process(id);
        process.signal(signal);
        let status = process.wait(within).await;
        let said = process.stderr();
        self.nodes.insert(id, None);
        (status, said)
    }

    /// Stops the process of a node that runs where it stands, until [`Cluster::resume_node`].
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn pause_node(&mut self, id: u64) {
        self.process(id).pause();
    }

    /// Lets a paused node go on.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn resume_node(&mut self, id: u64) {
        self.process(id).resume();
    }

    fn process(&mut self, id: u64) -> &mut Child {
        let node = self.nodes.get_mut(&id).and_then(Option::as_mut);
        node.unwrap_or_else(|| panic!("node {id} does not run"))
    }

    /// What lies between the nodes.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All nodes, also those that do not run.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes whose process has ended by itself since they were started; they can be started again.
    pub fn reap(&mut self) -> Vec<u64> {
        let mut ended = Vec::new();
        for (id, node) in &mut self.nodes {
            if node.as_mut().is_some_and(|process| process.ended().is_some()) {
                *node = None;
                ended.push(*id);
            }
        }
        ended
    }

    /// Waits for the process of a node to end by itself, and gives how it ended and all that it has said on standard
    /// error; it can be started again.
    ///
    /// # Panics
    ///
    /// When it does not run, or goes on for longer than `within`.
    pub async fn wait_for_end(&mut self, id: u64, within: Duration) -> (ExitStatus, String) {
        let process = self.process(id);
        let status = process.wait(within).await;
        let said = process.stderr();
        self.nodes.insert(id, None);
        (status, said)
    }

    /// The nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.is_some()).map(|(id, _)| *id).collect()
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
        let options = self.trusted(Options::new(self.addresses())).token(token);
        Client::connect(options).expect("addresses of ours")
    }

    /// A client of one node with the admin token.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn client_of(&self, id: u64) -> Client {
        Client::connect(self.options_of(id)).expect("an address of ours")
    }

    /// How to connect to one node with the admin token.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn options_of(&self, id: u64) -> Options {
        self.trusted(Options::new([self.url(id)])).token(self.admin_token())
    }

    /// Where clients reach a node, `host:port`.
    #[must_use]
    pub fn client_address(&self, id: u64) -> String {
        let url = self.url(id);
        url.rsplit_once('/').map_or(url.clone(), |(_, address)| address.to_owned())
    }

    /// Where a node listens for the others.
    #[must_use]
    pub fn peer_address(&self, id: u64) -> SocketAddr {
        self.network.peer(id)
    }

    fn url(&self, id: u64) -> String {
        if self.setup.mutual_tls {
            return format!("https://{}", self.network.client(id));
        }
        self.network.url(id)
    }

    fn trusted(&self, options: Options) -> Options {
        let options = Options { timeout: ANSWERED_WITHIN, ..options };
        if !self.setup.mutual_tls {
            return self.network.trusted(options);
        }
        let read = |name| fs::read_to_string(self.folder.path().join(name)).expect("a file of the cluster");
        options.ca(read("ca.pem")).certificate(read("admin.pem"), read("admin.key").into())
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.keys().map(|id| self.url(*id)).collect()
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

    /// The file with the root key of a node, in which it may be changed where nodes have their own.
    #[must_use]
    pub fn root_key_file(&self, id: u64) -> PathBuf {
        self.folder.path().join(root_key_file(id, &self.setup))
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
        self.issued(request).await
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
        self.issued(request).await
    }

    async fn issued(&self, request: v1::IssueTokenRequest) -> SecretString {
        let (admin, mut tries) = (self.admin(), 0);
        let issued = granted("a token", FORMED_WITHIN, async || {
            tries += 1;
            // A token whose answer was lost is shown to nobody, and its name is taken.
            let name = if tries == 1 { request.name.clone() } else { format!("{}-{tries}", request.name) };
            admin.issue_token(v1::IssueTokenRequest { name, ..request.clone() }).await
        });
        issued.await.token.into()
    }

    /// Runs the `revolve` command line against this cluster as admin, again while nobody answers, see [`output_once_answered`].
    pub fn cli<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.cli_as(&self.token_file(), arguments)
    }

    /// The same with the token in a file.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn cli_as<'a>(&self, token_file: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = revolve(arguments);
        if let Some(authority) = self.network.authority() {
            command.env("REVOLVE_CACERT", authority);
        }
        if self.setup.mutual_tls {
            let at = |name| self.folder.path().join(name);
            command.env("REVOLVE_CACERT", at("ca.pem"));
            command.env("REVOLVE_CLIENT_CERT", at("admin.pem")).env("REVOLVE_CLIENT_KEY", at("admin.key"));
        }
        command
            .env("REVOLVE_TIMEOUT", format!("{}s", ANSWERED_WITHIN.as_secs()))
            .env("REVOLVE_ADDR", self.addresses().join(","))
            .env("REVOLVE_TOKEN_FILE", token_file)
            .env("XDG_CONFIG_HOME", self.folder.path());
        // Where no node runs nobody will ever answer.
        let patience = if self.running().is_empty() { Duration::ZERO } else { FORMED_WITHIN };
        output_once_answered(&mut command, patience)
    }
}

/// Runs a command of `revolve`, and again while nobody answers it: between two leaders nobody does. After a try whose
/// outcome is unknown, the answer may be that it is done already.
///
/// # Panics
///
/// When it cannot be run.
pub fn output_once_answered(command: &mut Command, within: Duration) -> Output {
    let begun = Instant::now();
    loop {
        let output = command.output().expect("`revolve` can be run");
        if output.status.code() != Some(UNANSWERED) || begun.elapsed() >= within {
            return output;
        }
        std::thread::sleep(PAUSE);
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

fn root_key_file(id: u64, setup: &Setup) -> String {
    if setup.own_root_keys { format!("root-{id}.key") } else { "root.key".to_owned() }
}

fn configuration_text(id: u64, network: &Network, setup: &Setup) -> String {
    let root_key = root_key_file(id, setup);
    let limits: String = setup.limits.iter().map(|(name, number)| format!("{name} = {number}\n")).collect();
    let peers: String =
        network.peers_of(id).iter().map(|(id, peer)| format!("{id} = \"{peer}\"\n")).collect();
    let (client, peer) = (network.client(id), network.peer(id));
    let tls = network.tls().map_or_else(String::new, |(certificate, key)| {
        format!("[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", certificate.display(), key.display())
    });
    let client_tls = match (setup.mutual_tls, network.tls()) {
        (true, _) => "mutual",
        (false, Some(_)) => "server",
        (false, None) => "off",
    };
    format!(
        "node = {id}\ndata = \"node-{id}\"\nroot_key_file = \"{root_key}\"\nbootstrap_token_file = \"admin.token\"\n\
         [listen]\nclient_tls = \"{client_tls}\"\nclient = \"{client}\"\npeer = \"{peer}\"\n\
         [peers]\n{peers}{tls}\
         {}[limits]\nschedule_floor_ms = 1000\n{limits}{}",
        setup.timing, setup.configuration
    )
}

/// Writes a file that its owner alone may read.
fn private(path: &Path, text: &str) {
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(path).expect("a folder of ours");
    file.write_all(text.as_bytes()).expect("a file of ours");
}
