//! The handle: starts a node, and is all that the rest of the program sees of it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures::future::BoxFuture;
use model::{State, command::Command, ledger::LedgerEntry, name::NodeId, outcome::Outcome, time::Time};
use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    admission::Gate,
    clock::Clock,
    disk::{Layout, Lock},
    error::{ProposeError, ReadError, StartError, SteerError},
    fatal::Fatal,
    handover::Lead,
    known,
    ledger::Ledger,
    log::{DiskLog, EntryDigests},
    machine::{Machine, Persister, Position, SnapshotFolder, View, blocking},
    observe::Observing,
    parts::Parts,
    peer::{Network, PeerTls, Peers, serve},
    promise::{Promises, Stand},
    propose::Proposer,
    raft::Raft,
    read::Reader,
    restore::{Restored, in_folder},
    settings::{Rejoin, Settings},
    space::Space,
    status::{self, LeaderHears, Progress, RefusedPeer, Status},
    steer::{Order, Steering},
    store::Store,
};

/// How often it is looked whether the files were let go of.
const RELEASE_POLL: Duration = Duration::from_millis(5);
/// How long that may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long another node may take to take over the lead of one that stops.
const STEP_DOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A leader that was not heard for as long as this many of the longest elections take is named no more.
const SILENT_ELECTIONS: u32 = 3;

/// A running node. Clones are handles to the same node.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    settings: Settings,
    tls: PeerTls,
    gate: Arc<Gate>,
    raft: Raft,
    view: Arc<View>,
    ledger: Arc<Ledger>,
    snapshots: Arc<SnapshotFolder>,
    clock: Arc<Clock>,
    space: Arc<Space>,
    heard: Arc<LeaderHears>,
    proposer: Proposer,
    reader: Reader,
    steering: Steering,
    fatal: Arc<Fatal>,
    shutdown: CancellationToken,
    log_released: Box<dyn Fn() -> bool + Send + Sync>,
    log_digests: Box<dyn Fn() -> io::Result<EntryDigests> + Send + Sync>,
    ending: Mutex<Option<Ending>>,
}

/// What is waited for when the node stops.
struct Ending {
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    writer: thread::JoinHandle<()>,
    lock: Lock,
    lead: Lead,
}

