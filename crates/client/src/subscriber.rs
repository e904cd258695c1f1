//! A subscriber of the feed that keeps its place: it resumes after a lost connection, moves on to the next address,
//! drops what it has seen already, and does not go on over a gap.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::Streaming;

use crate::{
    Client, Error, ReceiptStage,
    v1::{self, WatchRequest, WatchResponse, watch_response::Message},
};

/// Shortest and longest wait before connecting again; doubled each time, and a random part of it is taken.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a stream to open at one address.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats that may fail to come before the connection is given up.
const MISSED_HEARTBEATS: u32 = 3;

/// What to follow, and from where.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// The last revision held; 0 at first.
    pub after: u64,
    /// Time between heartbeats while nothing happens; at least a second.
    pub heartbeat: Duration,
    /// Whose stream, for roles that may look at any. `None` for the token's consumer.
    pub consumer: Option<String>,
    /// Every event, for roles that may see them.
    pub all: bool,
    /// How long to go on without reaching any address before giving up. `None` for ever.
    pub patience: Option<Duration>,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { after: 0, heartbeat: Duration::from_secs(10), consumer: None, all: false, patience: None }
    }
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The state as of a revision; what was known before is void. Comes when history no longer reaches back.
    Snapshot(v1::Snapshot),
    /// The next event.
    Event(v1::Event),
    /// Nothing is missing up to this revision.
    CaughtUp {
        /// The revision.
        revision: u64,
        /// When the server said so, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// Follows the feed. See [`Client::subscribe`].
#[derive(Debug)]
pub struct Subscriber {
    client: Client,
    options: SubscribeOptions,
    progress: Progress,
    stream: Option<Streaming<WatchResponse>>,
    /// Connections tried since the last message.
    attempt: u32,
    not_before: Instant,
    unreached_since: Instant,
    /// The event at which a gap was seen; seen again after asking again, it is an error.
    gap_at: Option<u64>,
}

/// How far a subscriber is, readable from elsewhere while it waits. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    position: u64,
    fresh: Instant,
    duplicates: u64,
    gaps: u64,
    connections: u64,
}

impl Progress {
    fn new(position: u64) -> Self {
        let fresh = Instant::now();
        Self(Arc::new(Mutex::new(Inner { position, fresh, duplicates: 0, gaps: 0, connections: 0 })))
    }

    /// The revision up to which everything has been handed out: where to resume after a restart.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// How long ago the feed last said something that was not behind this position. A consumer that must fail
    /// closed does so when this grows over its limit.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        self.lock().fresh.elapsed()
    }

    /// Messages dropped because they had been seen.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.lock().duplicates
    }

    /// Gaps seen, and answered by asking again.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.lock().gaps
    }

    /// Streams opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, revision: u64) {
        let mut inner = self.lock();
        inner.position = inner.position.max(revision);
        inner.fresh = Instant::now();
    }
}

/// What to do with a message.
enum Judged {
    HandOut(Update),
    Drop,
    AskAgain,
}

impl Subscriber {
    pub(crate) fn new(client: Client, options: SubscribeOptions) -> Self {
        let now = Instant::now();
        Self {
            progress: Progress::new(options.after),
            client,
            options,
            stream: None,
            attempt: 0,
            not_before: now,
            unreached_since: now,
            gap_at: None,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The next update. Waits, and connects again, for as long as it takes; may be dropped and called again
    /// without losing anything.
    ///
    /// # Errors
    /// Only what trying again does not mend: the token is refused, the feed has a gap ([`Error::Gap`]), or no
    /// address was reached for longer than `patience`.
    pub async fn next(&mut self) -> Result<Update, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            let silence = self.options.heartbeat.max(Duration::from_secs(1)) * MISSED_HEARTBEATS;
            let message = match timeout(silence, stream.message()).await {
                Ok(Ok(Some(response))) => response.message,
                Ok(Ok(None)) => {
                    self.lose("the server ended the stream");
                    continue;
                }
                Ok(Err(status)) => {
                    self.stream = None;
                    self.weigh(Error::from_status("feed", &status))?;
                    continue;
                }
                Err(_) => {
                    self.lose("no heartbeat");
                    continue;
                }
            };
            let Some(message) = message else { continue };
            match self.judge(message)? {
                Judged::HandOut(update) => return Ok(update),
                Judged::Drop => {}
                Judged::AskAgain => self.lose("an event is missing"),
            }
        }
    }

