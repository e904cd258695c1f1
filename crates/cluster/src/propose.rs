//! The way of a proposal: collected with others, stamped and committed in one entry by the leader, or handed to the
//! leader; its outcome comes back the same way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use model::{
    command::{Command, Stamped},
    name::NodeId,
    outcome::Outcome,
    time::Time,
};
use openraft::errors::{ClientWriteError, RaftError};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    batch::Batch,
    clock::Clock,
    error::ProposeError,
    machine::View,
    peer::{CallError, Peers},
    raft::Raft,
    space::Space,
    trace,
};

/// Proposals under way at one time: openraft stalls with many more. Others wait.
const IN_FLIGHT: usize = 256;
/// Entries under way at one time: while they are, further proposals gather for the next. One is made durable while
/// the one before it is answered; more would only be smaller.
const BATCHES_IN_FLIGHT: usize = 2;
/// Most commands in one entry.
const BATCH_COMMANDS: usize = 256;
/// An entry is closed when its commands reach this many bytes.
const BATCH_BYTES: usize = 512 * 1024;
/// Longest command, encoded.
pub const COMMAND_BYTES: usize = 1024 * 1024;
/// Wait before the leader is asked again, when nothing tells that it has changed.
const RETRY_AFTER: Duration = Duration::from_millis(25);
/// A command that was proposed is waited for this much longer than its caller waits.
const GRACE: Duration = Duration::from_secs(10);

/// What a proposal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Committed in the entry at this index, and applied by the leader.
    Outcome(Outcome, u64),
    /// Not proposed: this node does not lead; the leader, when it is known.
    NotProposed(Option<NodeId>),
    /// May have been committed.
    Unknown,
    /// Not proposed: the leader does not know the command.
    Unsupported(String),
    /// Not proposed: the leader's disk is full.
    DiskFull,
}

/// By whom it was asked for.
struct Asked {
    forwarded: bool,
    origin: String,
}

impl Asked {
    /// By this node's caller.
    fn here() -> Self {
        Self { forwarded: false, origin: trace::origin() }
    }
}

/// Whether a proposal has left. Who stops waiting must know, and one that nobody waits for must not leave.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const PROPOSED: u8 = 1;
const ABANDONED: u8 = 2;

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct Proposal {
    command: Stamped,
    ticket: Arc<Ticket>,
    /// Came from another node, and is not handed on to a third.
    forwarded: bool,
    deadline: Instant,
    span: Span,
    /// See [`trace::ORIGIN`].
    origin: String,
    answer: oneshot::Sender<Answer>,
    _permit: OwnedSemaphorePermit,
}

/// Takes proposals.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Proposal>,
    own: Arc<Semaphore>,
    forwarded: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// What the collecting task needs.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) view: Arc<View>,
    pub(crate) space: Arc<Space>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) shutdown: CancellationToken,
}

impl Proposer {
    /// Prepares the queue; [`Collector::run`] empties it.
    pub(crate) fn new(shutdown: CancellationToken) -> (Self, Collector) {
        let (queue, proposals) = mpsc::channel(2 * IN_FLIGHT);
        let semaphore = || Arc::new(Semaphore::new(IN_FLIGHT));
        (Self { queue, own: semaphore(), forwarded: semaphore(), shutdown }, Collector(proposals))
    }

    /// Proposes a command of this node's caller; gives the index of the entry too.
    pub(crate) async fn propose(
        &self,
        actor: String,
        command: Command,
        timeout: Duration,
    ) -> Result<(Outcome, u64), ProposeError> {
        let command = Stamped { at: Time::default(), actor, command };
        let size = command.encode().len();
        if size > COMMAND_BYTES {
            return Err(ProposeError::TooLarge(size));
        }
        match self.enqueue(&self.own, command, Asked::here(), timeout).await {
            Answer::Outcome(outcome, index) => Ok((outcome, index)),
            Answer::NotProposed(_) if self.shutdown.is_cancelled() => Err(ProposeError::Stopped),
            Answer::NotProposed(_) => Err(ProposeError::NoLeader),
            Answer::Unknown => Err(ProposeError::Unknown),
            Answer::Unsupported(reason) => Err(ProposeError::Unsupported(reason)),
            Answer::DiskFull => Err(ProposeError::DiskFull),
        }
    }

