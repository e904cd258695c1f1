//! `cargo xtask sim`: many simulated worlds, built to run fast.

use std::process::ExitCode;

use clap::Args;

use crate::cargo::{cargo, succeed};

/// Which seeds.
#[derive(Args)]
pub struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; as many as there are processors by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Print the whole trace of every world.
    #[arg(long)]
    trace: bool,
}

/// Builds the simulation and runs it. Fails when a promise was broken.
pub fn run(sim: &Sim) -> ExitCode {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "sim", "--"]);
    command.args(["--seeds", &sim.seeds.to_string(), "--from", &sim.from.to_string()]);
    if let Some(threads) = sim.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if sim.trace {
        command.arg("--trace");
    }
    match succeed(&mut command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
