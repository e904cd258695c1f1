//! Machines, each with a folder of its own that holds one node: nothing is shared but the network.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use client::{Client, Options, v1};
use harness::cluster::{PATIENT, output_once_answered, revolve};
use harness::{Child, eventually, port};
use tempfile::TempDir;

use super::WITHIN;

/// The file that names where a process is to crash, shared by all machines.
const CRASH_FILE: &str = "crash";
/// How long a process may take to end when it is asked to.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// The machines. Dropping it ends their nodes and removes what they stored.
pub struct Machines {
    // Dropped first: the processes end before their folders go.
    running: BTreeMap<u64, Child>,
    seats: BTreeMap<u64, Seat>,
    folder: TempDir,
}

#[derive(Clone, Copy)]
struct Seat {
    client: SocketAddr,
    peer: SocketAddr,
}

/// What a command that was refused has said; it must have ended with this code.
pub fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

impl Machines {
    /// A cluster of one, grown by join tokens to `nodes`.
    pub async fn start(nodes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("revolve-machines-").tempdir().unwrap();
        let mut machines = Self { running: BTreeMap::new(), seats: BTreeMap::new(), folder };
        let first = machines.prepare_folder();
        let Seat { client, peer } = machines.seats[&first];
        let (client, peer) = (client.to_string(), peer.to_string());
        let init = ["cluster", "init", "--dir", &machines.path(first, "node"), "--listen-client", &client];
        let made = revolve(init).args(["--listen-peer", &peer]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        machines.give_time(first);
        machines.run(first);
        machines.voters(&[1]).await;
        for node in 2..=nodes {
            assert_eq!(machines.join(&[]).await, node);
        }
        let all: Vec<u64> = (1..=nodes).collect();
        machines.voters(&all).await;
        machines
    }

    /// A new machine that has the root key and nothing else; gives its number, which its node must be given too.
    pub fn prepare(&mut self) -> u64 {
        let machine = self.prepare_folder();
        fs::copy(self.path(1, "node/root.key"), self.root_key(machine)).unwrap();
        machine
    }

    fn prepare_folder(&mut self) -> u64 {
        let machine = self.seats.keys().next_back().map_or(1, |last| last + 1);
        let seat = Seat { client: port::loopback(port::free()), peer: port::loopback(port::free()) };
        self.seats.insert(machine, seat);
        fs::create_dir(self.folder.path().join(machine.to_string())).unwrap();
        machine
    }

    /// A path in the folder of a machine.
    pub fn path(&self, machine: u64, name: &str) -> String {
        self.folder.path().join(machine.to_string()).join(name).display().to_string()
    }

    /// The root key on a machine.
    pub fn root_key(&self, machine: u64) -> String {
        self.path(machine, "root.key")
    }

    /// The data folder of a machine's node.
    pub fn data(&self, machine: u64) -> PathBuf {
        let name = if machine == 1 { "node/node-1" } else { "node/data" };
        self.path(machine, name).into()
    }

    /// Makes a join token.
    pub fn invite(&self, more: &[&str]) -> String {
        let made = self.cli(&[&["cluster", "invite", "--reason", "a new machine"], more].concat());
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Lets a machine ask to be let in.
    pub fn ask(&self, machine: u64, token: &str, more: &[&str]) -> Output {
        let Seat { client, peer } = self.seats[&machine];
        let server = self.seats[&self.serving()].client.to_string();
        let (client, peer) = (client.to_string(), peer.to_string());
        let mut command =
            revolve(["cluster", "join", "--server", &server, "--dir", &self.path(machine, "node")]);
        command.args(["--root-key-file", &self.root_key(machine), "--listen-client", &client]);
        command.args(["--listen-peer", &peer]).args(more).env("REVOLVE_JOIN_TOKEN", token);
        // Who has not heard the answer may ask again, and is given the same number.
        output_once_answered(&mut command, WITHIN)
    }

    /// A node on a new machine, running; gives its number.
    pub async fn join(&mut self, more: &[&str]) -> u64 {
        let (token, machine) = (self.invite(&[]), self.prepare());
        self.join_at(machine, &token, more).await
    }

    /// A node on this machine, let in with this token, running; gives its number.
    pub async fn join_at(&mut self, machine: u64, token: &str, more: &[&str]) -> u64 {
        let asked = self.ask(machine, token, more);
        assert!(asked.status.success(), "{asked:?}");
        let made = String::from_utf8(asked.stdout).unwrap();
        assert_eq!(made.trim(), self.path(machine, &format!("node/node-{machine}.toml")));
        self.give_time(machine);
        self.run(machine);
        let client = self.admin_of(machine);
        eventually("the node answers", WITHIN, async || {
            client.get_status(v1::GetStatusRequest {}).await.map(drop)
        })
        .await;
        machine
    }

    fn give_time(&self, machine: u64) {
        let file = self.path(machine, &format!("node/node-{machine}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n{PATIENT}")).unwrap();
    }

    fn configuration(&self, machine: u64) -> String {
        let numbered = self.path(machine, &format!("node/node-{machine}.toml"));
        if fs::exists(&numbered).unwrap() { numbered } else { self.path(machine, "node/node.toml") }
    }

    /// Starts the node of a machine.
    pub fn run(&mut self, machine: u64) {
        let mut command = revolve(["server", "--config", &self.configuration(machine)]);
        command.env("REVOLVE_LOG", "debug,h2=warn,hyper=warn,tower=warn");
        command.env("REVOLVE_CRASH_FILE", self.folder.path().join(CRASH_FILE));
        let folder = self.folder.path().join(machine.to_string());
        self.running.insert(machine, Child::spawn(&format!("node-{machine}"), &folder, command));
    }

    /// `kill -9`.
    pub fn kill(&mut self, machine: u64) {
        self.running.remove(&machine).unwrap().kill();
    }

    /// Stops a node where it stands, until [`Machines::resume`].
    pub fn pause(&mut self, machine: u64) {
        self.running.get_mut(&machine).unwrap().pause();
    }

    /// Lets a node go on that was paused.
    pub fn resume(&mut self, machine: u64) {
        self.running.get_mut(&machine).unwrap().resume();
    }

    /// The first node that comes to this point crashes there.
    pub fn crash_at(&self, point: &str) {
        fs::write(self.folder.path().join(CRASH_FILE), point).unwrap();
    }

    /// Stops a node in good order and starts it again.
    pub async fn restart(&mut self, machine: u64) {
        let mut process = self.running.remove(&machine).unwrap();
        assert!(process.stop(STOPS_WITHIN).await.success());
        self.run(machine);
    }

    /// All that a node has said.
    pub fn said(&self, machine: u64) -> String {
        self.running[&machine].stderr()
    }

    /// How `revolve health` on a machine ends for its node, and what it says.
    pub fn health(&self, machine: u64) -> (Option<i32>, String) {
        let asked =
            revolve(["health", "--ready", "--config", &self.configuration(machine)]).output().unwrap();
        let said = [asked.stdout, asked.stderr].concat();
        (asked.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Where the nodes reach a machine's.
    pub fn peer(&self, machine: u64) -> SocketAddr {
        self.seats[&machine].peer
    }

    /// Waits until the process of a node has ended by itself, and gives all that it has said.
    pub async fn ended(&mut self, machine: u64) -> String {
        let mut process = self.running.remove(&machine).unwrap();
        let status = process.wait(WITHIN).await;
        assert!(!status.success(), "{status}");
        process.stderr()
    }

    /// Gives a node that has no number a configuration with which it asks another.
    pub fn configure_to_join(&self, machine: u64, server: u64) {
        let Seat { client, peer } = self.seats[&machine];
        let server = self.seats[&server].client;
        fs::create_dir(self.path(machine, "node")).unwrap();
        let text = format!(
            "data = \"data\"\nroot_key_file = \"../root.key\"\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             [join]\nservers = [\"{server}\"]\n\n{PATIENT}"
        );
        fs::write(self.path(machine, "node/node.toml"), text).unwrap();
    }

    /// From now on a machine's node lets others in that have the root key and no token.
    pub async fn admit_by_root_key(&mut self, machine: u64) {
        let file = self.path(machine, &format!("node/node-{machine}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n[join]\nadmit = \"root-key\"\n")).unwrap();
        self.restart(machine).await;
    }

    /// Gives an order about a node, with a reason and a clear yes; again while it is refused, as on a busy machine a
    /// node is not heard for a moment.
    pub async fn order(&self, verb: &str, node: u64, reason: &str) {
        let name = format!("node-{node}");
        eventually(format!("{verb} {name}"), WITHIN, async || {
            let done = self.cli(&["cluster", verb, &name, "--reason", reason, "--yes"]);
            if done.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&done.stderr).into_owned())
            }
        })
        .await;
    }

    /// Runs the command line as admin, against all nodes that run, and again while nobody answers.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let addresses: Vec<String> = self.running.keys().map(|machine| self.url(*machine)).collect();
        output_once_answered(&mut self.cli_to(&addresses, arguments), WITHIN)
    }

