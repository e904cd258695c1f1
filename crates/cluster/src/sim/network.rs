//! The network of a simulation: every message takes a while, and may be lost, late, repeated or cut off, as the plan
//! of its link says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use model::name::NodeId;
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::sync::oneshot;

use super::{
    disk::{MemorySnapshot, lock},
    node::Inner,
    time::{sleep, spawn, within},
    types::{Member, SimTypes},
};
use crate::raft::{Snapshot, Vote};

/// How messages from one node to another fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Nothing arrives.
    pub cut: bool,
    /// So many of a thousand messages are lost.
    pub lost: u32,
    /// So many of a thousand requests arrive twice.
    pub repeated: u32,
    /// Shortest time a message takes.
    pub least: Duration,
    /// Longest time a message takes.
    pub most: Duration,
}

impl Default for Link {
    /// A local network on a good day.
    fn default() -> Self {
        let (least, most) = (Duration::from_micros(200), Duration::from_millis(2));
        Self { cut: false, lost: 0, repeated: 0, least, most }
    }
}

/// What has become of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Handed to the network.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the link was cut.
    pub cut: u64,
    /// Delivered a second time.
    pub repeated: u64,
}

struct Switch {
    rng: SmallRng,
    nodes: BTreeMap<NodeId, Arc<Inner>>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    traffic: Traffic,
}

/// Joins the nodes. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Switch>>);

/// What is to become of one message.
enum Fate {
    Lost,
    Arrives(Duration),
}

/// There was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The request did not arrive.
    NotSent,
    /// Nobody knows whether it did.
    NoAnswer,
}

impl Network {
    /// A network on a good day. What it does by chance is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let (nodes, links) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Switch { rng, nodes, links, traffic: Traffic::default() })))
    }

    /// Sets how messages from one node to another fare from now on.
    pub fn set(&self, from: NodeId, to: NodeId, link: Link) {
        lock(&self.0).links.insert((from, to), link);
    }

    /// How messages from one node to another fare.
    #[must_use]
    pub fn link(&self, from: NodeId, to: NodeId) -> Link {
        lock(&self.0).links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Every link is as on a good day again.
    pub fn heal(&self) {
        lock(&self.0).links.clear();
    }

    /// What has become of messages so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        lock(&self.0).traffic
    }

    pub(super) fn attach(&self, node: &Arc<Inner>) {
        lock(&self.0).nodes.insert(node.id, Arc::clone(node));
    }

    /// Nothing reaches this incarnation of a node any more.
    pub(super) fn detach(&self, node: &Inner) {
        let mut switch = lock(&self.0);
        if switch.nodes.get(&node.id).is_some_and(|held| std::ptr::eq(&**held, node)) {
            switch.nodes.remove(&node.id);
        }
    }

    fn node(&self, id: NodeId) -> Option<Arc<Inner>> {
        lock(&self.0).nodes.get(&id).map(Arc::clone)
    }

    fn fate(&self, from: NodeId, to: NodeId) -> Fate {
        let mut switch = lock(&self.0);
        let link = switch.links.get(&(from, to)).copied().unwrap_or_default();
        switch.traffic.sent += 1;
        if link.cut {
            switch.traffic.cut += 1;
            return Fate::Lost;
        }
        if switch.rng.random_range(0..1_000) < link.lost {
            switch.traffic.lost += 1;
            return Fate::Lost;
        }
        Fate::Arrives(switch.rng.random_range(link.least..=link.most))
    }

    fn repeats(&self, from: NodeId, to: NodeId) -> Option<Duration> {
        let mut switch = lock(&self.0);
        let link = switch.links.get(&(from, to)).copied().unwrap_or_default();
        if link.repeated == 0 || switch.rng.random_range(0..1_000) >= link.repeated {
            return None;
        }
        switch.traffic.repeated += 1;
        // A copy may come long after the original.
        let late = switch.rng.random_range(1..=20);
        Some(link.most * late)
    }

    /// Sends a request of the raft core, which may arrive twice.
    async fn send<Q, A>(
        &self,
        from: &Inner,
        to: NodeId,
        patience: Duration,
        request: Q,
        handle: fn(Arc<Inner>, Q) -> BoxFuture<'static, Option<A>>,
    ) -> Result<A, Failed>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
    {
        let sender = from.id;
        if let Some(late) = self.repeats(sender, to).filter(|_| !from.is_dead()) {
            let (network, request) = (self.clone(), request.clone());
            spawn(async move {
                sleep(late).await;
                if let (Some(node), Fate::Arrives(_)) = (network.node(to), network.fate(sender, to)) {
                    drop(handle(node, request).await);
                }
            });
        }
        self.call(from, to, patience, request, handle).await
    }

    /// Sends a request, lets it be handled and brings the answer back. It is handled even when the caller has gone, and
    /// at most once: within one call a connection repeats nothing.
    pub(super) async fn call<Q, A>(
        &self,
        from: &Inner,
        to: NodeId,
        patience: Duration,
        request: Q,
        handle: fn(Arc<Inner>, Q) -> BoxFuture<'static, Option<A>>,
    ) -> Result<A, Failed>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        if from.is_dead() {
            return Err(Failed::NotSent);
        }
        let network = self.clone();
        let sender = from.id;
        let (answer, wait) = oneshot::channel();
        spawn(async move {
            let Fate::Arrives(delay) = network.fate(sender, to) else {
                sleep(patience).await;
                return drop(answer.send(Err(Failed::NoAnswer)));
            };
            sleep(delay).await;
            let Some(node) = network.node(to) else {
                return drop(answer.send(Err(Failed::NotSent)));
            };
            let Some(answered) = handle(node, request).await else {
                return drop(answer.send(Err(Failed::NoAnswer)));
            };
            let Fate::Arrives(delay) = network.fate(to, sender) else {
                sleep(patience).await;
                return drop(answer.send(Err(Failed::NoAnswer)));
            };
            sleep(delay).await;
            drop(answer.send(Ok(answered)));
        });
        match within(patience, wait).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) | None => Err(Failed::NoAnswer),
        }
    }
}

