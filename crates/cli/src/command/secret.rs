//! `revolve secret`.

use api::v1::GetSecretRequest;
use clap::Subcommand;

use super::text;
use crate::{
    app::App,
    exit::{Exit, Outcome},
    show::Secret,
};

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The current value, from the store `builtin`
    Get {
        /// The credential
        #[arg(value_parser = text())]
        credential: String,
    },
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let Verb::Get { credential } = verb;
    let found = app.client()?.get_secret(GetSecretRequest { credential }).await?;
    let login = Secret {
        version: Some(found.version),
        username: found.username,
        password: found.password.into(),
        expires: None,
        connection: found.connection.into_iter().collect(),
    };
    app.output.screen(&login, &login.lines())?;
    Ok(Exit::Done)
}
