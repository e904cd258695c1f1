//! `revolve consumer`.

use api::v1::{self, ApplyRequest, WaiveReceiptRequest};
use clap::Subcommand;

use super::{resource, text};
use crate::{
    app::App,
    exit::{Exit, Outcome},
    resource::Kind,
    show::Change,
};

/// What can be done with consumers.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Resource(resource::Verb),
    /// Declare one
    Register(Register),
    /// Excuse one from an event
    Waive {
        /// The consumer
        #[arg(value_parser = text())]
        name: String,
        /// The revision of the event
        #[arg(long)]
        revision: u64,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
    },
}

/// A consumer to declare.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("subscription").required(true).multiple(true))]
pub struct Register {
    /// Its name
    #[arg(value_parser = text())]
    name: String,
    /// Who answers for it
    #[arg(long, value_parser = text())]
    owner: String,
    /// Events about this credential; may be repeated
    #[arg(long, group = "subscription", value_parser = text())]
    credential: Vec<String>,
    /// Events about everything at this target; may be repeated
    #[arg(long, group = "subscription", value_parser = text())]
    target: Vec<String>,
    /// All events
    #[arg(long, group = "subscription", conflicts_with_all = ["credential", "target"])]
    all: bool,
    /// Rotations do not wait for it, and its silence is not escalated
    #[arg(long)]
    optional: bool,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Resource(verb) => return resource::run(app, Kind::Consumer, verb).await,
        Verb::Register(register) => {
            let request = ApplyRequest { resources: vec![register.into()], dry_run: false };
            let changes = app.client()?.apply(request).await?.changes;
            app.output.list(&changes.iter().map(Change::from).collect::<Vec<_>>())?;
        }
        Verb::Waive { name, revision, reason } => {
            let request = WaiveReceiptRequest { consumer: name.clone(), revision, reason };
            app.client()?.waive_receipt(request).await?;
            app.output.note(&format!("consumer `{name}` is excused from revision {revision}"));
        }
    }
    Ok(Exit::Done)
}

impl From<Register> for v1::Resource {
    fn from(it: Register) -> Self {
        let consumer = v1::Consumer {
            name: it.name,
            owner: it.owner,
            subscription: Some(v1::Subscription {
                all: it.all,
                credentials: it.credential,
                targets: it.target,
            }),
            required: !it.optional,
            ..v1::Consumer::default()
        };
        Self { kind: Some(v1::resource::Kind::Consumer(consumer)) }
    }
}