/// Makes the clients of one node.
pub(super) struct Clients {
    pub(super) network: Network,
    pub(super) node: Arc<std::sync::OnceLock<Arc<Inner>>>,
}

impl RaftNetworkFactory<SimTypes> for Clients {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &Member) -> Client {
        Client { network: self.network.clone(), node: Arc::clone(&self.node), target: NodeId(target) }
    }
}

/// Reaches one node.
pub(super) struct Client {
    network: Network,
    node: Arc<std::sync::OnceLock<Arc<Inner>>>,
    target: NodeId,
}

impl Client {
    async fn call<Q, A>(
        &self,
        action: RPCTypes,
        patience: Duration,
        request: Q,
        handle: fn(Arc<Inner>, Q) -> BoxFuture<'static, Option<A>>,
    ) -> Result<A, RPCError<SimTypes>>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
    {
        let Some(node) = self.node.get() else {
            return Err(Unreachable::from_string("the node is starting").into());
        };
        match self.network.send(node, self.target, patience, request, handle).await {
            Ok(answer) => Ok(answer),
            Err(Failed::NotSent) => Err(Unreachable::from_string("nobody listens").into()),
            Err(Failed::NoAnswer) => {
                Err(Timeout { action, id: node.id.0, target: self.target.0, timeout: patience }.into())
            }
        }
    }
}

impl RaftNetworkV2<SimTypes> for Client {
    type SnapshotData = MemorySnapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<SimTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<SimTypes>, RPCError<SimTypes>> {
        self.call(RPCTypes::AppendEntries, option.soft_ttl(), request, |node, request| {
            Box::pin(async move { node.raft()?.append_entries(request).await.ok() })
        })
        .await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<SimTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<SimTypes>, RPCError<SimTypes>> {
        self.call(RPCTypes::Vote, option.soft_ttl(), request, |node, request| {
            Box::pin(async move { node.raft()?.vote(request).await.ok() })
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<SimTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<SimTypes>, RPCError<SimTypes>> {
        self.call(RPCTypes::Vote, option.soft_ttl(), request, |node, request| {
            Box::pin(async move { node.raft()?.pre_vote(request).await.ok() })
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<MemorySnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<SimTypes>, StreamingError<SimTypes>> {
        let send = self.call(
            RPCTypes::InstallSnapshot,
            option.hard_ttl(),
            (vote, snapshot),
            |node, (vote, snapshot)| {
                Box::pin(async move { node.raft()?.install_full_snapshot(vote, snapshot).await.ok() })
            },
        );
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<SimTypes>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<SimTypes>, RPCError<SimTypes>> {
        self.call(RPCTypes::TransferLeader, option.soft_ttl(), request, |node, request| {
            Box::pin(async move { node.raft()?.handle_transfer_leader(request).await.ok() })
        })
        .await
    }
}
