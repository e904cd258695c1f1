//! One thread that writes the state behind `apply`. Nothing that is acknowledged waits for it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use model::{State, table::Record};
use tokio::sync::{mpsc, oneshot};

use super::Position;
use crate::{
    disk::is_full,
    fatal::{self, Fatal},
    ledger::Ledger,
    space::Space,
    store::Store,
};

/// Batches that may wait; `apply` waits when there are more.
const QUEUE: usize = 4_096;
/// Records taken together into one batch.
const MERGED_RECORDS: usize = 20_000;
/// How long records gather for one batch: nobody waits for them, and a batch costs sled about the same for one record
/// as for many.
const GATHER: Duration = Duration::from_secs(2);
/// How often it is looked for more while they gather.
const GATHER_POLL: Duration = Duration::from_millis(10);
/// At most this much is to be replayed from the log after a crash.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

enum Job {
    Write(Vec<Record>, Position, Arc<State>),
    Checkpoint(oneshot::Sender<()>),
    Replace(Arc<State>, Position, oneshot::Sender<()>),
}

/// The way to the thread. It makes a last checkpoint and ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Persister {
    jobs: mpsc::Sender<Job>,
    space: Arc<Space>,
    ledger: Arc<Ledger>,
}

impl Persister {
    /// Starts the thread with what the store holds. An error on it is fatal to the node, except that there is no room:
    /// that is waited for.
    pub(crate) fn start(
        store: Store,
        held: (Arc<State>, Position),
        ledger: Arc<Ledger>,
        space: Arc<Space>,
        fatal: Arc<Fatal>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let folder = store.folder().to_path_buf();
        let writer = Writer {
            folder: folder.clone(),
            store: Some(store),
            held,
            ledger: Arc::clone(&ledger),
            space: Arc::clone(&space),
            fatal: Arc::clone(&fatal),
            receiver,
        };
        let work = move || {
            if let Err(error) = caught(|| writer.run()) {
                fatal.raise(reason(&folder, &error));
            }
        };
        let thread = thread::Builder::new().name("state-writer".into()).spawn(work)?;
        Ok((Self { jobs, space, ledger }, thread))
    }

    /// The ledger, which is written before the state.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Hands over what was touched, and the state that it has led to.
    pub(crate) async fn write(
        &self,
        records: Vec<Record>,
        position: Position,
        state: Arc<State>,
    ) -> io::Result<()> {
        self.jobs.send(Job::Write(records, position, state)).await.map_err(|_| ended())
    }

    /// Waits until everything handed over is durable.
    pub(crate) async fn checkpoint(&self) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(Job::Checkpoint(done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())
    }

    /// Replaces everything, and waits until that is durable.
    pub(crate) async fn replace(&self, state: State, position: Position) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(Job::Replace(Arc::new(state), position, done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())
    }

    /// Waits until there is room on the disk.
    pub(crate) async fn room(&self) {
        self.space.room_again().await;
    }
}

fn reason(folder: &Path, error: &io::Error) -> String {
    format!("the state under `{}` cannot be written: {error}; {}", folder.display(), fatal::DISK)
}

fn ended() -> io::Error {
    io::Error::other("the state's writer has ended")
}

