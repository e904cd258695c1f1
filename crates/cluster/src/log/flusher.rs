//! One thread that makes the log durable: what was appended while a flush ran is covered by the next one, so one
//! `fdatasync` serves many appends without waiting for company.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use openraft::storage::IOFlushed;
use raft_log::api::raft_log_writer::RaftLogWriter as _;
use tokio::sync::oneshot;

use super::disk::{Files, end};
use crate::raft::Types;

/// Someone who waits until what was written so far is durable.
pub(super) enum Waiter {
    /// An append; openraft is told.
    Append(IOFlushed<Types>),
    /// A caller that holds the other end.
    Caller(oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // The caller may have gone away; what was written stays written.
            Self::Caller(sender) => drop(sender.send(result)),
        }
    }
}

/// The way to the thread. It ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Flusher(mpsc::Sender<Waiter>);

impl Flusher {
    /// Starts the thread.
    pub(super) fn start(files: Arc<Files>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("raft-log-flush".into()).spawn(move || run(&files, &receiver))?;
        Ok(Self(sender))
    }

    /// Answers `waiter` when everything written before this call is durable, or with the error that says it is not.
    pub(super) fn flush(&self, waiter: Waiter) {
        if let Err(mpsc::SendError(waiter)) = self.0.send(waiter) {
            waiter.tell(Err(io::Error::other("the log's flush thread has ended")));
        }
    }
}

fn run(files: &Files, waiters: &mpsc::Receiver<Waiter>) {
    let mut failed: Option<(io::ErrorKind, String)> = None;
    while let Ok(first) = waiters.recv() {
        let mut covered = vec![first];
        covered.extend(waiters.try_iter());
        if failed.is_none()
            && let Err(error) = flush_once(files)
        {
            tracing::error!(%error, "the raft log cannot be made durable");
            // After a failed fsync the kernel may have dropped the pages: a later success would prove nothing.
            failed = Some((error.kind(), error.to_string()));
        }
        for waiter in covered {
            waiter.tell(match &failed {
                None => Ok(()),
                Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            });
        }
    }
}

fn flush_once(files: &Files) -> io::Result<()> {
    let (done, wait) = mpsc::sync_channel(1);
    let covered = {
        let mut log = files.lock();
        let covered = end(&log);
        log.flush(true, Some(done))?;
        covered
    };
    wait.recv().map_err(|_| io::Error::other("the log's writer has ended"))??;
    files.set_durable(covered);
    Ok(())
}
