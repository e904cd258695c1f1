//! Connections to the other nodes. They are made when first used, kept, and made again when they break.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::v1::{self, peer_client::PeerClient};
use bytes::Bytes;
use model::{ledger::LedgerEntry, name::NodeId};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use uuid::Uuid;

use super::{MESSAGE_BYTES, commits::Askers, tls::PeerTls, wire};
use crate::{
    admission::Description,
    error::StartError,
    machine::{SnapshotFile, SnapshotFolder, blocking},
    membership::Rejoined,
    raft::LogId,
    settings::Settings,
    steer::{Order, Unheeded},
};

/// HTTP/2 windows: several full appends may be under way.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A silent connection is asked for a sign of life this often.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Longest time for a peer to send a whole snapshot when asked for one.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// A call to a peer did not bring an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The request was never sent: there is no such peer, or no connection to it.
    #[error("peer cannot be reached")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request may have been acted on.
    #[error("peer did not answer")]
    NoAnswer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it answered cannot be kept on this node's disk.
    #[error("the answer cannot be written")]
    Disk(#[source] io::Error),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let mut source = status.source();
        while let Some(error) = source {
            if error.is::<tonic::ConnectError>() {
                return Self::NotSent(status.into());
            }
            source = error.source();
        }
        Self::NoAnswer(status.into())
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::NoAnswer(error.into())
    }
}

/// The other nodes: those of the membership once there is one, those of the settings before. Connections are made when
/// they are needed, and let go of when a node leaves.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    settings: Settings,
    tls: PeerTls,
    askers: Arc<Askers>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The members with their addresses; nothing before a membership was seen.
    members: Option<BTreeMap<NodeId, String>>,
    connected: BTreeMap<NodeId, Peer>,
}

/// One node: votes, appends and heartbeats travel beside snapshots and proposals, not behind them.
struct Peer {
    address: String,
    raft: Channel,
    bulk: Channel,
}

