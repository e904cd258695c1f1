//! `cargo xtask bench`: measurements beside what a user would pick instead.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::apt;
use crate::cargo::{cargo, root, succeed};

/// Where protoc looks for what it comes with, below the folder that its own folder lies in.
const DESCRIPTIONS: &str = "include/google/protobuf/descriptor.proto";

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Three nodes of Revolve beside three of etcd: writes, failover, restart, memory, disk, rejoin, readers.
    #[command(disable_help_flag = true)]
    Raft {
        /// Handed to the benchmark, such as `--quick` or `--only write,failover`; `--help` lists them all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Builds what is needed and measures. The exit code tells whether everything was measured, not who was faster.
pub fn run(bench: &Bench) -> ExitCode {
    match bench {
        Bench::Raft { args } => match raft(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn raft(args: &[String]) -> Result<()> {
    protoc()?;
    let etcd = program("etcd", &["etcd-server"])?;
    program("strace", &["strace"])?;
    succeed(cargo().args(["build", "--release", "--package", "cli"]))?;
    let folder = root().join("benches/raft");
    let mut build = cargo();
    // A target folder chosen for the workspace is not for this package: it is a workspace of its own.
    build.current_dir(&folder).env_remove("CARGO_TARGET_DIR").args(["build", "--release"]);
    succeed(&mut build)?;
    let mut bench = std::process::Command::new(folder.join("target/release/raft-bench"));
    bench.arg("--revolve").arg(root().join("target/release/revolve")).arg("--etcd").arg(etcd);
    bench.arg("--folder").arg(root().join("target/bench/raft"));
    bench.arg("--page").arg(root().join("docs/performance.md")).args(args);
    succeed(&mut bench).context("not everything could be measured")
}

/// The compiler that etcd's client is built with. Debian keeps the descriptions of `google.protobuf` apart from it.
fn protoc() -> Result<()> {
    let packages = ["protobuf-compiler", "libprotobuf-dev"];
    let program = program("protoc", &packages)?;
    let described = || program.ancestors().nth(2).is_some_and(|prefix| prefix.join(DESCRIPTIONS).is_file());
    if !described() {
        apt::install(&packages);
        ensure!(described(), "`protoc` has no `{DESCRIPTIONS}` beside it: install libprotobuf-dev (Debian)");
    }
    Ok(())
}

/// The program, installed first when it is missing and may be.
fn program(name: &str, packages: &[&str]) -> Result<PathBuf> {
    if let Some(found) = apt::on_path(name) {
        return Ok(found);
    }
    apt::install(packages);
    if let Some(found) = apt::on_path(name) {
        return Ok(found);
    }
    bail!("the benchmark needs `{name}`: install {} (Debian), then run it again", packages.join(" and "))
}
