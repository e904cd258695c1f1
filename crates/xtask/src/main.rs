//! `cargo xtask`: the commands that prove the workspace, the same for a person and for CI.
//! It refuses to be part of the product: nothing here is linked into `revolve`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks to its terminal")]

mod apt;
mod bench;
mod cargo;
mod chaos;
mod crash_points;
mod deny;
mod deploy;
mod faketime;
mod fix;
mod postgres;
mod sim;
mod steps;
mod tally;
mod test;
mod venv;
mod verify;
mod volatile_layer;

use std::process::ExitCode;

use clap::Parser;

/// Proves the workspace: the same commands for a person and for CI.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Find or install the servers that the tests need, then build and run every test.
    Test {
        /// Handed to `cargo test`, such as `-p tests harness`; the default is the whole workspace.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Measure beside what a user would pick instead.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Put a cluster under load and faults, and check that what its clients saw is linearizable.
    Chaos(chaos::Chaos),
    /// Run whole clusters in virtual time under faults drawn from seeds, and check every promise at every step.
    Sim(sim::Sim),
    /// Check formatting, lints, dependencies, documentation and deploy/. Never writes.
    Verify,
    /// Check what stands in deploy/, as `verify` does too.
    Deploy,
    /// Format, and apply the lint fixes that a machine can make.
    Fix,
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Test { args } => test::run(&args),
        Task::Bench { bench } => bench::run(&bench),
        Task::Chaos(chaos) => chaos::run(&chaos),
        Task::Sim(sim) => sim::run(&sim),
        Task::Verify => verify::run(),
        Task::Deploy => verify::deploy(),
        Task::Fix => fix::run(),
    }
}
