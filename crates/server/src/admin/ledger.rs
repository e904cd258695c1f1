//! The ledger: its end, and following it.

use std::sync::Arc;

use api::v1;

use crate::{
    denied::Denied,
    edge::Call,
    stream::{End, Sender},
};

/// Entries looked up at a time, in bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// The end of the ledger as the cluster has it.
pub(super) async fn head(call: &Call, _: v1::GetLedgerRequest) -> Result<v1::GetLedgerResponse, Denied> {
    let state = call.read().await?;
    let head = state.ledger_head();
    Ok(v1::GetLedgerResponse {
        sequence: head.sequence,
        hash: head.hash.to_vec(),
        revision: state.revision(),
    })
}

/// Sends entries above a number, then ends, or goes on as they are committed.
pub(super) async fn watch(
    call: Arc<Call>,
    request: v1::WatchLedgerRequest,
    sender: Arc<Sender<v1::WatchLedgerResponse>>,
) -> End {
    match send_all(&call, &request, &sender).await {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}

async fn send_all(
    call: &Call,
    request: &v1::WatchLedgerRequest,
    sender: &Sender<v1::WatchLedgerResponse>,
) -> Result<(), End> {
    // Everything committed before the call is in it.
    let head = call.read().await?.ledger_head().sequence;
    let mut sent = request.after;
    let mut progress = call.edge.consensus.watch();
    loop {
        progress.borrow_and_update();
        let entries = call.edge.consensus.ledger(sent, BATCH_BYTES).await;
        let entries = entries.map_err(|error| {
            Denied::Internal(format!("the ledger of this node cannot be read, ask another one: {error}"))
        })?;
        if entries.is_empty() {
            if !request.follow {
                return if sent >= head { Ok(()) } else { Err(behind(sent, head).into()) };
            }
            if progress.changed().await.is_err() {
                return Err(Denied::ShuttingDown.into());
            }
        }
        for entry in &entries {
            sent = entry.sequence;
            sender.send(v1::WatchLedgerResponse { entry: Some(api::ledger::shown(entry)) }).await?;
        }
    }
}

/// This node has taken a snapshot in place of the log, and fetches what it lacks.
fn behind(sent: u64, head: u64) -> Denied {
    Denied::Internal(format!("this node holds the ledger up to {sent} of {head} so far, ask another one"))
}
