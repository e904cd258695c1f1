//! `revolve health`: for machines that start nodes again, or send them no more calls.

use std::{fs, net::IpAddr, path::PathBuf};

use client::{Client, Options, Probe};
use server::config::Config;

use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
};

/// What is asked of which node.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask whether it takes part and knows a leader (default): if not, send it no calls
    #[arg(long, conflicts_with = "live")]
    ready: bool,
    /// Ask whether its process can go on: if not, start it again
    #[arg(long)]
    live: bool,
    /// Ask the node with this configuration, on this machine; without it, the first address of the settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Asks one node, without a token, and says in a line what is wrong.
pub async fn run(app: &App, args: Args) -> Outcome {
    let (probe, word) = if args.live { (Probe::Live, "live") } else { (Probe::Ready, "ready") };
    let options = match &args.config {
        Some(path) => of_node(app, path)?,
        None => Options { token: None, ..app.options(&app.settings.addresses[..1])? },
    };
    let client = Client::connect(options)?;
    let wrong = match client.health(probe).await {
        Ok(reasons) => reasons,
        Err(error) => vec![error.to_string()],
    };
    let is_well = wrong.is_empty();
    let line = if is_well { word.to_owned() } else { format!("not {word}: {}", wrong.join("; ")) };
    app.output
        .screen(&serde_json::json!({ "probe": word, "ok": is_well, "wrong": wrong }), &(line + "\n"))?;
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// The way to the node of a configuration, from its own machine. Its certificate is trusted as it lies in the file, unless
/// the settings name an authority.
fn of_node(app: &App, path: &std::path::Path) -> Result<Options, Failure> {
    let unusable = |problem: String| Failure::usage(problem, "give the file that the node was started with");
    let config = Config::load(path).map_err(|error| unusable(error.to_string()))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let mut listens = config.listen.client;
    if listens.ip().is_unspecified() {
        let loopback: IpAddr =
            if listens.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        listens.set_ip(loopback);
    }
    let ca = match (app.settings.ca()?, &config.tls) {
        (None, Some(tls)) => {
            let read = fs::read_to_string(&tls.cert_file);
            Some(read.map_err(|error| unusable(format!("`{}`: {error}", tls.cert_file.display())))?)
        }
        (ca, _) => ca,
    };
    let named = config.listen.advertise.as_deref().and_then(|address| address.rsplit_once(':'));
    Ok(Options {
        ca,
        server_name: named.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()),
        timeout: app.settings.timeout,
        ..Options::new([format!("{scheme}://{listens}")])
    })
}
