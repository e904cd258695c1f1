//! Keeps a simulated node's state on its disk in memory, and tells the observer what was applied.

use std::{
    io,
    sync::{Arc, Mutex},
};

use model::{State, ledger::LedgerEntry, name::NodeId, table::Record};

use super::{
    Applied, Observer,
    disk::{Kept, MemorySnapshot, lock},
    log::committed,
    types::SimTypes,
};
use crate::{
    log::MemoryLog,
    machine::{Keeper, Position, RestoreError},
    raft::{Snapshot, SnapshotMeta},
};

/// The store is flushed when this many batches wait.
const CHECKPOINT_BATCHES: usize = 64;

#[derive(Clone)]
pub(crate) struct MemoryKeeper {
    pub(super) node: NodeId,
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) log: MemoryLog<SimTypes>,
    pub(super) observer: Arc<dyn Observer>,
}

impl MemoryKeeper {
    fn tell(&self, position: &Position, installed: bool) {
        let Some((term, index)) = position.applied else { return };
        let applied = Applied { index, term, digest: position.digest, installed };
        self.observer.applied(self.node, applied, &|from, to| committed(&self.log, from, to));
    }
}

impl Keeper for MemoryKeeper {
    type Config = SimTypes;
    type Snapshot = MemorySnapshot;

    /// The head is part of the state and its digest; the entries are not looked at here.
    fn state(&self, entries: Vec<LedgerEntry>) {
        drop(entries);
    }

    async fn write(&self, records: Vec<Record>, position: Position) -> io::Result<()> {
        self.tell(&position, false);
        let mut kept = lock(&self.kept);
        kept.write(records, position);
        if kept.unflushed() >= CHECKPOINT_BATCHES {
            kept.flush();
        }
        Ok(())
    }

    async fn begin(&self, _position: Position) -> io::Result<()> {
        Ok(())
    }

    async fn build(&self, state: State, position: Position) -> io::Result<Snapshot<MemorySnapshot>> {
        let snapshot = MemorySnapshot { position, records: Arc::new(state.records().collect()) };
        let mut kept = lock(&self.kept);
        kept.flush();
        kept.snapshot = Some(snapshot.clone());
        Ok(named(snapshot))
    }

    async fn install(&self, snapshot: MemorySnapshot) -> io::Result<(State, Position)> {
        let records = snapshot.records.iter().cloned().map(Ok::<_, RestoreError>);
        let state = State::load(records)?;
        let position = snapshot.position.clone();
        if state.digest() != position.digest {
            return Err(RestoreError::Digest.into());
        }
        lock(&self.kept).replace(snapshot);
        self.tell(&position, true);
        Ok((state, position))
    }

    fn snapshot(&self) -> Option<Snapshot<MemorySnapshot>> {
        lock(&self.kept).snapshot.clone().map(named)
    }
}

fn named(snapshot: MemorySnapshot) -> Snapshot<MemorySnapshot> {
    let meta = SnapshotMeta {
        last_log_id: snapshot.position.applied(),
        last_membership: snapshot.position.membership.clone(),
    };
    Snapshot { meta, snapshot }
}
