//! `revolve revocation`.

use api::v1::{
    CreateRevocationRequest, GetRevocationRequest, LiftRevocationRequest, ListRevocationsRequest,
    RevocationSubject, VersionRef, revocation_subject::Subject,
};
use clap::{Subcommand, ValueEnum, builder::PossibleValuesParser};
use client::Client;
use model::event::ReasonCode;

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    resource::scalar,
    show::{Created, Revocation, RevocationStatus},
    wait::{self, Look},
};

/// What can be done with revocations.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// State that something is no longer valid
    Create(Create),
    /// Who has acted on it, and what was seen at the target; exit 2 while acks are outstanding
    Status {
        /// Its id, such as rev-3
        #[arg(value_parser = text())]
        id: String,
    },
    /// Newest first
    List {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: u32,
    },
    /// Lift a hold
    Lift {
        /// Its id
        #[arg(value_parser = text())]
        id: String,
        /// Why
        #[arg(long, value_parser = text())]
        reason: String,
    },
}

/// A revocation to state.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What kind of thing
    #[arg(value_enum)]
    kind: Kind,
    /// Its name; for a version NAME@NUMBER, such as orders-db@3
    #[arg(value_parser = text())]
    name: String,
    /// Why, in words of RFC 5280
    #[arg(long, value_name = "CODE", value_parser = PossibleValuesParser::new(stated_codes()))]
    reason_code: String,
    /// Why, in your words
    #[arg(long, value_parser = text())]
    reason: String,
    /// Time that consumers have to enforce it, such as 15m
    #[arg(long, value_name = "SPAN")]
    ack_within: Option<scalar::Span>,
    /// Wait until every required consumer has enforced it
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "acked")]
    wait: Option<Until>,
    /// Longest wait
    #[arg(long, default_value = wait::DEFAULT_LIMIT, value_name = "SPAN")]
    timeout: scalar::Span,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Every version
    Credential,
    /// One version
    Version,
    /// Every version of every credential of it
    Identity,
    /// A break-glass grant
    Grant,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Until {
    /// Every required consumer has enforced it
    Acked,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => state(app, create).await,
        Verb::Status { id } => {
            let found = app.client()?.get_revocation(GetRevocationRequest { id }).await?;
            show(app, &(&found).into())
        }
        Verb::List { limit } => {
            let found = app.client()?.list_revocations(ListRevocationsRequest { limit }).await?.revocations;
            app.output.list(&found.iter().map(Revocation::from).collect::<Vec<_>>())?;
            Ok(Exit::Done)
        }
        Verb::Lift { id, reason } => {
            let request = LiftRevocationRequest { id: id.clone(), reason };
            let revisions = app.client()?.lift_revocation(request).await?.revisions;
            app.output.brief(&Created { id, revisions })?;
            Ok(Exit::Done)
        }
    }
}

async fn state(app: &App, create: Create) -> Outcome {
    let Create { kind, name, reason_code, reason, ack_within, wait, timeout, yes } = create;
    let subject = subject(kind, &name)?;
    let noun = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    confirm(&app.output, yes, &format!("this revokes {noun} `{name}`"), &name)?;
    let client = app.client()?;
    let request = CreateRevocationRequest {
        subject: Some(RevocationSubject { subject: Some(subject) }),
        reason_code,
        reason,
        ack_within_ms: ack_within.unwrap_or_default().0,
    };
    let made = client.create_revocation(request).await?;
    let made = Created { id: made.id, revisions: made.revisions };
    match wait {
        None => {
            app.output.brief(&made)?;
            app.output.note(&format!(
                "committed; see who has acted on it with `revolve revocation status {}`",
                made.id
            ));
            Ok(Exit::Done)
        }
        Some(Until::Acked) => {
            app.output.note(&format!("{} is committed", made.id));
            until_acked(app, &client, &made.id, timeout).await
        }
    }
}

async fn until_acked(app: &App, client: &Client, id: &str, timeout: scalar::Span) -> Outcome {
    let resume = format!("revolve revocation status {id}");
    let acked = wait::until(&app.output, timeout, &resume, async || {
        let found = client.get_revocation(GetRevocationRequest { id: id.to_owned() }).await?;
        let status = RevocationStatus::from(&found);
        Ok(if status.is_acked() { Look::Done(status) } else { Look::Pending(status.standing()) })
    });
    show(app, &acked.await?)
}

fn show(app: &App, status: &RevocationStatus) -> Outcome {
    app.output.screen(status, &status.screen(&app.output))?;
    Ok(if status.is_acked() { Exit::Done } else { Exit::Attention })
}

fn subject(kind: Kind, name: &str) -> Result<Subject, Failure> {
    let name = name.to_owned();
    Ok(match kind {
        Kind::Credential => Subject::Credential(name),
        Kind::Identity => Subject::Identity(name),
        Kind::Grant => Subject::Grant(name),
        Kind::Version => {
            let parts = name.split_once('@').and_then(|(credential, version)| {
                let version = version.trim_start_matches('v').parse().ok()?;
                (!credential.is_empty()).then(|| VersionRef { credential: credential.to_owned(), version })
            });
            let wrong = || Failure::usage(format!("`{name}` is not a version"), "write it as orders-db@3");
            Subject::Version(parts.ok_or_else(wrong)?)
        }
    })
}

/// The codes a person may state; the end of a grant is stated by the cluster alone.
fn stated_codes() -> Vec<&'static str> {
    let stated = ReasonCode::ALL.into_iter().filter(|code| *code != ReasonCode::BreakGlassEnded);
    stated.map(ReasonCode::as_str).collect()
}
