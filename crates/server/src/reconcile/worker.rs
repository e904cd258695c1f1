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
            catch_up(context).await;
            None
        }
        Err(error) => {
            tracing::debug!(job = %work.job, step = work.step.as_str(), %error, "not begun");
            None
        }
    }
}

/// Waits until this node knows what the refusal came from. Only a node that is behind, or was overtaken, proposes what
/// is not owed; one that stays behind must not propose it again and again.
async fn catch_up(context: &Context) {
    if let Err(error) = context.consensus.read().await {
        tracing::debug!(%error, "this node is behind");
    }
    context.runtime.sleep(AGAIN_AFTER).await;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use cluster::{Progress, SteerError};
    use futures::future::BoxFuture;
    use model::{
        command::{
            AnnounceNode, PutCredential, PutIdentity, PutSchedule, PutTarget, ReportReachable,
            TriggerSchedule,
        },
        credential::Strategy,
        name::NodeId,
        refusal::{Code, Refusal},
        schedule::{Misfire, RotationPolicy},
        target::SecretPolicy,
        timing::Timing,
    };
    use tokio::sync::watch;

    use super::*;
    use crate::{
        clock::Runtime,
        consensus::{Consensus, Standing},
        reconcile::Hands,
        testing::Alone,
    };

    /// A clock that moves when somebody waits.
    #[derive(Clone, Default)]
    struct Patient(Arc<AtomicU64>);

    impl Patient {
        async fn wait(self, millis: u64) {
            self.0.fetch_add(millis, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }

        fn waited(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Runtime for Patient {
        fn now(&self) -> Time {
            Alone::new().now().plus(Span::hours(1)).plus(Span(self.waited()))
        }

        fn uptime(&self) -> Duration {
            Duration::from_millis(self.waited())
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            Box::pin(self.clone().wait(u64::try_from(duration.as_millis()).unwrap()))
        }

        fn spawn(&self, task: BoxFuture<'static, ()>) {
            drop(tokio::spawn(task));
        }
    }

    /// A node that is cut off from what the others commit, but not from the leader: it sees work that was done long ago.
    struct Behind {
        state: Arc<State>,
        progress: watch::Sender<Progress>,
        proposals: AtomicU64,
        clock: Patient,
    }

    impl Consensus for Behind {
        fn propose(&self, _: String, _: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>> {
            self.proposals.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Err(Refusal::new(Code::WrongStep, "it was done"))) })
        }

        fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>> {
            Box::pin(async {
                self.clock.clone().wait(5_000).await;
                Err(Unagreed::NoLeader)
            })
        }

        fn local(&self) -> Arc<State> {
            Arc::clone(&self.state)
        }

        fn watch(&self) -> watch::Receiver<Progress> {
            self.progress.subscribe()
        }

        fn standing(&self) -> Standing {
            Standing::default()
        }

        fn transfer_leader(&self, _: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
            unreachable!("workers steer no nodes")
        }

        fn permit_rejoin(&self, _: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
            unreachable!("workers steer no nodes")
        }

        fn ledger(
            &self,
            _: u64,
            _: usize,
        ) -> BoxFuture<'_, std::io::Result<Vec<model::ledger::LedgerEntry>>> {
            unreachable!("no worker reads the ledger")
        }

        fn now(&self) -> Time {
            self.clock.now()
        }
    }

    struct NoHands;

    impl Hands for NoHands {
        fn founding(&self, _: &State) -> Vec<Command> {
            Vec::new()
        }

        fn perform<'a>(
            &'a self,
            _: &'a State,
            _: &'a Work,
            _: u64,
            _: Duration,
        ) -> BoxFuture<'a, StepOutcome> {
            unreachable!("nothing is begun")
        }
    }

    /// A state in which node 1 owes the first step of a rotation.
    fn owing() -> Arc<State> {
        let alone = Alone::new();
        let user = "orders_user".to_owned();
        let commands: Vec<Command> = vec![
            AnnounceNode { id: NodeId(1), client_address: "a:1".into(), version: "0".into() }.into(),
            ReportReachable { nodes: [NodeId(1)].into() }.into(),
            PutIdentity {
                name: "orders".parse().unwrap(),
                owner: "payments".into(),
                purpose: "takes orders".into(),
                workload: "api".into(),
                environment: "test".into(),
                review_by: Time::MAX,
            }
            .into(),
            PutTarget {
                name: "db".parse().unwrap(),
                provider: "postgres".into(),
                params: [("host".to_owned(), "db".to_owned())].into(),
                admin: None,
                secrets: SecretPolicy::default(),
                break_glass_roles: Vec::new(),
            }
            .into(),
            PutCredential {
                name: "orders-db".parse().unwrap(),
                identity: "orders".parse().unwrap(),
                target: "db".parse().unwrap(),
                strategy: Strategy::SingleUser { username: user },
                stores: Vec::new(),
                workloads: Vec::new(),
                shared: None,
                adopt: None,
            }
            .into(),
            PutSchedule {
                name: "monthly".parse().unwrap(),
                credential: "orders-db".parse().unwrap(),
                timing: Timing::Every { period: Span::days(30), phase: Span(0) },
                jitter: Span(0),
                misfire: Misfire::RunOnce,
                policy: RotationPolicy::default(),
            }
            .into(),
            TriggerSchedule { name: "monthly".parse().unwrap() }.into(),
        ];
        for command in commands {
            alone.apply("test", command).unwrap();
        }
        alone.local()
    }

    #[tokio::test]
    async fn a_node_that_is_behind_does_not_propose_what_was_refused_again_and_again() {
        let clock = Patient::default();
        let behind = Arc::new(Behind {
            state: owing(),
            progress: watch::Sender::default(),
            proposals: AtomicU64::default(),
            clock: clock.clone(),
        });
        let context = Context {
            node: NodeId(1),
            consensus: Arc::clone(&behind) as Arc<dyn Consensus>,
            hands: Arc::new(NoHands),
            runtime: Arc::new(clock.clone()),
            concurrent_steps: 4,
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(context, shutdown.clone()));
        let proposals = || behind.proposals.load(Ordering::SeqCst);
        while clock.waited() < 60_000 && proposals() < 1_000 {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        running.await.unwrap();
        assert!((1..=12).contains(&proposals()), "{} in a minute", proposals());
    }
}