impl Cluster {
    /// Starts a node from what its data folder holds, and serves the peer port. It returns before there is a leader:
    /// proposals and reads wait for one.
    ///
    /// The certificate that the node shows is issued under the first root key, and those issued under any of them are
    /// believed. The node stops when `shutdown` is cancelled; wait for that with [`Cluster::stop`].
    ///
    /// # Errors
    /// Settings that cannot work, or stored data that cannot be used and could not be repaired.
    // Boxed, so that it is compiled here, and not into every program and test that starts a node.
    pub fn start<'keys>(
        settings: Settings,
        peer_listener: TcpListener,
        root_keys: &'keys [&'keys [u8; 32]],
        shutdown: CancellationToken,
    ) -> BoxFuture<'keys, Result<Self, StartError>> {
        Box::pin(Self::begin(settings, peer_listener, root_keys, shutdown))
    }

    async fn begin(
        settings: Settings,
        peer_listener: TcpListener,
        root_keys: &[&[u8; 32]],
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let config = Arc::new(settings.raft_config()?);
        let clock = Arc::new(Clock::of_machine());
        let tls = certificates(&settings, root_keys, Arc::clone(&clock))?;
        let layout = Layout::make(settings.data.clone()).map_err(in_folder(&settings.data))?;
        let lock = layout.lock().map_err(in_folder(&settings.data))?;
        let space = Space::open(layout.root()).map_err(in_folder(&settings.data))?;
        let peers = Peers::new(&settings, &tls)?;
        peers.follow(known::read(&settings.data));
        let Restored { log, store, state, position, snapshots } =
            Restored::open(&layout, &peers, settings.rejoin, &space).await?.fit_for(&settings.check)?;
        let may_renew = settings.rejoin == Rejoin::Automatic && !peers.everyone().is_empty();
        let gate = Arc::new(Gate::new(identity(&layout, may_renew).map_err(in_folder(&settings.data))?));
        let promises = Arc::new(Promises::open(layout.promises()));
        let stand = stand(&log, &position, &snapshots);

        let fatal = Arc::new(Fatal::new());
        let (ledger, persister, writer) = persist(&layout, store, (&state, &position), &space, &fatal)?;
        let (machine, view) = Machine::new(state, position, persister, Arc::clone(&snapshots));
        let network = network(&settings, &peers, &promises);
        let raft = Raft::build(settings.node.0, config, network, log.clone(), machine).await;
        let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
        let parts = Parts {
            layout,
            raft: raft.clone(),
            log,
            peers,
            tls,
            gate,
            promises,
            view,
            ledger,
            space,
            clock,
            changing: Arc::default(),
            heard: Arc::default(),
            fatal,
            shutdown: shutdown.child_token(),
            settings,
        };
        let (proposer, collector) = Proposer::new(parts.shutdown.clone());
        let serving = serve(parts.service(Arc::clone(&snapshots), proposer.clone()), peer_listener);
        run_without_standing(&raft);
        let reader = Reader::start(parts.confirmer());
        let (steering, lead) = (parts.steering(), parts.lead());
        parts.start_tasks(stand, Arc::clone(&snapshots), collector);
        watch_over(&parts);
        let Parts { settings, tls, gate, log, view, ledger, clock, space, heard, fatal, shutdown, .. } =
            parts;
        let ending = Mutex::new(Some(Ending { serving, writer, lock, lead }));
        Ok(Self(Arc::new(Inner {
            settings,
            tls,
            gate,
            raft,
            view,
            ledger,
            snapshots,
            clock,
            space,
            heard,
            proposer,
            reader,
            steering,
            fatal,
            shutdown,
            log_released: Box::new(log.released()),
            log_digests: Box::new(log.digests()),
            ending,
        })))
    }

    /// Commits a command and gives its outcome. Any node takes it; the leader stamps and commits it. When this returns,
    /// [`Cluster::local`] shows what it has led to, unless this node was cut off meanwhile.
    ///
    /// # Errors
    /// See [`ProposeError`]: all but [`ProposeError::Unknown`] say that it was not committed.
    pub async fn propose(&self, actor: String, command: Command) -> Result<Outcome, ProposeError> {
        let deadline = Instant::now() + self.0.settings.timeout;
        let (outcome, index) = self.0.proposer.propose(actor, command, self.0.settings.timeout).await?;
        self.0.view.reached(index, deadline).await;
        Ok(outcome)
    }

    /// The state with everything in it that was committed when this was called, on whichever node.
    ///
    /// # Errors
    /// No leader confirmed in time, or the node is stopping.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        self.0.reader.read(self.0.settings.timeout).await
    }

    /// What this node has applied so far. It may lag behind the cluster.
    #[must_use]
    pub fn local(&self) -> Arc<State> {
        self.0.view.state()
    }

    /// Wakes whenever something was applied, or the leader or the term has changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.0.view.progress().subscribe()
    }

    /// What time it is, as far as this node can tell: its wall clock, unless that has jumped or the majority of the nodes
    /// says otherwise.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// What this node knows about itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let index = |id: &Option<crate::raft::LogId>| id.map(|id| id.index);
        let (state, applied) = self.0.view.state_at();
        Status {
            node: self.0.settings.node,
            storage: self.0.gate.storage().to_string(),
            admission: self.0.gate.admission(),
            leader: metrics.current_leader.map(NodeId).filter(|leader| self.hears(*leader)),
            is_leader: metrics.state == ServerState::Leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            committed: index(&metrics.local_committed),
            applied,
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            snapshot_frames: self.0.snapshots.frames_taken(),
            digest: state.digest(),
            voters: metrics.membership_config.voter_ids().map(NodeId).collect(),
            changing: metrics.membership_config.membership().get_joint_config().len() > 1,
            members: metrics
                .membership_config
                .nodes()
                .map(|(id, member)| (NodeId(*id), member.address.clone()))
                .collect(),
            storages: metrics
                .membership_config
                .nodes()
                .map(|(id, member)| (NodeId(*id), member.storage.to_string()))
                .collect(),
            leader_hears: self.0.heard.said(),
            peers: status::peers(&metrics, self.0.settings.timing.heartbeat),
            room: self.0.space.room(),
            full: self.0.space.is_full_here(),
            clock_off: self.0.clock.off(),
            certificate_expires: self.0.tls.expires(),
            fatal: self.0.fatal.reason(),
        }
    }

    /// Entries of the ledger above `after`, in order, about so many bytes of them; there are gaps where no node has more.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub async fn ledger(&self, after: u64, bytes: usize) -> io::Result<Vec<LedgerEntry>> {
        let ledger = Arc::clone(&self.0.ledger);
        blocking(move || ledger.read(after, bytes)).await
    }

    /// Shows a certificate under the first of these root keys from now on, and believes those under any of them.
    ///
    /// # Errors
    /// There is none, or no authority can be derived; nothing has changed then.
    pub fn set_root_keys(&self, root_keys: &[&[u8; 32]]) -> Result<(), StartError> {
        self.0.tls.set_root_keys(root_keys).map_err(|error| StartError::Keys(error.into()))
    }

    /// Who was not let in on the peer port, from now on.
    #[must_use]
    pub fn refusals(&self) -> broadcast::Receiver<RefusedPeer> {
        self.0.tls.refusals()
    }

    /// Whether the leader that Raft names is more than a memory.
    fn hears(&self, leader: NodeId) -> bool {
        let patience = self.0.settings.timing.election_max * SILENT_ELECTIONS;
        leader == self.0.settings.node || self.0.gate.heartbeat.is_within(patience)
    }

    /// Term and SHA-256 of each entry that the log of this node holds, by index: what two nodes hold of what is committed
    /// is the same. It reads all of the log, and gives nothing once the node has stopped.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log_digests(&self) -> io::Result<BTreeMap<u64, (u64, [u8; 32])>> {
        (self.0.log_digests)()
    }

    /// Hands the lead over to `to`, whichever node leads, and waits until it leads.
    ///
    /// # Errors
    /// See [`SteerError`]; the lead stays where it is, or is on its way.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), SteerError> {
        self.0.steering.transfer_leader(to).await
    }

    /// Lets `node`, which does not vote and whose settings want an operator to say so, come back as a learner.
    ///
    /// # Errors
    /// See [`SteerError`].
    pub async fn permit_rejoin(&self, node: NodeId) -> Result<(), SteerError> {
        self.0.steering.permit_rejoin(node).await
    }

    /// Lets the learner `node` vote, and waits for a short time until it has caught up.
    ///
    /// # Errors
    /// See [`SteerError`]; one that was refused because it lags is let in by itself later.
    pub async fn promote(&self, node: NodeId) -> Result<(), SteerError> {
        self.0.steering.promote(node).await
    }

    /// Whether `node` could be taken out now: those that are left must be able to go on.
    ///
    /// # Errors
    /// See [`SteerError`]; a refusal says what is lacking.
    pub async fn may_remove(&self, node: NodeId) -> Result<(), SteerError> {
        self.0.steering.lead(Order::MayRemove(node)).await
    }

    /// Takes `node` out of the membership, and returns when that is committed. When it leads, it hands over first.
    ///
    /// # Errors
    /// See [`SteerError`].
    pub async fn remove(&self, node: NodeId) -> Result<(), SteerError> {
        self.0.steering.lead(Order::Remove(node)).await
    }

    /// Makes a snapshot now; [`Status::snapshot`] shows when it is there.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn snapshot(&self) -> Result<(), ReadError> {
        self.0.raft.trigger().snapshot().await.map_err(|_| ReadError::Stopped)
    }

    /// Waits until this node must stop, and says why: its disk failed, or it met a command it does not know. The
    /// process must then exit; nothing it holds in memory may be trusted to become durable.
    pub async fn fatal(&self) -> String {
        self.0.fatal.raised().await
    }

    /// Hands the lead over, when this node leads and another could; the others then need not wait until they miss it.
    /// Call it before [`Cluster::stop`].
    pub async fn step_down(&self) {
        let lead = self.ending().as_ref().map(|ending| ending.lead.clone());
        if let Some(lead) = lead {
            lead.step_down(STEP_DOWN_TIMEOUT).await;
        }
    }

    /// Stops the node and waits until it has let go of its files and its port.
    pub async fn stop(&self) {
        self.0.shutdown.cancel();
        end(&self.0.raft).await;
        let ending = self.ending().take();
        let Some(Ending { serving, writer, lock, .. }) = ending else { return };
        if let Ok(Err(error)) = serving.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the peer port was not closed cleanly");
        }
        let released = || writer.is_finished() && (self.0.log_released)();
        let wait = async {
            while !released() {
                tokio::time::sleep(RELEASE_POLL).await;
            }
        };
        if tokio::time::timeout(RELEASE_TIMEOUT, wait).await.is_err() {
            tracing::warn!("some files of the stopped node are still held");
        }
        drop(lock);
    }

    fn ending(&self) -> MutexGuard<'_, Option<Ending>> {
        self.0.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the peer port shows and believes, by the time that this node believes.
