//! Records what many clients of a cluster saw: writes, removals and linearizable reads of registers through the public
//! API, at every node, each with its start and end on one monotonic clock.
//!
//! A register is the purpose of an identity. Its clients share it until its history is as long as planned; then it
//! is checked, and they go on to a fresh one. At the end every register is read once more.

mod caller;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::Client;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::linear::{self, Effect, Operation, Verdict};
use caller::Caller;

/// Most clients of one register: with many more the search could take too long.
pub const CLIENTS_MAX: usize = 12;
/// Beginnings of a story after which a search is given up.
const STEPS: usize = 2_000_000;
/// How long a cluster without faults may take for a single call to succeed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// Registers read at a time at the end.
const LAST_READS: usize = 64;

/// How much is asked of the cluster.
#[derive(Clone, Debug)]
pub struct Load {
    /// Decides what is called where.
    pub seed: u64,
    /// Registers in use at a time.
    pub registers: usize,
    /// Clients of each, at most [`CLIENTS_MAX`].
    pub clients: usize,
    /// Calls to one register before its clients go on to the next.
    pub calls: usize,
}

/// How many operations came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered with success, or with what was seen.
    pub answered: usize,
    /// Answered with the promise that there was no effect.
    pub refused: usize,
    /// Sent, and never answered.
    pub unknown: usize,
}

/// A register whose history is not linearizable, or could not be decided.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The identity.
    pub register: String,
    /// What the check said.
    pub verdict: Verdict,
    /// Everything that was recorded of it.
    pub history: Vec<Operation>,
}

/// What was recorded and checked.
#[derive(Debug)]
pub struct Recording {
    /// How many operations came to what.
    pub counts: Counts,
    /// Why calls were not answered with success, by the code or the kind of the error.
    pub reasons: BTreeMap<String, usize>,
    /// Registers checked.
    pub registers: usize,
    /// What is wrong; nothing, when all is well.
    pub findings: Vec<Finding>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    lanes: Vec<JoinHandle<Vec<Checked>>>,
}

/// What the clients share.
#[derive(Debug)]
struct Shared {
    /// Connections to each node.
    nodes: BTreeMap<u64, Vec<Client>>,
    load: Load,
    clock: Instant,
    stopping: AtomicBool,
    answered: AtomicUsize,
    refused: AtomicUsize,
    unknown: AtomicUsize,
    reasons: Mutex<BTreeMap<String, usize>>,
}

/// A register that is done with.
#[derive(Debug)]
struct Checked {
    register: String,
    finding: Option<Finding>,
    /// The write at the end, with nothing else under way, and what may still take effect: the last read must agree.
    rest: Vec<Operation>,
}

impl Recorder {
    /// Sets clients to work through these connections, several for each node.
    ///
    /// # Panics
    ///
    /// When more clients of a register are asked for than can be checked.
    #[must_use]
    pub fn start(nodes: BTreeMap<u64, Vec<Client>>, load: Load) -> Self {
        assert!((1..=CLIENTS_MAX).contains(&load.clients), "1 to {CLIENTS_MAX} clients can be checked");
        let lanes = load.registers;
        let shared = Arc::new(Shared {
            nodes,
            load,
            clock: Instant::now(),
            stopping: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            reasons: Mutex::default(),
        });
        let lanes = (0..lanes).map(|lane| tokio::spawn(Arc::clone(&shared).work(lane)));
        Self { lanes: lanes.collect(), shared }
    }

