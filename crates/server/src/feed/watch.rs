//! Following a stream: everything after a cursor, then what comes, with heartbeats in between.

use std::{sync::Arc, time::Duration};

use api::v1;
use model::{State, consumer::Subscription, refusal::Code};
use tokio::time::Instant;
use v1::watch_response::Message;

use super::{snapshot::snapshot, view::View};
use crate::{
    denied::Denied,
    edge::Call,
    fresh::Complete,
    stream::{End, Sender},
};

/// Events looked up, delivered and sent at a time.
const BATCH: usize = 128;
/// How long the cluster is asked for the sake of a heartbeat.
const HEARTBEAT_READ: Duration = Duration::from_secs(2);

type Responses = Sender<v1::WatchResponse>;

/// Sends what `view` shows after `after`, until the reader goes.
pub(super) async fn follow(
    call: Arc<Call>,
    view: View,
    after: u64,
    heartbeat: Duration,
    sender: Arc<Responses>,
) -> End {
    let mut follower =
        Follower { call: &call, view, cursor: after, previous: 0, subscription: None, sender: &sender };
    match follower.run(heartbeat).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

struct Follower<'a> {
    call: &'a Call,
    view: View,
    /// Everything up to here was sent.
    cursor: u64,
    /// The last event of this stream up to the cursor.
    previous: u64,
    /// What the stream is about; a change of it asks for a snapshot. `None` before the first look.
    subscription: Option<Subscription>,
    sender: &'a Responses,
}

/// What a look at a state has found.
enum Found {
    Snapshot(v1::Snapshot),
    Events(Vec<v1::Event>),
    Nothing,
}

impl Follower<'_> {
    async fn run(&mut self, heartbeat: Duration) -> Result<std::convert::Infallible, End> {
        let edge = &self.call.edge;
        let mut revisions = edge.batches.revisions();
        // The cursor may come from a node that is ahead of this one; it must not come from another cluster.
        let mut look = edge.fresh.read().await.map_err(Denied::from)?;
        if self.cursor > look.state.revision() {
            let message =
                format!("there is no revision {} yet, the last is {}", self.cursor, look.state.revision());
            return Err(Denied::edge(Code::UnknownRevision, message).into());
        }
        // The first heartbeat says that the reader has caught up.
        let mut due = Instant::now();
        loop {
            match self.find(&look.state)? {
                Found::Snapshot(snapshot) => {
                    self.send_snapshot(snapshot).await?;
                    continue;
                }
                Found::Events(events) => {
                    self.send_events(events).await?;
                    continue;
                }
                Found::Nothing => {
                    self.cursor = self.cursor.max(look.state.revision());
                    if Instant::now() >= due {
                        self.send(Message::Heartbeat(v1::Heartbeat {
                            revision: self.cursor,
                            at_ms: look.at.0,
                        }))
                        .await?;
                        due = Instant::now() + heartbeat;
                    }
                }
            }
            look = self.wait(&mut revisions, due).await?;
        }
    }

    /// Waits for a new event, or until a heartbeat is due; then the state to look at.
    async fn wait(
        &self,
        revisions: &mut tokio::sync::watch::Receiver<u64>,
        due: Instant,
    ) -> Result<Complete, End> {
        let edge = &self.call.edge;
        let local = || {
            let state = edge.consensus.local();
            Complete { at: state.now(), state }
        };
        // Marked as seen before the state is looked at, so that what comes in between wakes again.
        if *revisions.borrow_and_update() > self.cursor {
            return Ok(local());
        }
        tokio::select! {
            changed = revisions.changed() => match changed {
                Ok(()) => Ok(local()),
                Err(_) => Err(Denied::ShuttingDown.into()),
            },
            () = tokio::time::sleep_until(due) => {
                // How old the news of a heartbeat are, the cluster alone can tell: a node that was cut off from it
                // repeats the last instant it knows to be complete.
                let read = tokio::time::timeout(HEARTBEAT_READ, edge.fresh.read()).await;
                Ok(read.ok().and_then(Result::ok).unwrap_or_else(local))
            }
        }
    }

    fn find(&mut self, state: &State) -> Result<Found, Denied> {
        let seen = self.view.on(state)?;
        let subscription = seen.subscription();
        let first = self.subscription.is_none();
        let changed = self.subscription.as_ref().is_some_and(|last| *last != subscription);
        if first {
            self.previous = seen.last_up_to(state, self.cursor);
        }
        let behind = first && seen.is_behind(state, self.cursor) || !first && self.has_fallen_behind(state);
        self.subscription = Some(subscription);
        if behind || changed {
            let subscription = seen.subscription();
            return Ok(Found::Snapshot(snapshot(state, &subscription)));
        }
        let mut events = Vec::new();
        for event in seen.after(state, self.cursor).take(BATCH) {
            events.push(api::event::shown(event, self.previous));
            self.previous = event.revision;
        }
        Ok(if events.is_empty() { Found::Nothing } else { Found::Events(events) })
    }

    /// The history has moved on past the cursor while the stream was open.
    fn has_fallen_behind(&self, state: &State) -> bool {
        self.cursor < state.history_starts_after()
    }

    async fn send_snapshot(&mut self, snapshot: v1::Snapshot) -> Result<(), End> {
        let revision = snapshot.revision;
        self.deliver(revision).await?;
        self.send(Message::Snapshot(snapshot)).await?;
        self.cursor = revision;
        self.previous = revision;
        Ok(())
    }

    async fn send_events(&mut self, events: Vec<v1::Event>) -> Result<(), End> {
        let Some(last) = events.last().map(|event| event.revision) else { return Ok(()) };
        self.deliver(last).await?;
        for event in events {
            self.send(Message::Event(event)).await?;
        }
        self.cursor = last;
        Ok(())
    }

    /// Committed before anything is sent: an answer to what was sent can then never look forged.
    async fn deliver(&self, upto: u64) -> Result<(), Denied> {
        match self.view.receiver() {
            Some(consumer) => self.call.edge.batches.deliver(consumer, upto).await,
            None => Ok(()),
        }
    }

    async fn send(&self, message: Message) -> Result<(), End> {
        self.sender.send(v1::WatchResponse { message: Some(message) }).await
    }
}
