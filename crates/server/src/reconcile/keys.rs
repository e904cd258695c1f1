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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{command::PutTarget, key::DataKeyState, name::NodeId, target::SecretPolicy};
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::{
        consensus::Consensus,
        keys::Keyring,
        reconcile::NodeHands,
        testing::{Alone, Leading},
    };

    /// More than two batches.
    const TARGETS: usize = 150;

    fn place(number: usize) -> Place {
        Place::Target(format!("t-{number}").parse().unwrap())
    }

    /// A cluster with many secrets under data key 1, and data key 2 in its place.
    fn replaced() -> (Arc<Alone>, Arc<Keyring>) {
        let alone = Alone::new();
        let keys = Arc::new(Keyring::new(vec![workers::RootKey::generate()]));
        let add = || keys.new_data_key(&alone.local(), "test".into()).unwrap().into();
        alone.apply("test", add()).unwrap();
        for number in 0..TARGETS {
            let secret = format!("secret-{number}").into();
            let admin = Some(keys.seal(&alone.local(), &secret, &place(number).associated()).unwrap());
            let target = PutTarget {
                name: format!("t-{number}").parse().unwrap(),
                provider: "postgres".into(),
                params: [].into(),
                admin,
                secrets: SecretPolicy::default(),
                break_glass_roles: Vec::new(),
            };
            alone.apply("test", target.into()).unwrap();
        }
        alone.apply("test", add()).unwrap();
        (alone, keys)
    }

    fn context(alone: &Arc<Alone>, keys: &Arc<Keyring>) -> Context {
        let leading = Arc::new(Leading(Arc::clone(alone)));
        Context {
            node: NodeId(1),
            consensus: Arc::clone(&leading) as Arc<dyn Consensus>,
            hands: Arc::new(NodeHands { keys: Arc::clone(keys), bootstrap: None }),
            runtime: leading,
            concurrent_steps: 1,
        }
    }

    #[tokio::test]
    async fn everything_is_sealed_anew_in_bounded_batches_and_then_the_old_key_goes() {
        let (alone, keys) = replaced();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(context(&alone, &keys), shutdown.clone()));
        let mut changes = alone.watch();
        while alone.local().data_keys()[0].state != DataKeyState::Destroyed {
            changes.changed().await.unwrap();
        }
        shutdown.cancel();
        running.await.unwrap();
        let state = alone.local();
        assert_eq!((state.sealed_under(1), state.sealed_under(2)), (0, TARGETS as u64));
        for number in 0..TARGETS {
            let sealed = state.sealed_at(&place(number)).unwrap();
            let opened = keys.open(&state, sealed, &place(number).associated()).unwrap();
            assert_eq!(opened.expose_secret(), format!("secret-{number}"));
        }
        let sizes: Vec<usize> = alone
            .proposed()
            .into_iter()
            .filter_map(|(_, command)| {
                let Command::Reseal(reseal) = command else { return None };
                Some(reseal.values.len())
            })
            .collect();
        assert_eq!(sizes, [BATCH_VALUES, BATCH_VALUES, TARGETS - 2 * BATCH_VALUES]);
        let retired = state.data_keys()[0].since.since(state.data_keys()[1].created);
        assert!(retired >= GRACE, "{retired} after the new one came");
    }

    #[tokio::test]
    async fn another_leader_goes_on_where_the_first_one_was() {
        let (alone, keys) = replaced();
        let mut cursor = None;
        let first = context(&alone, &keys);
        assert_eq!(look(&first, &mut cursor).await, Duration::ZERO);
        assert_eq!(alone.local().sealed_under(1), (TARGETS - BATCH_VALUES) as u64);
        let (second, mut fresh) = (context(&alone, &keys), None);
        while alone.local().sealed_under(1) > 0 {
            look(&second, &mut fresh).await;
        }
        // The first one, which does not know yet, harms nothing.
        look(&first, &mut cursor).await;
        assert_eq!(alone.local().sealed_under(2), TARGETS as u64);
    }

    #[tokio::test]
    async fn what_cannot_be_opened_keeps_its_key_alive() {
        let (alone, keys) = replaced();
        let moved = alone.local().sealed_at(&place(0)).unwrap().clone();
        let state = alone.local();
        let target = state.targets().get(&"t-1".parse().unwrap()).unwrap();
        let put = PutTarget {
            name: target.name.clone(),
            provider: target.provider.clone(),
            params: [].into(),
            admin: Some(moved),
            secrets: target.secrets.clone(),
            break_glass_roles: Vec::new(),
        };
        alone.apply("test", put.into()).unwrap();
        let (context, mut cursor) = (context(&alone, &keys), None);
        alone.pass(Span::hours(1));
        for _ in 0..10 {
            look(&context, &mut cursor).await;
        }
        let state = alone.local();
        assert_eq!(state.sealed_under(1), 1, "all but the one that was moved from its place");
        assert_eq!(state.data_keys()[0].state, DataKeyState::Retiring);
    }
}