    /// How many operations have come to what so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            answered: self.shared.answered.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            unknown: self.shared.unknown.load(Ordering::Relaxed),
        }
    }

    /// Lets the clients come to an end and reads every register a last time. The cluster must be whole again.
    ///
    /// # Panics
    ///
    /// When the cluster does not answer, or a client failed.
    pub async fn finish(mut self) -> Recording {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut checked = Vec::new();
        for lane in join_all(std::mem::take(&mut self.lanes)).await {
            checked.extend(lane.expect("a lane does not panic"));
        }
        let registers = checked.len();
        let last_reads = stream::iter(checked).enumerate().map(|(index, checked)| {
            let shared = Arc::clone(&self.shared);
            async move { shared.read_last(index, checked).await }
        });
        let findings = last_reads.buffer_unordered(LAST_READS).filter_map(async |finding| finding);
        let findings = findings.collect().await;
        let reasons = std::mem::take(&mut *self.shared.reasons());
        Recording { counts: self.counts(), reasons, registers, findings }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.lanes.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).expect("a run of less than 500 years")
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One register after another, until it is enough.
    async fn work(self: Arc<Self>, lane: usize) -> Vec<Checked> {
        let mut done = Vec::new();
        while !self.stopping() {
            let register = format!("r{lane}-{}", done.len());
            let seed = self.load.seed ^ (lane as u64) << 40 ^ (done.len() as u64) << 16;
            done.push(self.use_up(register, seed).await);
        }
        done
    }

    /// All clients of one register, and the check of what they saw.
    async fn use_up(self: &Arc<Self>, register: String, seed: u64) -> Checked {
        let calls_left = Arc::new(AtomicUsize::new(self.load.calls));
        let clients = (0..self.load.clients).map(|client| {
            let random = StdRng::seed_from_u64(seed ^ client as u64);
            let caller = Caller::new(self, &register, client, random);
            tokio::spawn(Arc::clone(self).call_on(caller, Arc::clone(&calls_left)))
        });
        let (mut callers, mut histories) = (Vec::new(), Vec::new());
        for ended in join_all(clients).await {
            let (caller, history) = ended.expect("a client does not panic");
            callers.push(caller);
            histories.push(history);
        }
        let mut history = histories.concat();
        let last = write_last(&mut callers[0], &mut history).await;
        let search = tokio::task::spawn_blocking(move || (linear::check(&history, STEPS), history));
        let (verdict, history) = search.await.expect("the search does not panic");
        let rest = history.iter().filter(|one| **one == last || may_take_effect(one)).copied().collect();
        Checked { finding: finding(&register, verdict, history), register, rest }
    }

    /// One client, until its register has been called often enough.
    async fn call_on(
        self: Arc<Self>,
        mut caller: Caller,
        calls_left: Arc<AtomicUsize>,
    ) -> (Caller, Vec<Operation>) {
        let mut history = Vec::new();
        while !self.stopping() && take_one(&calls_left) {
            history.push(caller.call().await);
        }
        (caller, history)
    }

    /// What was acknowledged long ago must still be there.
    async fn read_last(self: Arc<Self>, index: usize, mut checked: Checked) -> Option<Finding> {
        let random = StdRng::seed_from_u64(self.load.seed ^ index as u64);
        let mut caller = Caller::new(&self, &checked.register, 0, random);
        let read = async {
            loop {
                let operation = caller.read().await;
                if matches!(operation.effect, Effect::Read(_)) {
                    return operation;
                }
            }
        };
        let read = tokio::time::timeout(ANSWERED_WITHIN, read).await;
        checked.rest.push(read.expect("a cluster without faults answers a read"));
        let verdict = linear::check(&checked.rest, STEPS);
        checked.finding.or_else(|| finding(&checked.register, verdict, checked.rest))
    }

    fn count(&self, effect: Effect) {
        let count = match effect {
            Effect::Wrote(_) | Effect::Read(_) | Effect::Removed | Effect::FoundNothing => &self.answered,
            Effect::MayHaveWritten(_) | Effect::MayHaveRemoved | Effect::NotRead => &self.unknown,
            Effect::NotWritten(_) | Effect::NotRemoved => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes until a write is acknowledged, while nobody else calls.
async fn write_last(caller: &mut Caller, history: &mut Vec<Operation>) -> Operation {
    let write = async {
        loop {
            let operation = caller.write().await;
            history.push(operation);
            if matches!(operation.effect, Effect::Wrote(_)) {
                return operation;
            }
        }
    };
    let written = tokio::time::timeout(ANSWERED_WITHIN, write).await;
    written.expect("a cluster whose faults end acknowledges a write")
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn may_take_effect(operation: &Operation) -> bool {
    matches!(operation.effect, Effect::MayHaveWritten(_) | Effect::MayHaveRemoved)
}

fn finding(register: &str, verdict: Verdict, history: Vec<Operation>) -> Option<Finding> {
    (verdict != Verdict::Linearizable).then(|| Finding { register: register.to_owned(), verdict, history })
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, unknown } = self;
        write!(f, "{answered} answered, {refused} without effect, {unknown} unknown")
    }
}

/// The verdict, then one operation a line, by start: times in microseconds.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {:?}", self.register, self.verdict)?;
        let mut history = self.history.clone();
        history.sort_by_key(|operation| operation.start);
        for Operation { client, node, start, end, effect } in history {
            writeln!(
                f,
                "{:>12} {:>12}  client {client:>2}  node {node}  {effect:?}",
                start / 1_000,
                end / 1_000
            )?;
        }
        Ok(())
    }
}