    /// The updates as a stream, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Error>> + Send {
        stream::unfold(Some(self), |subscriber| async move {
            let mut subscriber = subscriber?;
            match subscriber.next().await {
                Ok(update) => Some((Ok(update), Some(subscriber))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Answers for events that were received or are enforced. See [`Client::acknowledge`].
    ///
    /// # Errors
    /// As [`Client::acknowledge`].
    pub async fn acknowledge(
        &self,
        stage: ReceiptStage,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> Result<u64, Error> {
        self.client.acknowledge(stage, ranges, "").await
    }

    /// Opens a stream once the wait is over. The wait survives being dropped in the middle.
    async fn open(&mut self) -> Result<(), Error> {
        sleep_until(self.not_before).await;
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        self.not_before = Instant::now() + pause(attempt);
        let request = WatchRequest {
            after_revision: self.progress.position(),
            heartbeat_ms: self.options.heartbeat.as_millis().try_into().unwrap_or(u64::MAX),
            consumer: self.options.consumer.clone().unwrap_or_default(),
            all: self.options.all,
        };
        let opened = timeout_at(
            Instant::now() + OPEN_TIMEOUT,
            self.client.watch(request, usize::try_from(attempt).unwrap_or_default()),
        );
        let unanswered = || Error::Unknown { message: format!("no answer within {OPEN_TIMEOUT:?}") };
        match opened.await.unwrap_or_else(|_| Err(unanswered())) {
            Ok(stream) => {
                self.progress.lock().connections += 1;
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => self.weigh(error),
        }
    }

    /// Returns errors that are final; otherwise leads to another attempt.
    fn weigh(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_transient() && !matches!(error, Error::Failed { .. }) {
            return Err(error);
        }
        let patience = self.options.patience.unwrap_or(Duration::MAX);
        if self.unreached_since.elapsed() >= patience {
            return Err(error);
        }
        tracing::debug!(%error, "the feed is lost; trying again");
        Ok(())
    }

    fn lose(&mut self, why: &str) {
        tracing::debug!(why, position = self.progress.position(), "the feed is lost; trying again");
        self.stream = None;
    }

    fn judge(&mut self, message: Message) -> Result<Judged, Error> {
        self.attempt = 0;
        self.unreached_since = Instant::now();
        let held = self.progress.position();
        match message {
            Message::Snapshot(snapshot) if snapshot.revision < held => Ok(self.seen_already()),
            Message::Snapshot(snapshot) => {
                self.gap_at = None;
                self.progress.advance(snapshot.revision);
                Ok(Judged::HandOut(Update::Snapshot(snapshot)))
            }
            Message::Event(event) if event.revision <= held => Ok(self.seen_already()),
            Message::Event(event) if event.previous_revision > held => self.missing(&event, held),
            Message::Event(event) => {
                self.gap_at = None;
                self.progress.advance(event.revision);
                Ok(Judged::HandOut(Update::Event(event)))
            }
            // From a node that is behind: alive, but no proof of freshness.
            Message::Heartbeat(beat) if beat.revision < held => Ok(Judged::Drop),
            Message::Heartbeat(beat) => {
                self.progress.advance(beat.revision);
                Ok(Judged::HandOut(Update::CaughtUp { revision: beat.revision, at_ms: beat.at_ms }))
            }
        }
    }

    fn seen_already(&self) -> Judged {
        self.progress.lock().duplicates += 1;
        Judged::Drop
    }

    fn missing(&mut self, event: &v1::Event, held: u64) -> Result<Judged, Error> {
        self.progress.lock().gaps += 1;
        if self.gap_at.replace(event.revision) == Some(event.revision) {
            self.stream = None;
            return Err(Error::Gap { revision: event.revision, previous: event.previous_revision, held });
        }
        Ok(Judged::AskAgain)
    }
}

/// A random wait before the attempt after `attempt`.
fn pause(attempt: u32) -> Duration {
    let most = BACKOFF_MIN.saturating_mul(1 << attempt.min(10)).min(BACKOFF_MAX);
    most.mul_f64(rand::random_range(0.5..=1.0))
}
