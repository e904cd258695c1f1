//! What stands in deploy/ works: the image's layout holds all that the program needs, and the configurations of compose
//! and Kubernetes, one for all nodes, form a cluster. `cargo xtask deploy` checks the rest with the tools of those who
//! run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::certificates::Authorities;
use harness::cluster::{PATIENT, revolve};
use harness::{Child, eventually, port, surroundings};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn the_layout_of_the_image_runs_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("rootfs");
    let laid = Command::new(deploy().join("container/rootfs.sh"))
        .arg(surroundings::revolve_bin())
        .arg(&root)
        .output()
        .unwrap();
    assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
    // Only root may change its root as it is; others are root in a user namespace of their own.
    let mut inside = if nix::unistd::geteuid().is_root() {
        let mut chroot = Command::new("chroot");
        chroot.arg("--userspec=65532:65532").arg(&root);
        // Nothing above it may keep user 65532 out.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        chroot
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--root"]).arg(&root);
        unshare
    };
    let output =
        inside.args(["/usr/bin/revolve", "version"]).env_clear().env("PATH", path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("revolve "), "{said}");
    for missing in ["bin/sh", "usr/bin/sh", "bin/bash"] {
        assert!(!root.join(missing).exists(), "the image has no shell");
    }
}

#[tokio::test]
async fn the_configuration_of_compose_forms_a_cluster() {
    Formed::from("compose/node.toml", |id| format!("node-{id}")).await;
}

#[tokio::test]
async fn the_configuration_of_kubernetes_forms_a_cluster_and_a_further_pod_joins_it() {
    let mut formed = Formed::from("kubernetes/base/node.toml", |id| format!("revolve-{id}.revolve")).await;
    formed.run(4);
    formed.has(4).await;
    formed.is_ready(4).await;
}

/// Nodes that run from one configuration, told apart by their environment alone, where only names and ports are changed
/// to those of this machine, and patience is added, for it is busy.
struct Formed {
    // Dropped first: the processes end before their folder goes.
    nodes: Vec<Child>,
    text: String,
    host: fn(u16) -> String,
    first_port: u16,
    folder: TempDir,
}

impl Formed {
    /// Three of them.
    async fn from(file: &str, host: fn(u16) -> String) -> Self {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = revolve(["server", "init", "--nodes", "1", "--dir"]).arg(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Authorities::of(folder.path()).write_client("admin", folder.path());
        let mut formed = Self { nodes: Vec::new(), text, host, first_port: port::free_range(8), folder };
        for id in 1..=3 {
            formed.run(id);
        }
        formed.has(3).await;
        formed.is_ready(1).await;
        formed
    }

    fn run(&mut self, id: u16) {
        let own = here(&self.text, &self.folder, self.first_port, id, self.host);
        fs::write(self.configuration(id), format!("{own}\n{PATIENT}")).unwrap();
        let mut command = revolve(["server", "--config"]);
        command.arg(self.configuration(id)).envs(self.environment(id));
        self.nodes.push(Child::spawn(&format!("node-{id}"), self.folder.path(), command));
    }

    fn configuration(&self, id: u16) -> PathBuf {
        self.folder.path().join(format!("shared-{id}.toml"))
    }

    fn environment(&self, id: u16) -> [(&'static str, String); 4] {
        [
            ("REVOLVE_NODE", id.to_string()),
            ("REVOLVE_DATA", self.folder.path().join(format!("data-{id}")).display().to_string()),
            ("REVOLVE_ADVERTISE", format!("{}:7800", (self.host)(id))),
            ("REVOLVE_ADVERTISE_PEER", port::loopback(self.first_port + (id - 1) * 2 + 1).to_string()),
        ]
    }

    /// Waits until a node is ready, asked as its container asks.
    async fn is_ready(&self, id: u16) {
        eventually(format!("node-{id} is ready"), WITHIN, async || {
            let mut command = revolve(["health", "--ready", "--config"]);
            let asked = command.arg(self.configuration(id)).envs(self.environment(id)).output().unwrap();
            if asked.status.success() { Ok(()) } else { Err(asked) }
        })
        .await;
    }

    /// Waits for a cluster of so many nodes that says where they are.
    async fn has(&self, nodes: u16) {
        let file = |name: &str| self.folder.path().join(name);
        eventually(format!("a cluster of {nodes} that says where its nodes are"), WITHIN, async || {
            let output = revolve(["cluster", "status"])
                .env("REVOLVE_ADDR", format!("https://{}", port::loopback(self.first_port)))
                .env("REVOLVE_TOKEN_FILE", file("admin.token"))
                .env("REVOLVE_CACERT", file("ca.pem"))
                .env("REVOLVE_CLIENT_CERT", file("admin.pem"))
                .env("REVOLVE_CLIENT_KEY", file("admin.key"))
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let all_told = (1..=nodes).all(|id| said.contains(&format!("{}:7800", (self.host)(id))));
            if output.status.success() && all_told { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

/// The configuration with the names, ports and folders of this machine.
fn here(text: &str, folder: &TempDir, first: u16, own: u16, host: fn(u16) -> String) -> String {
    let client = |id: u16| port::loopback(first + (id - 1) * 2).to_string();
    let peer = |id: u16| port::loopback(first + (id - 1) * 2 + 1).to_string();
    let mut text = text
        .replace("0.0.0.0:7800", &client(own))
        .replace("0.0.0.0:7801", &peer(own))
        .replace("/run/secrets/revolve/", &format!("{}/", folder.path().display()))
        .replace("/run/secrets/", &format!("{}/", folder.path().display()));
    for id in 1..=3 {
        text = text
            .replace(&format!("{}:7800", host(id)), &client(id))
            .replace(&format!("{}:7801", host(id)), &peer(id));
    }
    text
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}
