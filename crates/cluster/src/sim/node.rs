//! One incarnation of a simulated node, from a start to a crash.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use model::{
    State,
    command::{Command, Stamped},
    name::NodeId,
    outcome::Outcome,
    planted::{Bug, is_planted},
    time::Time,
};
use openraft::Instant as _;
use openraft::{
    ChangeMembers, ReadPolicy, ServerState,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Disk, Membership, Network, Observer, Standing,
    disk::{Opened, lock},
    keeper::MemoryKeeper,
    log::SimLog,
    network::{Clients, Failed},
    time::{elapsed, sleep, spawn, within},
    types::{Member, Raft},
};
use crate::{
    batch::Batch,
    error::{ProposeError, ReadError, StartError},
    machine::{Machine, View},
    settings::Settings,
    status::Progress,
};

/// Longest time a proposal or a read may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before the leader is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(25);
/// A peer counts as heard while it has answered within this many heartbeats.
const HEARD_HEARTBEATS: u32 = 10;

/// A node's own clock: it may be wrong.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A change of membership was not made, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the membership was not changed: {0}")]
pub struct MembershipError(String);

/// What the network and the node share.
pub(super) struct Inner {
    pub(super) id: NodeId,
    raft: OnceLock<Raft>,
    view: Arc<View>,
    clock: Clock,
    /// The last stamp this node has given as a leader.
    stamped: Mutex<Time>,
    heartbeat: Duration,
    dead: CancellationToken,
    /// One channel for each who watches: `watch` itself wakes several receivers in an order of its own.
    watching: Mutex<Vec<watch::Sender<Progress>>>,
}

/// One incarnation of a node. Clones are the same.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    network: Network,
    disk: Disk,
}

/// What the leader answers to a forwarded proposal.
#[derive(Clone, Debug)]
enum Answer {
    Outcome(Outcome),
    NotProposed,
    Unknown,
}

