//! Between the wire's messages and openraft's types.

use std::{io, time::Duration};

use api::v1;
use bytes::Bytes;
use model::{ledger::LedgerEntry, name::NodeId, outcome::Outcome, time::Time};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use uuid::Uuid;

use crate::{
    admission::{Description, Registered, Roll},
    machine::Frame,
    membership::Rejoined,
    promise::Promise,
    propose::Answer,
    raft::{Entry, LogId, Packed, Types, Vote, damaged, entry, log_id, term_and_index},
    status::PeerStatus,
    steer::{Order, Unheeded},
};

/// What a forwarded proposal came back as.
pub(crate) type ForwardResult = Answer;

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("message of a peer lacks `{what}`"))
}

pub(super) fn write_id(id: LogId) -> v1::PeerLogId {
    let (term, index) = term_and_index(id);
    v1::PeerLogId { term, index }
}

pub(super) fn read_id(id: v1::PeerLogId) -> LogId {
    log_id(id.term, id.index)
}

pub(super) fn write_ballot(vote: &Vote) -> v1::PeerBallot {
    v1::PeerBallot { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(super) fn read_ballot(ballot: Option<v1::PeerBallot>) -> io::Result<Vote> {
    let v1::PeerBallot { term, node, committed } = ballot.ok_or_else(|| missing("ballot"))?;
    Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

fn write_entry(entry: &Entry) -> v1::PeerEntry {
    let (tag, body) = Packed::pack(&entry.payload).into_parts();
    v1::PeerEntry { id: Some(write_id(entry.log_id)), tag: tag.into(), body }
}

fn read_entry(message: v1::PeerEntry) -> io::Result<Entry> {
    let id = read_id(message.id.ok_or_else(|| missing("id"))?);
    let tag = u8::try_from(message.tag).map_err(damaged)?;
    Ok(entry(id, Packed::from_parts(tag, message.body).unpack()?))
}

pub(super) fn write_append(request: &AppendEntriesRequest<Types>) -> v1::PeerAppendRequest {
    v1::PeerAppendRequest {
        ballot: Some(write_ballot(&request.vote)),
        previous: request.prev_log_id.map(write_id),
        entries: request.entries.iter().map(write_entry).collect(),
        committed: request.leader_commit.map(write_id),
    }
}

pub(super) fn read_append(message: v1::PeerAppendRequest) -> io::Result<AppendEntriesRequest<Types>> {
    Ok(AppendEntriesRequest {
        vote: read_ballot(message.ballot)?,
        prev_log_id: message.previous.map(read_id),
        entries: message.entries.into_iter().map(read_entry).collect::<io::Result<_>>()?,
        leader_commit: message.committed.map(read_id),
    })
}

pub(super) fn write_appended(result: StreamAppendResult<Types>) -> v1::PeerAppendResponse {
    use v1::peer_append_response::Result as Written;
    let result = match result {
        Ok(last) => Written::Matched(v1::PeerAppendMatched { last: last.map(write_id) }),
        Err(StreamAppendError::Conflict(id)) => Written::Conflict(write_id(id)),
        Err(StreamAppendError::HigherVote(vote)) => Written::Higher(write_ballot(&vote)),
    };
    v1::PeerAppendResponse { result: Some(result) }
}

pub(super) fn read_appended(message: v1::PeerAppendResponse) -> io::Result<StreamAppendResult<Types>> {
    use v1::peer_append_response::Result as Written;
    Ok(match message.result.ok_or_else(|| missing("result"))? {
        Written::Matched(matched) => Ok(matched.last.map(read_id)),
        Written::Conflict(id) => Err(StreamAppendError::Conflict(read_id(id))),
        Written::Higher(ballot) => Err(StreamAppendError::HigherVote(read_ballot(Some(ballot))?)),
    })
}

pub(super) fn write_vote(request: &VoteRequest<Types>, pre_vote: bool) -> v1::PeerVoteRequest {
    v1::PeerVoteRequest {
        ballot: Some(write_ballot(&request.vote)),
        last: request.last_log_id.map(write_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(super) fn read_vote(message: v1::PeerVoteRequest) -> io::Result<VoteRequest<Types>> {
    let mut request = VoteRequest::new(read_ballot(message.ballot)?, message.last.map(read_id));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(super) fn write_voted(response: &VoteResponse<Types>) -> v1::PeerVoteResponse {
    v1::PeerVoteResponse {
        ballot: Some(write_ballot(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(write_id),
    }
}

pub(super) fn read_voted(message: v1::PeerVoteResponse) -> io::Result<VoteResponse<Types>> {
    Ok(VoteResponse::new(read_ballot(message.ballot)?, message.last.map(read_id), message.granted))
}

pub(super) fn write_transfer(request: &TransferLeaderRequest<Types>) -> v1::PeerTransferLeaderRequest {
    v1::PeerTransferLeaderRequest {
        from: Some(write_ballot(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().copied().map(write_id),
    }
}

pub(super) fn read_transfer(
    message: v1::PeerTransferLeaderRequest,
) -> io::Result<TransferLeaderRequest<Types>> {
    Ok(TransferLeaderRequest::new(read_ballot(message.from)?, message.to, message.last.map(read_id)))
}

pub(super) fn write_transferred(response: TransferLeaderResponse<Types>) -> v1::PeerTransferLeaderResponse {
    use v1::peer_transfer_leader_response::Result as Written;
    let result = match response {
        Ok(()) => Written::Accepted(v1::PeerTransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Written::VoteChanged(v1::PeerTransferVoteChanged {
                expected: Some(write_ballot(&expected)),
                actual: Some(write_ballot(&actual)),
            })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Written::LogNotFlushed(v1::PeerTransferLogNotFlushed {
                expected: expected.map(write_id),
                actual: actual.map(write_id),
            })
        }
    };
    v1::PeerTransferLeaderResponse { result: Some(result) }
}

pub(super) fn read_transferred(
    message: v1::PeerTransferLeaderResponse,
) -> io::Result<TransferLeaderResponse<Types>> {
    use v1::peer_transfer_leader_response::Result as Written;
    Ok(match message.result.ok_or_else(|| missing("result"))? {
        Written::Accepted(_) => Ok(()),
        Written::VoteChanged(votes) => Err(TransferLeaderError::VoteChanged {
            expected: read_ballot(votes.expected)?,
            actual: read_ballot(votes.actual)?,
        }),
        Written::LogNotFlushed(ids) => Err(TransferLeaderError::LogNotFlushed {
            expected: ids.expected.map(read_id),
            actual: ids.actual.map(read_id),
        }),
    })
}

pub(super) fn write_frame(frame: &Frame) -> v1::PeerSnapshotPart {
    let frame = v1::PeerSnapshotFrame { body: frame.body.clone(), checksum: frame.checksum.to_vec().into() };
    v1::PeerSnapshotPart { part: Some(v1::peer_snapshot_part::Part::Frame(frame)) }
}

pub(super) fn write_head(ballot: Option<&Vote>, head: Bytes, skip: u64) -> v1::PeerSnapshotPart {
    let head = v1::PeerSnapshotHead { ballot: ballot.map(write_ballot), head, skip };
    v1::PeerSnapshotPart { part: Some(v1::peer_snapshot_part::Part::Head(head)) }
}

pub(super) fn read_head(message: v1::PeerSnapshotPart) -> io::Result<v1::PeerSnapshotHead> {
    match message.part {
        Some(v1::peer_snapshot_part::Part::Head(head)) => Ok(head),
        Some(v1::peer_snapshot_part::Part::Frame(_)) | None => Err(missing("head")),
    }
}

pub(super) fn read_frame(message: v1::PeerSnapshotPart) -> io::Result<Frame> {
    match message.part {
        Some(v1::peer_snapshot_part::Part::Frame(frame)) => Frame::check(frame.body, &frame.checksum),
        Some(v1::peer_snapshot_part::Part::Head(_)) | None => Err(missing("frame")),
    }
}

pub(super) fn write_storage(storage: Uuid) -> Vec<u8> {
    storage.as_bytes().to_vec()
}

pub(super) fn read_storage(bytes: &[u8]) -> io::Result<Uuid> {
    Uuid::from_slice(bytes).map_err(damaged)
}

pub(super) fn write_description(description: Description) -> v1::PeerDescribeResponse {
    let Description {
        node,
        initialised,
        storage,
        membership,
        promises,
        digests,
        full,
        time,
        clock_off,
        removed,
        hears,
    } = description;
    let promises = promises.into_iter().map(|(storage, promise)| v1::PeerPromise {
        node: promise.node,
        storage: write_storage(storage),
        term: promise.term,
        last: promise.last.map(|(term, index)| v1::PeerLogId { term, index }),
    });
    let digests =
        digests.into_iter().map(|(index, digest)| v1::PeerDigest { index, digest: digest.to_vec() });
    v1::PeerDescribeResponse {
        node: node.0,
        initialised,
        storage: write_storage(storage),
        membership: membership.at.map(|(term, index)| v1::PeerLogId { term, index }),
        members: membership.members.into_iter().map(write_member).collect(),
        promises: promises.collect(),
        digests: digests.collect(),
        full,
        time_ms: time.0,
        clock_off,
        removed,
        hears: hears.into_iter().map(write_peer_status).collect(),
    }
}

fn write_peer_status((node, peer): (NodeId, PeerStatus)) -> v1::PeerHeard {
    let silent_ms = peer.silent_for.map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
    v1::PeerHeard { node: node.0, reachable: peer.reachable, matched: peer.matched, silent_ms }
}

fn read_peer_status(message: v1::PeerHeard) -> (NodeId, PeerStatus) {
    let silent_for = message.silent_ms.map(Duration::from_millis);
    let status = PeerStatus { reachable: message.reachable, matched: message.matched, silent_for };
    (NodeId(message.node), status)
}

fn write_member((node, member): (NodeId, Registered)) -> v1::PeerMember {
    v1::PeerMember { node: node.0, storage: write_storage(member.storage), voter: member.voter }
}

pub(super) fn read_description(message: v1::PeerDescribeResponse) -> io::Result<Description> {
    let members = message.members.into_iter().map(|member| {
        let registered = Registered { storage: read_storage(&member.storage)?, voter: member.voter };
        Ok((NodeId(member.node), registered))
    });
    let promises = message.promises.into_iter().map(|promise| {
        let last = promise.last.map(|last| (last.term, last.index));
        Ok((read_storage(&promise.storage)?, Promise { node: promise.node, term: promise.term, last }))
    });
    let digests = message.digests.into_iter().map(|sample| {
        let digest = <[u8; 32]>::try_from(sample.digest).map_err(|_| missing("digest"))?;
        Ok((sample.index, digest))
    });
    Ok(Description {
        node: NodeId(message.node),
        initialised: message.initialised,
        storage: read_storage(&message.storage)?,
        membership: Roll {
            at: message.membership.map(|id| (id.term, id.index)),
            members: members.collect::<io::Result<_>>()?,
        },
        promises: promises.collect::<io::Result<_>>()?,
        digests: digests.collect::<io::Result<_>>()?,
        full: message.full,
        time: Time(message.time_ms),
        clock_off: message.clock_off,
        removed: message.removed,
        hears: message.hears.into_iter().map(read_peer_status).collect(),
    })
}

pub(super) fn write_order(order: Order) -> v1::PeerSteerRequest {
    use v1::peer_steer_request::Order as Written;
    let order = match order {
        Order::TransferLeader(to) => Written::TransferLeaderTo(to.0),
        Order::PermitRejoin => Written::PermitRejoin(v1::PeerPermitRejoin {}),
        Order::Promote(node) => Written::Promote(node.0),
        Order::MayRemove(node) => Written::MayRemove(node.0),
        Order::Remove(node) => Written::Remove(node.0),
    };
    v1::PeerSteerRequest { order: Some(order) }
}

pub(super) fn read_order(message: &v1::PeerSteerRequest) -> io::Result<Order> {
    use v1::peer_steer_request::Order as Written;
    Ok(match message.order {
        Some(Written::TransferLeaderTo(to)) => Order::TransferLeader(NodeId(to)),
        Some(Written::PermitRejoin(v1::PeerPermitRejoin {})) => Order::PermitRejoin,
        Some(Written::Promote(node)) => Order::Promote(NodeId(node)),
        Some(Written::MayRemove(node)) => Order::MayRemove(NodeId(node)),
        Some(Written::Remove(node)) => Order::Remove(NodeId(node)),
        None => return Err(missing("order")),
    })
}

pub(super) fn write_heeded(heeded: Result<(), Unheeded>) -> v1::PeerSteerResponse {
    match heeded {
        Ok(()) => v1::PeerSteerResponse::default(),
        Err(Unheeded::NotLeader(leader)) => {
            v1::PeerSteerResponse { refused: None, not_leader: Some(write_not_leader(leader)) }
        }
        Err(Unheeded::Refused(reason)) => v1::PeerSteerResponse { refused: Some(reason), not_leader: None },
    }
}

pub(super) fn read_heeded(message: v1::PeerSteerResponse) -> Result<(), Unheeded> {
    match (message.not_leader, message.refused) {
        (Some(leader), _) => Err(Unheeded::NotLeader(read_not_leader(&leader))),
        (None, Some(reason)) => Err(Unheeded::Refused(reason)),
        (None, None) => Ok(()),
    }
}

pub(super) fn write_rejoined(rejoined: Rejoined) -> v1::PeerRejoinResponse {
    use v1::peer_rejoin_response::Result as Written;
    let result = match rejoined {
        Rejoined::Voter => Written::Voter(v1::PeerRejoinVoter {}),
        Rejoined::Learner { lag, stays } => Written::Learner(v1::PeerRejoinLearner { lag, stays }),
        Rejoined::NotLeader(leader) => Written::NotLeader(write_not_leader(leader)),
        Rejoined::Refused(reason) => Written::Refused(reason),
    };
    v1::PeerRejoinResponse { result: Some(result) }
}

pub(super) fn read_rejoined(message: v1::PeerRejoinResponse) -> io::Result<Rejoined> {
    use v1::peer_rejoin_response::Result as Written;
    Ok(match message.result.ok_or_else(|| missing("result"))? {
        Written::Voter(_) => Rejoined::Voter,
        Written::Learner(learner) => Rejoined::Learner { lag: learner.lag, stays: learner.stays },
        Written::NotLeader(leader) => Rejoined::NotLeader(read_not_leader(&leader)),
        Written::Refused(reason) => Rejoined::Refused(reason),
    })
}

pub(super) fn write_not_leader(leader: Option<NodeId>) -> v1::PeerNotLeader {
    v1::PeerNotLeader { leader: leader.map(|leader| leader.0) }
}

pub(super) fn read_not_leader(message: &v1::PeerNotLeader) -> Option<NodeId> {
    message.leader.map(NodeId)
}

pub(super) fn write_answer(answer: Answer) -> v1::PeerProposeResult {
    use v1::peer_propose_result::Result as Written;
    let mut index = 0;
    let result = match answer {
        Answer::Outcome(outcome, at) => {
            index = at;
            Written::Outcome(postcard::to_stdvec(&outcome).expect("plain data always encodes into memory"))
        }
        Answer::NotProposed(leader) => Written::NotLeader(write_not_leader(leader)),
        Answer::Unknown => Written::Unknown(v1::PeerOutcomeUnknown {}),
        Answer::Unsupported(reason) => Written::Unsupported(reason),
        Answer::DiskFull => Written::DiskFull(v1::PeerDiskFull {}),
    };
    v1::PeerProposeResult { result: Some(result), index }
}

/// An answer that cannot be read says nothing about what happened, hence [`Answer::Unknown`].
pub(super) fn read_answer(message: v1::PeerProposeResult) -> ForwardResult {
    use v1::peer_propose_result::Result as Written;
    match message.result {
        Some(Written::Outcome(bytes)) => read_outcome(&bytes.into())
            .map_or(Answer::Unknown, |outcome| Answer::Outcome(outcome, message.index)),
        Some(Written::NotLeader(leader)) => Answer::NotProposed(read_not_leader(&leader)),
        Some(Written::Unsupported(reason)) => Answer::Unsupported(reason),
        Some(Written::DiskFull(_)) => Answer::DiskFull,
        Some(Written::Unknown(_)) | None => Answer::Unknown,
    }
}

fn read_outcome(bytes: &Bytes) -> io::Result<Outcome> {
    postcard::from_bytes(bytes).map_err(damaged)
}

/// Entries of the ledger, as a peer is sent them.
pub(super) fn write_ledger(entries: &[LedgerEntry]) -> Vec<Vec<u8>> {
    let write = |entry| postcard::to_stdvec(entry).expect("plain data always encodes into memory");
    entries.iter().map(write).collect()
}

/// Entries that a peer has sent. Whoever takes them checks the chain.
pub(super) fn read_ledger(entries: &[Vec<u8>]) -> io::Result<Vec<LedgerEntry>> {
    entries.iter().map(|bytes| postcard::from_bytes(bytes).map_err(damaged)).collect()
}