    /// Proposes a command that another node has handed over.
    pub(crate) async fn forwarded(&self, bytes: &[u8], origin: String, timeout: Duration) -> Answer {
        match Stamped::decode(bytes) {
            Ok(command) => {
                let asked = Asked { forwarded: true, origin };
                self.enqueue(&self.forwarded, command, asked, timeout).await
            }
            Err(error) => Answer::Unsupported(error.to_string()),
        }
    }

    async fn enqueue(
        &self,
        room: &Arc<Semaphore>,
        command: Stamped,
        Asked { forwarded, origin }: Asked,
        timeout: Duration,
    ) -> Answer {
        let deadline = Instant::now() + timeout;
        let span = trace::propose(command.command.action(), forwarded, &origin);
        let waiting = span.clone();
        let ticket = Arc::new(Ticket::default());
        let (answer, mut wait) = oneshot::channel();
        let attempt = async {
            let permit = Arc::clone(room).acquire_owned().await.ok()?;
            let ticket = Arc::clone(&ticket);
            let proposal =
                Proposal { command, ticket, forwarded, deadline, span, origin, answer, _permit: permit };
            self.queue.send(proposal).await.ok()?;
            Some((&mut wait).await)
        };
        match tokio::time::timeout_at(deadline, attempt).instrument(waiting).await {
            Ok(Some(Ok(answer))) => answer,
            // Dropped unanswered, or too late.
            Ok(Some(Err(_))) | Err(_) if !ticket.step(WAITING, ABANDONED) => Answer::Unknown,
            Ok(_) | Err(_) => Answer::NotProposed(None),
        }
    }
}

/// Collects proposals into entries.
pub(crate) struct Collector(mpsc::Receiver<Proposal>);

impl Collector {
    /// Runs until the node stops.
    pub(crate) async fn run(mut self, route: Route) {
        let slots = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
        let mut clock = Stamper::default();
        loop {
            // A free slot first: while there is none, proposals gather.
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, self.0.recv().await?))
            };
            let (slot, first) = tokio::select! {
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
                () = route.shutdown.cancelled() => return,
            };
            clock.advance(route.view.state().now(), route.clock.now());
            let mut gathering = Gathering::default();
            gathering.add(first, clock.0);
            while gathering.has_room()
                && let Ok(more) = self.0.try_recv()
            {
                gathering.add(more, clock.0);
            }
            let route = route.clone();
            tokio::spawn(async move {
                route.carry(gathering.proposals).await;
                drop(slot);
            });
        }
    }
}

/// What commands are stamped with: the leader's clock, but it never goes back.
#[derive(Default)]
struct Stamper(Time);

impl Stamper {
    /// What was stamped by another leader counts too.
    fn advance(&mut self, seen: Time, now: Time) {
        self.0 = self.0.max(seen).max(now);
    }
}

#[derive(Default)]
struct Gathering {
    proposals: Vec<(Bytes, Proposal)>,
    bytes: usize,
}

impl Gathering {
    fn add(&mut self, mut proposal: Proposal, at: Time) {
        proposal.command.at = at;
        let bytes = Bytes::from(proposal.command.encode());
        self.bytes += bytes.len();
        self.proposals.push((bytes, proposal));
    }

    fn has_room(&self) -> bool {
        self.proposals.len() < BATCH_COMMANDS && self.bytes < BATCH_BYTES
    }
}

impl Route {
    /// Brings proposals to the leader, wherever it is, and their answers back.
    async fn carry(&self, mut proposals: Vec<(Bytes, Proposal)>) {
        let Some(deadline) = proposals.iter().map(|(_, proposal)| proposal.deadline).max() else { return };
        let mut progress = self.view.progress().subscribe();
        loop {
            let leader = progress.borrow_and_update().leader;
            let hint = match leader {
                Some(leader) if leader == self.node => self.commit(&mut proposals, deadline).await,
                Some(leader) => {
                    refuse_forwarded(&mut proposals, Some(leader));
                    self.forward(&mut proposals, leader, deadline).await
                }
                None => None,
            };
            refuse_forwarded(&mut proposals, hint);
            proposals
                .retain(|(_, proposal)| proposal.deadline > Instant::now() && !proposal.answer.is_closed());
            if proposals.is_empty() || self.shutdown.is_cancelled() {
                return;
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
                _ = progress.wait_for(|progress| progress.leader.is_some() && progress.leader != leader) => {}
            }
        }
    }

