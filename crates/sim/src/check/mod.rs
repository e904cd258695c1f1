//! Holds every step of a world against its promises. One reference state applies each committed entry once, as soon as
//! the first node has applied it; every node is compared with it, and so is all that happens at the target.

mod end;
mod invariant;
mod members;
mod raft;
mod step;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use cluster::sim::{Appended, Applied, Committed, Membership, Observer, Standing};
use model::{
    State,
    attempt::{Job, Step},
    name::{NodeId, ScheduleName},
    outcome::Outcome,
    table::Digest,
    time::Time,
};
use tokio::sync::Notify;

pub use invariant::Invariant;

use crate::{
    target::{Holdings, Secret, Verb},
    trace::{Trace, lock},
};

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
}

/// The checker of one world. Clones are the same.
#[derive(Clone)]
pub(crate) struct Checker(Arc<Shared>);

struct Shared {
    book: Mutex<Book>,
    trace: Trace,
    /// Says that a write was acknowledged, or that a node stands otherwise.
    moment: Notify,
    /// Says that a leader has begun to change the voters.
    change: Notify,
}

/// What a node was last seen to do.
#[derive(Default)]
struct Seen {
    applied: Option<u64>,
    term: u64,
}

/// Everything that is remembered of a world.
#[derive(Default)]
struct Book {
    reference: State,
    /// The index of the next entry the reference applies.
    next: u64,
    /// Term and digest after each entry.
    passed: BTreeMap<u64, (u64, Digest)>,
    nodes: BTreeMap<NodeId, Seen>,
    leaders: BTreeMap<u64, NodeId>,
    /// Who has voted for whom, by term.
    votes: BTreeMap<u64, BTreeMap<NodeId, NodeId>>,
    /// The membership that was committed last.
    membership: Membership,
    /// The nodes that were let in, each with its storage.
    admitted: BTreeMap<NodeId, [u8; 16]>,
    /// The nodes that were there before any was let in.
    founders: BTreeSet<NodeId>,
    /// How many changes of the voters were begun, and by whom the last one.
    changes: u64,
    changing: Option<NodeId>,
    /// Nodes that were turned out, and of which the membership has let go.
    gone: BTreeSet<NodeId>,
    /// What every log has held: by index and term, the payload's checksum and the term before.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    /// Intents by fence.
    begun: BTreeMap<u64, (Job, Step)>,
    /// Rotations started for a due instant.
    fired: BTreeSet<(ScheduleName, Time)>,
    /// How versions that were proven refused had logged in.
    destroyed: BTreeSet<(String, Secret)>,
    /// Where in the audit log each client's write stands, by its unique actor, and whether it was refused.
    written: BTreeMap<String, (u64, bool)>,
    /// Acknowledged writes: the place of the last one in the audit log.
    acknowledged: u64,
    acks: Vec<(String, u64)>,
    /// Writes said not to have been proposed.
    unproposed: BTreeSet<String>,
    commands: u64,
    violation: Option<Violation>,
}

