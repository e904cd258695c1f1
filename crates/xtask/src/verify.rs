//! `cargo xtask verify`: everything that can be checked without running the tests. It never writes.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, succeed};
use crate::deny;
use crate::deploy;
use crate::steps::{Checked, Steps};

/// Runs every check, also after one has failed.
pub fn run() -> ExitCode {
    let mut steps = Steps::default();
    steps.run("format", || whole(&["fmt", "--all", "--check"]));
    steps.run("lints", || {
        whole(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
    });
    steps.run("dependencies", deny::rules);
    steps.run("advisories", deny::advisories);
    steps.run("documentation", documentation);
    steps.run("deploy", deploy::check);
    steps.close("verify")
}

/// Runs the check of deploy/ alone.
pub fn deploy() -> ExitCode {
    let mut steps = Steps::default();
    steps.run("deploy", deploy::check);
    steps.close("deploy")
}

fn whole(args: &[&str]) -> Result<Checked> {
    succeed(cargo().args(args))?;
    Ok(Checked::Whole)
}

fn documentation() -> Result<Checked> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "--deny warnings");
    succeed(&mut command)?;
    Ok(Checked::Whole)
}
