//! Linearizable reads. The leader confirms with a quorum that it leads, and the reader waits until this node has
//! applied what was committed by then. Reads that come together share one confirmation.

use std::{sync::Arc, time::Duration};

use model::{
    State,
    name::NodeId,
    planted::{Bug, is_planted},
};
use openraft::ReadPolicy;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{error::ReadError, machine::View, peer::Peers, raft::Raft};

/// Reads that may wait for the next confirmation.
const QUEUE: usize = 4_096;
/// Confirmations under way at one time.
const ROUNDS_IN_FLIGHT: usize = 4;
/// Wait before the leader is asked again, when nothing tells that it has changed.
const RETRY_AFTER: Duration = Duration::from_millis(25);

/// Answered with the index a read must wait for.
type Waiting = (Instant, oneshot::Sender<u64>);

/// Takes reads.
pub(crate) struct Reader {
    queue: mpsc::Sender<Waiting>,
    view: Arc<View>,
    shutdown: CancellationToken,
}

/// What a confirmation needs.
#[derive(Clone)]
pub(crate) struct Confirmer {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) view: Arc<View>,
    pub(crate) shutdown: CancellationToken,
}

impl Reader {
    /// Starts the task that asks for confirmations.
    pub(crate) fn start(confirmer: Confirmer) -> Self {
        let (queue, reads) = mpsc::channel(QUEUE);
        let (view, shutdown) = (Arc::clone(&confirmer.view), confirmer.shutdown.clone());
        tokio::spawn(confirmer.run(reads));
        Self { queue, view, shutdown }
    }

    /// The state, with everything in it that was committed when this was called.
    pub(crate) async fn read(&self, timeout: Duration) -> Result<Arc<State>, ReadError> {
        let deadline = Instant::now() + timeout;
        let (answer, index) = oneshot::channel();
        let read = async {
            self.queue.send((deadline, answer)).await.map_err(|_| ReadError::Stopped)?;
            let index = index.await.map_err(|_| ReadError::NoLeader)?;
            let mut progress = self.view.progress().subscribe();
            progress
                .wait_for(|progress| progress.applied >= Some(index))
                .await
                .map_err(|_| ReadError::Stopped)?;
            Ok(self.view.state())
        };
        tokio::select! {
            read = tokio::time::timeout_at(deadline, read) => read.unwrap_or(Err(ReadError::NoLeader)),
            () = self.shutdown.cancelled() => Err(ReadError::Stopped),
        }
    }
}

impl Confirmer {
    async fn run(self, mut reads: mpsc::Receiver<Waiting>) {
        let slots = Arc::new(tokio::sync::Semaphore::new(ROUNDS_IN_FLIGHT));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, reads.recv().await?))
            };
            let (slot, first) = tokio::select! {
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
                () = self.shutdown.cancelled() => return,
            };
            let mut together = vec![first];
            while let Ok(more) = reads.try_recv() {
                together.push(more);
            }
            let confirmer = self.clone();
            tokio::spawn(async move {
                confirmer.answer(together).await;
                drop(slot);
            });
        }
    }

    async fn answer(&self, waiting: Vec<Waiting>) {
        let Some(deadline) = waiting.iter().map(|(deadline, _)| *deadline).max() else { return };
        let confirmed = tokio::select! {
            confirmed = tokio::time::timeout_at(deadline, self.confirm(deadline)) => confirmed.ok(),
            () = self.shutdown.cancelled() => None,
        };
        for (_, answer) in waiting {
            if let Some(index) = confirmed {
                // Who asked may have gone.
                let _ = answer.send(index);
            }
        }
    }

    /// Asks until a leader confirms.
    async fn confirm(&self, deadline: Instant) -> u64 {
        let mut progress = self.view.progress().subscribe();
        loop {
            let leader = progress.borrow_and_update().leader;
            let confirmed = match leader {
                Some(leader) if leader == self.node && is_planted(Bug::StaleRead) => Some(0),
                Some(leader) if leader == self.node => {
                    let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
                    read.ok().map(|(read, _)| read.log_id().index)
                }
                Some(leader) => {
                    let timeout = deadline.saturating_duration_since(Instant::now());
                    let read = self.peers.read_index(leader, timeout).await;
                    read.ok().and_then(Result::ok).map(|read| read.index)
                }
                None => None,
            };
            if let Some(index) = confirmed {
                return index;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                _ = progress.wait_for(|progress| progress.leader.is_some() && progress.leader != leader) => {}
            }
        }
    }
}
