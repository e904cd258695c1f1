//! `revolve feed`.

use std::{ops::RangeInclusive, time::Duration};

use clap::{Subcommand, ValueEnum};
use client::{ReceiptStage, SubscribeOptions, Update};
use serde::Serialize;

use super::text;
use crate::{
    app::{self, App},
    exit::{Exit, Outcome},
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
    let Watch { after, all, consumer, count, heartbeats } = watch;
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
        app::on_interrupt_say(Some(format!(
            "go on with `revolve feed watch{whose} --after {}`",
            feed.progress().position()
        )));
        if heartbeats || !matches!(update, Update::CaughtUp { .. }) {
            app.output.next(&Entry::from(&update))?;
        }
        if matches!(update, Update::Event(_)) {
            left -= 1;
        }
    }
    Ok(Exit::Done)
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (_, _) => Err("write a revision such as 7, or a range such as 3-9".to_owned()),
    }
}
