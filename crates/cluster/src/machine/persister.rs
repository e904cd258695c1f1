//! One thread that writes the state behind `apply`. Nothing that is acknowledged waits for it.

use std::{
    io, mem,
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
    background::stand_back,
    disk::is_full,
    fatal::{self, Fatal},
    ledger::Ledger,
    space::Space,
    store::{FILL_RECORDS, Store},
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
/// Records that may gather while a whole state is written: when there are more, `apply` waits as soon as the queue is
/// full. What gathers is a part of the log, which is kept meanwhile.
const GATHERED_RECORDS: usize = 500_000;
/// While a whole state is written, of this many parts of the time one is left to others.
const YIELDED_SHARE: u32 = 3;
/// When nothing has come for so long, the store is written anew for less; and how often it is looked until then.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_POLL: Duration = Duration::from_millis(50);
/// When more records than this come while the store is written anew, that is given up, for so long.
const RENEWING_RECORDS: usize = 200_000;
const RENEW_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Room that must be left when the store is written anew, beside as much as it takes.
const SPARED_BYTES: u64 = 64 * 1024 * 1024;
/// At most this much is to be replayed from the log after a crash.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

enum Job {
    Write(Vec<Record>, Position, Arc<State>),
    Checkpoint(oneshot::Sender<()>),
    Replace(Arc<State>, Position),
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
            inbox: Inbox { receiver, next: None, gathered: Vec::new(), held, waiting: Vec::new() },
            ledger: Arc::clone(&ledger),
            space: Arc::clone(&space),
            fatal: Arc::clone(&fatal),
            given_up: None,
        };
        let work = move || {
            stand_back();
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

    /// Replaces everything with what a durable snapshot holds. That is written while the node goes on; until all of it is
    /// durable a restart begins with the snapshot.
    pub(crate) async fn replace(&self, state: State, position: Position) -> io::Result<()> {
        self.jobs.send(Job::Replace(Arc::new(state), position)).await.map_err(|_| ended())
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
    /// None when the node ended before there was room for it again, or before all of a state was written.
    store: Option<Store>,
    inbox: Inbox,
    /// What the state has applied must be in here first, whatever of the state survives.
    ledger: Arc<Ledger>,
    space: Arc<Space>,
    fatal: Arc<Fatal>,
    /// When it was given up to write the store anew.
    given_up: Option<Instant>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        let mut checkpointed = Instant::now();
        while let Some(job) = self.inbox.next() {
            match job {
                Job::Write(records, position, state) => {
                    self.inbox.take(records, position, state);
                    self.inbox.gather();
                    let due = checkpointed.elapsed() >= CHECKPOINT_EVERY;
                    let ledger = Arc::clone(&self.ledger);
                    self.attempt(|store, inbox| {
                        ledger.flush()?;
                        store.write(mem::take(&mut inbox.gathered), &inbox.held.1)?;
                        if due { store.checkpoint() } else { Ok(()) }
                    })?;
                    if due || self.is_quiet()? {
                        self.renew()?;
                    }
                    if due {
                        checkpointed = Instant::now();
                    }
                }
                Job::Checkpoint(done) => {
                    self.inbox.waiting.push(done);
                    self.checkpoint()?;
                    self.answer();
                    self.renew()?;
                    checkpointed = Instant::now();
                }
                Job::Replace(state, position) => {
                    self.inbox.held = (state, position);
                    self.replace()?;
                    checkpointed = Instant::now();
                    self.answer();
                }
            }
        }
        self.checkpoint()?;
        self.store.map_or(Ok(()), close)
    }

    /// Makes what the store holds durable, and before it what the ledger says of it.
    fn checkpoint(&mut self) -> io::Result<()> {
        let ledger = Arc::clone(&self.ledger);
        self.attempt(|store, _| ledger.flush().and_then(|()| store.checkpoint()))
    }

    /// Writes all of the state that is held, and what is handed over meanwhile.
    fn replace(&mut self) -> io::Result<()> {
        let (space, ledger) = (Arc::clone(&self.space), Arc::clone(&self.ledger));
        let mut is_abandoned = false;
        self.attempt(|store, inbox| {
            ledger.flush()?;
            let begun = Instant::now();
            is_abandoned = !replace(store, inbox, &ledger, |_| space.claim().map(|()| true))?;
            tracing::info!(elapsed = ?begun.elapsed(), is_abandoned, "the state of a snapshot was written to the store");
            Ok(())
        })?;
        if is_abandoned {
            // It holds what was before, on which nothing may be built that came later.
            self.store.take().map_or(Ok(()), close)?;
        }
        Ok(())
    }

    /// Whether nothing comes for a while, when there is something to be done then.
    fn is_quiet(&mut self) -> io::Result<bool> {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_resting()) else { return Ok(false) };
        let begun = Instant::now();
        while self.inbox.is_idle() && store.bloated(true)?.is_some() {
            if begun.elapsed() >= QUIET {
                return Ok(true);
            }
            thread::sleep(QUIET_POLL);
        }
        Ok(false)
    }

    /// Whether writing the store anew was given up a short time ago.
    fn is_resting(&self) -> bool {
        self.given_up.is_some_and(|since| since.elapsed() < RENEW_AGAIN)
    }

    /// Writes a new generation when the files of this one have become far larger than what is in them, and there is room
    /// for both. Everything that was taken is in the store, durably.
    fn renew(&mut self) -> io::Result<()> {
        if self.is_resting() {
            return Ok(());
        }
        let (space, ledger) = (Arc::clone(&self.space), Arc::clone(&self.ledger));
        let mut given_up = None;
        self.attempt(|store, inbox| {
            let Some(bytes) =
                store.bloated(inbox.is_idle())?.filter(|bytes| space.room() > bytes + SPARED_BYTES)
            else {
                return Ok(());
            };
            let begun = Instant::now();
            let goes_on =
                |inbox: &Inbox| Ok(!space.is_full_here() && inbox.gathered.len() < RENEWING_RECORDS);
            if replace(store, inbox, &ledger, goes_on)? {
                tracing::info!(elapsed = ?begun.elapsed(), bytes, "the stored state was written anew");
                return Ok(());
            }
            given_up = Some(begun);
            // The old one holds everything up to where that began.
            ledger.flush()?;
            store.write(mem::take(&mut inbox.gathered), &inbox.held.1)?;
            store.checkpoint()
        })?;
        self.given_up = given_up;
        self.answer();
        Ok(())
    }

    /// Everything that was handed over is in the store.
    fn answer(&mut self) {
        let waiting = mem::take(&mut self.inbox.waiting);
        if self.store.is_some() {
            for done in waiting {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Works on the store. What sled has half written for want of room is not built upon: all of it is written anew
    /// when there is room. Until then the log is kept, and nothing waits for it but snapshots.
    fn attempt(&mut self, work: impl FnOnce(&mut Store, &mut Inbox) -> io::Result<()>) -> io::Result<()> {
        let Some(mut store) = self.store.take() else { return Ok(()) };
        let mut result = match caught(|| work(&mut store, &mut self.inbox)) {
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
            if !self.space.wait(|| self.inbox.receiver.is_closed()) {
                return Ok(());
            }
            // What has gathered is in the state that is held.
            self.inbox.gathered.clear();
            let (state, position) = &self.inbox.held;
            let permit = || self.space.claim();
            result = caught(|| {
                self.ledger.flush()?;
                Store::begin_anew(&self.folder, state, position, permit)
            });
        }
    }
}

/// Writes all of the state that is held into a new generation, and then what was handed over meanwhile; says whether
/// that was done, or given up because the node ends or `goes_on` says so, which is asked before each batch.
fn replace(
    store: &mut Store,
    inbox: &mut Inbox,
    ledger: &Ledger,
    goes_on: impl Fn(&Inbox) -> io::Result<bool>,
) -> io::Result<bool> {
    if !goes_on(inbox)? {
        return Ok(false);
    }
    let mut fill = store.begin_next()?;
    let state = Arc::clone(&inbox.held.0);
    let mut records = state.records().peekable();
    while records.peek().is_some() {
        if inbox.receiver.is_closed() || !goes_on(inbox)? {
            fill.abandon()?;
            return Ok(false);
        }
        let begun = Instant::now();
        fill.add(records.by_ref().take(FILL_RECORDS).collect())?;
        inbox.take_waiting();
        thread::sleep(begun.elapsed() / (YIELDED_SHARE - 1));
    }
    // Twice: far less comes while the first of it is written. It stays gathered until the new one is complete.
    let mut written = 0;
    for _ in 0..2 {
        inbox.take_waiting();
        while written < inbox.gathered.len() {
            if !goes_on(inbox)? {
                fill.abandon()?;
                return Ok(false);
            }
            let end = inbox.gathered.len().min(written + FILL_RECORDS);
            fill.add(inbox.gathered[written..end].to_vec())?;
            written = end;
        }
    }
    ledger.flush()?;
    let next = fill.finish(&inbox.held.1)?;
    store.give_way(next)?;
    inbox.gathered.clear();
    Ok(true)
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

/// What was handed over.
struct Inbox {
    receiver: mpsc::Receiver<Job>,
    /// A job that was taken from the queue and not yet done.
    next: Option<Job>,
    /// Records that are not yet in the store.
    gathered: Vec<Record>,
    /// What the store holds together with them.
    held: (Arc<State>, Position),
    /// Who waits until everything is in the store.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Inbox {
    /// Whether nothing has come since.
    fn is_idle(&self) -> bool {
        self.next.is_none() && self.receiver.is_empty() && !self.receiver.is_closed()
    }

    fn next(&mut self) -> Option<Job> {
        self.next.take().or_else(|| self.receiver.blocking_recv())
    }

    fn take(&mut self, records: Vec<Record>, position: Position, state: Arc<State>) {
        self.gathered.extend(records);
        self.held = (state, position);
    }

    /// Takes the writes that follow within [`GATHER`], up to another job.
    fn gather(&mut self) {
        let end = Instant::now() + GATHER;
        while self.gathered.len() < MERGED_RECORDS {
            match self.receiver.try_recv() {
                Ok(Job::Write(records, position, state)) => self.take(records, position, state),
                Ok(other) => {
                    self.next = Some(other);
                    return;
                }
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() < end => thread::sleep(GATHER_POLL),
                Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Takes what is waiting, up to another state that is to replace everything.
    fn take_waiting(&mut self) {
        while self.next.is_none() && self.gathered.len() < GATHERED_RECORDS {
            match self.receiver.try_recv() {
                Ok(Job::Write(records, position, state)) => self.take(records, position, state),
                Ok(Job::Checkpoint(done)) => self.waiting.push(done),
                Ok(other @ Job::Replace(..)) => self.next = Some(other),
                Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use model::{
        command::{PutIdentity, Stamped},
        time::Time,
    };

    use super::*;

    fn put(state: &mut State, numbers: std::ops::Range<u64>) -> (Vec<Record>, Position) {
        for number in numbers {
            let command = PutIdentity {
                name: format!("name-{number}").parse().unwrap(),
                owner: "team".into(),
                purpose: "a test".into(),
                workload: "worker".into(),
                environment: "test".into(),
                review_by: Time(4_000_000_000_000),
            };
            let stamped = Stamped { at: Time(1_000), actor: "test".into(), command: command.into() };
            state.apply(&stamped).unwrap();
        }
        (state.drain_changes(), Position { digest: state.digest(), ..Position::default() })
    }

    /// Writes a store anew, and gives that up when it is asked whether it goes on for the time after `asked`. Says whether
    /// it was given up; then nothing is lost, however far it had come.
    fn given_up_after(asked: u32) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(
            folder.path().join("ledger"),
            &folder.path().join("damaged"),
            State::default().ledger_head(),
        );
        let ledger = ledger.unwrap();
        let (mut store, mut state, _) = Store::open(folder.path().join("state")).unwrap();
        let (records, position) = put(&mut state, 0..2_500);
        store.write(records, &position).unwrap();
        let (jobs, receiver) = mpsc::channel(8);
        let held = (Arc::new(state.clone()), position);
        let mut inbox = Inbox { receiver, next: None, gathered: Vec::new(), held, waiting: Vec::new() };
        let (records, position) = put(&mut state, 2_400..2_600);
        let digest = position.digest;
        jobs.try_send(Job::Write(records, position, Arc::new(state))).unwrap();

        let times = Cell::new(0);
        let goes_on = |_: &Inbox| {
            times.set(times.get() + 1);
            Ok(times.get() <= asked)
        };
        let is_done = replace(&mut store, &mut inbox, &ledger, goes_on).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("state")).unwrap().count(), 1);
        if !is_done {
            inbox.take_waiting();
            store.write(mem::take(&mut inbox.gathered), &inbox.held.1).unwrap();
        }
        assert!(inbox.gathered.is_empty());
        store.checkpoint().unwrap();
        close(store).unwrap();
        let (_, state, _) = Store::open(folder.path().join("state")).unwrap();
        assert_eq!(state.digest(), digest, "given up after {asked}");
        !is_done
    }

    #[test]
    fn a_store_that_is_not_written_anew_to_the_end_loses_nothing_of_what_came_meanwhile() {
        let given_up = (0..100).take_while(|asked| given_up_after(*asked)).count();
        // Before it begins, before each of three batches of rows, and before what came meanwhile.
        assert!((4..100).contains(&given_up), "{given_up} times");
    }
}
