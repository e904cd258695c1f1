//! `revolve key`.

use std::path::PathBuf;

use api::v1::{FinishRootKeyRequest, GetKeyStatusRequest, RotateDataKeyRequest, RotateRootKeyRequest};
use clap::{Subcommand, ValueEnum};

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    output,
    resource::scalar,
    show::Keys,
    wait::{self, Look},
};

/// How a data key that is being replaced is watched.
const RESUME: &str = "revolve key status";

/// What can be asked about the keys, and of them.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Data keys, root keys, who holds them, and what to do next; exit 2 when something is to be done
    Status,
    /// Replace the data key, or the root key that wraps it
    Rotate(Rotate),
    /// End the replacement of the root key: the former one is not accepted any more
    Finish(Finish),
    /// Make a key in a file of its own
    Generate(Generate),
}

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The key that seals secrets
    Data,
    /// The key that wraps the data key, given to each node in a file
    Root,
}

/// What replaces a key.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Which key
    kind: Kind,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// For the data key: wait until everything is sealed anew and the old key is destroyed
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, default_value = wait::DEFAULT_LIMIT, value_name = "SPAN")]
    timeout: scalar::Span,
}

/// Of which there is one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RootOnly {
    /// The key that wraps the data key
    Root,
}

/// What ends a replacement.
#[derive(Debug, clap::Args)]
pub struct Finish {
    /// Which key
    #[arg(value_name = "KIND")]
    _kind: RootOnly,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What makes a key.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// Which key
    #[arg(value_name = "KIND")]
    _kind: RootOnly,
    /// The file to make; an existing one is never overwritten
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Status => {
            let keys = look(app).await?;
            app.output.screen(&keys, &keys.screen(&app.output))?;
            Ok(if keys.next.is_empty() { Exit::Done } else { Exit::Attention })
        }
        Verb::Rotate(args) => match args.kind {
            Kind::Data => rotate_data(app, args).await,
            Kind::Root => rotate_root(app, args).await,
        },
        Verb::Finish(args) => finish(app, args).await,
        Verb::Generate(args) => generate(&args),
    }
}

/// Makes a root key; needs no cluster.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn generate(args: &Generate) -> Outcome {
    let id = server::init::generate_root_key(&args.to).map_err(anyhow::Error::from)?;
    output::write(&format!("{id}\n"))?;
    output::complain(&format!(
        "Root key {id} is in {}, for its owner alone. Bring it to every node as its `next_root_key_file`, and keep a copy \
         apart from the data.",
        args.to.display()
    ));
    Ok(Exit::Done)
}

async fn rotate_data(app: &App, args: Rotate) -> Outcome {
    confirm(&app.output, args.yes, "this replaces the data key, and seals every secret anew", "data")?;
    let done = app.client()?.rotate_data_key(RotateDataKeyRequest { reason: args.reason }).await?;
    app.output
        .note(&format!("data key {} seals from now on; data key {} is retiring", done.id, done.retiring));
    if !args.wait {
        app.output.note(&format!("watch it with `{RESUME}`"));
        return Ok(Exit::Done);
    }
    wait::until(&app.output, args.timeout, RESUME, async || {
        let keys = look(app).await?;
        Ok(match keys.retiring(done.retiring) {
            None => Look::Done(()),
            Some(0) => Look::Pending(format!("nothing is sealed under data key {} any more", done.retiring)),
            Some(left) => Look::Pending(format!("{left} values are left under data key {}", done.retiring)),
        })
    })
    .await?;
    app.output.note(&format!("data key {} is destroyed", done.retiring));
    Ok(Exit::Done)
}

async fn rotate_root(app: &App, args: Rotate) -> Outcome {
    if args.wait {
        return Err(Failure::usage("there is nothing to wait for with the root key", "leave `--wait` out"));
    }
    confirm(&app.output, args.yes, "this wraps the data keys by the next root key", "root")?;
    let done = app.client()?.rotate_root_key(RotateRootKeyRequest { reason: args.reason }).await?;
    app.output.note(&format!("root key {} wraps the data keys now, in place of {}", done.id, done.former));
    app.output.note("next: revolve key finish root --reason … --yes, once `revolve key status` says so");
    Ok(Exit::Done)
}

async fn finish(app: &App, args: Finish) -> Outcome {
    confirm(&app.output, args.yes, "after this, the former root key is not accepted any more", "root")?;
    let done = app.client()?.finish_root_key(FinishRootKeyRequest { reason: args.reason }).await?;
    app.output.note(&format!("root key {} is retired", done.retired));
    app.output.note(
        "next: on each node, move the new key to where `root_key_file` is (mv root.key.next root.key); no restart is \
         needed",
    );
    Ok(Exit::Done)
}

async fn look(app: &App) -> Result<Keys, Failure> {
    Ok(Keys::from(&app.client()?.get_key_status(GetKeyStatusRequest {}).await?))
}