    /// Runs the command line as admin, once, against one node.
    pub fn cli_at(&self, machine: u64, arguments: &[&str]) -> Output {
        self.cli_to(&[self.url(machine)], arguments).output().unwrap()
    }

    fn cli_to(&self, addresses: &[String], arguments: &[&str]) -> Command {
        let mut command: Command = revolve(arguments.iter().copied());
        command.env("REVOLVE_ADDR", addresses.join(","));
        command.env("REVOLVE_TOKEN_FILE", self.path(1, "node/admin.token"));
        command.env("REVOLVE_CACERT", self.path(1, "node/ca.pem"));
        command.env("REVOLVE_CLIENT_CERT", self.path(1, "node/admin.pem"));
        command.env("REVOLVE_CLIENT_KEY", self.path(1, "node/admin.key"));
        command.env("REVOLVE_TIMEOUT", "30s").env("XDG_CONFIG_HOME", self.folder.path());
        command
    }

    /// A client of one node.
    pub fn admin_of(&self, machine: u64) -> Client {
        self.admin([self.url(machine)])
    }

    /// A client of all machines for each of them, with that one first.
    pub fn admin_of_each(&self) -> Vec<Client> {
        let urls: Vec<String> = self.seats.keys().map(|machine| self.url(*machine)).collect();
        let client_of = |first| {
            let mut turned = urls.clone();
            turned.rotate_left(first);
            self.admin(turned)
        };
        (0..urls.len()).map(client_of).collect()
    }

