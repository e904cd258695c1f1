//! `revolve feed`.

use std::{
    fs::File,
    io::Write as _,
    ops::RangeInclusive,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use client::{ReceiptStage, SubscribeOptions, Update};
use serde::Serialize;
use server::consumer_file;

use super::text;
use crate::{
    app::{self, App},
    exit::{Exit, Failure, Outcome},
    output,
    show::Entry,
};

/// How long `feed watch` goes on without reaching any address.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can be done with the feed.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Follow it; goes on where it was after a lost connection
    Watch(Watch),
    /// Answer for events of your own stream
    Ack(Ack),
}

/// What to follow.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The last revision already seen
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    after: u64,
    /// Keep it in this file as well, one JSON object in each line, and go on where the file ends; a restore takes it
    #[arg(long, value_name = "FILE", conflicts_with = "after")]
    keep: Option<PathBuf>,
    /// Every event, for roles that may see them
    #[arg(long, conflicts_with = "consumer")]
    all: bool,
    /// The stream of this consumer, for roles that may look at any
    #[arg(long, value_name = "NAME", value_parser = text())]
    consumer: Option<String>,
    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Show heartbeats too
    #[arg(long)]
    heartbeats: bool,
}

/// What to answer.
#[derive(Debug, clap::Args)]
pub struct Ack {
    /// Revisions, such as 7 or 3-9
    #[arg(required = true, value_parser = range)]
    revisions: Vec<RangeInclusive<u64>>,
    /// What is true of them
    #[arg(long, value_enum)]
    stage: Stage,
    /// What went wrong, for failed
    #[arg(long, default_value = "", required_if_eq("stage", "failed"))]
    detail: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    /// They have arrived and are kept
    Received,
    /// They are acted on
    Enforced,
    /// They could not be acted on
    Failed,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Acked {
    enforced_up_to: u64,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Watch(watch) => follow(app, watch).await,
        Verb::Ack(ack) => {
            let stage = match ack.stage {
                Stage::Received => ReceiptStage::Received,
                Stage::Enforced => ReceiptStage::Enforced,
                Stage::Failed => ReceiptStage::Failed,
            };
            let enforced_up_to = app.client()?.acknowledge(stage, ack.revisions, &ack.detail).await?;
            let text = format!("enforced up to revision {enforced_up_to}\n");
            app.output.screen(&Acked { enforced_up_to }, &text)?;
            Ok(Exit::Done)
        }
    }
}

async fn follow(app: &App, watch: Watch) -> Outcome {
    let Watch { after, keep, all, consumer, count, heartbeats } = watch;
    let mut keeper = keep.as_deref().map(Keeper::open).transpose()?;
    let after = keeper.as_ref().map_or(after, |keeper| keeper.revision);
    let whose = match (&consumer, all) {
        (Some(name), _) => format!(" --consumer {name}"),
        (None, true) => " --all".to_owned(),
        (None, false) => String::new(),
    };
    let options =
        SubscribeOptions { after, all, consumer, patience: Some(PATIENCE), ..SubscribeOptions::default() };
    let mut feed = app.client()?.subscribe(options);
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let update = feed.next().await?;
        if let Some(keeper) = &mut keeper {
            keeper.keep(&update)?;
        }
        let from = match &keep {
            Some(path) => format!("--keep {}", path.display()),
            None => format!("--after {}", feed.progress().position()),
        };
        app::on_interrupt_say(Some(format!("go on with `revolve feed watch{whose} {from}`")));
        if heartbeats || !matches!(update, Update::CaughtUp { .. }) {
            app.output.next(&Entry::from(&update))?;
        }
        if matches!(update, Update::Event(_)) {
            left -= 1;
        }
    }
    Ok(Exit::Done)
}

/// The file in which what was told is kept.
struct Keeper {
    file: File,
    /// The last revision in it.
    revision: u64,
}

impl Keeper {
    /// Opens a file to go on behind its last line, or makes it.
    fn open(path: &Path) -> Result<Self, Failure> {
        let unusable = || format!("`{}` cannot be used", path.display());
        let mut revision = 0;
        if path.exists() {
            // A line that was cut short by a crash is told again.
            output::cut_torn_line(path).with_context(unusable)?;
            revision = consumer_file::read(path).with_context(unusable)?.revision();
        }
        let file = File::options().append(true).create(true).mode(0o600).open(path).with_context(unusable)?;
        Ok(Self { file, revision })
    }

    /// Written and on the disk before it is shown: what was acted on can be proven to have been told.
    fn keep(&mut self, update: &Update) -> Result<(), Failure> {
        if matches!(update, Update::CaughtUp { .. }) {
            return Ok(());
        }
        let line = output::json_line(&Entry::from(update)).context("an update cannot be written")?;
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .context("what was told cannot be kept")?;
        Ok(())
    }
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (_, _) => Err("write a revision such as 7, or a range such as 3-9".to_owned()),
    }
}
