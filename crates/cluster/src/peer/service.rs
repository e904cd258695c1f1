//! What a node answers on the peer port.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use api::v1::{
    self,
    peer_server::{Peer, PeerServer},
};
use futures::{Stream, StreamExt as _, future::join_all};
use model::name::NodeId;
use openraft::{RaftMetrics, ReadPolicy, async_runtime::WatchReceiver as _};
use rustls_pki_types::CertificateDer;
use tls::Refusal;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{MESSAGE_BYTES, Peers, STORAGE, network::read_ahead, tls::PeerTls, wire};
use crate::{
    admission::{Closed, Description, Gate, Roll},
    clock::Clock,
    disk::is_full,
    fatal::{self, Fatal},
    ledger::Ledger,
    log::DiskLog,
    machine::{RestoreError, SnapshotFile, SnapshotFolder, View, blocking},
    membership::Membership,
    promise::Promises,
    propose::Proposer,
    raft::{Entry, Payload, Raft, Snapshot, Types},
    space::Space,
    status,
    steer::Steering,
};

/// Entries of the ledger in one answer, in bytes.
const LEDGER_BYTES: usize = 512 * 1024;
/// Streams one peer may have open at a time.
const STREAMS: u32 = 1_024;
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(5);
/// An idle TCP connection can keep a graceful shutdown waiting for ever: it is given this long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Longest name of a trace; a longer one is none.
const ORIGIN_BYTES: usize = 64;

type Certificates = Option<Arc<Vec<CertificateDer<'static>>>>;

/// The peer service of a node.
pub(crate) struct Service {
    pub(crate) node: NodeId,
    pub(crate) peers: Peers,
    pub(crate) tls: PeerTls,
    pub(crate) gate: Arc<Gate>,
    pub(crate) promises: Arc<Promises>,
    pub(crate) membership: Membership,
    pub(crate) steering: Steering,
    pub(crate) log: DiskLog,
    pub(crate) view: Arc<View>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) space: Arc<Space>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) raft: Raft,
    pub(crate) snapshots: Arc<SnapshotFolder>,
    pub(crate) proposer: Proposer,
    pub(crate) heartbeat: Duration,
    /// Longest time a forwarded call may take.
    pub(crate) timeout: Duration,
    pub(crate) shutdown: CancellationToken,
}

/// Serves the peer port until `shutdown`.
pub(crate) fn serve(
    service: Service,
    listener: TcpListener,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let shutdown = service.shutdown.clone();
    service.tls.heed(&service.view.state());
    let age = service.tls.connection_age();
    let incoming = service.tls.incoming(listener, shutdown.clone());
    let peer = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let router = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_connection_age(age)
        .add_service(peer);
    tokio::spawn(async move {
        let ended = shutdown.clone().cancelled_owned();
        let mut serving = std::pin::pin!(router.serve_with_incoming_shutdown(incoming, ended));
        tokio::select! {
            result = &mut serving => return result,
            () = shutdown.cancelled() => {}
        }
        tokio::time::timeout(SHUTDOWN_GRACE, serving).await.unwrap_or(Ok(()))
    })
}

impl Service {
    /// Whoever calls must be a node of the cluster: a certificate outlives the removal of its node. What Raft says is taken
    /// from every node that was not removed, for who lags does not know the newest members yet.
    fn is_let_in<T>(&self, request: &Request<T>, may_be_unknown: bool) -> Result<NodeId, Status> {
        let certificates = request.peer_certs();
        let caller = self.tls.caller(certificates.as_ref().map(|chain| chain.as_slice()));
        let members = Arc::clone(&self.raft.metrics().borrow_watched().membership_config);
        let is_member = |node: NodeId| members.membership().get_node(&node.0).is_some();
        let state = self.view.state();
        let refusal = match caller {
            // One that is being removed takes part until Raft has let go of it.
            Some(node) if is_member(node) => return Ok(node),
            Some(node) if state.removal_of(node).is_some() => {
                Refusal { code: "node_removed", message: format!("`{node}` was removed from the cluster") }
            }
            Some(node)
                if may_be_unknown
                    || state.admission_of(node).is_some()
                    || self.membership.addresses.contains_key(&node) =>
            {
                return Ok(node);
            }
            Some(node) => {
                Refusal { code: "node_unknown", message: format!("`{node}` was never let into the cluster") }
            }
            None => Refusal {
                code: "tls_wrong_name",
                message: "a call came with the certificate of no node".to_owned(),
            },
        };
        self.tls.refuse(request.remote_addr(), &refusal);
        Err(Status::permission_denied(refusal.message))
    }

