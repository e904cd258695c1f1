//! The audit log: following and verifying it.

use std::sync::Arc;

use api::v1;

use crate::{
    denied::Denied,
    edge::Call,
    stream::{End, Sender},
};

/// Records looked up at a time.
const BATCH: usize = 256;

/// Sends records after a sequence, then ends, or goes on as they are committed.
pub(super) async fn watch(
    call: Arc<Call>,
    request: v1::WatchAuditRequest,
    sender: Arc<Sender<v1::WatchAuditResponse>>,
) -> End {
    match send_all(&call, &request, &sender).await {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}

async fn send_all(
    call: &Call,
    request: &v1::WatchAuditRequest,
    sender: &Sender<v1::WatchAuditResponse>,
) -> Result<(), End> {
    // Everything committed before the call is in it; what this node applies later only adds to that.
    let head = call.read().await?.audit_head().sequence;
    let last = if request.last == 0 { 0 } else { head.saturating_sub(request.last.into()) };
    let mut sent = request.after_sequence.max(last);
    let mut progress = call.edge.consensus.watch();
    loop {
        progress.borrow_and_update();
        let state = call.edge.consensus.local();
        let rest = state.audit().range(sent.saturating_add(1)..);
        let batch: Vec<_> = rest.take(BATCH).map(|(_, record)| v1::AuditRecord::from(record)).collect();
        drop(state);
        if batch.is_empty() {
            if !request.follow {
                return Ok(());
            }
            if progress.changed().await.is_err() {
                return Err(Denied::ShuttingDown.into());
            }
        }
        for record in batch {
            sent = record.sequence;
            sender.send(v1::WatchAuditResponse { record: Some(record) }).await?;
        }
    }
}

/// Checks the whole chain as the cluster has it.
pub(super) async fn verify(
    call: &Call,
    _: v1::VerifyAuditRequest,
) -> Result<v1::VerifyAuditResponse, Denied> {
    let state = call.read().await?;
    // Hashing a long log takes a while; calls and heartbeats go on meanwhile.
    let checked = tokio::task::spawn_blocking(move || {
        let head = state.audit_head();
        let result = model::audit::verify(state.audit().values(), head);
        v1::VerifyAuditResponse {
            intact: result.is_ok(),
            records: *result.as_ref().unwrap_or(&head.sequence),
            problem: result.err().map(|broken| broken.to_string()).unwrap_or_default(),
            head: head.hash.to_vec(),
        }
    });
    checked.await.map_err(|error| Denied::Internal(format!("the audit log could not be checked: {error}")))
}