    /// Commits the proposals as one entry of this leader. Those that were not proposed are left, with the leader that
    /// Raft names.
    async fn commit(&self, proposals: &mut Vec<(Bytes, Proposal)>, deadline: Instant) -> Option<NodeId> {
        if self.space.is_full() {
            for (_, proposal) in proposals.drain(..) {
                proposal.tell(Answer::DiskFull);
            }
        }
        let mut leaving = depart(proposals);
        if leaving.is_empty() {
            return None;
        }
        let entry = trace::entry(leaving.iter().map(|(_, proposal)| &proposal.span));
        let batch = Batch::join(&leaving.iter().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>())
            .traced(entry.span());
        let written = tokio::time::timeout_at(deadline + GRACE, trace::write(&self.raft, batch)).await;
        match written {
            Ok(Ok(response)) => {
                for ((_, proposal), outcome) in leaving.drain(..).zip(response.data.0) {
                    proposal.tell(Answer::Outcome(outcome, response.log_id.index));
                }
                None
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                come_back(leaving, proposals);
                forward.leader_id.map(NodeId)
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the outcome of an entry is unknown"
                );
                None
            }
            Err(_) => None,
        }
    }

    /// Hands the proposals to the leader. Those that were not proposed are left.
    async fn forward(
        &self,
        proposals: &mut Vec<(Bytes, Proposal)>,
        leader: NodeId,
        deadline: Instant,
    ) -> Option<NodeId> {
        let leaving = depart(proposals);
        if leaving.is_empty() {
            return None;
        }
        let bytes = leaving.iter().map(|(bytes, _)| bytes.clone()).collect();
        let timeout = deadline.saturating_duration_since(Instant::now());
        let origins = origins(&leaving);
        let way = trace::forward(&leaving[0].1.span, leader.0);
        match self.peers.propose(leader, bytes, origins, timeout).instrument(way.span()).await {
            Ok(answers) => {
                let mut hint = None;
                for ((bytes, proposal), answer) in leaving.into_iter().zip(answers) {
                    if let Answer::NotProposed(leader) = answer {
                        hint = hint.or(leader);
                        come_back(vec![(bytes, proposal)], proposals);
                    } else {
                        proposal.tell(answer);
                    }
                }
                hint
            }
            Err(CallError::NotSent(error)) => {
                tracing::debug!(error = &*error as &dyn std::error::Error, %leader, "the leader cannot be reached");
                come_back(leaving, proposals);
                None
            }
            // Dropped unanswered: their outcome is unknown.
            Err(error @ (CallError::NoAnswer(_) | CallError::Disk(_))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, %leader, "the leader did not answer");
                None
            }
        }
    }
}

impl Proposal {
    fn tell(self, answer: Answer) {
        // Who asked may have gone.
        drop(self.answer.send(answer));
    }
}

/// Takes those that someone still waits for; from here on their outcome is unknown until it is known.
fn depart(proposals: &mut Vec<(Bytes, Proposal)>) -> Vec<(Bytes, Proposal)> {
    let (leaving, abandoned) =
        proposals.drain(..).partition::<Vec<_>, _>(|(_, proposal)| proposal.ticket.step(WAITING, PROPOSED));
    drop(abandoned);
    leaving
}

/// The traces of the proposals; nothing at all when none of them belongs to one.
fn origins(proposals: &[(Bytes, Proposal)]) -> Vec<String> {
    if proposals.iter().all(|(_, proposal)| proposal.origin.is_empty()) {
        return Vec::new();
    }
    proposals.iter().map(|(_, proposal)| proposal.origin.clone()).collect()
}

/// They were not proposed after all.
fn come_back(returned: Vec<(Bytes, Proposal)>, proposals: &mut Vec<(Bytes, Proposal)>) {
    for (bytes, proposal) in returned {
        proposal.ticket.step(PROPOSED, WAITING);
        proposals.push((bytes, proposal));
    }
}

/// Sends those of other nodes back: their node looks for the leader itself.
fn refuse_forwarded(proposals: &mut Vec<(Bytes, Proposal)>, leader: Option<NodeId>) {
    let (forwarded, own) = proposals.drain(..).partition::<Vec<_>, _>(|(_, proposal)| proposal.forwarded);
    *proposals = own;
    for (_, proposal) in forwarded {
        proposal.tell(Answer::NotProposed(leader));
    }
}