struct Writer {
    folder: PathBuf,
    /// None when the node ended before there was room for it again.
    store: Option<Store>,
    /// What the store holds, or is to hold.
    held: (Arc<State>, Position),
    /// What the state has applied must be in here first, whatever of the state survives.
    ledger: Arc<Ledger>,
    space: Arc<Space>,
    fatal: Arc<Fatal>,
    receiver: mpsc::Receiver<Job>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        let mut checkpointed = Instant::now();
        let mut next = None;
        while let Some(job) = next.take().or_else(|| self.receiver.blocking_recv()) {
            match job {
                Job::Write(mut records, mut position, mut state) => {
                    next = gather(&mut self.receiver, &mut records, &mut position, &mut state);
                    self.held = (state, position.clone());
                    let due = checkpointed.elapsed() >= CHECKPOINT_EVERY;
                    let ledger = Arc::clone(&self.ledger);
                    self.attempt(|store| {
                        ledger.flush()?;
                        store.write(records, &position)?;
                        if due { store.checkpoint() } else { Ok(()) }
                    })?;
                    if due {
                        checkpointed = Instant::now();
                    }
                }
                Job::Checkpoint(done) => {
                    let ledger = Arc::clone(&self.ledger);
                    self.attempt(|store| ledger.flush().and_then(|()| store.checkpoint()))?;
                    checkpointed = Instant::now();
                    self.answer(done);
                }
                Job::Replace(state, position, done) => {
                    self.held = (Arc::clone(&state), position.clone());
                    let (space, ledger) = (Arc::clone(&self.space), Arc::clone(&self.ledger));
                    self.attempt(|store| {
                        ledger.flush()?;
                        store.replace(&state, &position, || space.claim())
                    })?;
                    self.answer(done);
                }
            }
        }
        let ledger = Arc::clone(&self.ledger);
        self.attempt(|store| ledger.flush().and_then(|()| store.checkpoint()))?;
        self.store.map_or(Ok(()), close)
    }

    /// Everything that was handed over is in the store.
    fn answer(&self, done: oneshot::Sender<()>) {
        if self.store.is_some() {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }

    /// Works on the store. What sled has half written for want of room is not built upon: all of it is written anew
    /// when there is room. Until then the log is kept, and nothing waits for it but snapshots.
    fn attempt(&mut self, work: impl FnOnce(&mut Store) -> io::Result<()>) -> io::Result<()> {
        let Some(mut store) = self.store.take() else { return Ok(()) };
        let mut result = match caught(|| work(&mut store)) {
            Ok(()) => Ok(store),
            Err(error) => {
                if let Err(later) = close(store) {
                    tracing::debug!(%later, "closing the state failed too");
                }
                // Sled may panic over a disk that is full.
                let full = error.kind() == PANICKED && self.space.is_full_here();
                Err(if full { io::ErrorKind::StorageFull.into() } else { error })
            }
        };
        loop {
            match result {
                Ok(store) => {
                    self.store = Some(store);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {
                    tracing::error!(%error, "no room for the state: it is written anew when there is some");
                }
                Err(error) => {
                    // Before those who wait are let go: Raft would give their error as the reason.
                    self.fatal.raise(reason(&self.folder, &error));
                    return Err(error);
                }
            }
            if !self.space.wait(|| self.receiver.is_closed()) {
                return Ok(());
            }
            let (state, position) = &self.held;
            let permit = || self.space.claim();
            result = caught(|| {
                self.ledger.flush()?;
                Store::begin_anew(&self.folder, state, position, permit)
            });
        }
    }
}

/// Gives the store back; sled syncs it once more.
fn close(store: Store) -> io::Result<()> {
    caught(|| {
        drop(store);
        Ok(())
    })
}

/// Sled panics over some errors of the disk: that is an error of this kind.
const PANICKED: io::ErrorKind = io::ErrorKind::Other;

fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(io::Error::new(PANICKED, format!("its writer panicked: {said}")))
    })
}

/// Takes the writes that follow within [`GATHER`], up to another job, which is returned.
fn gather(
    jobs: &mut mpsc::Receiver<Job>,
    records: &mut Vec<Record>,
    position: &mut Position,
    state: &mut Arc<State>,
) -> Option<Job> {
    let end = Instant::now() + GATHER;
    while records.len() < MERGED_RECORDS {
        match jobs.try_recv() {
            Ok(Job::Write(more, later, result)) => {
                records.extend(more);
                (*position, *state) = (later, result);
            }
            Ok(other) => return Some(other),
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() < end => thread::sleep(GATHER_POLL),
            Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => break,
        }
    }
    None
}
