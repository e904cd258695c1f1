//! The demo consumer: an application that follows the feed, moves to each new version by a real login, and answers.

use client::{
    Client, ReceiptStage, SubscribeOptions, Update,
    v1::{Event, EventKind, GetSecretRequest},
};
use tokio::sync::mpsc;

use super::target::Session;

/// What the consumer has done, for the one who tells the story.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// It has logged in with a version and acknowledged it.
    Moved { version: u32 },
    /// It knows that a version is no longer valid and acknowledged that.
    Dropped { version: u32 },
    /// It could not do what an event asks.
    Failed(String),
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Moved { version } => write!(f, "logged in with v{version} and acknowledged it"),
            Self::Dropped { version } => write!(f, "acknowledged credential-revoked for v{version}"),
            Self::Failed(problem) => write!(f, "FAILED: {problem}"),
        }
    }
}

/// Follows the feed until the receiver of its deeds is gone.
pub async fn run(client: Client, port: u16, deeds: mpsc::Sender<Deed>) {
    let mut feed = client.subscribe(SubscribeOptions::default());
    let mut session = None;
    loop {
        let update = match feed.next().await {
            Ok(update) => update,
            Err(error) => {
                if deeds.send(Deed::Failed(error.to_string())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Update::Event(event) = update else { continue };
        let (stage, deed) = match act(&client, port, &event, &mut session).await {
            Ok(deed) => (ReceiptStage::Enforced, deed),
            Err(error) => (ReceiptStage::Failed, Some(Deed::Failed(format!("{error:#}")))),
        };
        let answered = client.acknowledge(stage, [event.revision..=event.revision], "").await;
        let deed = match answered {
            Ok(_) => deed,
            Err(error) => Some(Deed::Failed(error.to_string())),
        };
        if let Some(deed) = deed
            && deeds.send(deed).await.is_err()
        {
            return;
        }
    }
}

async fn act(
    client: &Client,
    port: u16,
    event: &Event,
    session: &mut Option<Session>,
) -> anyhow::Result<Option<Deed>> {
    match event.kind() {
        EventKind::CredentialRotated | EventKind::CredentialRestored => {
            let secret = client.get_secret(GetSecretRequest { credential: event.credential.clone() }).await?;
            *session = Some(Session::open(port, &secret.username, &secret.password.into()).await?);
            Ok(Some(Deed::Moved { version: secret.version }))
        }
        EventKind::CredentialRevoked => Ok(Some(Deed::Dropped { version: event.version })),
        EventKind::HoldLifted | EventKind::GrantEnded | EventKind::Unspecified => Ok(None),
    }
}
