//! One thread that writes the state behind `apply`. Nothing that is acknowledged waits for it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use model::table::Record;
use tokio::sync::mpsc;

use super::Position;
use crate::{
    background::stand_back,
    disk::is_full,
    fatal::{self, Fatal},
    ledger::Ledger,
    space::Space,
    store::{Next, Store},
};

/// Batches that may wait; `apply` waits when there are more.
const QUEUE: usize = 4_096;
/// Records taken together into one batch.
const MERGED_RECORDS: usize = 60_000;
/// How long records gather for one batch: nobody waits for them, and a batch costs sled about the same for one record
/// as for many.
const GATHER: Duration = Duration::from_secs(5);
/// How often it is looked for more while they gather.
const GATHER_POLL: Duration = Duration::from_millis(10);
/// At most this much is to be replayed from the log after a crash.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

enum Job {
    Write(Vec<Record>, Position),
    /// A snapshot is being made of the state at this position: what follows is kept apart.
    Begin(Position),
    /// It is there, durably.
    Build(Position),
    /// A peer's snapshot has replaced everything.
    Replace(Position),
}

/// The way to the thread. It makes a last checkpoint and ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Persister {
    jobs: mpsc::Sender<Job>,
    space: Arc<Space>,
    ledger: Arc<Ledger>,
}

impl Persister {
    /// Starts the thread with the store, and how far that reaches. An error on it is fatal to the node, except that there
    /// is no room: then nothing is stored until there is another snapshot, and the log is kept.
    pub(crate) fn start(
        store: Store,
        reached: Position,
        ledger: Arc<Ledger>,
        space: Arc<Space>,
        fatal: Arc<Fatal>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let folder = store.folder().to_path_buf();
        space.note_stored(store.bytes()?);
        let mut writer = Writer {
            folder: folder.clone(),
            store: Some(store),
            next: None,
            reached,
            inbox: Inbox { receiver, next: None },
            ledger: Arc::clone(&ledger),
            space: Arc::clone(&space),
        };
        let work = move || {
            stand_back();
            // Before nobody takes more: Raft would give the error of `apply` as the reason.
            if let Err(error) = caught(|| writer.run()) {
                fatal.raise(reason(&folder, &error));
            }
            drop(writer);
        };
        let thread = thread::Builder::new().name("state-writer".into()).spawn(work)?;
        Ok((Self { jobs, space, ledger }, thread))
    }

    /// The ledger, which is written before the state.
    pub(crate) const fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Hands over what was touched.
    pub(crate) async fn write(&self, records: Vec<Record>, position: Position) -> io::Result<()> {
        self.hand_over(Job::Write(records, position)).await
    }

    /// Says that a snapshot is made of what was handed over so far.
    pub(crate) async fn begin(&self, position: Position) -> io::Result<()> {
        self.hand_over(Job::Begin(position)).await
    }

    /// Says that it was made, and is durable.
    pub(crate) async fn build(&self, position: Position) -> io::Result<()> {
        self.hand_over(Job::Build(position)).await
    }

    /// Replaces everything with what a durable snapshot holds.
    pub(crate) async fn replace(&self, position: Position) -> io::Result<()> {
        self.hand_over(Job::Replace(position)).await
    }

    async fn hand_over(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| io::Error::other("the state's writer has ended"))
    }

    /// Waits until there is room on the disk.
    pub(crate) async fn room(&self) {
        self.space.room_again().await;
    }
}

fn reason(folder: &Path, error: &io::Error) -> String {
    format!("the state under `{}` cannot be written: {error}; {}", folder.display(), fatal::DISK)
}

struct Writer {
    folder: PathBuf,
    /// None after there was no room for it: a restart begins with the snapshot then, and the log behind it.
    store: Option<Store>,
    /// What follows the snapshot that is being made.
    next: Option<Next>,
    /// How far the state goes that was handed over.
    reached: Position,
    inbox: Inbox,
    /// What the state has applied must be in here first, whatever of the state survives.
    ledger: Arc<Ledger>,
    space: Arc<Space>,
}

