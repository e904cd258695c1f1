//! What every node does: its share of the owed work. Intent, effect, outcome: `Begin` is committed before the target
//! is touched, and `Finish` after, under the fencing number that `Begin` returned.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster::ProposeError;
use model::{
    State, Work,
    attempt::{Attempt, Failure, FailureClass, Job, StepOutcome},
    caps,
    command::{Begin, Command, Finish},
    outcome::{Applied, Outcome},
    time::{Span, Time},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::wake;
use crate::{
    clock,
    node::Shared,
    task::{self, TaskError},
};

/// Longest time between two looks, whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a proposal that found no leader is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The worker of one node.
struct Worker {
    shared: Arc<Shared>,
    /// The jobs this process works on, so that none is begun twice.
    busy: Mutex<BTreeSet<Job>>,
    slots: Arc<Semaphore>,
    /// Says that a job has become free.
    freed: Notify,
}

/// Runs until `shutdown`, then lets the steps under way come to their end.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(shared.config.limits.concurrent_steps));
    let worker = Arc::new(Worker { shared, busy: Mutex::default(), slots, freed: Notify::new() });
    let mut changes = worker.shared.cluster.watch();
    let steps = TaskTracker::new();
    loop {
        changes.borrow_and_update();
        let patience = worker.look(&steps).await;
        let awake = tokio::select! {
            awake = wake(&mut changes, patience, &shutdown) => awake,
            () = worker.freed.notified() => !shutdown.is_cancelled(),
        };
        if !awake {
            break;
        }
    }
    steps.close();
    steps.wait().await;
}

impl Worker {
    /// Takes up this node's share of the owed work, and says how long it may be until there is more.
    async fn look(self: &Arc<Self>, steps: &TaskTracker) -> Duration {
        let state = self.shared.cluster.local();
        let now = clock::now();
        if !self.orphans(&state).is_empty() {
            self.give_up_orphans().await;
        }
        for work in state.work(self.shared.node, now) {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            if self.busy().insert(work.job) {
                let worker = Arc::clone(self);
                steps.spawn(async move {
                    perform(&worker.shared, &work).await;
                    worker.busy().remove(&work.job);
                    drop(slot);
                    worker.freed.notify_one();
                });
            }
        }
        let patience = state.next_work(now).map_or(LOOK_EVERY, |at| clock::until(at).min(LOOK_EVERY));
        patience.max(Duration::from_millis(1))
    }

    /// Attempts in this node's name that this process does not perform: begun before a restart, or begun by a
    /// proposal whose answer was lost.
    fn orphans(&self, state: &State) -> Vec<(Job, Attempt)> {
        let busy = self.busy();
        state.attempts_of(self.shared.node).into_iter().filter(|(job, _)| !busy.contains(job)).collect()
    }

    /// Nobody performs an orphan any more, so its outcome is unknown. Looked up in a state that is not behind, for
    /// an attempt that has just ended may still stand in the local one.
    async fn give_up_orphans(&self) {
        let Ok(state) = self.shared.cluster.read().await else { return };
        for (job, attempt) in self.orphans(&state) {
            let message = "nobody performs the attempt any more".to_owned();
            finish(&self.shared, job, attempt.fence, StepOutcome::Unknown { message }, attempt.deadline)
                .await;
        }
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<Job>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time allowed counts from before the intent is proposed: the model's own deadline, which counts from the commit,
/// then never passes while something is still being done.
async fn perform(shared: &Shared, work: &Work) {
    let allowed = Instant::now() + clock::duration(work.timeout);
    if let Some(fence) = begin(shared, work).await {
        let deadline = clock::now().plus(work.timeout).plus(caps::ATTEMPT_GRACE);
        let outcome = act(shared, work, allowed).await;
        finish(shared, work.job, fence, outcome, deadline).await;
    }
}

/// Commits the intent; `None` when somebody else has it, or it is not owed any more.
async fn begin(shared: &Shared, work: &Work) -> Option<u64> {
    let command = Begin { job: work.job, step: work.step, node: shared.node };
    match shared.cluster.propose(shared.actor(), command.into()).await {
        Ok(Ok(Applied::Begun { fence })) => Some(fence),
        Ok(Ok(_)) => None,
        Ok(Err(refusal)) => {
            tracing::debug!(job = %work.job, step = work.step.as_str(), %refusal, "not begun");
            None
        }
        Err(error) => {
            tracing::debug!(job = %work.job, step = work.step.as_str(), %error, "not begun");
            None
        }
    }
}

/// Performs the step with what a linearizable read shows, which includes the intent just committed.
async fn act(shared: &Shared, work: &Work, allowed: Instant) -> StepOutcome {
    let state = match shared.cluster.read().await {
        Ok(state) => state,
        Err(error) => return failed(FailureClass::Retryable, error.to_string()),
    };
    let left = allowed.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return failed(FailureClass::Retryable, "no time was left when the intent was committed".to_owned());
    }
    match task::build(&state, &shared.keys, work) {
        Ok(task) => workers::perform(&task, left).await,
        Err(error) => failed(FailureClass::Permanent, chain(&error)),
    }
}

/// Commits the outcome, again and again until it is taken or refused: a repeat is refused as stale.
async fn finish(shared: &Shared, job: Job, fence: u64, outcome: StepOutcome, deadline: Time) {
    let command: Command = Finish { job, fence, outcome }.into();
    loop {
        match shared.cluster.propose(shared.actor(), command.clone()).await {
            Ok(outcome) => return report(job, fence, &outcome),
            Err(ProposeError::Stopped) => return,
            Err(error) if clock::now() > deadline => {
                tracing::warn!(%job, fence, %error, "the outcome was not taken in time; a probe will tell");
                return;
            }
            Err(error) => tracing::debug!(%job, fence, %error, "outcome not taken yet"),
        }
        sleep(AGAIN_AFTER).await;
    }
}

fn report(job: Job, fence: u64, outcome: &Outcome) {
    match outcome {
        Ok(_) => tracing::debug!(%job, fence, "attempt finished"),
        Err(refusal) => {
            tracing::info!(%job, fence, code = refusal.code.as_str(), %refusal, "outcome refused")
        }
    }
}

fn failed(class: FailureClass, message: String) -> StepOutcome {
    StepOutcome::Failed { failure: Failure { class, message }, retry_after: Span::seconds(1) }
}

fn chain(error: &TaskError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
