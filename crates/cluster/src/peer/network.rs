//! How openraft reaches the other nodes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream, stream::BoxStream};
use model::name::NodeId;
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use uuid::Uuid;

use super::{
    STORAGE,
    client::{CallError, Peers, within},
    commits, wire,
};
use crate::{
    machine::SnapshotFile,
    promise::Promises,
    raft::{LogId, Member, Snapshot, Types, Vote},
};

/// Longest time for a node to look at what has arrived of a snapshot.
const HOLD_TIMEOUT: Duration = Duration::from_secs(30);
/// Frames of a snapshot read ahead of the network.
const FRAMES_AHEAD: usize = 2;

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Network {
    node: NodeId,
    peers: Peers,
    promises: Arc<Promises>,
    patience: Duration,
}

impl Network {
    /// A peer that owes an answer to an append for `patience` is taken to be away.
    pub(crate) const fn new(node: NodeId, peers: Peers, promises: Arc<Promises>, patience: Duration) -> Self {
        Self { node, peers, promises, patience }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        self.peers.meet(NodeId(target), &member.address);
        Client { network: self.clone(), target: NodeId(target), storage: member.storage }
    }
}

/// Reaches one node.
pub(crate) struct Client {
    network: Network,
    target: NodeId,
    /// The storage that the membership knows the node with: it answers for no other.
    storage: Uuid,
}

