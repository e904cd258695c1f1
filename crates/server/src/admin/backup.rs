//! Backups: the state as a file, streamed to who asks for it, and letting one that was put back fire.

use std::sync::Arc;

use api::v1;
use model::{
    State,
    command::{BackupTaken, ConfirmRestore, RecordBackup},
    table::Record,
};
use workers::backup::{About, BackupError, Writer};
use zeroize::Zeroizing;

use crate::{
    denied::Denied,
    edge::Call,
    keys::KeyError,
    stream::{End, Sender},
};

/// A chunk is closed when its records have reached this many bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// How much of the hash of the first audit record names a cluster.
const NAME_BYTES: usize = 8;

type Responses = Sender<v1::SaveSnapshotResponse>;

/// Lets everything fire again.
pub(super) async fn confirm(
    call: &Call,
    request: v1::ConfirmRestoreRequest,
) -> Result<v1::ConfirmRestoreResponse, Denied> {
    call.about("cluster", "restore");
    call.propose(ConfirmRestore { reason: request.reason }).await?;
    Ok(v1::ConfirmRestoreResponse {})
}

/// Sends the state, as it is once the request for it stands in the audit log.
pub(super) async fn save(call: Arc<Call>, request: v1::SaveSnapshotRequest, sender: Arc<Responses>) -> End {
    match send_all(&call, request, &sender).await {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}

async fn send_all(call: &Call, request: v1::SaveSnapshotRequest, sender: &Responses) -> Result<(), End> {
    let reason = request.reason;
    call.propose(RecordBackup { reason: reason.clone() }).await?;
    let applied = call.edge.consensus.standing().applied;
    let state = call.read().await?;
    let about = About {
        cluster: name_of(&state),
        created_at: call.now(),
        applied,
        revision: state.revision(),
        ledger: state.ledger_head(),
        data_key: state.data_key().map(|key| key.id),
        digest: state.digest().to_bytes(),
        records: state.records().count() as u64,
    };
    let total = about.records;
    let taken = BackupTaken {
        at: about.created_at,
        applied: about.applied,
        revision: about.revision,
        ledger: about.ledger.sequence,
        reason,
    };
    // The one that wraps the data keys: without it what the backup holds sealed could not be opened.
    let roots = call.edge.keys.root_keys(&state);
    let root = roots.first().ok_or(KeyError::NotYet).map_err(Denied::from)?;
    let (mut writer, head) = Writer::begin(about, root).map_err(failed)?;
    sender.send(v1::SaveSnapshotResponse { data: head, records: 0, total }).await?;
    let mut records = state.records().peekable();
    loop {
        let (mut chunk, mut bytes) = (Vec::<Record>::new(), 0);
        while bytes < CHUNK_BYTES
            && let Some(record) = records.next()
        {
            bytes += record.key.len() + record.value.as_ref().map_or(0, Vec::len);
            chunk.push(record);
        }
        let last = records.peek().is_none();
        let count = chunk.len() as u64;
        let plain = postcard::to_stdvec(&chunk).map_err(|error| Denied::Internal(error.to_string()))?;
        let data = writer.chunk(Zeroizing::new(plain), last).map_err(failed)?;
        sender.send(v1::SaveSnapshotResponse { data, records: count, total }).await?;
        if last {
            note_taken(call, taken).await;
            return Ok(());
        }
    }
}

/// The backup is whole, also when this cannot be noted: then the one before counts as the last.
async fn note_taken(call: &Call, taken: BackupTaken) {
    if let Err(denied) = call.propose(taken).await {
        tracing::warn!(%denied, "a backup was handed out, and that cannot be noted");
    }
}

/// The cluster that a state is of, whichever nodes it has: the beginning of its first audit record's hash.
fn name_of(state: &State) -> String {
    let first = state.audit().iter().next().map(|(_, record)| record.hash).unwrap_or_default();
    first.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn failed(error: BackupError) -> Denied {
    Denied::Internal(format!("the backup cannot be made: {error}"))
}