impl Node {
    /// Starts a node from what its disk holds.
    ///
    /// # Errors
    /// What is on the disk cannot be used.
    // Boxed, so that it is compiled here, and not into every program and test that starts a node.
    pub fn start<'parts>(
        settings: &'parts Settings,
        disk: &'parts Disk,
        network: &'parts Network,
        clock: Clock,
        observer: Arc<dyn Observer>,
    ) -> BoxFuture<'parts, Result<Self, StartError>> {
        Box::pin(Self::begin(settings, disk, network, clock, observer))
    }

    async fn begin(
        settings: &Settings,
        disk: &Disk,
        network: &Network,
        clock: Clock,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let config = Arc::new(settings.raft_config()?);
        let id = settings.node;
        let Opened { log, kept, state, position } =
            disk.open().map_err(|error| StartError::Raft(error.to_string()))?;
        let wrote = Arc::new(Notify::new());
        let keeper = MemoryKeeper { node: id, kept, log: log.clone(), observer: Arc::clone(&observer) };
        let (machine, view) = Machine::kept_by(keeper, state, position);
        let (flushed, due) = (log.clone(), Arc::clone(&wrote));
        log.hold(true);
        let log = SimLog { node: id, log, disk: disk.clone(), wrote, observer: Arc::clone(&observer) };
        let inner = Arc::new(Inner {
            id,
            raft: OnceLock::new(),
            view,
            clock,
            stamped: Mutex::default(),
            heartbeat: settings.timing.heartbeat,
            dead: CancellationToken::new(),
            watching: Mutex::default(),
        });
        let node = Arc::new(OnceLock::from(Arc::clone(&inner)));
        let clients = Clients { network: network.clone(), node };
        let (disk_, dead) = (disk.clone(), inner.dead.clone());
        spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = dead.cancelled() => return,
                    () = due.notified() => {}
                }
                sleep(disk_.latency()).await;
                if dead.is_cancelled() {
                    return;
                }
                flushed.flush();
            }
        });
        let raft = Raft::new(id.0, config, clients, log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        // Nobody else sets it.
        drop(inner.raft.set(raft));
        network.attach(&inner);
        spawn(observe(Arc::clone(&inner), observer));
        spawn(pass_on(Arc::clone(&inner)));
        Ok(Self { inner, network: network.clone(), disk: disk.clone() })
    }

    /// Which node it is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Forms a cluster of these voters; for one node, once.
    ///
    /// # Errors
    /// There is a cluster already.
    pub async fn form(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
        let members: std::collections::BTreeMap<u64, Member> =
            voters.iter().map(|id| (id.0, Member::default())).collect();
        let raft = self.inner.raft().ok_or_else(|| MembershipError("it is not running".into()))?;
        raft.initialize(members).await.map_err(|error| MembershipError(error.to_string()))
    }

    /// Crashes: it reaches nothing and nobody any more, and its disk keeps or loses what was not flushed. Says how many
    /// writes to the log were lost.
    pub fn crash(&self, loss: super::Loss) -> usize {
        self.inner.dead.cancel();
        self.network.detach(&self.inner);
        let lost = self.disk.crash(loss);
        lock(&self.inner.watching).clear();
        if let Some(raft) = self.inner.raft() {
            // Frees what it holds; its disk is another one's already.
            spawn(async move { drop(raft.shutdown().await) });
        }
        lost
    }

    /// Whether it has crashed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.inner.is_dead()
    }

    /// Commits a command and gives its outcome, as a node does for its callers.
    ///
    /// # Errors
    /// All but [`ProposeError::Unknown`] say that it was not committed.
    pub async fn propose(&self, actor: String, command: Command) -> Result<Outcome, ProposeError> {
        let stamped = Stamped { at: Time::default(), actor, command };
        let deadline = elapsed() + TIMEOUT;
        while elapsed() < deadline {
            if self.is_dead() {
                return Err(ProposeError::Stopped);
            }
            let answer = match self.leader() {
                Some(leader) if leader == self.id() => self.inner.commit(stamped.clone()).await,
                Some(leader) => {
                    let left = deadline.saturating_sub(elapsed());
                    let handle = |node: Arc<Inner>, stamped| -> futures::future::BoxFuture<'static, _> {
                        Box::pin(async move { Some(node.commit(stamped).await) })
                    };
                    match self.network.call(&self.inner, leader, left, stamped.clone(), handle).await {
                        Ok(answer) => answer,
                        Err(Failed::NotSent) => Answer::NotProposed,
                        Err(Failed::NoAnswer) => Answer::Unknown,
                    }
                }
                None => Answer::NotProposed,
            };
            match answer {
                // Who asked has died with the node.
                Answer::Outcome(_) if self.is_dead() => return Err(ProposeError::Unknown),
                Answer::Outcome(outcome) => return Ok(outcome),
                Answer::Unknown => return Err(ProposeError::Unknown),
                Answer::NotProposed => sleep(RETRY_AFTER).await,
            }
        }
        Err(ProposeError::NoLeader)
    }

    /// The state with everything in it that was committed when this was called.
    ///
    /// # Errors
    /// No leader confirmed in time, or the node has crashed.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        let deadline = elapsed() + TIMEOUT;
        loop {
            let left = deadline.saturating_sub(elapsed());
            if self.is_dead() {
                return Err(ReadError::Stopped);
            }
            if left.is_zero() {
                return Err(ReadError::NoLeader);
            }
            let confirmed = match self.leader() {
                Some(leader) if leader == self.id() => within(left, self.inner.confirm()).await.flatten(),
                Some(leader) => {
                    let handle = |node: Arc<Inner>, ()| -> futures::future::BoxFuture<'static, _> {
                        Box::pin(async move { node.confirm().await })
                    };
                    self.network.call(&self.inner, leader, left, (), handle).await.ok()
                }
                None => None,
            };
            let Some(index) = confirmed else {
                sleep(RETRY_AFTER).await;
                continue;
            };
            let mut progress = self.watch();
            let applied = progress.wait_for(|progress| progress.applied >= Some(index));
            let left = deadline.saturating_sub(elapsed());
            return match within(left, applied).await {
                Some(Ok(_)) => Ok(self.local()),
                Some(Err(_)) => Err(ReadError::Stopped),
                None => Err(ReadError::NoLeader),
            };
        }
    }

    /// What this node has applied so far.
    #[must_use]
    pub fn local(&self) -> Arc<State> {
        self.inner.view.state()
    }

    /// How far it is and who leads.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.inner.progress()
    }

    /// Wakes whenever something was applied, or the leader or the term has changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        let (sender, receiver) = watch::channel(self.inner.progress());
        if !self.is_dead() {
            lock(&self.inner.watching).push(sender);
        }
        receiver
    }

    /// The nodes it hears, when it leads.
    #[must_use]
    pub fn heard(&self) -> BTreeSet<NodeId> {
        let Some(raft) = self.inner.raft() else { return BTreeSet::new() };
        let patience = self.inner.heartbeat * HEARD_HEARTBEATS;
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let answered = metrics.heartbeat.iter().flatten();
        answered
            .filter(|(_, at)| at.as_ref().is_some_and(|at| at.into_inner().elapsed() < patience))
            .map(|(id, _)| NodeId(*id))
            .collect()
    }

    /// The voters, as this node knows them.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.inner.raft().map(|raft| raft.voter_ids().map(NodeId).collect()).unwrap_or_default()
    }

    /// Who takes part, as this node knows it.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let Some(raft) = self.inner.raft() else { return Membership::default() };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Membership::from(metrics.membership_config.membership())
    }

    /// How many entries `id` lacks, when this node leads and knows.
    #[must_use]
    pub fn lag(&self, id: NodeId) -> Option<u64> {
        let raft = self.inner.raft()?;
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?.get(&id.0).copied().flatten()?;
        Some(metrics.last_log_index.unwrap_or_default().saturating_sub(matched.index))
    }

    /// Makes these the voters; all members stay members. For the leader.
    ///
    /// # Errors
    /// It does not lead, or another change is under way, or it was not committed in time.
    pub async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
        self.change(ChangeMembers::ReplaceAllVoters(voters.iter().map(|id| id.0).collect()), true).await
    }

    /// Lets a member vote. For the leader.
    ///
    /// # Errors
    /// As [`Node::change_voters`].
    pub async fn promote(&self, id: NodeId) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds([id.0].into()), false).await
    }

    /// Takes a member out. For the leader.
    ///
    /// # Errors
    /// As [`Node::change_voters`].
    pub async fn take_out(&self, id: NodeId) -> Result<(), MembershipError> {
        let votes = self.voters().contains(&id);
        let ids = [id.0].into();
        let change = if votes { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.change(change, false).await
    }

    /// Finishes a change of the voters that another leader has left half way. For the leader.
    ///
    /// # Errors
    /// As [`Node::change_voters`].
    pub async fn finish_change(&self) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds([].into()), false).await
    }

    async fn change(&self, change: ChangeMembers<u64, Member>, retain: bool) -> Result<(), MembershipError> {
        let raft = self.inner.raft().ok_or_else(|| MembershipError("it is not running".into()))?;
        match within(TIMEOUT, raft.change_membership(change, retain)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(MembershipError(error.to_string())),
            None => Err(MembershipError("not committed in time".into())),
        }
    }

    /// Makes a node a member without a vote. For the leader.
    ///
    /// # Errors
    /// As [`Node::change_voters`].
    pub async fn add_learner(&self, id: NodeId) -> Result<(), MembershipError> {
        let raft = self.inner.raft().ok_or_else(|| MembershipError("it is not running".into()))?;
        match within(TIMEOUT, raft.add_learner(id.0, Member::default(), false)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(MembershipError(error.to_string())),
            None => Err(MembershipError("not committed in time".into())),
        }
    }

    /// Asks another node to take over the lead.
    pub async fn hand_over(&self, to: NodeId) {
        if let Some(raft) = self.inner.raft() {
            // It fails when this node is stopping, and then another one leads anyway.
            drop(raft.trigger().transfer_leader(to.0).await);
        }
    }

    fn leader(&self) -> Option<NodeId> {
        self.inner.progress().leader
    }
}

