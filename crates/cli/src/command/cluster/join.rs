//! `revolve cluster join`: run on the machine of the new node.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use client::{Client, Options};
use secrecy::{ExposeSecret as _, SecretString};
use server::join::{Ask, AskError, JoinToken, Place, RootKey, Way, door, fresh_storage, write_configuration};

use super::{place::Listening, text};
use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
    output,
    settings::{read_secret, variable},
};

/// The data folder in the folder of the node.
const DATA: &str = "data";
/// Longest text on standard input that can be a join token.
const TOKEN_BYTES: u64 = 1_024;

/// A new node.
#[derive(Debug, clap::Args)]
pub struct Join {
    /// Client port of any node of the cluster
    #[arg(long, value_name = "HOST:PORT", value_parser = text())]
    server: String,
    /// The folder of the new node: its configuration and data
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The root key of the cluster, mode 0600
    #[arg(long, value_name = "FILE")]
    root_key_file: PathBuf,
    /// Stay a learner until `revolve cluster promote`: it holds everything and does not vote
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    listening: Listening,
}

/// Asks to be let in, and writes the configuration.
pub async fn run(app: &App, it: &Join) -> Outcome {
    let root = RootKey::read_from(&it.root_key_file).map_err(anyhow::Error::new)?;
    let token = token(app)?;
    let token = JoinToken::parse(token.expose_secret().trim()).map_err(|error| {
        Failure::usage(error.to_string(), "an admin makes one with `revolve cluster invite`")
    })?;
    let peer_address = it.listening.peer_address()?;
    check_unused(&it.dir)?;
    let storage = storage_in(&it.dir.join(DATA))?;
    let ask = Ask::new(&root, Some(&token), storage, &peer_address, it.learner).map_err(unasked)?;
    let answer = connect(app, &it.server, &root)?.join(ask.request()).await?;
    let given = ask.take(&answer).map_err(unasked)?;
    let place = Place {
        folder: it.dir.clone(),
        data: DATA.into(),
        root_key_file: fs::canonicalize(&it.root_key_file)?,
        client: it.listening.listen_client,
        peer: it.listening.listen_peer,
        advertise: it.listening.client_address(),
        peer_address,
    };
    let path = write_configuration(&place, &given).map_err(|error| {
        let message = format!("{} was let in, and its configuration cannot be written: {error}", given.node);
        Failure::failed(
            message,
            "make room or give leave, then repeat the command: it is given the same number",
        )
    })?;
    output::write(&format!("{}\n", path.display()))?;
    app.output.note(&format!("this machine is {}", given.node));
    app.output.note(&format!("next: revolve server --config {}", path.display()));
    Ok(Exit::Done)
}

/// A connection to the cluster. It carries no bearer token, and nothing secret; what opens the port follows from the root
/// key.
fn connect(app: &App, server: &str, root: &RootKey) -> Result<Client, Failure> {
    let settings = &app.settings;
    let way = Way { plain: false, ca: settings.ca()? };
    let (url, pass) = door(root, server, &way)
        .map_err(|problem| Failure::usage(problem, "give --server as HOST:PORT of a client port"))?;
    let mut options = Options { timeout: settings.timeout, ..Options::new([url]) };
    if let Some(pass) = pass {
        options = options.ca(pass.ca).certificate(pass.certificate, pass.key);
    }
    Ok(Client::connect(options)?)
}

/// The join token: from the file that is named, from standard input, or from the environment; never from the command
/// line, which others can read.
fn token(app: &App) -> Result<SecretString, Failure> {
    match app.settings.named_token_file() {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().lock().take(TOKEN_BYTES).read_to_string(&mut text)?;
            Ok(text.into())
        }
        Some(path) => read_secret(path),
        None => variable("REVOLVE_JOIN_TOKEN").map(Into::into).ok_or_else(|| {
            Failure::usage(
                "no join token is given",
                "name its file with --token-file FILE, - for standard input, or set REVOLVE_JOIN_TOKEN",
            )
        }),
    }
}

/// A folder in which there is a node already is not taken for another.
fn check_unused(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("node-") && name.ends_with(".toml") {
            return Err(Failure::refused(
                format!("`{}` holds the configuration `{name}` already", folder.display()),
                "start that node, or name an empty folder",
            ));
        }
    }
    Ok(())
}

fn storage_in(data: &Path) -> Result<[u8; 16], Failure> {
    fresh_storage(data).map_err(|error| {
        Failure::refused(format!("the data folder cannot be used: {error}"), "name an empty folder")
    })
}

fn unasked(error: AskError) -> Failure {
    let next = match error {
        AskError::Address(_) => "say under which name or IP the others reach this machine: --advertise HOST",
        AskError::OtherCluster => "check --server and --root-key-file",
        AskError::OtherRootKey => {
            "give the root key of the cluster that has invited this machine: --root-key-file"
        }
        AskError::RootKey(_) => "check --root-key-file",
        AskError::NoMembers => "ask another node of the cluster",
    };
    Failure::refused(error.to_string(), next)
}
