//! `revolve health`: for machines that start nodes again, or send them no more calls.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use client::{Client, Options, Probe};
use server::{
    config::{ClientTls, Config},
    pki,
};

use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
};

/// The name in the certificate that it shows.
const PROBE: &str = "health";

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
    let ways = match &args.config {
        Some(path) => of_node(app, path)?,
        None => vec![Options { token: None, ..app.options(&app.settings.addresses[..1])? }],
    };
    let mut wrong = Vec::new();
    for options in ways {
        match Client::connect(options)?.health(probe).await {
            Ok(reasons) => {
                wrong = reasons;
                break;
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let is_well = wrong.is_empty();
    let line = if is_well { word.to_owned() } else { format!("not {word}: {}", wrong.join("; ")) };
    app.output
        .screen(&serde_json::json!({ "probe": word, "ok": is_well, "wrong": wrong }), &(line + "\n"))?;
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// The ways to the node of a configuration, from its own machine; the next is for when one fails. The node is checked
/// against the authority of its root key, or against its own files, unless the settings name an authority.
fn of_node(app: &App, path: &Path) -> Result<Vec<Options>, Failure> {
    let unusable = |problem: String| Failure::usage(problem, "give the file that the node was started with");
    let config = Config::load(path).map_err(|error| unusable(error.to_string()))?;
    let mut listens = config.listen.client;
    if listens.ip().is_unspecified() {
        let loopback: IpAddr =
            if listens.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        listens.set_ip(loopback);
    }
    let at =
        |scheme| Options { timeout: app.settings.timeout, ..Options::new([format!("{scheme}://{listens}")]) };
    if config.listen.client_tls == ClientTls::Off {
        return Ok(vec![at("http")]);
    }
    let told = app.settings.ca()?;
    let own_files = config.tls.as_ref().map(|tls| {
        let read = fs::read_to_string(&tls.cert_file);
        read.map_err(|error| unusable(format!("`{}`: {error}", tls.cert_file.display())))
    });
    let (ca, name) = match own_files.transpose()? {
        Some(own) => (Some(told.unwrap_or(own)), advertised(&config)),
        None => (told, pki::name_of(&config).or_else(|| advertised(&config))),
    };
    let is_mutual = config.listen.client_tls == ClientTls::Mutual;
    if let (Some(ca), false) = (&ca, is_mutual) {
        return Ok(vec![Options { server_name: name, ..at("https").ca(ca) }]);
    }
    let passes = pki::passes(&config, PROBE).map_err(|error| {
        let source = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
        let next = "run it as a user that may read the root key of the node: the certificate to ask with is made from it";
        Failure::usage(format!("{error}{source}"), next)
    })?;
    let options = passes.into_iter().map(|pass| {
        let options = Options { server_name: name.clone(), ..at("https").ca(ca.clone().unwrap_or(pass.ca)) };
        if is_mutual { options.certificate(pass.certificate, pass.key) } else { options }
    });
    Ok(options.collect())
}

/// The name under which others reach the node.
fn advertised(config: &Config) -> Option<String> {
    let named = config.listen.advertise.as_deref().and_then(|address| address.rsplit_once(':'));
    named.map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
}
