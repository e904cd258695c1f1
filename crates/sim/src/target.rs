//! The simulated target and store: which secret logs in as which user, and which one consumers would read. What is
//! asked of it takes a while, may fail, and its answer may be lost; what has arrived is done even when who asked has
//! died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use cluster::sim::{Node, time};
use model::{attempt::Job, name::CredentialName, time::Time};
use tokio::sync::oneshot;

use crate::{
    chance::Chance,
    check::Checker,
    clock::truth,
    trace::{Trace, lock},
};

/// What arrives this long after its caller's deadline is not taken up any more: the connection is gone.
const STRAGGLER: Duration = Duration::from_secs(1);

/// A secret's value.
pub(crate) type Secret = u64;

/// What is asked of the target or the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Log in.
    Probe { user: String, secret: Secret },
    /// Honour a secret: beside others, or in their place.
    Install { user: String, secret: Secret, beside: bool },
    /// Refuse a secret from now on.
    Retire { user: String, secret: Secret },
    /// Cut the sessions opened with a secret.
    Sever { user: String, secret: Secret },
    /// Make a temporary user.
    InstallTemporary { user: String, secret: Secret, until: Time },
    /// Remove a user.
    Remove { user: String },
    /// Let consumers read this secret of a credential from the store.
    Publish { credential: CredentialName, secret: Secret },
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Done,
    Live,
    Refused,
}

/// Why there is no finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It could not be reached; nothing was done.
    Unreachable,
    /// It failed; nothing was done.
    Failed,
    /// Nobody knows whether it was done.
    Unknown,
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) node: Node,
    pub(crate) job: Job,
    pub(crate) fence: u64,
    /// In virtual time.
    pub(crate) deadline: Duration,
}

/// How the target fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mood {
    pub(crate) unreachable: bool,
    /// Of a thousand.
    pub(crate) fails: u64,
    /// Of a thousand.
    pub(crate) loses_replies: u64,
    pub(crate) slowest_ms: u64,
}

impl Default for Mood {
    fn default() -> Self {
        Self { unreachable: false, fails: 0, loses_replies: 0, slowest_ms: 30 }
    }
}

/// What the target and the store hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// The secrets honoured, by user.
    pub(crate) users: BTreeMap<String, BTreeSet<Secret>>,
    /// Temporary users with their own end.
    pub(crate) temporary: BTreeMap<String, Time>,
    /// Sessions opened with a secret, by user.
    pub(crate) sessions: BTreeMap<(String, Secret), u64>,
    /// What consumers read.
    pub(crate) published: BTreeMap<CredentialName, Secret>,
}

impl Holdings {
    pub(crate) fn honours(&self, user: &str, secret: Secret) -> bool {
        let ended = self.temporary.get(user).is_some_and(|until| *until <= truth());
        !ended && self.users.get(user).is_some_and(|secrets| secrets.contains(&secret))
    }

    fn perform(&mut self, verb: &Verb) -> Found {
        match verb {
            Verb::Probe { user, secret } => {
                return if self.honours(user, *secret) { Found::Live } else { Found::Refused };
            }
            Verb::Install { user, secret, beside } => {
                let secrets = self.users.entry(user.clone()).or_default();
                if !beside {
                    secrets.clear();
                }
                secrets.insert(*secret);
            }
            Verb::Retire { user, secret } => {
                if let Some(secrets) = self.users.get_mut(user) {
                    secrets.remove(secret);
                }
            }
            Verb::Sever { user, secret } => {
                self.sessions.remove(&(user.clone(), *secret));
            }
            Verb::InstallTemporary { user, secret, until } => {
                self.users.insert(user.clone(), BTreeSet::from([*secret]));
                self.temporary.insert(user.clone(), *until);
            }
            Verb::Remove { user } => {
                self.users.remove(user);
                self.temporary.remove(user);
                self.sessions.retain(|(of, _), _| of != user);
            }
            Verb::Publish { credential, secret } => {
                self.published.insert(credential.clone(), *secret);
            }
        }
        Found::Done
    }
}

struct Inner {
    holdings: Holdings,
    mood: Mood,
    chance: Chance,
    effects: u64,
}

/// The target and the store. Clones are the same.
#[derive(Clone)]
pub(crate) struct Target {
    inner: Arc<Mutex<Inner>>,
    checker: Checker,
    trace: Trace,
}

impl Target {
    pub(crate) fn new(chance: Chance, checker: Checker, trace: Trace) -> Self {
        let inner = Inner { holdings: Holdings::default(), mood: Mood::default(), chance, effects: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), checker, trace }
    }

    pub(crate) fn be(&self, mood: Mood) {
        lock(&self.inner).mood = mood;
    }

    /// A user that was there before Revolve came.
    pub(crate) fn found_with(&self, user: &str, secret: Secret) {
        lock(&self.inner).holdings.users.entry(user.to_owned()).or_default().insert(secret);
    }

    /// Somebody opens a session, if the secret is honoured.
    pub(crate) fn open_session(&self, user: &str, secret: Secret) {
        let mut inner = lock(&self.inner);
        if inner.holdings.honours(user, secret) {
            *inner.holdings.sessions.entry((user.to_owned(), secret)).or_default() += 1;
        }
    }

    pub(crate) fn holdings(&self) -> Holdings {
        lock(&self.inner).holdings.clone()
    }

    /// How many things were done at it.
    pub(crate) fn effects(&self) -> u64 {
        lock(&self.inner).effects
    }

    /// Asks for something.
    pub(crate) async fn ask(&self, caller: &Caller, verb: Verb) -> Result<Found, Fault> {
        if caller.node.is_dead() {
            return Err(Fault::Unknown);
        }
        let (mood, there, back, fails, lost) = {
            let mut inner = lock(&self.inner);
            let mood = inner.mood;
            let there = inner.chance.millis(1..=mood.slowest_ms);
            let back = inner.chance.millis(1..=mood.slowest_ms);
            (mood, there, back, inner.chance.permille(mood.fails), inner.chance.permille(mood.loses_replies))
        };
        if mood.unreachable {
            time::sleep(there).await;
            return Err(Fault::Unreachable);
        }
        let (answer, wait) = oneshot::channel();
        let (target, caller) = (self.clone(), caller.clone());
        time::spawn(async move {
            time::sleep(there).await;
            if time::elapsed() > caller.deadline + STRAGGLER {
                return;
            }
            let found = if fails { Err(Fault::Failed) } else { Ok(target.perform(&caller, &verb)) };
            time::sleep(back).await;
            if !lost {
                // Who asked may have given up.
                let _ = answer.send(found);
            }
        });
        wait.await.unwrap_or(Err(Fault::Unknown))
    }

    fn perform(&self, caller: &Caller, verb: &Verb) -> Found {
        let (found, holdings) = {
            let mut inner = lock(&self.inner);
            inner.effects += 1;
            let found = inner.holdings.perform(verb);
            (found, inner.holdings.clone())
        };
        self.trace.line(format_args!("target {} {} {verb:?} {found:?}", caller.job, caller.fence));
        self.checker.effect(caller.job, caller.fence, verb, &holdings);
        found
    }
}
