//! `revolve schedule`.

use api::v1::{GetRotationRequest, PauseScheduleRequest, ResumeScheduleRequest, TriggerScheduleRequest};
use clap::Subcommand;
use client::Client;
use model::{
    time::{Span, Time},
    timing::{PERIOD_FLOOR, Timing},
};
use serde::Serialize;

use super::{
    resource::{self, unknown_answer},
    text,
};
use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
    resource::{Kind, scalar},
    show::{Fire, Rotation},
    wait::{self, Look},
};

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Resource(resource::Verb),
    /// Start no rotation until it is resumed
    Pause {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
    },
    /// Let a paused one go on
    Resume {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
    },
    /// Start a rotation now
    Trigger {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
        /// Wait until the rotation has ended
        #[arg(long)]
        wait: bool,
        /// Longest wait
        #[arg(long, default_value = wait::DEFAULT_LIMIT, value_name = "SPAN")]
        timeout: scalar::Span,
    },
    /// Show when a timing fires; asks no server
    Preview(Preview),
}

/// A timing to try.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("timing").required(true))]
pub struct Preview {
    /// Five cron fields or a macro, such as '0 9 * * 1'
    #[arg(group = "timing", value_parser = text())]
    expression: Option<String>,
    /// A fixed interval, such as 30d
    #[arg(long, group = "timing", value_name = "SPAN")]
    every: Option<scalar::Span>,
    /// How far the interval is moved
    #[arg(long, requires = "every", value_name = "SPAN", default_value = "0s")]
    phase: scalar::Span,
    /// IANA time zone of the expression
    #[arg(long, value_name = "ZONE", default_value = "UTC", conflicts_with = "every")]
    tz: String,
    /// How many
    #[arg(short = 'n', long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    count: u16,
    /// Start after this instant instead of now
    #[arg(long, value_name = "INSTANT")]
    after: Option<scalar::Instant>,
}

#[derive(Serialize)]
struct Triggered<'a> {
    rotation: &'a str,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Resource(verb) => return resource::run(app, Kind::Schedule, verb).await,
        Verb::Preview(preview) => return show_preview(app, &preview),
        Verb::Pause { name, reason } => {
            app.client()?.pause_schedule(PauseScheduleRequest { name: name.clone(), reason }).await?;
            app.output.note(&format!("schedule `{name}` is paused"));
        }
        Verb::Resume { name } => {
            app.client()?.resume_schedule(ResumeScheduleRequest { name: name.clone() }).await?;
            app.output.note(&format!("schedule `{name}` goes on"));
        }
        Verb::Trigger { name, wait, timeout } => {
            let client = app.client()?;
            let id = client.trigger_schedule(TriggerScheduleRequest { name }).await?.rotation;
            if wait {
                return follow(app, &client, &id, timeout).await;
            }
            app.output.screen(&Triggered { rotation: &id }, &format!("{id}\n"))?;
        }
    }
    Ok(Exit::Done)
}

/// Waits for the end of a rotation and shows it.
pub async fn follow(app: &App, client: &Client, id: &str, timeout: scalar::Span) -> Outcome {
    let resume = format!("revolve rotation get {id}");
    let ended = wait::until(&app.output, timeout, &resume, async || {
        let rotation = client.get_rotation(GetRotationRequest { id: id.to_owned() }).await?.rotation;
        let rotation = rotation.ok_or_else(unknown_answer)?;
        Ok(match rotation.stage.as_str() {
            "settled" | "aborted" | "quarantined" => Look::Done(rotation),
            _ => Look::Pending(Rotation::from(&rotation).standing()),
        })
    });
    let ended = ended.await?;
    app.output.item(&Rotation::from(&ended))?;
    Ok(match ended.stage.as_str() {
        "settled" => Exit::Done,
        "quarantined" => Exit::Attention,
        _ => Exit::Failed,
    })
}

fn show_preview(app: &App, preview: &Preview) -> Outcome {
    let after = preview.after.map_or_else(|| app.output.now(), |instant| Time(instant.0));
    let timing = match (&preview.expression, preview.every) {
        (Some(expression), _) => Timing::cron(expression, &preview.tz, after),
        (None, every) => {
            Timing::every(Span(every.unwrap_or_default().0), Span(preview.phase.0), PERIOD_FLOOR)
        }
    };
    let timing =
        timing.map_err(|error| Failure::usage(error.to_string(), "see docs/reference/resources.md"))?;
    let fires: Vec<Fire> = timing.preview(after, preview.count.into()).iter().map(Into::into).collect();
    // How far away they are is counted from the instant that was asked about.
    app.output.clone().counting_from(after).list(&fires)?;
    Ok(Exit::Done)
}
