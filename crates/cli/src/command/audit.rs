//! `revolve audit`.

use api::v1::{VerifyAuditRequest, WatchAuditRequest};
use clap::Subcommand;
use client::Error;

use crate::{
    app::App,
    exit::{Exit, Outcome},
    show::{Audit, Chain},
};

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The last records
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        /// Go on as they are committed
        #[arg(short, long)]
        follow: bool,
    },
    /// Records in order
    List {
        /// After this sequence number
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        after: u64,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Check that no record was changed, removed or reordered; exit 1 when one was
    Verify,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let client = app.client()?;
    match verb {
        Verb::Tail { lines, follow } => {
            let request = WatchAuditRequest { after_sequence: 0, last: lines, follow };
            let mut records = client.watch_audit(request).await?;
            while let Some(answer) = records.message().await.map_err(broken)? {
                if let Some(record) = &answer.record {
                    app.output.next(&Audit::from(record))?;
                }
            }
        }
        Verb::List { after, limit } => {
            let request = WatchAuditRequest { after_sequence: after, last: 0, follow: false };
            let mut records = client.watch_audit(request).await?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(answer) = records.message().await.map_err(broken)?
            {
                found.extend(answer.record.as_ref().map(Audit::from));
            }
            app.output.list(&found)?;
        }
        Verb::Verify => {
            let answer = client.verify_audit(VerifyAuditRequest {}).await?;
            let chain = Chain::from(&answer);
            app.output.screen(&chain, &chain.line())?;
            return Ok(if answer.intact { Exit::Done } else { Exit::Failed });
        }
    }
    Ok(Exit::Done)
}

/// The stream ended in the middle.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn broken(status: tonic::Status) -> Error {
    Error::Unknown { message: format!("the records stopped coming: {}", status.message()) }
}
