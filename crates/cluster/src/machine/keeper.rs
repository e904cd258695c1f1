//! Where a state machine keeps what it has applied: in files, or, in a simulation, on a disk in memory.

use std::{io, sync::Arc};

use model::{State, ledger::LedgerEntry, table::Record};

use super::{Persister, Position, SnapshotFile, SnapshotFolder, blocking};
use crate::{
    background::in_background,
    disk::is_full,
    raft::{Config, Snapshot, Types},
};

/// Keeps a state and its snapshots. Clones keep the same.
pub(crate) trait Keeper: Clone + Send + Sync + 'static {
    /// The runtime it is used under.
    type Config: Config;
    /// A snapshot, as it is handed to another node.
    type Snapshot: Send + 'static;

    /// Takes entries of the ledger, before the state that they were made with is handed over.
    fn state(&self, entries: Vec<LedgerEntry>);

    /// Hands over what was touched, and the state that it has led to. It is durable some time later.
    fn write(
        &self,
        records: Vec<Record>,
        position: Position,
        state: Arc<State>,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes a snapshot. Everything handed over before is durable when it is there.
    fn build(
        &self,
        state: State,
        position: Position,
    ) -> impl Future<Output = io::Result<Snapshot<Self::Snapshot>>> + Send;

    /// Replaces everything with a snapshot that another node has sent. It is checked, and durable as a file from which a
    /// restart goes on; the state is kept elsewhere some time later.
    fn install(&self, snapshot: Self::Snapshot)
    -> impl Future<Output = io::Result<(State, Position)>> + Send;

    /// The newest snapshot.
    fn snapshot(&self) -> Option<Snapshot<Self::Snapshot>>;
}

/// A state in sled, and snapshots in files.
#[derive(Clone)]
pub(crate) struct Files {
    persister: Persister,
    snapshots: Arc<SnapshotFolder>,
}

impl Files {
    pub(super) const fn new(persister: Persister, snapshots: Arc<SnapshotFolder>) -> Self {
        Self { persister, snapshots }
    }
}

impl Keeper for Files {
    type Config = Types;
    type Snapshot = SnapshotFile;

    fn state(&self, entries: Vec<LedgerEntry>) {
        self.persister.ledger().push(entries);
    }

    async fn write(&self, records: Vec<Record>, position: Position, state: Arc<State>) -> io::Result<()> {
        self.persister.write(records, position, state).await
    }

    async fn build(&self, state: State, position: Position) -> io::Result<Snapshot> {
        // The log is purged behind a snapshot: what it covers must be durable in both places first.
        self.persister.checkpoint().await?;
        loop {
            let (folder, state, position) = (Arc::clone(&self.snapshots), state.clone(), position.clone());
            match in_background("snapshot-writer", move || folder.write(&state, position)).await {
                // The log is kept meanwhile.
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "no room for a snapshot: it is made when there is some");
                    self.persister.room().await;
                }
                written => {
                    return written.map(|snapshot| Snapshot { meta: snapshot.meta(), snapshot });
                }
            }
        }
    }

    async fn install(&self, snapshot: SnapshotFile) -> io::Result<(State, Position)> {
        let folder = Arc::clone(&self.snapshots);
        let (snapshot, state) = blocking(move || {
            let state = snapshot.load()?;
            Ok((folder.adopt(snapshot.without_state())?, state))
        })
        .await?;
        let position = snapshot.head().position.clone();
        self.persister.replace(state.clone(), position.clone()).await?;
        Ok((state, position))
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.snapshots.current().map(|snapshot| Snapshot { meta: snapshot.meta(), snapshot })
    }
}
