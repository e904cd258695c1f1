//! `revolve dev`: the whole system at work in one command, with a demo target that checks credentials for real and a
//! demo consumer that must move before the old credential dies. For looking and trying, not for production.

mod consumer;
mod nodes;
mod story;
mod target;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args as ClapArgs;

use nodes::Nodes;
use story::Story;
use target::DemoTarget;

use crate::output;

/// Starts the whole system with a demo target and a demo consumer, and rotates a credential every minute
#[derive(ClapArgs, Debug)]
pub struct Args {
    /// How many Raft nodes: 1 in this process, more as processes of their own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=7))]
    nodes: u16,
    /// Keeps all state in this folder; without it a temporary folder is used and removed
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The client port of the first node; each node takes two ports in a row
    #[arg(long, default_value_t = 7800)]
    port: u16,
    /// Shows what the nodes log, on stderr
    #[arg(long)]
    log: bool,
}

impl Args {
    /// Whether the nodes' log is wanted.
    #[must_use]
    pub const fn wants_log(&self) -> bool {
        self.log
    }
}

/// Runs until Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let scratch = tempfile::Builder::new()
        .prefix("revolve-dev-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let kept = args.data.is_some();
    let folder = args.data.clone().unwrap_or_else(|| scratch.path().join("cluster"));

    let nodes = Nodes::start(&folder, args.nodes, args.port, args.log).await?;
    let target = DemoTarget::start().await?;
    let mut story = Story::new(nodes, target, kept);
    let told = tokio::select! {
        told = story.tell() => told,
        signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C"),
    };
    story.end().await;
    told.map(|()| ExitCode::SUCCESS)
}

/// Writes a line to stdout, where nothing else goes.
fn say(text: &str) -> anyhow::Result<()> {
    Ok(output::write(&format!("{text}\n"))?)
}