fn certificates(
    settings: &Settings,
    root_keys: &[&[u8; 32]],
    clock: Arc<Clock>,
) -> Result<PeerTls, StartError> {
    let time = tls::Clock::new(move || Duration::from_millis(clock.now().0));
    PeerTls::new(settings.node, root_keys, settings.certificate_lifetime, time)
}

/// Lets Raft run; it does not stand for election until the others say that it may.
fn run_without_standing(raft: &Raft) {
    raft.runtime_config().elect(false);
    raft.run();
}

/// What Raft reaches the other nodes by.
fn network(settings: &Settings, peers: &Peers, promises: &Arc<Promises>) -> Network {
    Network::new(settings.node, peers.clone(), Arc::clone(promises), settings.timing.election_max)
}

/// Starts what passes on what Raft says, and what ends it with the node.
fn watch_over(parts: &Parts) {
    tokio::spawn(Observing::of(parts).run());
    tokio::spawn(end_with(parts.shutdown.clone(), parts.raft.clone()));
}

/// Opens the ledger, and starts what writes it and, behind it, the state.
fn persist(
    layout: &Layout,
    store: Store,
    (state, position): (&State, &Position),
    space: &Arc<Space>,
    fatal: &Arc<Fatal>,
) -> Result<(Arc<Ledger>, Persister, thread::JoinHandle<()>), StartError> {
    let ledger = Ledger::open(layout.ledger(), &layout.damaged().join("ledger"), state.ledger_head());
    let ledger = Arc::new(ledger.map_err(in_folder(&layout.ledger()))?);
    let (kept, space, fatal) = (Arc::clone(&ledger), Arc::clone(space), Arc::clone(fatal));
    let started = Persister::start(store, position.clone(), kept, space, fatal);
    let (persister, writer) = started.map_err(in_folder(&layout.root()))?;
    Ok((ledger, persister, writer))
}

/// The identity of this storage. A damaged one says nothing about what the storage was: where the node may take part
/// as a new storage, it is given another identity, and comes back as a learner.
fn identity(layout: &Layout, may_renew: bool) -> io::Result<Uuid> {
    layout.identity().or_else(|error| {
        if error.kind() != io::ErrorKind::InvalidData || !may_renew {
            return Err(error);
        }
        tracing::error!(%error, "the identity of the storage is damaged: it is given another");
        layout.renew_identity()
    })
}

/// How far the storage goes: a snapshot or the state may be ahead of a log that was cleaned behind them.
fn stand(log: &DiskLog, position: &Position, snapshots: &SnapshotFolder) -> Stand {
    let Stand { term, last } = log.durable();
    let snapshot = snapshots.current().and_then(|snapshot| snapshot.head().position.applied);
    Stand { term, last: last.max(position.applied).max(snapshot) }
}

async fn end_with(shutdown: CancellationToken, raft: Raft) {
    shutdown.cancelled().await;
    end(&raft).await;
}

async fn end(raft: &Raft) {
    if let Err(error) = raft.shutdown().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "raft did not end cleanly");
    }
}