impl Checker {
    pub(crate) fn new(trace: Trace) -> Self {
        Self(Arc::new(Shared { book: Mutex::default(), trace, moment: Notify::new(), change: Notify::new() }))
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.0) as Arc<dyn Observer>
    }

    /// The first promise that was broken.
    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.0.book).violation.clone()
    }

    /// How many commands were committed.
    pub(crate) fn commands(&self) -> u64 {
        lock(&self.0.book).commands
    }

    /// The newest state that any node has applied.
    pub(crate) fn reference(&self) -> State {
        lock(&self.0.book).reference.clone()
    }

    /// Whether a node was let in by a command.
    pub(crate) fn was_admitted(&self, node: NodeId) -> bool {
        lock(&self.0.book).admitted.contains_key(&node)
    }

    /// Whether a node was turned out; the membership may not have let go of it yet.
    pub(crate) fn is_turned_out(&self, node: NodeId) -> bool {
        lock(&self.0.book).reference.removal_of(node).is_some()
    }

    /// Whether a node was turned out, and the membership has let go of it.
    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        lock(&self.0.book).gone.contains(&node)
    }

    /// A promise was broken. The first one counts.
    pub(crate) fn fail(&self, invariant: Invariant, detail: String) {
        self.0.judge(|_| Err(Violation { invariant, detail }));
    }

    /// A node starts anew: it may have forgotten what it had applied.
    pub(crate) fn started(&self, node: NodeId) {
        lock(&self.0.book).nodes.entry(node).or_default().applied = None;
    }

    /// A client's write, in the name of an actor used for nothing else, was acknowledged.
    pub(crate) fn acknowledged(&self, actor: &str, outcome: &Outcome) {
        self.0.judge(|book| {
            let Some(&(sequence, refused)) = book.written.get(actor) else {
                return broken(Invariant::AcknowledgedSurvive, format!("{actor} is nowhere in the history"));
            };
            holds(refused == outcome.is_err(), Invariant::AcknowledgedSurvive, || {
                format!("{actor} was told {outcome:?}, which is not what was committed")
            })?;
            book.acknowledged = book.acknowledged.max(sequence);
            book.acks.push((actor.to_owned(), sequence));
            Ok(())
        });
        self.0.moment.notify_one();
    }

    /// Waits until a write is acknowledged or a node stands otherwise. For one who waits.
    pub(crate) async fn moment(&self) {
        self.0.moment.notified().await;
    }

    /// Waits until a leader begins to change the voters, and gives it. For one who waits.
    pub(crate) async fn change_begun(&self) -> NodeId {
        let before = lock(&self.0.book).changes;
        loop {
            self.0.change.notified().await;
            let book = lock(&self.0.book);
            if let Some(leader) = book.changing.filter(|_| book.changes > before) {
                return leader;
            }
        }
    }

    /// A client was told that its write was not proposed.
    pub(crate) fn unproposed(&self, actor: &str) {
        self.0.judge(|book| {
            book.unproposed.insert(actor.to_owned());
            let committed = book.written.contains_key(actor);
            holds(!committed, Invariant::RefusedStayOut, || format!("{actor} was committed"))
        });
    }

    /// What a read that begins now must show at least: a place in the audit log.
    pub(crate) fn freshness(&self) -> u64 {
        lock(&self.0.book).acknowledged
    }

    /// A linearizable read has shown `state`.
    pub(crate) fn read(&self, wanted: u64, state: &State) {
        let shown = state.audit_head().sequence;
        self.0.judge(|_| {
            holds(shown >= wanted, Invariant::ReadsAreFresh, || {
                format!("a read showed record {shown}, but {wanted} was acknowledged before")
            })
        });
    }

    /// A consumer was handed these revisions after `cursor`.
    pub(crate) fn handed(&self, consumer: &str, cursor: u64, revisions: &[u64]) {
        self.0.judge(|_| {
            let whole = revisions.iter().copied().eq(cursor + 1..=cursor + revisions.len() as u64);
            holds(whole, Invariant::FeedIsWhole, || {
                format!("{consumer} stood at {cursor} and was handed {revisions:?}")
            })
        });
    }

    /// Something was done at the target, which now holds `holdings`.
    pub(crate) fn effect(&self, job: Job, fence: u64, verb: &Verb, holdings: &Holdings) {
        self.0.judge(|book| target::check(book, job, fence, verb, holdings));
    }

    /// The world has come to its end: `states` are those of all nodes.
    pub(crate) fn ended(&self, states: &[(NodeId, Arc<State>)], holdings: &Holdings) {
        self.0.judge(|book| end::check(book, states, holdings));
    }
}

impl Shared {
    fn judge(&self, check: impl FnOnce(&mut Book) -> Verdict) {
        let mut book = lock(&self.book);
        if book.violation.is_some() {
            return;
        }
        if let Err(violation) = check(&mut book) {
            self.trace.line(format_args!("BROKEN {}: {}", violation.invariant, violation.detail));
            book.violation = Some(violation);
        }
    }
}

impl Observer for Shared {
    fn appended(&self, node: NodeId, entry: Appended) {
        self.judge(|book| raft::appended(book, node, entry));
        if entry.begins_change {
            self.change.notify_one();
        }
    }

    fn applied(&self, node: NodeId, applied: Applied, entries: &dyn Fn(u64, u64) -> Vec<Committed>) {
        self.judge(|book| raft::applied(book, &self.trace, node, &applied, entries));
    }

    fn voted(&self, node: NodeId, term: u64, candidate: NodeId) {
        lock(&self.book).votes.entry(term).or_default().insert(node, candidate);
    }

    fn stands(&self, node: NodeId, standing: Standing) {
        self.trace.line(format_args!("{node} term {} leads {}", standing.term, standing.leads));
        self.judge(|book| raft::stands(book, node, standing));
        self.moment.notify_one();
    }

    fn stopped(&self, node: NodeId, reason: &str) {
        self.judge(|_| broken(Invariant::NodesGoOn, format!("{node} stopped: {reason}")));
    }
}

type Verdict = Result<(), Violation>;

fn broken(invariant: Invariant, detail: String) -> Verdict {
    Err(Violation { invariant, detail })
}

fn holds(promise: bool, invariant: Invariant, detail: impl FnOnce() -> String) -> Verdict {
    if promise { Ok(()) } else { broken(invariant, detail()) }
}
