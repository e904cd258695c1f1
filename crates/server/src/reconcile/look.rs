//! What the leader does while a restored cluster only observes: it logs in once with every version whose secret is held, a
//! few at a time, and says what it found. It changes nothing at any target and keeps nothing of its own, so another leader
//! goes on where this one was.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use model::{
    State, caps,
    command::{Looked, RecordLooks},
    name::CredentialName,
};
use tokio_util::sync::CancellationToken;

use super::Context;

/// Versions of one pass; what was found is one entry of the log.
const BATCH: usize = 64;
/// Most logins under way at one time, over all targets.
const AT_ONCE: usize = 8;
/// Longest time for one of them.
const WITHIN: Duration = Duration::from_secs(10);
/// Shortest time between two passes: no target is flooded.
const REST: Duration = Duration::from_millis(250);
/// Time between two passes when there was nothing left to look at.
const IDLE: Duration = Duration::from_secs(5);
/// Longest time between two looks at the state, whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who acts when nobody asked.
const ACTOR: &str = "system";

const _: () = assert!(BATCH <= caps::LOOKS, "the model takes a batch");

/// The version that was looked at last.
type Cursor = Option<(CredentialName, u32)>;

/// Runs until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut changes = context.consensus.watch();
    let mut cursor = None;
    loop {
        changes.borrow_and_update();
        let state = context.consensus.local();
        if context.consensus.standing().is_leader && state.is_observing() {
            // A pass goes over all versions: it is not made again for every change, and what it writes is one.
            let rested = async {
                let rest = pass(&context, &state, &mut cursor).await;
                context.runtime.sleep(rest).await;
            };
            if shutdown.run_until_cancelled(rested).await.is_none() {
                return;
            }
        } else {
            cursor = None;
            if !context.wake(&mut changes, LOOK_EVERY, &shutdown).await {
                return;
            }
        }
    }
}

/// Looks at the next versions, and says how long to rest.
async fn pass(context: &Context, state: &State, cursor: &mut Cursor) -> Duration {
    let due: Vec<(CredentialName, u32)> = state
        .to_look_at(cursor.as_ref(), context.runtime.now())
        .take(BATCH)
        .map(|version| (version.credential.clone(), version.number))
        .collect();
    let Some(last) = due.last().cloned() else {
        // All of it was gone through: from the beginning, for what could not be asked.
        *cursor = None;
        return IDLE;
    };
    let looks = stream::iter(due).map(|(credential, version)| async move {
        let (found, note) = context.hands.look(state, &credential, version, WITHIN).await;
        Looked { credential, version, found, note }
    });
    let looks: Vec<Looked> = looks.buffer_unordered(AT_ONCE).collect().await;
    match context.consensus.propose(ACTOR.to_owned(), RecordLooks { looks }.into()).await {
        Ok(Ok(_)) => *cursor = Some(last),
        Ok(Err(refusal)) => {
            tracing::info!(code = refusal.code.as_str(), %refusal, "what was found is not noted")
        }
        Err(error) => tracing::debug!(%error, "what was found is not noted, looked at again"),
    }
    REST
}

#[cfg(test)]
mod tests;
