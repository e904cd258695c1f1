//! What the leader does about a data key that is being replaced: it seals anew what is under it, a bounded batch at a
//! time, and destroys the key when nothing is. It keeps nothing of its own, so another leader goes on where this one was.

use std::time::Duration;

use model::{
    State, caps,
    command::{Command, DestroyDataKey, Reseal, Resealed},
    sealed::Place,
    time::Span,
};
use tokio_util::sync::CancellationToken;

use super::Context;

/// Most values of one batch, and most bytes; a batch is one entry of the log.
const BATCH_VALUES: usize = 64;
const BATCH_BYTES: usize = 128 * 1024;
/// Longest time between two looks, whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before what did not go well is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a key stays after it was retired: calls that were sealing with it by then have ended.
const GRACE: Span = Span::seconds(10);
/// Who acts when nobody asked.
const ACTOR: &str = "system";

const _: () = assert!(BATCH_VALUES <= caps::RESEALED, "the model takes a batch");

/// Runs until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut changes = context.consensus.watch();
    let mut cursor = None;
    loop {
        changes.borrow_and_update();
        let mut patience = LOOK_EVERY;
        if context.consensus.standing().is_leader {
            patience = look(&context, &mut cursor).await;
        }
        if patience.is_zero() && !shutdown.is_cancelled() {
            continue;
        }
        if !context.wake(&mut changes, patience, &shutdown).await {
            return;
        }
    }
}

/// Does one piece of what is left to do, and says how long it may be until the next one.
async fn look(context: &Context, cursor: &mut Option<Place>) -> Duration {
    let state = context.consensus.local();
    let Some(old) = state.retiring_data_key() else {
        *cursor = None;
        return LOOK_EVERY;
    };
    if state.sealed_under(old.id) == 0 {
        *cursor = None;
        let wait = context.runtime.until(old.since.plus(GRACE));
        if !wait.is_zero() {
            return wait.min(LOOK_EVERY);
        }
        return propose(context, DestroyDataKey { id: old.id }.into()).await.unwrap_or(AGAIN_AFTER);
    }
    let values = batch(context, &state, old.id, cursor);
    if values.is_empty() {
        // All of it was gone through: what is left was put there meanwhile, or could not be opened.
        *cursor = None;
        return LOOK_EVERY;
    }
    let done = propose(context, Reseal { from: old.id, values }.into()).await;
    done.unwrap_or_else(|| {
        *cursor = None;
        AGAIN_AFTER
    })
}

/// The next values under `key`, sealed anew; moves the cursor behind them.
fn batch(context: &Context, state: &State, key: u32, cursor: &mut Option<Place>) -> Vec<Resealed> {
    let (mut values, mut bytes) = (Vec::new(), 0);
    let after = cursor.clone();
    for (place, held) in state.sealed_after(after.as_ref()).filter(|(_, held)| held.key() == Some(key)) {
        if let Some(sealed) = context.hands.reseal(state, &place, held) {
            bytes += sealed.as_bytes().len();
            values.push(Resealed { place: place.clone(), was: held.digest(), sealed });
        }
        *cursor = Some(place);
        if values.len() >= BATCH_VALUES || bytes >= BATCH_BYTES {
            break;
        }
    }
    values
}

/// `Some` when it was taken: there may be more to do at once.
async fn propose(context: &Context, command: Command) -> Option<Duration> {
    let action = command.action();
    match context.consensus.propose(ACTOR.to_owned(), command).await {
        Ok(Ok(_)) => Some(Duration::ZERO),
        Ok(Err(refusal)) => {
            tracing::info!(action, code = refusal.code.as_str(), %refusal, "not yet");
            None
        }
        Err(error) => {
            tracing::debug!(action, %error, "not proposed, looked at again");
            None
        }
    }
}
