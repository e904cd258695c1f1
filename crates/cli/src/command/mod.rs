//! The nouns and verbs, and what runs them. One file per noun.

mod apply;
mod audit;
mod breakglass;
mod cluster;
mod completion;
mod consumer;
mod feed;
mod help;
mod ledger;
mod resource;
mod revocation;
mod rotation;
mod schedule;
mod secret;
mod snapshot;
mod status;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    app::{self, App},
    dev,
    exit::{Exit, Failure, Outcome},
    output::{self, Output},
    resource::Kind,
    server,
    settings::{Flags, Settings},
};

/// Rotates machine credentials, tells everyone who depends on them, and proves the old one dead.
#[derive(Debug, Parser)]
#[command(name = "revolve", version, max_term_width = 100)]
#[command(disable_help_subcommand = true, disable_help_flag = true, disable_version_flag = true)]
#[command(after_help = "More: revolve help exit-codes | environment | <command>")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Ask(Box<Ask>),
    /// Run one node of a cluster
    Server(server::Args),
    /// Run the whole system here, with a demo
    Dev(dev::Args),
    /// Print a completion script
    Completion(completion::Args),
    /// Print help on a command or topic
    Help(help::Args),
}

/// What works with the settings of a client.
#[derive(Debug, Subcommand)]
enum Ask {
    /// One screen: leader, overdue, failing, unacknowledged, live grants
    Status,
    /// Declare resources from YAML
    Apply(apply::ApplyArgs),
    /// Show what declaring would change, and the next fire times
    Plan(apply::PlanArgs),
    /// Named non-human principals
    #[command(subcommand)]
    Identity(resource::Verb),
    /// Systems that honour credentials
    #[command(subcommand)]
    Target(resource::Verb),
    /// Where consumers read values
    #[command(subcommand)]
    Store(resource::Verb),
    /// What identities authenticate with
    #[command(subcommand)]
    Credential(resource::Verb),
    /// When credentials rotate
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Runs of schedules
    #[command(subcommand)]
    Rotation(rotation::Verb),
    /// Parties that must act on events
    #[command(subcommand)]
    Consumer(consumer::Verb),
    /// State that something is no longer valid, and see who has acted on it
    #[command(subcommand)]
    Revocation(revocation::Verb),
    /// Follow and answer the revocation feed
    #[command(subcommand)]
    Feed(feed::Verb),
    /// Access for people that ends by itself
    #[command(subcommand)]
    Breakglass(breakglass::Verb),
    /// Who may call
    #[command(subcommand)]
    Token(token::Verb),
    /// Who did what, in a chain that shows tampering
    #[command(subcommand)]
    Audit(audit::Verb),
    /// What must never come back, in a chain kept on every node
    #[command(subcommand)]
    Ledger(ledger::Verb),
    /// Read a credential's current value
    #[command(subcommand)]
    Secret(secret::Verb),
    /// The nodes
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Print the version
    #[command(hide = true)]
    Version,
}

impl Cli {
    /// What to log, if anything: what was asked for, or what the command calls for by itself.
    pub fn log_filter(&self) -> Option<String> {
        let by_itself = match &self.command {
            Command::Server(_) => true,
            Command::Dev(args) => args.wants_log(),
            Command::Ask(_) | Command::Completion(_) | Command::Help(_) => false,
        };
        self.flags.log_filter().or_else(|| by_itself.then(|| "info".to_owned()))
    }
}

/// Runs the command and says how the process ends.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { flags, command } = cli;
    let outcome = match command {
        Command::Server(args) => return local(server::run(args).await),
        Command::Dev(args) => return local(dev::run(args).await),
        Command::Help(args) => help::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Ask(command) => {
            tokio::spawn(interrupted());
            ask(&flags, *command).await
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

/// A name or text that must not be empty: an empty selector never means "all".
fn text() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

fn local(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| Failure::from(error).report().into())
}

async fn ask(flags: &Flags, command: Ask) -> Outcome {
    let settings = Settings::gather(flags)?;
    let app = App { output: Output::new(settings.format, app::now()), settings };
    match command {
        Ask::Status => status::run(&app).await,
        Ask::Apply(args) => apply::run(&app, args).await,
        Ask::Plan(args) => apply::plan(&app, args).await,
        Ask::Identity(verb) => resource::run(&app, Kind::Identity, verb).await,
        Ask::Target(verb) => resource::run(&app, Kind::Target, verb).await,
        Ask::Store(verb) => resource::run(&app, Kind::Store, verb).await,
        Ask::Credential(verb) => resource::run(&app, Kind::Credential, verb).await,
        Ask::Schedule(verb) => schedule::run(&app, verb).await,
        Ask::Rotation(verb) => rotation::run(&app, verb).await,
        Ask::Consumer(verb) => consumer::run(&app, verb).await,
        Ask::Revocation(verb) => revocation::run(&app, verb).await,
        Ask::Feed(verb) => feed::run(&app, verb).await,
        Ask::Breakglass(verb) => breakglass::run(&app, verb).await,
        Ask::Token(verb) => token::run(&app, verb).await,
        Ask::Audit(verb) => audit::run(&app, verb).await,
        Ask::Ledger(verb) => ledger::run(&app, verb).await,
        Ask::Secret(verb) => secret::run(&app, verb).await,
        Ask::Cluster(verb) => cluster::run(&app, verb).await,
        Ask::Version => version(&app),
    }
}

fn version(app: &App) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    app.output.screen(&serde_json::json!({ "version": version }), &format!("revolve {version}\n"))?;
    Ok(Exit::Done)
}

/// Ends the process at Ctrl-C; what was started goes on, and is said to.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    if let Some(resume) = app::resume() {
        output::complain(&resume);
    }
    std::process::exit(Exit::Interrupted as i32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_root_help_fits_a_screen() {
        let help = Cli::command().render_help().to_string();
        assert!(help.lines().count() <= 40, "{} lines", help.lines().count());
    }
}
