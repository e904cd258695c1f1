//! Deliveries and answers of many consumers, gathered for a moment and committed as one entry of the log each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{
    State,
    command::{Acknowledge, Answer, Command, Deliver},
    name::ConsumerName,
    outcome::{Applied, Outcome},
    refusal::Refusal,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    consensus::{Consensus, Unagreed},
    denied::Denied,
    edge::Limits,
    fresh::Fresh,
};

/// Most consumers whose deliveries or answers go into one entry.
const MOST: usize = 256;
/// Most ranges of all answers in one entry.
const MOST_RANGES: usize = 4 * model::caps::ACK_RANGES;
/// Most that wait for the next entry; whoever comes then waits before it.
const QUEUE: usize = 1_024;

/// Gathers for all streams and calls of one node.
pub(crate) struct Batches {
    consensus: Arc<dyn Consensus>,
    fresh: Arc<Fresh>,
    linger: Duration,
    deliveries: Queue<Delivery>,
    answers: Queue<Answering>,
    revisions: watch::Sender<u64>,
}

struct Queue<T> {
    sender: mpsc::Sender<T>,
    receiver: Mutex<mpsc::Receiver<T>>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

struct Delivery {
    consumer: ConsumerName,
    upto: u64,
    done: oneshot::Sender<Result<(), Denied>>,
}

struct Answering {
    answer: Answer,
    done: oneshot::Sender<Result<u64, Denied>>,
}

impl Batches {
    pub(crate) fn new(consensus: Arc<dyn Consensus>, fresh: Arc<Fresh>, limits: &Limits) -> Self {
        let revisions = watch::Sender::new(consensus.local().revision());
        let linger = limits.feed_linger;
        Self { consensus, fresh, linger, deliveries: Queue::new(), answers: Queue::new(), revisions }
    }

    /// Wakes when there is a new event, and not for every other thing that is committed.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    /// Commits that everything up to `upto` is about to be handed to `consumer`.
    pub(crate) async fn deliver(&self, consumer: &ConsumerName, upto: u64) -> Result<(), Denied> {
        let delivered = self.consensus.local().consumers().get(consumer).map_or(0, |row| row.delivered);
        if upto <= delivered {
            return Ok(());
        }
        let (done, result) = oneshot::channel();
        let delivery = Delivery { consumer: consumer.clone(), upto, done };
        self.deliveries.sender.send(delivery).await.map_err(|_| Denied::ShuttingDown)?;
        result.await.unwrap_or(Err(Denied::ShuttingDown))
    }

    /// Commits an answer. Says up to which revision the consumer has enforced everything owed to it.
    pub(crate) async fn answer(&self, answer: Answer) -> Result<u64, Denied> {
        let (done, result) = oneshot::channel();
        self.answers.sender.send(Answering { answer, done }).await.map_err(|_| Denied::ShuttingDown)?;
        result.await.unwrap_or(Err(Denied::ShuttingDown))
    }

