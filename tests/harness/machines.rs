//! Machines as an operator has them, each with a configuration under `/etc/revolve`, data under `/var/lib/revolve` and a
//! unit that `systemctl` starts and ends. Here they are folders and processes of one machine; what is typed names the
//! places of a real one and is translated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Authorities;
use crate::cluster::{PATIENT, revolve};
use crate::{Child, port, surroundings};

/// Most machines there can be; each has two ports.
const MOST: u16 = 6;
/// How long a node may take to end, as in the unit.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Whose prompt it is that is no machine of the cluster: the operator's own.
const OPERATOR: &str = "you";

/// Machines called `node-1` and so on, and the operator's own.
#[derive(Debug)]
pub struct Machines {
    // Dropped first: the processes end before their folders go.
    running: BTreeMap<u16, Child>,
    first_port: u16,
    place: TempDir,
}

impl Machines {
    /// Machines on which nothing but the program is installed.
    ///
    /// # Panics
    ///
    /// When their folders cannot be made; so do the other functions here.
    #[must_use]
    pub fn bare() -> Self {
        let place =
            tempfile::Builder::new().prefix("revolve-machines-").tempdir().expect("a temporary folder");
        let machines = Self { running: BTreeMap::new(), first_port: port::free_range(MOST * 2), place };
        fs::create_dir(machines.home()).expect("a folder of ours");
        for name in (1..=MOST).map(node).chain([OPERATOR.to_owned()]) {
            for folder in ["etc/revolve", "var/lib/revolve", "bin"] {
                fs::create_dir_all(machines.folder(&name).join(folder)).expect("a folder of ours");
            }
            let program = fs::canonicalize(surroundings::revolve_bin()).expect("the program");
            std::os::unix::fs::symlink(program, machines.folder(&name).join("bin/revolve")).expect("a link");
        }
        machines
    }

    /// Three machines that form a cluster, configured as `revolve server init` does it, but that their client ports are
    /// for more than loopback and speak mutual TLS; running.
    #[must_use]
    pub fn with_cluster() -> Self {
        let mut machines = Self::bare();
        let made = machines.place.path().join("made");
        let first_port = machines.first_port.to_string();
        let mut init = revolve(["server", "init", "--nodes", "3", "--port", &first_port, "--dir"]);
        let output = init.arg(&made).output().expect("`revolve` can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for number in 1..=3 {
            let own = format!("{}.toml", node(number));
            let etc = machines.folder(&node(number)).join("etc/revolve");
            let text = fs::read_to_string(made.join(own)).expect("a configuration");
            assert!(text.contains("\nclient_tls = \"off\"\n"), "{text}");
            let text = text.replace("\nclient_tls = \"off\"\n", "\n");
            fs::write(etc.join("node.toml"), text).expect("a file of ours");
            for file in ["root.key", "admin.token"] {
                fs::copy(made.join(file), etc.join(file)).expect("a file of ours");
            }
            machines.start(number);
        }
        fs::copy(made.join("admin.token"), machines.home().join("token")).expect("a file of ours");
        Authorities::of(&made).write_client("admin", &machines.home());
        machines
    }

    /// The folder that stands for the root of a machine.
    #[must_use]
    pub fn folder(&self, machine: &str) -> PathBuf {
        self.place.path().join(machine)
    }

    /// The home of whoever types, at every machine the same: what lies there has been brought along.
    fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    /// Where clients reach a node, `host:port`.
    #[must_use]
    pub fn client_address(&self, number: u16) -> String {
        port::loopback(self.first_port + (number - 1) * 2).to_string()
    }

    fn peer_address(&self, number: u16) -> String {
        port::loopback(self.first_port + (number - 1) * 2 + 1).to_string()
    }

    /// Starts the unit of a machine.
    pub fn start(&mut self, number: u16) {
        assert!(!self.running.contains_key(&number), "{} runs", node(number));
        let folder = self.folder(&node(number));
        let configuration = folder.join("etc/revolve/node.toml");
        give_time(&configuration);
        let mut command = revolve(["server", "--config"]);
        command.arg(configuration).env("REVOLVE_DATA", folder.join("var/lib/revolve"));
        let child = Child::spawn(&node(number), self.place.path(), command);
        self.running.insert(number, child);
    }

    /// Ends the unit of a machine, with SIGTERM.
    pub async fn stop(&mut self, number: u16) {
        let mut child =
            self.running.remove(&number).unwrap_or_else(|| panic!("{} does not run", node(number)));
        let status = child.stop(STOP_WITHIN).await;
        assert!(status.success(), "{}", child.tail());
    }

    /// `kill -9` of the unit of a machine.
    pub fn kill(&mut self, number: u16) {
        let mut child =
            self.running.remove(&number).unwrap_or_else(|| panic!("{} does not run", node(number)));
        child.kill();
    }

