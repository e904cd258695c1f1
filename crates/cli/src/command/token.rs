//! `revolve token`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use api::v1::{IssueTokenRequest, ListTokensRequest, RevokeTokenRequest};
use clap::{Subcommand, builder::PossibleValuesParser};
use model::token::Role;
use secrecy::ExposeSecret;

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    output::when::When,
    resource::scalar,
    show::{IssuedToken, Token},
};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Issue one; it is shown this once
    Issue(Issue),
    /// All of them, without their secrets
    List,
    /// Make one useless
    Revoke {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A token to issue.
#[derive(Debug, clap::Args)]
pub struct Issue {
    /// Its name
    #[arg(value_parser = text())]
    name: String,
    /// What it may do
    #[arg(long, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::as_str)))]
    role: String,
    /// Who acts with it [default: its name]
    #[arg(long, value_parser = text())]
    principal: Option<String>,
    /// For role consumer: whom it speaks for
    #[arg(long, value_parser = text(), required_if_eq("role", "consumer"))]
    consumer: Option<String>,
    /// How long it works, such as 90d [default: until revoked]
    #[arg(long, value_name = "SPAN")]
    ttl: Option<scalar::Span>,
    /// Write it to a new file that only you can read, instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Issue(it) => issue(app, it).await,
        Verb::List => {
            let found = app.client()?.list_tokens(ListTokensRequest {}).await?.tokens;
            app.output.list(&found.iter().map(Token::from).collect::<Vec<_>>())?;
            Ok(Exit::Done)
        }
        Verb::Revoke { name, reason, yes } => {
            confirm(&app.output, yes, &format!("this revokes token `{name}`"), &name)?;
            app.client()?.revoke_token(RevokeTokenRequest { name: name.clone(), reason }).await?;
            app.output.note(&format!("token `{name}` is revoked"));
            Ok(Exit::Done)
        }
    }
}

async fn issue(app: &App, it: Issue) -> Outcome {
    let Issue { name, role, principal, consumer, ttl, out } = it;
    // The file is made first: a token that cannot be kept is not asked for.
    let file = out.as_deref().map(create).transpose()?;
    let request = IssueTokenRequest {
        name: name.clone(),
        principal: principal.unwrap_or_default(),
        role,
        consumer: consumer.unwrap_or_default(),
        ttl_ms: ttl.unwrap_or_default().0,
    };
    let answer = match app.client()?.issue_token(request).await {
        Ok(answer) => answer,
        Err(error) => {
            if let Some(path) = &out
                && let Err(error) = fs::remove_file(path)
            {
                app.output.note(&format!("the empty file `{}` is left behind: {error}", path.display()));
            }
            return Err(error.into());
        }
    };
    let issued = IssuedToken { name, token: answer.token.into(), expires: When(answer.expires_ms) };
    match (file, out) {
        (Some(mut file), Some(path)) => {
            writeln!(file, "{}", issued.token.expose_secret())?;
            app.output.note(&format!("the token is in `{}`", path.display()));
        }
        (_, _) => {
            app.output.note("this token is shown once, now");
            app.output.screen(&issued, &format!("{}\n", issued.token.expose_secret()))?;
        }
    }
    Ok(Exit::Done)
}

fn create(path: &Path) -> Result<fs::File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| {
        Failure::usage(
            format!("the token cannot be written to `{}`: {error}", path.display()),
            "name a file that does not exist yet; nothing is overwritten",
        )
    })
}
