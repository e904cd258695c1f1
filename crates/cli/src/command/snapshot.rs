//! `revolve cluster snapshot`: backups, and putting a cluster back from one.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use api::v1::{ConfirmRestoreRequest, SaveSnapshotRequest};
use clap::{Args, Subcommand};
use model::name::{ConsumerName, NodeId};
use server::{
    backup::{About, BackupError, Reader, RootKey},
    config::Config,
    restore::{self, Done, Kept, Order, RestoreError},
};

use super::text;
use crate::{
    app::{self, App},
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    output::Output,
    show::{Backup, Put},
};

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write an encrypted backup of the state to a file
    Save(Save),
    /// Say what a backup holds, and check it
    Inspect(Inspect),
    /// Put a cluster back from a backup and the newest ledger: makes the data of the first node
    Restore(Restore),
    /// Let everything fire again after a restore was looked at
    Confirm(Confirm),
}

#[derive(Debug, Args)]
pub struct Save {
    /// The file; never overwritten
    file: PathBuf,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The file
    file: PathBuf,
    /// The root key; with it everything is opened and checked
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// The configuration of the node that is to be the first; its data folder must be empty
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A ledger: an exported file, or the data folder of an old node; the newest one counts
    #[arg(long = "ledger", value_name = "PATH")]
    ledgers: Vec<PathBuf>,
    /// A file with what a consumer saw, as `revolve feed watch -o json` writes it; with NAME= it is of that consumer
    #[arg(long = "consumer", value_name = "[NAME=]FILE", value_parser = kept)]
    consumers: Vec<Kept>,
    /// A revision that somebody, such as a consumer, is known to have seen
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    seen_revision: u64,
    /// Go on without a ledger that is new enough: what was revoked since may come back
    #[arg(long, requires = "reason")]
    accept_loss: bool,
    /// Why the loss is accepted; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub struct Confirm {
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Save(args) => save(app, args).await,
        Verb::Inspect(args) => inspect(app, &args),
        Verb::Restore(args) => put_back(app, args),
        Verb::Confirm(args) => {
            let what = "after this, schedules, rotations and grants of the restored cluster fire";
            confirm(&app.output, args.yes, what, "confirm")?;
            app.client()?.confirm_restore(ConfirmRestoreRequest { reason: args.reason }).await?;
            app.output.note("everything fires again");
            Ok(Exit::Done)
        }
    }
}

async fn save(app: &App, args: Save) -> Outcome {
    if args.file.exists() {
        return Err(Failure::refused(
            format!("`{}` exists, and a backup never overwrites anything", args.file.display()),
            "give another name",
        ));
    }
    let temporary = with_ending(&args.file, ".part");
    let unwritable = || format!("cannot write `{}`", temporary.display());
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(unwritable)?;
    let mut stream = app.client()?.save_snapshot(SaveSnapshotRequest { reason: args.reason }).await?;
    let bar = indicatif::ProgressBar::new(0).with_message("records");
    let mut whole = false;
    loop {
        let message = stream.message().await;
        let Some(part) = message.map_err(|status| anyhow::anyhow!("the backup broke off: {status}"))? else {
            break;
        };
        bar.set_length(part.total);
        bar.inc(part.records);
        whole = bar.position() >= part.total;
        file.write_all(&part.data).with_context(unwritable)?;
    }
    bar.finish_and_clear();
    if !whole {
        return Err(Failure::failed("the backup broke off before its end", "take it again"));
    }
    file.sync_all().with_context(unwritable)?;
    drop(file);
    // Read as whoever restores it will: what is damaged already is found now.
    let about = Reader::open(&temporary).map_err(failed)?.about().clone();
    fs::hard_link(&temporary, &args.file)
        .and_then(|()| fs::remove_file(&temporary))
        .and_then(|()| sync_folder_of(&args.file))
        .with_context(|| format!("cannot write `{}`", args.file.display()))?;
    shown(&app.output, &args.file, &about, false)?;
    app.output
        .note("keep it apart from root.key, and a ledger beside it: revolve ledger export --follow FILE");
    Ok(Exit::Done)
}