    /// Commits what is gathered, until `shutdown`. What is being committed then is waited for; whoever was not yet
    /// part of it is told so.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        tokio::join!(
            self.commit_deliveries(shutdown),
            self.commit_answers(shutdown),
            shutdown.run_until_cancelled(self.follow_revisions()),
        );
    }

    async fn commit_deliveries(&self, shutdown: &CancellationToken) {
        let mut receiver = self.deliveries.receiver.lock().await;
        while let Some(batch) = gather(&mut receiver, self.linger, shutdown).await {
            let mut upto = BTreeMap::new();
            for delivery in &batch {
                let highest = upto.entry(delivery.consumer.clone()).or_insert(0);
                *highest = delivery.upto.max(*highest);
            }
            let result = self.deliver_all(&upto).await;
            for Delivery { consumer, upto, done } in batch {
                // One of them may be about a consumer that is gone; the others must not suffer for it.
                let result = match &result {
                    Err(Denied::Model(_)) => self.deliver_all(&BTreeMap::from([(consumer, upto)])).await,
                    other => other.clone(),
                };
                let _ = done.send(result);
            }
        }
    }

    async fn deliver_all(&self, upto: &BTreeMap<ConsumerName, u64>) -> Result<(), Denied> {
        let outcome = self.propose(Deliver { upto: upto.clone() }.into()).await?;
        outcome.map(drop).map_err(Denied::Model)
    }

    async fn commit_answers(&self, shutdown: &CancellationToken) {
        let mut receiver = self.answers.receiver.lock().await;
        while let Some(batch) = gather(&mut receiver, self.linger, shutdown).await {
            let mut rest = batch.into_iter().peekable();
            while rest.peek().is_some() {
                let mut ranges = 0;
                let chunk: Vec<_> = std::iter::from_fn(|| {
                    let next =
                        rest.next_if(|next| ranges == 0 || ranges + next.answer.ranges.len() <= MOST_RANGES)?;
                    ranges += next.answer.ranges.len().max(1);
                    Some(next)
                })
                .collect();
                self.answer_all(chunk).await;
            }
        }
    }

    async fn answer_all(&self, batch: Vec<Answering>) {
        let answers = batch.iter().map(|answering| answering.answer.clone()).collect();
        let mut refused = match self.propose(Acknowledge { answers }.into()).await.map_err(Denied::Unagreed) {
            Ok(Ok(Applied::Answered { refused })) => refused.into_iter().collect::<BTreeMap<u32, Refusal>>(),
            Ok(Ok(other)) => return tell_all(batch, &Denied::unexpected(&other)),
            Ok(Err(refusal)) => return tell_all(batch, &Denied::Model(refusal)),
            Err(denied) => return tell_all(batch, &denied),
        };
        // The answers are committed; a node that has not applied them yet would tell of a cursor too low.
        let state = match self.fresh.read().await {
            Ok(complete) => complete.state,
            Err(_) => self.consensus.local(),
        };
        for (place, Answering { answer, done }) in (0..).zip(batch) {
            let result = match refused.remove(&place) {
                Some(refusal) => Err(Denied::Model(refusal)),
                None => Ok(enforced_up_to(&state, &answer.consumer)),
            };
            let _ = done.send(result);
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Unagreed> {
        let actor = self.consensus.standing().node.to_string();
        self.consensus.propose(actor, command).await
    }

    async fn follow_revisions(&self) {
        let mut progress = self.consensus.watch();
        loop {
            progress.borrow_and_update();
            let revision = self.consensus.local().revision();
            self.revisions.send_if_modified(|last| std::mem::replace(last, revision) != revision);
            if progress.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The next of what was sent, and all that follows within `linger`; `None` once `shutdown` has come. What is dropped
/// then was not proposed, and those who wait for it learn that.
async fn gather<T>(
    receiver: &mut mpsc::Receiver<T>,
    linger: Duration,
    shutdown: &CancellationToken,
) -> Option<Vec<T>> {
    let mut batch = Vec::new();
    let gathering = async {
        receiver.recv_many(&mut batch, MOST).await;
        if batch.len() < MOST && !linger.is_zero() {
            tokio::time::sleep(linger).await;
        }
        while batch.len() < MOST
            && let Ok(next) = receiver.try_recv()
        {
            batch.push(next);
        }
    };
    if shutdown.run_until_cancelled(gathering).await.is_some() && !batch.is_empty() {
        return Some(batch);
    }
    receiver.close();
    while receiver.try_recv().is_ok() {}
    None
}

fn tell_all(batch: Vec<Answering>, denied: &Denied) {
    for Answering { done, .. } in batch {
        let _ = done.send(Err(denied.clone()));
    }
}

fn enforced_up_to(state: &State, consumer: &ConsumerName) -> u64 {
    state.consumers().get(consumer).map_or(0, |row| row.enforced.cursor())
}
