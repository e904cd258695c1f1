//! Makes the log durable. One flush is under way at a time; what is appended meanwhile is covered by the next one, so
//! one `fdatasync` serves many appends without waiting for company. The first flush is begun by whoever appends; one
//! that others wait for already is begun by a thread.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use openraft::storage::IOFlushed;
use raft_log::{Callback, api::raft_log_writer::RaftLogWriter as _};
use tokio::sync::oneshot;

use super::disk::{Files, Note, end};
use crate::{promise::Stand, raft::Types, trace::Stage};

/// Someone who waits until what was written so far is durable.
pub(super) enum Waiter {
    /// An append; openraft is told. Its spans end with it.
    Append(IOFlushed<Types>, Vec<Stage>),
    /// A caller that holds the other end.
    Caller(oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback, spans) => {
                drop(spans);
                callback.io_completed(result);
            }
            // The caller may have gone away; what was written stays written.
            Self::Caller(sender) => drop(sender.send(result)),
        }
    }
}

/// The way to durability. Clones are the same.
#[derive(Clone)]
pub(super) struct Flusher(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    note: Arc<Note>,
    again: mpsc::Sender<()>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiter>,
    /// Since when a flush is under way.
    under_way: Option<Instant>,
    failed: Option<Failure>,
}

/// After a failed fsync the kernel may have dropped the pages: a later success would prove nothing, and is not asked
/// for.
#[derive(Clone)]
struct Failure(io::ErrorKind, String);

impl From<&Failure> for io::Error {
    fn from(Failure(kind, message): &Failure) -> Self {
        Self::new(*kind, message.clone())
    }
}

impl Flusher {
    /// Starts the thread; it ends when the last clone is dropped.
    pub(super) fn start(files: Arc<Files>, note: Arc<Note>) -> io::Result<Self> {
        let (again, wanted) = mpsc::channel();
        let inner = Arc::new(Inner { queue: Mutex::default(), note, again });
        let weak = Arc::downgrade(&inner);
        thread::Builder::new().name("raft-log-flush".into()).spawn(move || run(&files, &weak, &wanted))?;
        Ok(Self(inner))
    }

    /// Answers `waiter` when everything written before this call is durable, or with the error that says it is not.
    pub(super) fn flush(&self, files: &Files, waiter: Waiter) {
        let mut queue = self.0.lock();
        if let Some(failure) = &queue.failed {
            let error = failure.into();
            drop(queue);
            return waiter.tell(Err(error));
        }
        queue.waiting.push(waiter);
        if queue.under_way.is_none() {
            queue.under_way = Some(Instant::now());
            drop(queue);
            self.0.begin(files);
        }
    }

    /// How long the flush that is under way has taken so far.
    pub(super) fn flushing_for(&self) -> Option<Duration> {
        self.0.lock().under_way.map(|since| since.elapsed())
    }
}

fn run(files: &Files, inner: &Weak<Inner>, wanted: &mpsc::Receiver<()>) {
    while let Ok(()) = wanted.recv()
        && let Some(inner) = inner.upgrade()
    {
        inner.begin(files);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands what was written so far to the log's writer.
    fn begin(self: &Arc<Self>, files: &Files) {
        let mut log = files.lock();
        // Whoever waits has written: taken under the lock of the log, they are all covered.
        let waiters = mem::take(&mut self.lock().waiting);
        let done = Flushed { inner: Arc::clone(self), covered: end(&log), waiters };
        if let Err(error) = log.flush(true, Some(done)) {
            drop(log);
            // Those who waited were told when their request was dropped.
            self.fail(&error, Vec::new());
        }
    }

    fn fail(&self, error: &io::Error, covered: Vec<Waiter>) {
        tracing::error!(%error, "the raft log cannot be made durable");
        let failure = Failure(error.kind(), error.to_string());
        let waiting = {
            let mut queue = self.lock();
            queue.failed = Some(failure.clone());
            mem::take(&mut queue.waiting)
        };
        for waiter in covered.into_iter().chain(waiting) {
            waiter.tell(Err((&failure).into()));
        }
    }
}

/// Called by the log's writer when a flush has come to its end.
pub(super) struct Flushed {
    inner: Arc<Inner>,
    covered: Stand,
    waiters: Vec<Waiter>,
}

impl Callback for Flushed {
    fn send(mut self, result: io::Result<()>) {
        let waiters = mem::take(&mut self.waiters);
        if let Err(error) = result.and_then(|()| self.inner.note.set_durable(self.covered)) {
            return self.inner.fail(&error, waiters);
        }
        for waiter in waiters {
            waiter.tell(Ok(()));
        }
        let mut queue = self.inner.lock();
        // The thread has ended when nobody is left who could wait.
        let more = !queue.waiting.is_empty() && self.inner.again.send(()).is_ok();
        queue.under_way = more.then(Instant::now);
    }
}

impl Drop for Flushed {
    /// The log's writer ends without a word when it has failed.
    fn drop(&mut self) {
        for waiter in mem::take(&mut self.waiters) {
            waiter.tell(Err(io::Error::other("the log's writer has ended")));
        }
    }
}