    /// Raft's messages are answered by the storage that they are meant for, and by no node that must not take part.
    fn is_open<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.is_let_in(request, true)?;
        let storage = request.metadata().get(STORAGE).and_then(|value| value.to_str().ok()?.parse().ok());
        self.gate.check(storage).map_err(|closed| match closed {
            Closed::NotAdmitted => Status::unavailable(closed.to_string()),
            Closed::OtherStorage => Status::failed_precondition(closed.to_string()),
        })
    }

    fn description(&self, initialised: bool, asks: NodeId) -> Description {
        let storage = self.gate.storage();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let mut promises = self.promises.all();
        // Only what is durable is promised, and only a node that takes part promises.
        if self.gate.check(Some(storage)).is_ok() {
            promises.insert(storage, self.log.durable().promise(self.node));
        }
        Description {
            node: self.node,
            initialised,
            storage,
            membership: Roll::from(&*metrics.membership_config),
            promises,
            digests: self.view.digests(),
            full: self.space.is_full_here(),
            time: self.clock.now(),
            clock_off: self.clock.off().is_some(),
            removed: self.view.state().removal_of(asks).map(|removal| removal.reason.clone()),
            hears: status::peers(&metrics, self.heartbeat),
        }
    }

    fn snapshot_that_covers(&self, index: u64) -> Option<SnapshotFile> {
        let reaches =
            |file: &SnapshotFile| file.head().position.applied.is_some_and(|(_, last)| last >= index);
        self.snapshots.current().filter(reaches)
    }
}

/// What came of a snapshot could not be kept. A disk that fails ends this node, as it does for every other write.
fn end_if_disk_failed(fatal: &Fatal, error: &RestoreError) {
    let RestoreError::Io(error) = error else { return };
    // A file that is gone was displaced by another snapshot.
    let is_gone = error.kind() == io::ErrorKind::NotFound;
    if error.raw_os_error().is_some() && !is_full(error) && !is_gone {
        fatal.raise(format!("a snapshot cannot be written: {error}; {}", fatal::DISK));
    } else if is_full(error) {
        tracing::warn!(%error, "a snapshot finds no room: it is taken when there is some");
    }
}

/// A node speaks for itself alone.
fn speaks_for(tls: &PeerTls, certificates: &Certificates, node: u64) -> Result<(), Status> {
    if tls.speaks_for(certificates.as_ref().map(|chain| chain.as_slice()), NodeId(node)) {
        Ok(())
    } else {
        Err(Status::permission_denied(format!("certificate is not that of `{}`", NodeId(node))))
    }
}

fn malformed(error: io::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::aborted(format!("node is stopping: {error}"))
}

