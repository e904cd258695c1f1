//! One place in the cluster: a disk, a clock, and whichever incarnation of the node runs there, with its reconcilers.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cluster::{
    Progress, Retention, Settings, SteerError, Timing,
    sim::{Disk, Loss, Network, Node, time},
};
use futures::future::BoxFuture;
use model::{
    State,
    command::{AnnounceNode, Command},
    name::NodeId,
    outcome::Outcome,
    time::Time,
};
use server::{
    consensus::{Consensus, Standing, Unagreed},
    reconcile::{self, Context},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    chance::{Chance, derive},
    check::{Checker, Invariant},
    clock::{Skew, Virtual},
    hands::SimHands,
    target::Target,
    trace::{Trace, lock},
};

/// Short, so that followers that were away are sent snapshots.
const RETENTION: Retention = Retention { snapshot_every: 80, kept_entries: 30, kept_bytes: u64::MAX };
/// Longer than a node's own, for a simulation spends most of its time on heartbeats.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(400),
    election_min: Duration::from_millis(1_200),
    election_max: Duration::from_millis(2_000),
};
/// Wait before a node that cannot announce itself tries again.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(200);
/// Most steps of one node at one time.
const CONCURRENT_STEPS: usize = 4;

/// What all places share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) network: Network,
    pub(crate) target: Target,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
}

/// One place in the cluster.
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) skew: Skew,
    settings: Settings,
    around: Surroundings,
    running: Mutex<Option<(Node, CancellationToken)>>,
    has_run: AtomicBool,
}

impl Member {
    pub(crate) fn new(id: NodeId, all: &BTreeSet<NodeId>, seed: u64, around: Surroundings) -> Self {
        let peers = all.iter().map(|id| (*id, format!("{id}:1"))).collect();
        let mut settings = Settings::new(id, peers, PathBuf::new());
        settings.retention = RETENTION;
        settings.timing = TIMING;
        let disk = Disk::new(derive(seed, 100 + id.0));
        Self {
            id,
            disk,
            skew: Skew::default(),
            settings,
            around,
            running: Mutex::default(),
            has_run: AtomicBool::new(false),
        }
    }

    /// The node, while it runs.
    pub(crate) fn node(&self) -> Option<Node> {
        lock(&self.running).as_ref().map(|(node, _)| node.clone())
    }

    /// Starts the node from what its disk holds.
    pub(crate) async fn start(&self) {
        if self.node().is_some() {
            return;
        }
        self.has_run.store(true, Ordering::Relaxed);
        let Surroundings { network, target, checker, trace } = &self.around;
        trace.line(format_args!("{} starts", self.id));
        checker.started(self.id);
        let skew = self.skew.clone();
        let clock = Arc::new(move || skew.now());
        let started = Node::start(&self.settings, &self.disk, network, clock, checker.observer()).await;
        let node = match started {
            Ok(node) => node,
            Err(error) => return checker.fail(Invariant::NodesGoOn, format!("{}: {error}", self.id)),
        };
        let shutdown = CancellationToken::new();
        *lock(&self.running) = Some((node.clone(), shutdown.clone()));
        let context = Context {
            node: self.id,
            consensus: Arc::new(Voice { node: node.clone(), skew: self.skew.clone() }),
            hands: Arc::new(SimHands { node: node.clone(), target: target.clone() }),
            runtime: Arc::new(Virtual(self.skew.clone())),
            concurrent_steps: CONCURRENT_STEPS,
        };
        time::spawn(reconcile::leader::run(context.clone(), shutdown.clone()));
        time::spawn(reconcile::worker::run(context, shutdown));
        time::spawn(announce(node));
    }

    /// Whether the node was ever started.
    pub(crate) fn has_run(&self) -> bool {
        self.has_run.load(Ordering::Relaxed)
    }

    /// The node crashes, if it runs.
    pub(crate) fn crash(&self, loss: Loss) {
        let Some((node, shutdown)) = lock(&self.running).take() else { return };
        let lost = node.crash(loss);
        shutdown.cancel();
        self.around.trace.line(format_args!("{} crashes, {loss:?}, {lost} writes lost", self.id));
    }
}

/// Tells the cluster that the node is there, until it knows, or says that the node was turned out.
async fn announce(node: Node) {
    let command =
        AnnounceNode { id: node.id(), client_address: format!("{}:2", node.id()), version: "1".to_owned() };
    while !node.is_dead() {
        if node.propose(node.id().to_string(), command.clone().into()).await.is_ok() {
            return;
        }
        time::sleep(ANNOUNCE_AGAIN).await;
    }
}

/// One that a seed chooses among those that run.
pub(crate) fn any_node(members: &[Member], chance: &mut Chance) -> Option<Node> {
    let running: Vec<Node> = members.iter().filter_map(Member::node).collect();
    chance.one_of(&running).cloned()
}

/// A simulated node's part in the cluster.
struct Voice {
    node: Node,
    skew: Skew,
}

impl Consensus for Voice {
    fn propose(&self, actor: String, command: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>> {
        Box::pin(async move { Ok(self.node.propose(actor, command).await?) })
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>> {
        Box::pin(async move { Ok(self.node.read().await?) })
    }

    fn local(&self) -> Arc<State> {
        self.node.local()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.node.watch()
    }

    fn standing(&self) -> Standing {
        let Progress { applied, leader, term, is_leader } = self.node.progress();
        let heard = self.node.heard().into_iter().filter(|id| *id != self.node.id()).collect();
        let applied = applied.unwrap_or_default();
        Standing { node: self.node.id(), leader, is_leader, heard, term, applied, ..Standing::default() }
    }

    fn transfer_leader(&self, _: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        unreachable!("the faults change the leader, and no reconciler does")
    }

    fn ledger(&self, _: u64, _: usize) -> BoxFuture<'_, std::io::Result<Vec<model::ledger::LedgerEntry>>> {
        unreachable!("no reconciler reads the ledger")
    }

    fn permit_rejoin(&self, _: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        unreachable!("the faults change the membership, and no reconciler does")
    }

    fn now(&self) -> Time {
        self.local().now().max(self.skew.now())
    }
}