impl Writer {
    fn run(&mut self) -> io::Result<()> {
        let mut checkpointed = Instant::now();
        while let Some(job) = self.inbox.next() {
            match job {
                Job::Write(mut records, position) => {
                    self.reached = self.inbox.gather(&mut records).unwrap_or(position);
                    if !self.flush_ledger()? {
                        return Ok(());
                    }
                    self.attempt(|writer| writer.write(records))?;
                    if checkpointed.elapsed() >= CHECKPOINT_EVERY {
                        self.attempt(|writer| writer.checkpoint())?;
                        checkpointed = Instant::now();
                    }
                }
                Job::Begin(position) => self.attempt(|writer| writer.begin(&position))?,
                Job::Build(position) => self.attempt(|writer| writer.go_on_from(&position))?,
                Job::Replace(position) => {
                    self.reached = position.clone();
                    self.attempt(|writer| {
                        writer.begin(&position)?;
                        writer.go_on_from(&position)
                    })?;
                }
            }
        }
        if self.flush_ledger()? {
            self.attempt(|writer| writer.checkpoint())?;
        }
        self.store.take().map_or(Ok(()), close)
    }

    fn write(&mut self, records: Vec<Record>) -> io::Result<()> {
        if let Some(next) = &mut self.next {
            next.add(records)?;
        } else if let Some(store) = &mut self.store {
            store.write(records, &self.reached)?;
        }
        Ok(())
    }

    fn checkpoint(&self) -> io::Result<()> {
        self.store.as_ref().map_or(Ok(()), Store::checkpoint)
    }

    /// Begins the store of a snapshot at `position`. The one that there is ends there.
    fn begin(&mut self, position: &Position) -> io::Result<()> {
        self.checkpoint()?;
        // One for a snapshot that has never come to be.
        drop(self.next.take());
        self.next = Some(Next::begin(&self.folder, position)?);
        Ok(())
    }

    /// Completes the store of the snapshot at `position`, unless another has come meanwhile.
    fn go_on_from(&mut self, position: &Position) -> io::Result<()> {
        if let Some(next) = self.next.take_if(|next| next.is_on(position)) {
            self.store.take().map_or(Ok(()), close)?;
            self.store = Some(next.finish(&self.reached)?);
        }
        Ok(())
    }

    /// Makes durable what the ledger has taken; says whether it could, for the node may end while there is no room.
    fn flush_ledger(&self) -> io::Result<bool> {
        loop {
            match self.ledger.flush() {
                Err(error) if is_full(&error) => {
                    tracing::error!(%error, "no room for the ledger: it is written when there is some");
                    if !self.space.wait(|| self.inbox.receiver.is_closed()) {
                        return Ok(false);
                    }
                }
                flushed => return flushed.map(|()| true),
            }
        }
    }

    /// Works on the store. What sled has half written for want of room is not built upon: it is removed, and there is
    /// another with the next snapshot. Until then the log is kept.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match caught(|| work(self)) {
            Ok(()) => {
                let next = self.next.as_ref().map_or(Ok(0), Next::bytes)?;
                let store = self.store.as_ref().map_or(Ok(0), Store::bytes)?;
                self.space.note_stored(store + next);
                Ok(())
            }
            // Sled may panic over a disk that is full.
            Err(error) if is_full(&error) || (error.kind() == PANICKED && self.space.is_full_here()) => {
                tracing::error!(%error, "no room for the state: it is kept in the log until there is some");
                for closed in
                    [self.store.take().map(close), self.next.take().map(close)].into_iter().flatten()
                {
                    if let Err(later) = closed {
                        tracing::debug!(%later, "closing the state failed too");
                    }
                }
                self.space.note_stored(0);
                Store::give_up(&self.folder)
            }
            Err(error) => Err(error),
        }
    }
}

/// Gives a store back; sled syncs it once more.
fn close<T>(store: T) -> io::Result<()> {
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

/// What was handed over.
struct Inbox {
    receiver: mpsc::Receiver<Job>,
    /// A job that was taken from the queue and not yet done.
    next: Option<Job>,
}

impl Inbox {
    fn next(&mut self) -> Option<Job> {
        self.next.take().or_else(|| self.receiver.blocking_recv())
    }

    /// Takes the writes that follow within [`GATHER`], up to another job; gives how far they go.
    fn gather(&mut self, records: &mut Vec<Record>) -> Option<Position> {
        let end = Instant::now() + GATHER;
        let mut reached = None;
        while records.len() < MERGED_RECORDS {
            match self.receiver.try_recv() {
                Ok(Job::Write(more, position)) => {
                    records.extend(more);
                    reached = Some(position);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() < end => thread::sleep(GATHER_POLL),
                Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        reached
    }
}
