//! `revolve rotation`.

use api::v1::{AbortRotationRequest, GetRotationRequest, ListRotationsRequest, RetryRotationRequest};
use clap::Subcommand;

use super::{resource::unknown_answer, schedule, text};
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Outcome},
    resource::scalar,
    show::Rotation,
    wait,
};

/// What can be done with rotations.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Newest first
    List {
        /// Only of this credential
        #[arg(long, value_parser = text())]
        credential: Option<String>,
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: u32,
    },
    /// One of them, with its history
    Get {
        /// Its id, such as rot-42
        #[arg(value_parser = text())]
        id: String,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
        /// Longest wait
        #[arg(long, default_value = wait::DEFAULT_LIMIT, value_name = "SPAN")]
        timeout: scalar::Span,
    },
    /// Roll back to the old version
    Abort {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let a quarantined one go on
    Retry {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
    },
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let client = app.client()?;
    match verb {
        Verb::List { credential, open, limit } => {
            let credential = credential.unwrap_or_default();
            let request = ListRotationsRequest { credential, open_only: open, limit };
            let found = client.list_rotations(request).await?.rotations;
            app.output.list(&found.iter().map(Rotation::from).collect::<Vec<_>>())?;
        }
        Verb::Get { id, wait: true, timeout } => {
            return schedule::follow(app, &client, &id, timeout).await;
        }
        Verb::Get { id, .. } => {
            let found = client.get_rotation(GetRotationRequest { id }).await?.rotation;
            app.output.item(&Rotation::from(&found.ok_or_else(unknown_answer)?))?;
        }
        Verb::Abort { id, reason, yes } => {
            confirm(&app.output, yes, &format!("this aborts rotation `{id}`"), &id)?;
            client.abort_rotation(AbortRotationRequest { id: id.clone(), reason }).await?;
            app.output.note(&format!("rotation `{id}` is rolled back"));
        }
        Verb::Retry { id } => {
            client.retry_rotation(RetryRotationRequest { id: id.clone() }).await?;
            app.output.note(&format!("rotation `{id}` goes on"));
        }
    }
    Ok(Exit::Done)
}
