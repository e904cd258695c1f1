//! What `cargo xtask chaos` runs: a cluster under load and faults for as long as wanted, and a verdict.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::chaos::{self, Plan, Report};
use harness::network::Wiring;

/// A cluster of three under load and faults, and whether what its clients saw is linearizable.
#[derive(Parser)]
struct Options {
    /// How long to go on.
    #[arg(long)]
    minutes: u64,
    /// Decides calls and faults; when they strike depends on the machine.
    #[arg(long)]
    seed: u64,
    /// Proxies between the nodes, also where network namespaces are allowed.
    #[arg(long)]
    proxied: bool,
    /// Where histories go when something is wrong.
    #[arg(long)]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut plan = Plan::long(options.seed, Duration::from_secs(60 * options.minutes));
    if options.proxied {
        plan.wiring = Wiring::Proxied;
    }
    println!("seed {}, {:?}, {} minutes", plan.seed, plan.wiring, options.minutes);
    let report = chaos::run(plan).await;
    println!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { tell(&report, &options) }
}

/// Where the histories are, and how to come here again.
fn tell(report: &Report, options: &Options) -> ExitCode {
    match report.write_findings(&options.folder) {
        Ok(files) => files.iter().for_each(|file| println!("see {}", file.display())),
        Err(error) => eprintln!("error: cannot write the histories: {error}"),
    }
    let proxied = if options.proxied { " --proxied" } else { "" };
    println!("again: cargo xtask chaos --minutes {} --seed {}{proxied}", options.minutes, options.seed);
    ExitCode::FAILURE
}