impl Client {
    /// Says which storage of the node the request is meant for.
    fn addressed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let storage = self.storage.to_string();
        let storage = MetadataValue::try_from(storage).expect("a UUID is ASCII text");
        request.metadata_mut().insert(STORAGE, storage);
        request
    }

    /// Notes what a follower promises. One that has forgotten what it acknowledged to this leader is not heard: it
    /// must not take part, and Raft takes for granted that a log which was acknowledged stays.
    fn judge(
        &self,
        term: u64,
        result: Result<StreamAppendResult<Types>, RPCError<Types>>,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        match &result {
            Ok(Ok(last @ Some(_))) => self.note(term, *last),
            Ok(Err(StreamAppendError::Conflict(at)))
                if self.network.promises.covers(self.storage, term, at.index) =>
            {
                tracing::error!(peer = %self.target, at = at.index, "the peer has lost entries that it acknowledged");
                return Err(Unreachable::from_string("peer has lost entries that it acknowledged").into());
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
        result
    }

    fn note(&self, term: u64, last: Option<LogId>) {
        self.network.promises.note(self.target, self.storage, term, last);
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<Types> {
        Timeout { action, id: self.network.node.0, target: self.target.0, timeout }
    }

    async fn ask_for_vote(
        &self,
        request: &VoteRequest<Types>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let mut client = self.network.peers.raft(self.target).map_err(unreachable)?;
        let call = client.vote(self.addressed(wire::write_vote(request, pre_vote)));
        let response = within(option.soft_ttl(), call).await.map_err(unreachable)?;
        let voted = wire::read_voted(response).map_err(|error| Unreachable::new(&error))?;
        if voted.vote_granted && !pre_vote {
            self.note(request.vote.leader_id.term, None);
        }
        Ok(voted)
    }
}

/// Everything is `Unreachable`, which makes openraft back off; a `NetworkError` is tried again at once.
fn unreachable(error: CallError) -> Unreachable<Types> {
    tracing::debug!(error = &error as &dyn std::error::Error, "peer is unreachable");
    Unreachable::new(&error)
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut answers = self.stream_append(Box::pin(stream::once(async { request })), option).await?;
        let answer =
            answers.next().await.unwrap_or_else(|| Err(Unreachable::from_string("no answer").into()))?;
        Ok(answer.into())
    }

    /// The first request is awaited before the peer is called: openraft waits out its back-off while it makes a
    /// request, so a peer that is away would otherwise be called again and again without a pause.
    fn stream_append<'s, Requests>(
        &'s mut self,
        requests: Requests,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        Requests: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let patience = self.network.patience.max(option.hard_ttl());
            let owed = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&owed);
            let (askers, target) = (self.network.peers.askers(), self.target);
            let at_once = move || askers.waits(target);
            let mut requests = Box::pin(commits::with_entries(requests, at_once));
            let Some(first) = requests.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, _>);
            };
            let term = first.vote.leader_id.term;
            let requests = stream::iter([first]).chain(requests).map(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                wire::write_append(&request)
            });
            let mut client = self.network.peers.raft(self.target).map_err(unreachable)?;
            let answers =
                within(patience, client.append(self.addressed(requests))).await.map_err(unreachable)?;
            let late = self.timeout(RPCTypes::AppendEntries, patience);
            let client = &*self;
            let results = stream::unfold(Some((answers, owed)), move |open| {
                let late = late.clone();
                async move {
                    let (mut answers, owed) = open?;
                    let result = next_answer(&mut answers, &owed, late).await?;
                    let result = client.judge(term, result);
                    let goes_on = matches!(result, Ok(Ok(_)));
                    Some((result, goes_on.then_some((answers, owed))))
                }
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(&request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(&request, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut client = self.network.peers.bulk(self.target).map_err(unreachable)?;
        let head = snapshot.snapshot.head_bytes().map_err(|error| Unreachable::new(&error))?;
        let held = client.hold_snapshot(self.addressed(api::v1::PeerHoldSnapshotRequest { head }));
        let held = within(option.hard_ttl().min(HOLD_TIMEOUT), held).await.map_err(unreachable)?;
        let parts = read_ahead(snapshot.snapshot, Some(vote), held.frames);
        let send =
            within(option.hard_ttl(), client.install_snapshot(self.addressed(ReceiverStream::new(parts))));
        let response = tokio::select! {
            closed = cancel => return Err(closed.into()),
            response = send => response.map_err(unreachable)?,
        };
        let vote = wire::read_ballot(response.ballot).map_err(|error| Unreachable::new(&error))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let mut client = self.network.peers.raft(self.target).map_err(unreachable)?;
        let call = client.transfer_leader(self.addressed(wire::write_transfer(&request)));
        let response = within(option.soft_ttl(), call).await.map_err(unreachable)?;
        Ok(wire::read_transferred(response).map_err(|error| Unreachable::new(&error))?)
    }
}

/// The next answer of a follower, or an error when it owes one for too long. A quiet stream on which nothing was
/// asked may stay quiet.
async fn next_answer(
    answers: &mut tonic::Streaming<api::v1::PeerAppendResponse>,
    owed: &AtomicU64,
    late: Timeout<Types>,
) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
    let mut owed_before = 0;
    loop {
        match tokio::time::timeout(late.timeout, answers.message()).await {
            Ok(Ok(Some(answer))) => {
                owed.fetch_sub(1, Ordering::Relaxed);
                let result = wire::read_appended(answer);
                return Some(result.map_err(|error| Unreachable::new(&error).into()));
            }
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(Err(unreachable(status.into()).into())),
            Err(_) if owed_before > 0 => return Some(Err(late.into())),
            Err(_) => owed_before = owed.load(Ordering::Relaxed),
        }
    }
}

/// Reads a snapshot file on a thread of its own, but for the frames that the receiver holds, and checks every frame; on
/// damage it sends no more, and the receiver finds the snapshot incomplete.
pub(super) fn read_ahead(
    file: SnapshotFile,
    vote: Option<Vote>,
    held: u64,
) -> mpsc::Receiver<api::v1::PeerSnapshotPart> {
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut frames = file.frames()?;
            let Some(head) = frames.next() else { return Ok(()) };
            let mut part = wire::write_head(vote.as_ref(), head?.body, held);
            frames.pass(held)?;
            while sender.blocking_send(part).is_ok() {
                let Some(frame) = frames.next() else { break };
                part = wire::write_frame(&frame?);
            }
            Ok(())
        };
        if let Err(error) = read() {
            tracing::error!(%error, "the newest snapshot cannot be read and cannot be sent");
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::atomic::AtomicBool};

    use model::name::NodeId;
    use openraft::network::RPCOption;

    use super::*;
    use crate::{peer::tls::PeerTls, settings::Settings};

    #[tokio::test]
    async fn a_peer_that_is_away_is_not_called_before_there_is_a_request() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let peers = BTreeMap::from([(NodeId(1), "127.0.0.1:1".to_owned()), (NodeId(2), closed)]);
        let settings = Settings::new(NodeId(1), peers, "unused".into());
        let clock = tls::Clock::new(|| std::time::Duration::from_secs(1_800_000_000));
        let tls = PeerTls::new(NodeId(1), &[&[7; 32]], settings.certificate_lifetime, clock).unwrap();
        let peers = Peers::new(&settings, &tls).unwrap();
        let promises = Arc::new(Promises::open("unused".into()));
        let mut network = Network::new(NodeId(1), peers, promises, settings.timing.election_max);
        let mut client = network.new_client(2, &Member::default()).await;

        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let requests = stream::once(async move {
            flag.store(true, Ordering::Relaxed);
            AppendEntriesRequest::<Types> {
                vote: Vote::new_committed(1, 1),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            }
        });
        let answer =
            client.stream_append(Box::pin(requests), RPCOption::new(settings.timing.heartbeat)).await;
        assert!(matches!(answer.map(drop), Err(RPCError::Unreachable(_))));
        assert!(asked.load(Ordering::Relaxed), "the request, and with it the back-off, comes first");
    }
}