impl Inner {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// The raft core, unless the node has crashed.
    pub(super) fn raft(&self) -> Option<Raft> {
        self.raft.get().cloned()
    }

    fn progress(&self) -> Progress {
        *self.view.progress().borrow()
    }

    /// Commits a command as this leader's, stamped with its clock, which never goes back.
    async fn commit(&self, mut stamped: Stamped) -> Answer {
        let Some(raft) = self.raft().filter(|_| !self.is_dead()) else { return Answer::NotProposed };
        {
            let mut last = lock(&self.stamped);
            *last = (*last).max(self.view.state().now()).max((self.clock)());
            stamped.at = *last;
        }
        let batch = Batch::join(&[Bytes::from(stamped.encode())]);
        match within(TIMEOUT, raft.client_write(batch)).await {
            Some(Ok(mut response)) => response.data.0.pop().map_or(Answer::Unknown, Answer::Outcome),
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Answer::NotProposed,
            Some(Err(_)) | None => Answer::Unknown,
        }
    }

    /// Confirms that this node leads, and gives the index a read must wait for.
    async fn confirm(&self) -> Option<u64> {
        let raft = self.raft().filter(|_| !self.is_dead())?;
        if is_planted(Bug::StaleRead) {
            return Some(0);
        }
        let read = within(TIMEOUT, raft.get_read_log_id(ReadPolicy::ReadIndex)).await?;
        read.ok().map(|(read, _)| read.log_id().index)
    }
}

/// Passes on what the core says of itself.
async fn observe(node: Arc<Inner>, observer: Arc<dyn Observer>) {
    let Some(raft) = node.raft() else { return };
    let mut metrics = raft.metrics();
    let mut before = None;
    loop {
        let (running, seen) = {
            let metrics = metrics.borrow_and_update();
            let seen = Progress {
                applied: None,
                leader: metrics.current_leader.map(NodeId),
                term: metrics.current_term,
                is_leader: metrics.state == ServerState::Leader,
            };
            (metrics.running_state.clone(), seen)
        };
        if node.is_dead() {
            return;
        }
        let standing = Standing { term: seen.term, leads: seen.is_leader };
        if before != Some(standing) {
            observer.stands(node.id, standing);
            before = Some(standing);
        }
        node.view.progress().send_if_modified(|progress| {
            let new = Progress { applied: progress.applied, ..seen };
            let changed = *progress != new;
            *progress = new;
            changed
        });
        if let Err(error) = running {
            return observer.stopped(node.id, &error.to_string());
        }
        let ended = tokio::select! {
            biased;
            () = node.dead.cancelled() => return,
            changed = metrics.changed() => changed.is_err(),
        };
        if ended {
            if !node.is_dead() {
                observer.stopped(node.id, "raft has ended");
            }
            return;
        }
    }
}

/// Wakes those who watch, in the order in which they came.
async fn pass_on(node: Arc<Inner>) {
    let mut progress = node.view.progress().subscribe();
    loop {
        tokio::select! {
            biased;
            () = node.dead.cancelled() => return,
            changed = progress.changed() => if changed.is_err() { return },
        }
        let seen = *progress.borrow_and_update();
        lock(&node.watching).retain(|watcher| watcher.send(seen).is_ok());
    }
}