    fn admin(&self, urls: impl IntoIterator<Item = String>) -> Client {
        let read = |name: &str| fs::read_to_string(self.path(1, &format!("node/{name}"))).unwrap();
        let options = Options::new(urls)
            .token(read("admin.token").trim().to_owned().into())
            .ca(read("ca.pem"))
            .certificate(read("admin.pem"), read("admin.key").into());
        Client::connect(options).unwrap()
    }

    fn url(&self, machine: u64) -> String {
        format!("https://{}", self.seats[&machine].client)
    }

    /// A machine whose node runs.
    fn serving(&self) -> u64 {
        *self.running.keys().next().expect("a node runs")
    }

    /// The leader, as a node that runs sees it.
    pub async fn leader(&self) -> u64 {
        let client = self.admin_of(self.serving());
        eventually("a leader", WITHIN, async || {
            let answer = client.get_cluster(v1::GetClusterRequest {}).await.ok()?;
            (answer.leader > 0).then_some(answer.leader)
        })
        .await
    }

    /// Waits until every node that runs knows exactly these voters, which all answer.
    pub async fn voters(&self, wanted: &[u64]) {
        for machine in self.running.keys() {
            let client = self.admin_of(*machine);
            eventually(format!("voters {wanted:?} at machine {machine}"), WITHIN, async || {
                let answer = client.get_cluster(v1::GetClusterRequest {}).await.map_err(|e| e.to_string())?;
                let voters = answer.members.iter().filter(|member| member.voter && member.reachable);
                let voters: Vec<u64> = voters.map(|member| member.id).collect();
                if voters == wanted { Ok(()) } else { Err(format!("{:?}", answer.members)) }
            })
            .await;
        }
    }

    /// Waits until `revolve health` says of a machine's node that it is of use: one that was only just let vote asks the
    /// others first whether it may.
    pub async fn ready(&self, machine: u64) {
        let ready = (Some(0), "ready\n".to_owned());
        eventually(format!("machine {machine} is ready"), WITHIN, async || {
            let health = self.health(machine);
            if health == ready { Ok(()) } else { Err(health) }
        })
        .await;
    }

    /// The cluster as the node of a machine sees it; an error while that does not answer.
    pub async fn seen_by(&self, machine: u64) -> Result<v1::GetClusterResponse, String> {
        let asked = self.admin_of(machine).get_cluster(v1::GetClusterRequest {}).await;
        asked.map_err(|error| error.to_string())
    }

    /// Waits until every node that runs knows a leader and exactly these voters, whether they answer or not, and no change
    /// is under way.
    pub async fn settled(&self, wanted: &[u64]) {
        for machine in self.running.keys() {
            eventually(format!("voters {wanted:?}, settled, at machine {machine}"), WITHIN, async || {
                let seen = self.seen_by(*machine).await?;
                let voters = seen.members.iter().filter(|member| member.voter);
                let voters: Vec<u64> = voters.map(|member| member.id).collect();
                let is_settled = seen.leader > 0 && !seen.changing && voters == wanted;
                if is_settled { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        }
    }

    /// The whole audit log.
    pub async fn audit(&self) -> Vec<v1::AuditRecord> {
        let client = self.admin_of(self.serving());
        eventually("the whole audit log", WITHIN, async || {
            let stream = client.watch_audit(v1::WatchAuditRequest::default()).await;
            let mut stream = stream.map_err(|error| format!("{error:?}"))?;
            let mut records = Vec::new();
            while let Some(message) = stream.message().await.map_err(|status| status.to_string())? {
                records.extend(message.record);
            }
            Ok::<_, String>(records)
        })
        .await
    }
}