impl Peers {
    /// Knows the nodes of the settings; no connection is made yet.
    pub(crate) fn new(settings: &Settings, tls: &PeerTls) -> Result<Self, StartError> {
        for (node, address) in &settings.peers {
            endpoint(address, settings).map_err(|error| {
                StartError::Settings(format!("address `{address}` of `{node}` cannot be used: {error}"))
            })?;
        }
        let inner = Inner {
            settings: settings.clone(),
            tls: tls.clone(),
            askers: Arc::default(),
            held: Mutex::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Which of them wait for what this node commits.
    pub(super) fn askers(&self) -> Arc<Askers> {
        Arc::clone(&self.0.askers)
    }

    /// The other members' ids; before there is a membership, those of the settings.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        let held = self.held();
        let known = held.members.as_ref().unwrap_or(&self.0.settings.peers);
        known.keys().copied().filter(|node| *node != self.0.settings.node).collect()
    }

    /// The other members' ids and those of the settings: a node that was away for long may know members that are no
    /// more, and must still find one that is.
    pub(crate) fn everyone(&self) -> Vec<NodeId> {
        let mut ids: BTreeSet<NodeId> = self.ids().into_iter().collect();
        ids.extend(self.0.settings.peers.keys().filter(|node| **node != self.0.settings.node));
        ids.into_iter().collect()
    }

    /// Takes over a membership; none is no news.
    pub(crate) fn follow(&self, members: BTreeMap<NodeId, String>) {
        if members.is_empty() {
            return;
        }
        let mut held = self.held();
        held.connected.retain(|node, _| members.contains_key(node));
        held.members = Some(members);
    }

    /// A node that Raft is about to speak to; the membership that names it may not have been followed yet.
    pub(super) fn meet(&self, node: NodeId, address: &str) {
        let mut held = self.held();
        if let Some(members) = &mut held.members {
            members.entry(node).or_insert_with(|| address.to_owned());
        } else if !self.0.settings.peers.contains_key(&node) {
            held.members =
                Some(self.0.settings.peers.clone().into_iter().chain([(node, address.to_owned())]).collect());
        }
    }

    /// For votes, appends and heartbeats.
    pub(super) fn raft(&self, node: NodeId) -> Result<PeerClient<Channel>, CallError> {
        self.connected(node, |peer| client(&peer.raft))
    }

    /// For snapshots and proposals.
    pub(super) fn bulk(&self, node: NodeId) -> Result<PeerClient<Channel>, CallError> {
        self.connected(node, |peer| client(&peer.bulk))
    }

    fn connected<T>(&self, node: NodeId, with: impl FnOnce(&Peer) -> T) -> Result<T, CallError> {
        let Inner { settings, tls, .. } = &*self.0;
        let mut held = self.held();
        let Held { members, connected } = &mut *held;
        // What this node was told itself goes first: it may reach another by another way than the others do.
        let address = settings.peers.get(&node).or_else(|| members.as_ref()?.get(&node));
        let address = address
            .filter(|_| node != settings.node)
            .ok_or_else(|| CallError::NotSent(format!("`{node}` is not among the peers").into()))?;
        if connected.get(&node).is_none_or(|peer| peer.address != *address) {
            let endpoint = endpoint(address, settings).map_err(|error| CallError::NotSent(error.into()))?;
            let connect =
                || tls.connect_lazy(&endpoint, node).map_err(|error| CallError::NotSent(error.into()));
            let peer = Peer { address: address.clone(), raft: connect()?, bulk: connect()? };
            connected.insert(node, peer);
        }
        let peer = connected.get(&node).expect("it was connected above");
        Ok(with(peer))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands proposals to `leader`.
    pub(crate) async fn propose(
        &self,
        leader: NodeId,
        proposals: Vec<Bytes>,
        origins: Vec<String>,
        timeout: Duration,
    ) -> Result<Vec<wire::ForwardResult>, CallError> {
        let mut client = self.bulk(leader)?;
        let request = v1::PeerProposeRequest {
            proposals,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            origins,
        };
        let response = within(timeout, client.propose(request)).await?;
        Ok(response.results.into_iter().map(wire::read_answer).collect())
    }

    /// Asks `leader` for the log id a linearizable read must wait for; the error names the leader it knows.
    pub(crate) async fn read_index(
        &self,
        leader: NodeId,
        timeout: Duration,
    ) -> Result<Result<LogId, Option<NodeId>>, CallError> {
        use v1::peer_read_index_response::Result as Written;
        let mut client = self.raft(leader)?;
        let response = within(timeout, client.read_index(v1::PeerReadIndexRequest {})).await?;
        Ok(match response.result {
            Some(Written::Read(id)) => Ok(wire::read_id(id)),
            Some(Written::NotLeader(leader)) => Err(wire::read_not_leader(&leader)),
            None => Err(None),
        })
    }

    /// Asks `node` what it knows of itself and of the others.
    pub(crate) async fn describe(&self, node: NodeId, timeout: Duration) -> Result<Description, CallError> {
        let mut client = self.raft(node)?;
        let response =
            within(timeout, client.describe(v1::PeerDescribeRequest { node: self.0.settings.node.0 }))
                .await?;
        Ok(wire::read_description(response)?)
    }

    /// Asks `leader` to take `node` in again with a new storage.
    pub(crate) async fn rejoin(
        &self,
        leader: NodeId,
        node: NodeId,
        storage: Uuid,
        timeout: Duration,
    ) -> Result<Rejoined, CallError> {
        let mut client = self.bulk(leader)?;
        let request = v1::PeerRejoinRequest { node: node.0, storage: wire::write_storage(storage) };
        Ok(wire::read_rejoined(within(timeout, client.rejoin(request)).await?)?)
    }

    /// Gives an order to `node`; the inner error says why it is not carried out.
    pub(crate) async fn steer(
        &self,
        node: NodeId,
        order: Order,
        timeout: Duration,
    ) -> Result<Result<(), Unheeded>, CallError> {
        let mut client = self.bulk(node)?;
        let response = within(timeout, client.steer(wire::write_order(order))).await?;
        Ok(wire::read_heeded(response))
    }

    /// Fetches entries of the ledger above `after` from `node`; none when it has no more.
    pub(crate) async fn fetch_ledger(
        &self,
        node: NodeId,
        after: u64,
        timeout: Duration,
    ) -> Result<Vec<LedgerEntry>, CallError> {
        let mut client = self.bulk(node)?;
        let response = within(timeout, client.fetch_ledger(v1::PeerFetchLedgerRequest { after })).await?;
        Ok(wire::read_ledger(&response.entries)?)
    }

    /// Fetches a snapshot that covers at least `covers` from `node`. It is complete, but not yet adopted.
    pub(crate) async fn fetch_snapshot(
        &self,
        node: NodeId,
        covers: u64,
        folder: &Arc<SnapshotFolder>,
    ) -> Result<SnapshotFile, CallError> {
        let mut client = self.bulk(node)?;
        let fetch = async {
            let known = Arc::clone(folder);
            let held = blocking(move || known.part()).await.map_err(CallError::Disk)?;
            let request =
                v1::PeerFetchSnapshotRequest { covers, held_head: held.head, held_frames: held.frames };
            let mut parts = client.fetch_snapshot(request).await?.into_inner();
            let first =
                parts.message().await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let head = wire::read_head(first)?;
            let intake = folder.take_in(head.head, head.skip, |_| {});
            let came = async {
                while let Some(part) = parts.message().await? {
                    if !intake.push(wire::read_frame(part)?).await {
                        break;
                    }
                }
                Ok::<_, CallError>(())
            };
            if let Err(cut_short) = came.await {
                intake.leave().await.map_err(of_disk)?;
                return Err(cut_short);
            }
            intake.finish().await.map_err(of_disk)
        };
        tokio::time::timeout(FETCH_TIMEOUT, fetch)
            .await
            .map_err(|elapsed| CallError::NoAnswer(elapsed.into()))?
    }
}

/// What came cannot be kept; or it is not a snapshot, which is the peer's.
fn of_disk(error: io::Error) -> CallError {
    if error.kind() == io::ErrorKind::InvalidData { error.into() } else { CallError::Disk(error) }
}

/// The connector speaks TLS, which tonic does not see: for tonic the address is one of plain HTTP.
fn endpoint(address: &str, settings: &Settings) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(settings.timing.election_min)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

fn client(channel: &Channel) -> PeerClient<Channel> {
    PeerClient::new(channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

/// Puts a deadline on a call. What was not answered by then may still be acted on.
pub(super) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(response) => Ok(response?.into_inner()),
        Err(_) => Err(CallError::from(Status::new(Code::DeadlineExceeded, "deadline passed"))),
    }
}
