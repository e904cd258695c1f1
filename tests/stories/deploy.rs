//! What stands in deploy/ works: the image's layout holds all that the program needs, and the configurations of compose
//! and Kubernetes, one for all nodes, form a cluster. `cargo xtask deploy` checks the rest with the tools of those who
//! run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Child, cluster::revolve, eventually, port, surroundings};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(60);

/// How lines begin in the configurations of deploy/ that name settings which the server does not have yet. They are taken
/// from this list when it has them; they cannot stay here longer.
const NOT_YET: &[&str] = &["client_tls", "[certificates]", "names", "[join]", "servers", "admit"];

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
    forms_a_cluster("compose/node.toml", |id| format!("node-{id}")).await;
}

#[tokio::test]
async fn the_configuration_of_kubernetes_forms_a_cluster() {
    forms_a_cluster("kubernetes/base/node.toml", |id| format!("revolve-{id}.revolve")).await;
}

/// Starts three nodes from one configuration, told apart by their environment alone, where only names and ports are
/// changed to those of this machine.
async fn forms_a_cluster(file: &str, host: fn(u16) -> String) {
    let text = fs::read_to_string(deploy().join(file)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = revolve(["server", "init", "--nodes", "1", "--dir"]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let first = port::free_range(6);
    let known = |line: &&str| !NOT_YET.iter().any(|start| line.starts_with(start));
    let kept: String = text.lines().filter(known).map(|line| format!("{line}\n")).collect();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let own = here(&kept, &folder, first, id, host);
        let path = folder.path().join(format!("shared-{id}.toml"));
        fs::write(&path, own).unwrap();
        let mut command = revolve(["server", "--config"]);
        command
            .arg(&path)
            .env("REVOLVE_NODE", id.to_string())
            .env("REVOLVE_DATA", folder.path().join(format!("data-{id}")))
            .env("REVOLVE_ADVERTISE", format!("{}:7800", host(id)));
        nodes.push(Child::spawn(&format!("node-{id}"), folder.path(), command));
    }
    let token = folder.path().join("admin.token");
    eventually("a cluster of three that says where its nodes are", WITHIN, async || {
        let output = revolve(["cluster", "status"])
            .env("REVOLVE_ADDR", format!("http://{}", port::loopback(first)))
            .env("REVOLVE_TOKEN_FILE", &token)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let all_told = (1..=3).all(|id| said.contains(&format!("{}:7800", host(id))));
        if output.status.success() && all_told { Ok(()) } else { Err(said) }
    })
    .await;

    if !NOT_YET.is_empty() {
        let whole = folder.path().join("whole.toml");
        fs::write(&whole, here(&text, &folder, first, 1, host)).unwrap();
        let refused = revolve(["server", "--config"]).arg(&whole).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("unknown field"), "the server knows `{file}` now: empty NOT_YET\n{said}");
        assert_eq!(refused.status.code(), Some(64), "{said}");
    }
}

/// The configuration with the names, ports and folders of this machine.
fn here(text: &str, folder: &TempDir, first: u16, own: u16, host: fn(u16) -> String) -> String {
    let client = |id: u16| port::loopback(first + (id - 1) * 2).to_string();
    let peer = |id: u16| port::loopback(first + (id - 1) * 2 + 1).to_string();
    let mut text = text
        .replace("0.0.0.0:7800", &client(own))
        .replace("0.0.0.0:7801", &peer(own))
        .replace("client_tls = \"mutual\"", "client_tls = \"off\"")
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
