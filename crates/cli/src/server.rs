//! `revolve server`: runs one node, and makes what a new cluster needs.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};
use server::{
    config::{Config, Rejoin},
    init::{Addresses, Plan, init},
    node::{Listeners, Server, ServerError},
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{exit::Failure, output};

/// Runs one node of a cluster
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Lets the node come back as a learner when its data was wiped, put back or damaged, whatever its configuration says
    #[arg(long)]
    rejoin: bool,
    /// Ends the node when its standard input closes, so that it does not outlive who started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Makes a root key, a first admin token and a configuration for each node
    Init(InitArgs),
}

#[derive(ClapArgs, Debug)]
struct InitArgs {
    /// The folder to make them in
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many nodes the cluster will have
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    nodes: u16,
    /// The client port of the first node; each node takes two ports in a row
    #[arg(long, default_value_t = 7800)]
    port: u16,
}

/// Runs a node until it is told to stop, or makes the files for a new cluster.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match (args.verb, args.config) {
        (Some(Verb::Init(init)), _) => make(&init),
        (None, Some(config)) => serve(&config, args.rejoin, args.until_stdin_closes).await,
        (None, None) => unreachable!("clap requires --config without a subcommand"),
    }
}

fn make(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan { folder: args.dir.clone(), nodes: Addresses::loopback(args.nodes, args.port) };
    for path in init(&plan)? {
        output::write(&format!("{}\n", path.display()))?;
    }
    output::complain("Keep root.key safe: without it nothing that the cluster holds can be opened.");
    output::complain(&format!(
        "Next: revolve server --config {}/node-1.toml, and so on for each node",
        args.dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn serve(path: &std::path::Path, rejoin: bool, until_stdin_closes: bool) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(path)?;
    if rejoin {
        config.rejoin = Rejoin::Automatic;
    }
    // Before anything is begun: the first process of a container is sent no signal that it does not listen for.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = CancellationToken::new();
    let mut server = match Server::start(config, listeners, shutdown.clone()).await {
        Err(error) if error.is_refusal() => return Ok(refused(&error)),
        started => started?,
    };
    let ended = tokio::select! {
        ended = server.ended() => ended.map_err(anyhow::Error::from),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = stdin_closed(), if until_stdin_closes => Ok(()),
    };
    server.stop().await;
    if let Err(error) = &ended
        && let Some(error) = error.downcast_ref::<ServerError>().filter(|error| error.is_refusal())
    {
        return Ok(refused(error));
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// The node itself will not run: that is a refusal, not a failure.
fn refused(error: &ServerError) -> ExitCode {
    Failure::refused(error.to_string(), "see docs/operate/rotate-keys.md, \"A node that refuses to start\"")
        .report()
        .into()
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut byte = [0];
    while matches!(stdin.read(&mut byte).await, Ok(read) if read > 0) {}
}
