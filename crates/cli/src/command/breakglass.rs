//! `revolve breakglass`.

use api::v1::{
    ApproveGrantRequest, DenyGrantRequest, EndGrantRequest, GetGrantRequest, ListGrantsRequest,
    RequestGrantRequest, RevealGrantRequest, ReviewGrantRequest,
};
use clap::Subcommand;
use serde::Serialize;

use super::{resource::unknown_answer, text};
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Outcome},
    output::when::When,
    resource::scalar,
    show::{Grant, Secret},
};

/// What can be done with break-glass access.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Ask for it
    Request {
        /// Where
        #[arg(long, value_parser = text())]
        target: String,
        /// A role listed under breakGlassRoles of the target
        #[arg(long, value_parser = text())]
        role: String,
        /// For how long from approval, at most 4h
        #[arg(long, value_name = "SPAN")]
        duration: scalar::Span,
        /// The ticket it belongs to
        #[arg(long, value_parser = text())]
        ticket: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
    },
    /// Approve someone else's request
    Approve {
        /// Its id, such as bg-7
        #[arg(value_parser = text())]
        id: String,
    },
    /// Deny a request
    Deny {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
    },
    /// End it before its time
    End {
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
    /// Newest first
    List {
        /// Only those that are not closed
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: u32,
    },
    /// One of them
    Get {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
    },
    /// Show the login: once, to the one who asked
    Reveal {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
    },
    /// Record what someone else found afterwards
    Review {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
        /// What was found
        #[arg(long, value_parser = text())]
        note: String,
    },
}

#[derive(Serialize)]
struct Requested<'a> {
    id: &'a str,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let client = app.client()?;
    match verb {
        Verb::Request { target, role, duration, ticket, reason } => {
            let request = RequestGrantRequest { target, role, duration_ms: duration.0, ticket, reason };
            let id = client.request_grant(request).await?.id;
            app.output.screen(&Requested { id: &id }, &format!("{id}\n"))?;
            app.output.note(&format!("waiting for `revolve breakglass approve {id}` by someone else"));
        }
        Verb::Approve { id } => {
            client.approve_grant(ApproveGrantRequest { id: id.clone() }).await?;
            app.output.note(&format!("grant `{id}` is approved"));
        }
        Verb::Deny { id, reason } => {
            client.deny_grant(DenyGrantRequest { id: id.clone(), reason }).await?;
            app.output.note(&format!("grant `{id}` is denied"));
        }
        Verb::End { id, reason, yes } => {
            confirm(&app.output, yes, &format!("this ends grant `{id}`"), &id)?;
            client.end_grant(EndGrantRequest { id: id.clone(), reason }).await?;
            app.output.note(&format!("grant `{id}` is ending; see `revolve breakglass get {id}`"));
        }
        Verb::List { open, limit } => {
            let found = client.list_grants(ListGrantsRequest { open_only: open, limit }).await?.grants;
            app.output.list(&found.iter().map(Grant::from).collect::<Vec<_>>())?;
        }
        Verb::Get { id } => {
            let found = client.get_grant(GetGrantRequest { id }).await?.grant;
            app.output.item(&Grant::from(&found.ok_or_else(unknown_answer)?))?;
        }
        Verb::Reveal { id } => {
            let login = client.reveal_grant(RevealGrantRequest { id }).await?;
            let login = Secret {
                version: None,
                username: login.username,
                password: login.password.into(),
                expires: Some(When(login.expires_ms)),
                connection: login.connection.into_iter().collect(),
            };
            app.output.note("this login is shown once, now; it ends by itself");
            app.output.screen(&login, &login.lines())?;
        }
        Verb::Review { id, note } => {
            client.review_grant(ReviewGrantRequest { id: id.clone(), note }).await?;
            app.output.note(&format!("grant `{id}` is reviewed"));
        }
    }
    Ok(Exit::Done)
}
