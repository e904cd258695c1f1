//! One thread that writes the state behind `apply`. Nothing that is acknowledged waits for it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use model::{State, table::Record};
use tokio::sync::{mpsc, oneshot};

use super::Position;
use crate::{fatal::Fatal, store::Store};

/// Batches that may wait; `apply` waits when there are more.
const QUEUE: usize = 4_096;
/// Records taken together into one batch.
const MERGED_RECORDS: usize = 20_000;
/// How long records gather for one batch: nobody waits for them, and a batch costs sled about the same for one record
/// as for many.
const GATHER: Duration = Duration::from_millis(100);
/// How often it is looked for more while they gather.
const GATHER_POLL: Duration = Duration::from_millis(5);
/// At most this much is to be replayed from the log after a crash.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

enum Job {
    Write(Vec<Record>, Position),
    Checkpoint(oneshot::Sender<()>),
    Replace(Box<State>, Position, oneshot::Sender<()>),
}

/// The way to the thread. It makes a last checkpoint and ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Persister(mpsc::Sender<Job>);

impl Persister {
    /// Starts the thread. An error on it is fatal to the node.
    pub(crate) fn start(store: Store, fatal: Arc<Fatal>) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread =
            thread::Builder::new().name("state-writer".into()).spawn(move || {
                match catch_unwind(AssertUnwindSafe(|| run(store, receiver))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => fatal.raise(format!("the state cannot be written: {error}")),
                    Err(_) => fatal.raise("the state's writer panicked".into()),
                }
            })?;
        Ok((Self(sender), thread))
    }

    /// Hands over what was touched.
    pub(crate) async fn write(&self, records: Vec<Record>, position: Position) -> io::Result<()> {
        self.0.send(Job::Write(records, position)).await.map_err(|_| ended())
    }

    /// Waits until everything handed over is durable.
    pub(crate) async fn checkpoint(&self) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.0.send(Job::Checkpoint(done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())
    }

    /// Replaces everything, and waits until that is durable.
    pub(crate) async fn replace(&self, state: State, position: Position) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.0.send(Job::Replace(Box::new(state), position, done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("the state's writer has ended")
}

fn run(mut store: Store, mut jobs: mpsc::Receiver<Job>) -> io::Result<()> {
    let mut checkpointed = Instant::now();
    let mut next = None;
    while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Write(mut records, mut position) => {
                next = gather(&mut jobs, &mut records, &mut position);
                store.write(records, &position)?;
                if checkpointed.elapsed() >= CHECKPOINT_EVERY {
                    store.checkpoint()?;
                    checkpointed = Instant::now();
                }
            }
            Job::Checkpoint(done) => {
                store.checkpoint()?;
                checkpointed = Instant::now();
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            Job::Replace(state, position, done) => {
                store = store.replace(&state, &position)?;
                let _ = done.send(());
            }
        }
    }
    store.checkpoint()
}

/// Takes the writes that follow within [`GATHER`], up to another job, which is returned.
fn gather(jobs: &mut mpsc::Receiver<Job>, records: &mut Vec<Record>, position: &mut Position) -> Option<Job> {
    let end = Instant::now() + GATHER;
    while records.len() < MERGED_RECORDS {
        match jobs.try_recv() {
            Ok(Job::Write(more, later)) => {
                records.extend(more);
                *position = later;
            }
            Ok(other) => return Some(other),
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() < end => thread::sleep(GATHER_POLL),
            Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => break,
        }
    }
    None
}
