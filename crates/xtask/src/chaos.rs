//! `cargo xtask chaos`: a released cluster under load and faults, and a verdict on what its clients saw.

use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, root, succeed};

/// How long, and which faults.
#[derive(Args)]
pub struct Chaos {
    /// How long to go on.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Decides calls and faults; drawn from the clock when absent, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Proxies between the nodes, also where network namespaces are allowed.
    #[arg(long)]
    proxied: bool,
}

/// Builds what is needed and runs it. Fails when a promise was broken, or nobody can tell.
pub fn run(chaos: &Chaos) -> ExitCode {
    match try_run(chaos) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(chaos: &Chaos) -> Result<()> {
    let seed = match chaos.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let packages = ["--package", "cli", "--package", "tests", "--bin", "revolve", "--bin", "chaos"];
    // Apart from a target folder chosen by hand, so that the programs are where they are looked for.
    succeed(cargo().env_remove("CARGO_TARGET_DIR").args(["build", "--release"]).args(packages))?;
    let built = root().join("target/release");
    let mut command = Command::new(built.join("chaos"));
    command.env("REVOLVE_BIN", built.join("revolve"));
    command.args(["--minutes", &chaos.minutes.to_string(), "--seed", &seed.to_string()]);
    command.arg("--folder").arg(root().join(format!("target/chaos/{seed}")));
    if chaos.proxied {
        command.arg("--proxied");
    }
    succeed(&mut command)
}
