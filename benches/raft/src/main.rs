//! Measures Revolve and etcd side by side on one machine: three nodes each, real processes, a real disk, real fsync.
//! It refuses to judge: whatever the ratios are, a run that measured everything succeeded.

mod args;
mod connection;
mod first_write;
mod load;
mod machine;
mod parts;
mod port;
mod progress;
mod report;
mod servers;
mod stats;
mod trace;
mod usage;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Part};
use machine::Machine;
use parts::write::{self, Through};
use parts::{disk, failover, loaded, proof};
use progress::Progress;
use report::{Report, Section};
use servers::{Servers, System};

/// Parts that need few records.
const SMALL: [Part; 4] = [Part::Write, Part::Follower, Part::Proof, Part::Failover];
/// Parts that need very many.
const LOADED: [Part; 4] = [Part::Memory, Part::Restart, Part::Readers, Part::Rejoin];

/// The file with all figures, in the folder of the run.
const RESULT: &str = "result.json";

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = Args::parse();
    let progress = Progress::new();
    // Ending early drops the servers, which ends them.
    let outcome = tokio::select! {
        outcome = run(&mut args, &progress) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(report) if report.failures.is_empty() => ExitCode::SUCCESS,
        Ok(report) => {
            for failure in &report.failures {
                progress.tell(&format!("not measured: {failure}"));
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            progress.tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns when somebody wants the run to end.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => terminated.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Measures every part that is wanted. One that fails is noted, and the others go on.
async fn run(args: &mut Args, progress: &Progress) -> Result<Report> {
    let folder = &args.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    // Traces name files by their true paths.
    args.folder = fs::canonicalize(folder).with_context(|| format!("cannot find `{}`", folder.display()))?;
    let args = &*args;
    let mut report = Report {
        date: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
        command: typed(),
        machine: Machine::here(&args.folder)?,
        settings: settings(args),
        sections: Vec::new(),
        failures: Vec::new(),
    };
    progress.tell(&report.machine.to_string());
    if SMALL.iter().any(|part| args.wants(*part)) {
        small(args, progress, &mut report).await?;
    }
    if args.wants(Part::Disk) {
        note(args, &mut report, Part::Disk, disk::run(args, progress).await)?;
    }
    if LOADED.iter().any(|part| args.wants(*part)) {
        large(args, progress, &mut report).await?;
    }
    if let Some(page) = &args.page
        && args.is_complete()
    {
        report.publish(page)?;
    }
    Ok(report)
}

/// The parts that need few records: both systems run at once and take turns.
async fn small(args: &Args, progress: &Progress, report: &mut Report) -> Result<()> {
    progress.tell("starting three nodes of each");
    let [revolve, etcd] = System::BOTH;
    let mut servers =
        [Servers::start(revolve, "small", args).await?, Servers::start(etcd, "small", args).await?];
    for (part, through) in [(Part::Write, Through::Leader), (Part::Follower, Through::Follower)] {
        if args.wants(part) {
            let outcome = write::run(args, through, &mut servers, progress).await;
            note(args, report, part, outcome)?;
        }
    }
    if args.wants(Part::Proof) {
        let outcome = proof::run(args, &mut servers[0], progress).await;
        note(args, report, Part::Proof, outcome)?;
    }
    if args.wants(Part::Failover) {
        let outcome = failover::run(args, &mut servers, progress).await;
        note(args, report, Part::Failover, outcome)?;
    }
    Ok(())
}

/// The parts that need very many records: one system after the other, each with the whole machine.
async fn large(args: &Args, progress: &Progress, report: &mut Report) -> Result<()> {
    let [ours, theirs] = System::BOTH;
    let both = async {
        anyhow::Ok([loaded::run(args, ours, progress).await?, loaded::run(args, theirs, progress).await?])
    };
    match both.await {
        Ok(both) => {
            for (part, outcome) in loaded::sections(args, both) {
                note(args, report, part, outcome)?;
            }
        }
        Err(error) => {
            for part in LOADED.into_iter().filter(|part| args.wants(*part)) {
                note(args, report, part, Err(anyhow::anyhow!("{error:#}")))?;
            }
        }
    }
    Ok(())
}

/// Prints what was measured and keeps it, or keeps why it was not.
#[expect(clippy::print_stdout, reason = "the tables are the output")]
fn note(args: &Args, report: &mut Report, part: Part, outcome: Result<Section>) -> Result<()> {
    match outcome {
        Ok(section) => {
            println!("{}", section.text());
            report.sections.push(section);
        }
        Err(error) => report.failures.push(format!("{part:?}: {error:#}")),
    }
    report.save(&args.folder.join(RESULT))
}

/// What a person has typed, as far as it is known: the paths are filled in by `cargo xtask`.
fn typed() -> String {
    let paths = ["--revolve", "--etcd", "--folder", "--page"];
    let mut words = vec!["cargo xtask bench raft".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if paths.contains(&argument.as_str()) {
            arguments.next();
        } else {
            words.push(argument);
        }
    }
    words.join(" ")
}

fn settings(args: &Args) -> String {
    format!(
        "Three nodes of each on loopback, data folders on one disk. Heartbeat {} ms for both; a follower of either stands \
         for election after at least {} ms of silence. Records of {} bytes of payload; every client has a connection \
         of its own.",
        args.heartbeat_ms,
        args.silence_ms,
        connection::PAYLOAD_BYTES,
    )
}