fn inspect(app: &App, args: &Inspect) -> Outcome {
    let about = match &args.root_key_file {
        Some(path) => {
            let root = RootKey::read_from(path).context("the root key cannot be used")?;
            restore::load(&args.file, &root).map_err(|error| refused(&error))?.0
        }
        None => Reader::open(&args.file).map_err(failed)?.about().clone(),
    };
    shown(&app.output, &args.file, &about, args.root_key_file.is_some())?;
    Ok(Exit::Done)
}

fn shown(output: &Output, file: &Path, about: &About, opened: bool) -> Result<(), Failure> {
    let backup = Backup::new(file, about, opened);
    output.screen(&backup, &backup.screen())?;
    Ok(())
}

fn put_back(app: &App, args: Restore) -> Outcome {
    let config = Config::load(&args.config).context("the configuration cannot be used")?;
    let node = NodeId(config.node);
    let peers = config.peer_addresses().context("the configuration cannot be used")?;
    let address = peers.get(&node).cloned().unwrap_or_default();
    let root = server::node::root_key(&config).context("the root key cannot be used")?;
    if args.accept_loss {
        let what = "what was revoked, rotated or ended since the backup may come back to life";
        confirm(&app.output, args.yes, what, "accept-loss")?;
    }
    app.output.note("reading the backup and the ledgers");
    let order = Order {
        backup: &args.file,
        ledgers: &args.ledgers,
        consumers: &args.consumers,
        seen_revision: args.seen_revision,
        accept_loss: args.reason.filter(|_| args.accept_loss),
        by: "operator".to_owned(),
        at: app::now(),
        data: config.data.clone(),
        node,
        address,
        root: &root,
    };
    let done = restore::restore(&order).map_err(|error| refused(&error))?;
    said(app, &done, &config.data, &args.config)?;
    let summary = &done.summary;
    let attention =
        done.loss_accepted || summary.told > 0 || !summary.unproven.is_empty() || !summary.lost.is_empty();
    Ok(if attention { Exit::Attention } else { Exit::Done })
}

fn said(app: &App, done: &Done, data: &Path, config: &Path) -> Result<(), Failure> {
    let put = Put::new(done, data);
    app.output.screen(&put, &put.screen())?;
    app.output.note(&format!(
        "next: revolve server --config {} and the other nodes with empty data folders; \
         nothing fires until: revolve cluster snapshot confirm --reason …",
        config.display()
    ));
    Ok(())
}

fn failed(error: BackupError) -> Failure {
    refused(&RestoreError::from(error))
}

fn refused(error: &RestoreError) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let next = match error {
        RestoreError::NoLedger { .. } => {
            "give `--ledger` with the data folder of any old node, or an exported ledger; without any: `--accept-loss --reason …`"
        }
        RestoreError::TooOld { .. } => "look for a newer ledger; without any: `--accept-loss --reason …`",
        RestoreError::Untold { .. } => {
            "look for a newer ledger, or for the record of a consumer of all events; without any: `--accept-loss --reason …`"
        }
        RestoreError::Contradicted { .. } => "leave out the one that is of another cluster, or was changed",
        RestoreError::Record { .. } | RestoreError::Together(_) => {
            "give the lines that `revolve feed watch -o json` wrote"
        }
        RestoreError::Forked(..) => {
            "leave it out if it is of another cluster; else find out which one is true"
        }
        RestoreError::Folder { .. } => {
            "give a configuration whose data folder is empty, or move what is in it away"
        }
        RestoreError::DataKey => "give the root key that the cluster had when the backup was made",
        RestoreError::Backup(BackupError::WrongRootKey) => {
            "give the root key that the cluster had when the backup was made"
        }
        RestoreError::Backup(BackupError::Format(_)) | RestoreError::Load(_) => {
            "use the version of revolve that made it"
        }
        RestoreError::Backup(_) | RestoreError::Io(_) | RestoreError::Ledger(_) => "use another copy",
    };
    Failure::refused(message, next)
}

/// `FILE`, or `NAME=FILE`; a path in which `=` stands is told by `./`.
fn kept(text: &str) -> Result<Kept, String> {
    let (consumer, path) = match text.split_once('=') {
        Some((name, path)) if !name.contains('/') => {
            let name = name.parse::<ConsumerName>().map_err(|error| error.to_string())?;
            (Some(name), path)
        }
        Some(_) | None => (None, text),
    };
    if path.is_empty() {
        return Err("no file is named".to_owned());
    }
    Ok(Kept { consumer, path: path.into() })
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
