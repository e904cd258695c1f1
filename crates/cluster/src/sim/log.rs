//! The log store of a simulated node: the one in memory, whose appends are flushed after a while.

use std::{collections::BTreeSet, fmt::Debug, io, ops::RangeBounds, sync::Arc};

use model::name::NodeId;
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::{Appended, Committed, Disk, Membership, Observer, time::sleep, types::SimTypes};
use crate::{
    log::MemoryLog,
    raft::{Entry, LogId, Packed, Payload, Vote, term_and_index},
};

#[derive(Clone)]
pub(super) struct SimLog {
    pub(super) node: NodeId,
    pub(super) log: MemoryLog<SimTypes>,
    pub(super) disk: Disk,
    /// Says that something waits to be flushed.
    pub(super) wrote: Arc<Notify>,
    pub(super) observer: Arc<dyn Observer>,
}

impl RaftLogReader<SimTypes> for SimLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.log.read_vote().await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.log.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<SimTypes> for SimLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<SimTypes>> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        sleep(self.disk.latency()).await;
        self.log.save_vote(vote).await?;
        self.observer.voted(self.node, vote.leader_id.term, NodeId(vote.leader_id.voted_for));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.log.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<SimTypes>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut appended: Vec<Appended> = entries
            .iter()
            .map(|entry| {
                let (term, index) = term_and_index(entry.log_id);
                let checksum = checksum(&entry.payload);
                Appended { index, term, before: None, checksum, begins_change: begins_change(&entry.payload) }
            })
            .collect();
        self.log.append(entries, callback).await?;
        for entry in &mut appended {
            entry.before = entry.index.checked_sub(1).and_then(|before| self.log.term_of(before));
            self.observer.appended(self.node, *entry);
        }
        self.wrote.notify_one();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.purge(upto).await
    }
}

/// The entries from `from` to `to`, both included, as far as they are kept.
pub(super) fn committed(log: &MemoryLog<SimTypes>, from: u64, to: u64) -> Vec<Committed> {
    let entries = log.entries(from, to).unwrap_or_default();
    let read = |entry: Entry| {
        let (term, index) = term_and_index(entry.log_id);
        let (commands, membership): (Vec<_>, _) = match entry.payload {
            Payload::Normal(batch) => (batch.commands().filter_map(Result::ok).collect(), None),
            Payload::Membership(membership) => (Vec::new(), Some(membership)),
            Payload::Blank => (Vec::new(), None),
        };
        Committed { index, term, commands, membership: membership.as_ref().map(Membership::from) }
    };
    entries.into_iter().map(read).collect()
}

impl From<&crate::raft::Membership> for Membership {
    fn from(membership: &crate::raft::Membership) -> Self {
        let ids = |voters: &BTreeSet<u64>| voters.iter().copied().map(NodeId).collect();
        Self {
            voters: membership.get_joint_config().iter().map(ids).collect(),
            members: membership.nodes().map(|(id, _)| NodeId(*id)).collect(),
        }
    }
}

fn begins_change(payload: &Payload) -> bool {
    matches!(payload, Payload::Membership(membership) if membership.get_joint_config().len() > 1)
}

fn checksum(payload: &Payload) -> u64 {
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    drop(Packed::pack(payload).write(&mut bytes));
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(short)
}
