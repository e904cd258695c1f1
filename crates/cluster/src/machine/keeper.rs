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

    /// Hands over what was touched. It is durable some time later.
    fn write(&self, records: Vec<Record>, position: Position) -> impl Future<Output = io::Result<()>> + Send;

    /// Says that a snapshot is made next of all that was handed over so far, which leads to here.
    fn begin(&self, position: Position) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes that snapshot, while more is handed over. Everything in it is durable when it is there.
    fn build(
        &self,
        state: State,
        position: Position,
    ) -> impl Future<Output = io::Result<Snapshot<Self::Snapshot>>> + Send;

    /// Replaces everything with a snapshot that another node has sent. It is checked, and durable as a file from which a
    /// restart goes on.
    fn install(&self, snapshot: Self::Snapshot)
    -> impl Future<Output = io::Result<(State, Position)>> + Send;

    /// The newest snapshot.
    fn snapshot(&self) -> Option<Snapshot<Self::Snapshot>>;
}

/// Snapshots in files, and in sled what has changed since the newest.
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

    async fn write(&self, records: Vec<Record>, position: Position) -> io::Result<()> {
        self.persister.write(records, position).await
    }

    async fn begin(&self, position: Position) -> io::Result<()> {
        self.persister.begin(position).await
    }

    async fn build(&self, state: State, position: Position) -> io::Result<Snapshot> {
        loop {
            let (folder, ledger) = (Arc::clone(&self.snapshots), Arc::clone(self.persister.ledger()));
            let (state, position) = (state.clone(), position.clone());
            let write = move || {
                // The log is purged behind a snapshot: what the ledger has of it must be durable first.
                ledger.flush()?;
                folder.write(&state, position)
            };
            match in_background("snapshot-writer", write).await {
                // The log is kept meanwhile.
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "no room for a snapshot: it is made when there is some");
                    self.persister.room().await;
                }
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("a snapshot cannot be written: {error}"),
                    ));
                }
                Ok(snapshot) => {
                    self.persister.build(snapshot.head().position.clone()).await?;
                    return Ok(Snapshot { meta: snapshot.meta(), snapshot });
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
        self.persister.replace(position.clone()).await?;
        Ok((state, position))
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.snapshots.current().map(|snapshot| Snapshot { meta: snapshot.meta(), snapshot })
    }
}
