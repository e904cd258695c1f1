//! `cargo xtask test`: the servers, the binary with crash points, then every test of the workspace, those with planted
//! bugs too.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::tally::Tally;
use crate::venv::Venv;
use crate::{crash_points, deploy, faketime, postgres, volatile_layer};

/// The Secrets Manager emulator and the client that checks it.
const MOTO: Venv = Venv {
    name: "moto",
    requirements: include_str!("../requirements.txt"),
    modules: &["boto3", "moto.server", "flask"],
};

/// Runs the tests. Whatever happens, the last line says how many ran.
pub fn run(args: &[String]) -> ExitCode {
    let mut tally = Tally::default();
    let outcome = prepare().and_then(|surroundings| run_tests(&surroundings, args, &mut tally));
    let passed = match &outcome {
        Err(error) => {
            eprintln!("error: {error:#}");
            false
        }
        Ok(status) if !status.success() => {
            eprintln!("error: `cargo test` ended with {status}");
            false
        }
        Ok(_) if tally.ran() == 0 => {
            eprintln!("error: no test ran");
            false
        }
        Ok(_) => tally.failed == 0,
    };
    println!("{tally}");
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the tests find in their environment, by variable name.
struct Surroundings(Vec<(&'static str, PathBuf)>);

fn prepare() -> Result<Surroundings> {
    let postgres = postgres::bin_dir()?;
    println!("PostgreSQL: {}", postgres.display());
    let python = MOTO.prepare()?.join("python");
    println!("moto: {}", python.display());
    let revolve = crash_points::build()?;
    println!("revolve with crash points: {}", revolve.display());
    let layer = volatile_layer::build()?;
    println!("layer of volatile disks: {}", layer.display());
    let faketime = faketime::library()?;
    println!("libfaketime: {}", faketime.display());
    let promtool = deploy::promtool()?;
    println!("promtool: {}", promtool.display());
    Ok(Surroundings(vec![
        (postgres::BIN_VARIABLE, postgres),
        ("REVOLVE_TEST_PYTHON", python),
        ("REVOLVE_BIN", revolve),
        ("REVOLVE_TEST_VOLATILE", layer),
        (faketime::VARIABLE, faketime),
        ("REVOLVE_TEST_PROMTOOL", promtool),
    ]))
}

/// Runs `cargo test`, copying its output to ours line by line while counting.
fn run_tests(surroundings: &Surroundings, args: &[String], tally: &mut Tally) -> Result<ExitStatus> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    if !selects_packages(args) {
        command.args(["--workspace", "--features", crash_points::FEATURES]);
    }
    command.args(args).envs(surroundings.0.iter().map(|(name, path)| (name, path))).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start `cargo test`")?;
    let mut output = BufReader::new(child.stdout.take().expect("stdout was asked for as a pipe"));
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        println!("{text}");
        tally.add(text);
        line.clear();
    }
    child.wait().context("cannot wait for `cargo test`")
}

fn selects_packages(args: &[String]) -> bool {
    let own = args.iter().take_while(|arg| *arg != "--");
    own.into_iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package") || arg == "--workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workspace_is_tested_unless_packages_are_named() {
        let args = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(!selects_packages(&args(&[])));
        assert!(!selects_packages(&args(&["harness", "--", "-p"])));
        assert!(selects_packages(&args(&["-p", "tests"])));
        assert!(selects_packages(&args(&["--package=tests", "harness"])));
    }
}