    /// Types `command` at a machine: `systemctl` is understood, everything else runs in a shell, for `within` at most.
    pub async fn type_at(&mut self, machine: &str, command: &str, within: Duration) -> Output {
        if let Some(order) = command.strip_prefix("sudo systemctl ") {
            let number = machine.strip_prefix("node-").and_then(|number| number.parse().ok());
            self.systemctl(number.unwrap_or_else(|| panic!("there is no unit at `{machine}`")), order).await;
            return Command::new("true").output().expect("it can be run");
        }
        let mut shell = Command::new("timeout");
        shell.args([&within.as_secs().to_string(), "sh", "-c", &self.translated(machine, command)]);
        let home = self.home();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", self.folder(machine).join("bin").display()));
        shell.current_dir(&home).env("HOME", &home).env("XDG_CONFIG_HOME", home.join(".config"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REVOLVE_"))
        {
            shell.env_remove(name);
        }
        shell.envs(self.settings());
        let mut output = shell.output().expect("a shell can be started");
        output.stdout = self.told(machine, &output.stdout);
        output.stderr = self.told(machine, &output.stderr);
        output
    }

    /// What whoever types has set: where the cluster is, and what opens it, as far as it has been brought along.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let home = self.home();
        let urls: Vec<_> = (1..=MOST).map(|number| self.url(number)).collect();
        let files = [
            ("REVOLVE_TOKEN_FILE", "token"),
            ("REVOLVE_CACERT", "ca.pem"),
            ("REVOLVE_CLIENT_CERT", "admin.pem"),
            ("REVOLVE_CLIENT_KEY", "admin.key"),
        ];
        let brought = files.into_iter().filter(|(_, file)| home.join(file).exists());
        let brought = brought.map(|(variable, file)| (variable, home.join(file).display().to_string()));
        [("REVOLVE_ADDR", urls.join(","))].into_iter().chain(brought).collect()
    }

    /// The URL of a node; with TLS where the authority of the cluster has been brought along.
    fn url(&self, number: u16) -> String {
        let scheme = if self.home().join("ca.pem").exists() { "https" } else { "http" };
        format!("{scheme}://{}", self.client_address(number))
    }

    async fn systemctl(&mut self, number: u16, order: &str) {
        match order {
            "start revolve" | "enable --now revolve" => self.start(number),
            "stop revolve" | "disable --now revolve" => self.stop(number).await,
            "kill --signal=KILL revolve" => self.kill(number),
            "restart revolve" => {
                self.stop(number).await;
                self.start(number);
            }
            other => panic!("`systemctl {other}` is not understood here"),
        }
    }

    /// What is typed on a real machine, as it is typed here.
    fn translated(&self, machine: &str, command: &str) -> String {
        let mut text = command.replace("sudo ", "");
        for (real, here) in self.places(machine) {
            text = text.replace(&real, &here);
        }
        // A name without a port can be told here, and not from any other afterwards.
        for number in 1..=MOST {
            text = text.replace(&format!("{}.example", node(number)), "127.0.0.1");
        }
        text
    }

    /// What was said here, as it is said on a real machine.
    fn told(&self, machine: &str, said: &[u8]) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(said).into_owned();
        for (real, here) in self.places(machine) {
            text = text.replace(&here, &real);
        }
        text.into_bytes()
    }

    /// What stands for what: the longer first.
    fn places(&self, machine: &str) -> Vec<(String, String)> {
        let mut places = Vec::new();
        for number in 1..=MOST {
            let (name, client, peer) = (node(number), self.client_address(number), self.peer_address(number));
            places.push((format!("https://{name}.example:7800"), self.url(number)));
            places.push((format!("{name}.example:7800"), client.clone()));
            places.push((format!("{name}.example:7801"), peer.clone()));
            if name == machine {
                places.push(("0.0.0.0:7800".to_owned(), client));
                places.push(("0.0.0.0:7801".to_owned(), peer));
            }
        }
        let folder = self.folder(machine);
        let inside = |path: &str| folder.join(Path::new(path).strip_prefix("/").expect("absolute"));
        for path in ["/etc/revolve", "/var/lib/revolve"] {
            places.push((path.to_owned(), inside(path).display().to_string()));
        }
        places
    }
}

/// The machine is busy with other tests: nobody is to be given up early.
fn give_time(configuration: &Path) {
    let text = fs::read_to_string(configuration).expect("a configuration");
    if !text.contains("[timing]") {
        fs::write(configuration, format!("{text}\n{PATIENT}")).expect("a file of ours");
    }
}

fn node(number: u16) -> String {
    format!("node-{number}")
}