fn failed(error: io::Error) -> Status {
    Status::data_loss(error.to_string())
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<v1::PeerAppendResponse, Status>> + Send>>;
    type FetchSnapshotStream = Pin<Box<dyn Stream<Item = Result<v1::PeerSnapshotPart, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<v1::PeerAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.is_open(&request)?;
        let certificates = request.peer_certs();
        let (space, tls, gate) = (Arc::clone(&self.space), self.tls.clone(), Arc::clone(&self.gate));
        let mut known = None;
        // The first request that cannot be read, is not the sender's to make, or has no room, ends the stream.
        let requests = tokio_stream::StreamExt::map_while(request.into_inner(), move |request| {
            let request = wire::read_append(request.ok()?).ok()?;
            // What makes a leader one is taken for as long as it can be written.
            let commands = |entry: &Entry| matches!(entry.payload, Payload::Normal(_));
            if request.entries.iter().any(commands) && space.is_scarce() {
                return None;
            }
            let leader = request.vote.leader_id.voted_for;
            if known != Some(leader) {
                speaks_for(&tls, &certificates, leader).ok()?;
                known = Some(leader);
            }
            gate.heartbeat.note();
            Some(request)
        });
        let requests = requests.take_until(self.shutdown.clone().cancelled_owned());
        let results =
            self.raft.stream_append(requests).map(|result| result.map(wire::write_appended).map_err(stopped));
        Ok(Response::new(Box::pin(results)))
    }

    async fn vote(
        &self,
        request: Request<v1::PeerVoteRequest>,
    ) -> Result<Response<v1::PeerVoteResponse>, Status> {
        self.is_open(&request)?;
        let certificates = request.peer_certs();
        let message = request.into_inner();
        let pre_vote = message.pre_vote;
        let vote = wire::read_vote(message).map_err(malformed)?;
        speaks_for(&self.tls, &certificates, vote.vote.leader_id.voted_for)?;
        let response = if pre_vote { self.raft.pre_vote(vote).await } else { self.raft.vote(vote).await };
        Ok(Response::new(wire::write_voted(&response.map_err(stopped)?)))
    }

    async fn hold_snapshot(
        &self,
        request: Request<v1::PeerHoldSnapshotRequest>,
    ) -> Result<Response<v1::PeerHoldSnapshotResponse>, Status> {
        self.is_open(&request)?;
        let head = request.into_inner().head;
        let snapshots = Arc::clone(&self.snapshots);
        let part = blocking(move || snapshots.part()).await.map_err(failed)?;
        let frames = if part.head == head { part.frames } else { 0 };
        Ok(Response::new(v1::PeerHoldSnapshotResponse { frames }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::PeerSnapshotPart>>,
    ) -> Result<Response<v1::PeerSnapshotResponse>, Status> {
        self.is_open(&request)?;
        let certificates = request.peer_certs();
        let mut parts = request.into_inner();
        let first = parts.message().await?.ok_or_else(|| Status::invalid_argument("snapshot has no head"))?;
        let head = wire::read_head(first).map_err(malformed)?;
        let vote = wire::read_ballot(head.ballot).map_err(malformed)?;
        speaks_for(&self.tls, &certificates, vote.leader_id.voted_for)?;
        let fatal = Arc::clone(&self.fatal);
        let intake =
            self.snapshots.take_in(head.head, head.skip, move |error| end_if_disk_failed(&fatal, error));
        let came = async {
            while let Some(part) = parts.message().await? {
                if !intake.push(wire::read_frame(part).map_err(malformed)?).await {
                    break;
                }
            }
            Ok::<_, Status>(())
        };
        if let Err(cut_short) = came.await {
            // What has come stays.
            intake.leave().await.map_err(failed)?;
            return Err(cut_short);
        }
        // Looked at in full before Raft hears of it: what is incomplete or damaged is the sender's to repair.
        let snapshot = intake.finish().await.map_err(failed)?;
        let received = snapshot.clone();
        let snapshot = Snapshot { meta: snapshot.meta(), snapshot };
        let response = self.raft.install_full_snapshot(vote, snapshot).await;
        received.remove();
        let response = response.map_err(stopped)?;
        Ok(Response::new(v1::PeerSnapshotResponse { ballot: Some(wire::write_ballot(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::PeerTransferLeaderRequest>,
    ) -> Result<Response<v1::PeerTransferLeaderResponse>, Status> {
        self.is_open(&request)?;
        let certificates = request.peer_certs();
        let transfer = wire::read_transfer(request.into_inner()).map_err(malformed)?;
        speaks_for(&self.tls, &certificates, transfer.from_leader().leader_id.voted_for)?;
        let response = self.raft.handle_transfer_leader(transfer).await.map_err(stopped)?;
        Ok(Response::new(wire::write_transferred(response)))
    }

    async fn propose(
        &self,
        request: Request<v1::PeerProposeRequest>,
    ) -> Result<Response<v1::PeerProposeResponse>, Status> {
        let asker = self.is_let_in(&request, false)?;
        self.peers.askers().note(asker);
        let message = request.into_inner();
        let timeout = self.timeout.min(Duration::from_millis(message.timeout_ms));
        let mut origins = message.origins.into_iter();
        let answers = message.proposals.iter().map(|bytes| {
            let origin = origins.next().filter(|origin| origin.len() <= ORIGIN_BYTES).unwrap_or_default();
            self.proposer.forwarded(bytes, origin, timeout)
        });
        let results = join_all(answers).await.into_iter().map(wire::write_answer).collect();
        Ok(Response::new(v1::PeerProposeResponse { results }))
    }

    async fn read_index(
        &self,
        request: Request<v1::PeerReadIndexRequest>,
    ) -> Result<Response<v1::PeerReadIndexResponse>, Status> {
        let asker = self.is_let_in(&request, false)?;
        self.peers.askers().note(asker);
        use v1::peer_read_index_response::Result as Written;
        let result = match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Written::Read(wire::write_id(*read.log_id())),
            Err(error) => Written::NotLeader(wire::write_not_leader(
                error.forward_to_leader().and_then(|forward| forward.leader_id).map(NodeId),
            )),
        };
        Ok(Response::new(v1::PeerReadIndexResponse { result: Some(result) }))
    }

    async fn describe(
        &self,
        request: Request<v1::PeerDescribeRequest>,
    ) -> Result<Response<v1::PeerDescribeResponse>, Status> {
        let initialised = self.raft.is_initialized().await.map_err(stopped)?;
        let asks = NodeId(request.into_inner().node);
        Ok(Response::new(wire::write_description(self.description(initialised, asks))))
    }

    async fn rejoin(
        &self,
        request: Request<v1::PeerRejoinRequest>,
    ) -> Result<Response<v1::PeerRejoinResponse>, Status> {
        self.is_let_in(&request, false)?;
        let certificates = request.peer_certs();
        let message = request.into_inner();
        speaks_for(&self.tls, &certificates, message.node)?;
        let storage = wire::read_storage(&message.storage).map_err(malformed)?;
        let rejoined = self.membership.rejoin(NodeId(message.node), storage).await;
        Ok(Response::new(wire::write_rejoined(rejoined)))
    }

    async fn steer(
        &self,
        request: Request<v1::PeerSteerRequest>,
    ) -> Result<Response<v1::PeerSteerResponse>, Status> {
        self.is_let_in(&request, false)?;
        let order = wire::read_order(&request.into_inner()).map_err(malformed)?;
        Ok(Response::new(wire::write_heeded(self.steering.here(order).await)))
    }

    async fn fetch_ledger(
        &self,
        request: Request<v1::PeerFetchLedgerRequest>,
    ) -> Result<Response<v1::PeerFetchLedgerResponse>, Status> {
        self.is_let_in(&request, false)?;
        let after = request.into_inner().after;
        let ledger = Arc::clone(&self.ledger);
        let entries = blocking(move || ledger.read(after, LEDGER_BYTES)).await.map_err(failed)?;
        Ok(Response::new(v1::PeerFetchLedgerResponse { entries: wire::write_ledger(&entries) }))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<v1::PeerFetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        self.is_let_in(&request, false)?;
        let v1::PeerFetchSnapshotRequest { covers, held_head, held_frames } = request.into_inner();
        let newest = match self.snapshot_that_covers(covers) {
            Some(newest) => Some(newest),
            None => {
                self.raft.trigger().snapshot().await.map_err(stopped)?;
                let made =
                    |metrics: &RaftMetrics<Types>| metrics.snapshot.is_some_and(|id| id.index >= covers);
                // When it is not made in time, the answer below says so.
                drop(self.raft.wait(Some(self.timeout)).metrics(made, "a snapshot for a peer").await);
                self.snapshot_that_covers(covers)
            }
        };
        let newest = newest.ok_or_else(|| Status::failed_precondition("no snapshot reaches so far"))?;
        let is_held = newest.head_bytes().map_err(failed)? == held_head;
        let parts = read_ahead(newest, None, if is_held { held_frames } else { 0 });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts).map(Ok))))
    }
}
