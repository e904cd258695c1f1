//! The types that openraft is used with. Every openraft name the rest of the crate needs comes from here, so that
//! a new release is ported in one place.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use model::name::NodeId;
use openraft::{RaftTypeConfig, entry::RaftEntry as _, impls::leader_id_std, vote::RaftLeaderId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::batch::{Batch, Outcomes};

openraft::declare_raft_types!(
    /// Standard Raft: at most one leader in a term, so a log id is a term and an index.
    pub(crate) Types:
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// What the log store and the state machine need of a type configuration: all but the runtime is fixed, so that nodes
/// and simulations run the same code.
pub(crate) trait Config:
    RaftTypeConfig<
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = LeaderId,
        Vote = Vote,
        Payload = Payload,
        Entry = Entry,
    >
{
}

impl Config for Types {}

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Batch, u64, Member>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Member>;
pub(crate) type Snapshot<Data = crate::machine::SnapshotFile> =
    openraft::Snapshot<CommittedLeaderId, u64, Member, Data>;
pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;

/// A member of the cluster as Raft's membership keeps it. Its promises are those of its storage: a node that comes
/// with another one has not made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Where its peer port is reached, `host:port`.
    pub(crate) address: String,
    /// The UUID of its storage.
    pub(crate) storage: Uuid,
}

impl Member {
    pub(crate) fn new(address: impl Into<String>, storage: Uuid) -> Self {
        Self { address: address.into(), storage }
    }
}

/// The members of a membership with their addresses.
pub(crate) fn addresses(membership: &StoredMembership) -> BTreeMap<NodeId, String> {
    membership.nodes().map(|(id, member)| (NodeId(*id), member.address.clone())).collect()
}

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// The parts of a log id.
pub(crate) fn term_and_index(id: LogId) -> (u64, u64) {
    (id.leader_id.term, id.index)
}

/// An entry from its parts.
pub(crate) fn entry(id: LogId, payload: Payload) -> Entry {
    Entry::new(id, payload)
}

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A payload as the log and the wire keep it: a tag byte, then the body.
///
/// Tags are persisted and never reused: 0 blank, 1 commands, 2 membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    tag: u8,
    body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct MembershipBody(Membership);

impl Packed {
    /// Packs a payload. Commands are shared, not copied.
    pub(crate) fn pack(payload: &Payload) -> Self {
        match payload {
            Payload::Blank => Self { tag: BLANK, body: Bytes::new() },
            Payload::Normal(batch) => Self { tag: COMMANDS, body: batch.bytes().clone() },
            Payload::Membership(membership) => Self {
                tag: MEMBERSHIP,
                body: postcard::to_stdvec(&MembershipBody(membership.clone()))
                    .expect("plain data always encodes into memory")
                    .into(),
            },
        }
    }

    /// Gives the payload back. Commands are shared, not copied.
    pub(crate) fn unpack(self) -> io::Result<Payload> {
        match self.tag {
            BLANK => Ok(Payload::Blank),
            COMMANDS => Ok(Payload::Normal(Batch::from_bytes(self.body))),
            MEMBERSHIP => {
                let body: MembershipBody = postcard::from_bytes(&self.body).map_err(damaged)?;
                Ok(Payload::Membership(body.0))
            }
            unknown => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown payload tag {unknown}")))
            }
        }
    }

    /// The tag and the body, as a peer is sent them.
    pub(crate) fn into_parts(self) -> (u8, Bytes) {
        (self.tag, self.body)
    }

    /// What a peer has sent; it is looked at by [`Packed::unpack`].
    pub(crate) const fn from_parts(tag: u8, body: Bytes) -> Self {
        Self { tag, body }
    }

    /// How many bytes [`Packed::write`] writes.
    pub(crate) fn len(&self) -> usize {
        1 + self.body.len()
    }

    /// Writes the tag and the body.
    pub(crate) fn write(&self, writer: &mut impl io::Write) -> io::Result<()> {
        writer.write_all(&[self.tag])?;
        writer.write_all(&self.body)
    }

    /// Reads what [`Packed::write`] wrote.
    pub(crate) fn read(mut bytes: Bytes) -> io::Result<Self> {
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "empty payload"));
        }
        let body = bytes.split_off(1);
        Ok(Self { tag: bytes[0], body })
    }
}

/// An error for bytes that do not decode.
pub(crate) fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn payloads_survive_packing() {
        let nodes = BTreeMap::from([
            (1, Member::new("a:1", Uuid::from_u128(1))),
            (2, Member::new("b:2", Uuid::from_u128(2))),
        ]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        for payload in [
            Payload::Blank,
            Payload::Normal(Batch::from_bytes(Bytes::from_static(b"body"))),
            Payload::Membership(membership),
        ] {
            let packed = Packed::pack(&payload);
            let mut bytes = Vec::new();
            packed.write(&mut bytes).unwrap();
            assert_eq!(bytes.len(), packed.len());
            assert_eq!(Packed::read(bytes.into()).unwrap().unpack().unwrap(), payload);
        }
        assert!(Packed::read(Bytes::from_static(&[9])).unwrap().unpack().is_err());
        assert!(Packed::read(Bytes::new()).is_err());
    }
}
