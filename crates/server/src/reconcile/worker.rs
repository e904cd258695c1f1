//! What every node does: its share of the owed work. Intent, effect, outcome: `Begin` is committed before the target
//! is touched, and `Finish` after, under the fencing number that `Begin` returned.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{
    State, Work,
    attempt::{Attempt, Failure, FailureClass, Job, StepOutcome},
    caps,
    command::{Begin, Command, Finish},
    outcome::{Applied, Outcome},
    planted::{Bug, is_planted},
    time::{Span, Time},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Context;
use crate::{clock, consensus::Unagreed};

/// Longest time between two looks, whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a proposal that found no leader is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The worker of one node.
struct Worker {
    context: Context,
    /// The jobs this process works on, so that none is begun twice.
    busy: Mutex<BTreeSet<Job>>,
    slots: Arc<Semaphore>,
    /// Says that a job has become free.
    freed: Notify,
}

/// Runs until `shutdown`, then lets the steps under way come to their end.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(context.concurrent_steps));
    let worker = Arc::new(Worker { context, busy: Mutex::default(), slots, freed: Notify::new() });
    let mut changes = worker.context.consensus.watch();
    let steps = TaskTracker::new();
    loop {
        changes.borrow_and_update();
        let patience = worker.look(&steps).await;
        let awake = tokio::select! {
            biased;
            awake = worker.context.wake(&mut changes, patience, &shutdown) => awake,
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
        let Context { node, consensus, runtime, .. } = &self.context;
        let (state, now) = (consensus.local(), runtime.now());
        if !self.orphans(&state).is_empty() {
            self.give_up_orphans().await;
        }
        for work in state.work(*node, now) {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            if self.busy().insert(work.job) {
                let worker = Arc::clone(self);
                runtime.spawn(Box::pin(steps.track_future(async move {
                    perform(&worker.context, &work).await;
                    worker.busy().remove(&work.job);
                    drop(slot);
                    worker.freed.notify_one();
                })));
            }
        }
        let patience = state.next_work(now).map_or(LOOK_EVERY, |at| runtime.until(at).min(LOOK_EVERY));
        patience.max(Duration::from_millis(1))
    }

    /// Attempts in this node's name that this process does not perform: begun before a restart, or begun by a
    /// proposal whose answer was lost.
    fn orphans(&self, state: &State) -> Vec<(Job, Attempt)> {
        let busy = self.busy();
        state.attempts_of(self.context.node).into_iter().filter(|(job, _)| !busy.contains(job)).collect()
    }

    /// Nobody performs an orphan any more, so its outcome is unknown. Looked up in a state that is not behind, for
    /// an attempt that has just ended may still stand in the local one.
    async fn give_up_orphans(&self) {
        let Ok(state) = self.context.consensus.read().await else { return };
        for (job, attempt) in self.orphans(&state) {
            let message = "nobody performs the attempt any more".to_owned();
            finish(&self.context, job, attempt.fence, StepOutcome::Unknown { message }, attempt.deadline)
                .await;
        }
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<Job>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time allowed counts from before the intent is proposed: the model's own deadline, which counts from the commit,
/// then never passes while something is still being done.
async fn perform(context: &Context, work: &Work) {
    let allowed = context.runtime.uptime() + clock::duration(work.timeout);
    if is_planted(Bug::EffectBeforeIntent) {
        drop(act(context, work, 0, allowed).await);
    }
    if let Some(fence) = begin(context, work).await {
        let deadline = context.runtime.now().plus(work.timeout).plus(caps::ATTEMPT_GRACE);
        let outcome = act(context, work, fence, allowed).await;
        finish(context, work.job, fence, outcome, deadline).await;
    }
}

/// Commits the intent; `None` when somebody else has it, or it is not owed any more.
async fn begin(context: &Context, work: &Work) -> Option<u64> {
    let command = Begin { job: work.job, step: work.step, node: context.node };
    match context.consensus.propose(context.actor(), command.into()).await {
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
async fn act(context: &Context, work: &Work, fence: u64, allowed: Duration) -> StepOutcome {
    let state = match context.consensus.read().await {
        Ok(state) => state,
        Err(error) => return failed(FailureClass::Retryable, error.to_string()),
    };
    let left = allowed.saturating_sub(context.runtime.uptime());
    if left.is_zero() {
        return failed(FailureClass::Retryable, "no time was left when the intent was committed".to_owned());
    }
    context.hands.perform(&state, work, fence, left).await
}

/// Commits the outcome, again and again until it is taken or refused: a repeat is refused as stale.
async fn finish(context: &Context, job: Job, fence: u64, outcome: StepOutcome, deadline: Time) {
    let command: Command = Finish { job, fence, outcome }.into();
    loop {
        match context.consensus.propose(context.actor(), command.clone()).await {
            Ok(outcome) => return report(job, fence, &outcome),
            Err(Unagreed::Stopped) => return,
            Err(error) if context.runtime.now() > deadline => {
                tracing::warn!(%job, fence, %error, "the outcome was not taken in time; a probe will tell");
                return;
            }
            Err(error) => tracing::debug!(%job, fence, %error, "outcome not taken yet"),
        }
        context.runtime.sleep(AGAIN_AFTER).await;
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
