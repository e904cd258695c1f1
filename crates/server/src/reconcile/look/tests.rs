use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use model::{
    Work,
    attempt::{Liveness, StepOutcome},
    command::{Command, ConfirmRestore, Restored},
    ledger::LedgerHead,
    name::NodeId,
    time::{Span, Time},
};

use super::*;
use crate::{
    consensus::Consensus,
    keys::Keyring,
    reconcile::Hands,
    testing::{Alone, Leading, declare},
};

/// More than two passes.
const CREDENTIALS: usize = 150;

/// Finds what it is told to, and counts.
#[derive(Default)]
struct Eyes {
    asked: Mutex<BTreeMap<String, usize>>,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

impl Eyes {
    fn asked(&self, credential: &str) -> usize {
        self.asked.lock().unwrap().get(credential).copied().unwrap_or_default()
    }
}

impl Hands for Eyes {
    fn founding(&self, _: &State) -> Vec<Command> {
        Vec::new()
    }

    fn look<'a>(
        &'a self,
        _: &'a State,
        credential: &'a CredentialName,
        _: u32,
        _: Duration,
    ) -> BoxFuture<'a, (Liveness, String)> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            *self.asked.lock().unwrap().entry(credential.to_string()).or_default() += 1;
            match credential.as_str() {
                "c-1" => (Liveness::Refused, "wrong password".to_owned()),
                "c-2" => (Liveness::Unknown, "no route to host".to_owned()),
                _ => (Liveness::Live, String::new()),
            }
        })
    }

    fn perform<'a>(&'a self, _: &'a State, _: &'a Work, _: u64, _: Duration) -> BoxFuture<'a, StepOutcome> {
        unreachable!("nothing is performed")
    }
}

/// A cluster with credentials that was put back from a backup.
fn put_back() -> Arc<Alone> {
    let alone = Alone::new();
    let keys = Keyring::new(vec![workers::RootKey::generate()]);
    let put = |command: Command| alone.apply("test", command).unwrap();
    put(keys.new_data_key(&alone.local(), "test".into()).unwrap().into());
    declare(&alone, &keys, (0..CREDENTIALS).map(|number| format!("c-{number}")));
    let (backup, ledger) = (LedgerHead::default(), LedgerHead::default());
    put(Restored { backup_at: Time(1), backup, ledger, accepted_loss: None }.into());
    alone
}

fn context(alone: &Arc<Alone>, eyes: &Arc<Eyes>) -> Context {
    let leading = Arc::new(Leading(Arc::clone(alone)));
    Context {
        node: NodeId(1),
        consensus: Arc::clone(&leading) as Arc<dyn Consensus>,
        hands: Arc::clone(eyes) as Arc<dyn Hands>,
        runtime: leading,
        concurrent_steps: 1,
    }
}

fn passes(alone: &Alone) -> Vec<usize> {
    let looks = |(_, command)| {
        let Command::RecordLooks(body) = command else { return None };
        Some(body.looks.len())
    };
    alone.proposed().into_iter().filter_map(looks).collect()
}

#[tokio::test]
async fn each_version_is_looked_at_once_a_few_at_a_time_and_what_was_found_is_kept() {
    let (alone, eyes) = (put_back(), Arc::new(Eyes::default()));
    let (context, mut cursor) = (context(&alone, &eyes), None);
    for _ in 0..6 {
        pass(&context, &alone.local(), &mut cursor).await;
    }
    assert_eq!(passes(&alone), [BATCH, BATCH, CREDENTIALS - 2 * BATCH]);
    assert!((2..=AT_ONCE).contains(&eyes.most.load(Ordering::SeqCst)));
    assert!((0..CREDENTIALS).all(|number| eyes.asked(&format!("c-{number}")) == 1));
    let state = alone.local();
    let found = |name: &str| state.looks().get(&(name.parse().unwrap(), 1)).unwrap().clone();
    assert_eq!((found("c-0").found, state.looks().len(), state.looked_at()), (Liveness::Live, 150, 150));
    assert_eq!((found("c-1").found, found("c-1").note.as_str()), (Liveness::Refused, "wrong password"));

    // What could not be asked is asked again, and nothing else is.
    alone.pass(caps::LOOK_AGAIN_AFTER);
    for _ in 0..3 {
        pass(&context, &alone.local(), &mut cursor).await;
    }
    assert_eq!((eyes.asked("c-2"), eyes.asked("c-1"), eyes.asked("c-0")), (2, 1, 1));
}

#[tokio::test]
async fn the_loop_looks_at_everything_and_ends_when_it_is_told_to() {
    let (alone, eyes) = (put_back(), Arc::new(Eyes::default()));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(context(&alone, &eyes), shutdown.clone()));
    let mut changes = alone.watch();
    while alone.local().looks().len() < CREDENTIALS {
        changes.changed().await.unwrap();
    }
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn another_leader_goes_on_where_the_first_one_was() {
    let (alone, eyes) = (put_back(), Arc::new(Eyes::default()));
    pass(&context(&alone, &eyes), &alone.local(), &mut None).await;
    let (second, mut fresh) = (context(&alone, &eyes), None);
    for _ in 0..3 {
        pass(&second, &alone.local(), &mut fresh).await;
    }
    assert!((0..CREDENTIALS).all(|number| eyes.asked(&format!("c-{number}")) == 1));
}

#[tokio::test]
async fn nothing_is_looked_at_once_the_restore_is_confirmed_and_what_was_found_is_forgotten() {
    let (alone, eyes) = (put_back(), Arc::new(Eyes::default()));
    let mut cursor = None;
    pass(&context(&alone, &eyes), &alone.local(), &mut cursor).await;
    let observed = alone.local();
    alone.apply("alice", ConfirmRestore { reason: "looked at".into() }.into()).unwrap();
    assert!(alone.local().looks().is_empty());
    // A pass that was under way then is refused.
    pass(&context(&alone, &eyes), &observed, &mut cursor).await;
    assert!(alone.local().looks().is_empty());
    let asked = eyes.asked.lock().unwrap().len();
    alone.pass(Span::hours(1));
    pass(&context(&alone, &eyes), &alone.local(), &mut None).await;
    assert_eq!(eyes.asked.lock().unwrap().len(), asked);
}
