//! `revolve cluster invite`, and what becomes of invitations.

use api::v1::{CreateJoinTokenRequest, ListJoinTokensRequest, RevokeJoinTokenRequest};
use secrecy::ExposeSecret as _;

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Outcome},
    output::when::When,
    resource::scalar,
    show::{Invitation, IssuedToken},
};

/// An invitation for one node.
#[derive(Debug, clap::Args)]
pub struct Invite {
    /// Its name [default: one that is made up]
    #[arg(long, value_parser = text())]
    name: Option<String>,
    /// How long it works, at most 24h
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    expires: scalar::Span,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
}

/// An invitation to take back.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Its name
    #[arg(value_parser = text())]
    name: String,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Makes a join token and shows it.
pub async fn invite(app: &App, it: Invite) -> Outcome {
    let request =
        CreateJoinTokenRequest { name: it.name.unwrap_or_default(), ttl_ms: it.expires.0, reason: it.reason };
    let answer = app.client()?.create_join_token(request).await?;
    let issued =
        IssuedToken { name: answer.name, token: answer.token.into(), expires: When(answer.expires_ms) };
    app.output
        .note("this token lets one node in and is shown once, now; give it to the new machine in a file:");
    app.output
        .note("revolve cluster join --token-file FILE --server HOST:PORT --dir DIR --root-key-file FILE");
    app.output.screen(&issued, &format!("{}\n", issued.token.expose_secret()))?;
    Ok(Exit::Done)
}

/// Lists join tokens.
pub async fn list(app: &App) -> Outcome {
    let found = app.client()?.list_join_tokens(ListJoinTokensRequest {}).await?.tokens;
    app.output.list(&found.iter().map(Invitation::from).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}

/// Takes one back.
pub async fn revoke(app: &App, it: Revoke) -> Outcome {
    let Revoke { name, reason, yes } = it;
    confirm(&app.output, yes, &format!("this takes invitation `{name}` back"), &name)?;
    app.client()?.revoke_join_token(RevokeJoinTokenRequest { name: name.clone(), reason }).await?;
    app.output.note(&format!("invitation `{name}` lets nobody in any more"));
    Ok(Exit::Done)
}
