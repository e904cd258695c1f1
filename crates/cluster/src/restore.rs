//! What a node finds on its disk when it starts, and how it repairs what is damaged: the state from the snapshot and
//! the log, the snapshot from a peer. The log itself has no substitute.

use std::{io, path::Path, sync::Arc};

use model::State;

use crate::{
    disk::Layout,
    error::StartError,
    log::DiskLog,
    machine::{Position, SnapshotFolder, blocking},
    peer::Peers,
    raft::LogId,
    store::Store,
};

/// Everything that was stored.
pub(crate) struct Restored {
    pub(crate) log: DiskLog,
    pub(crate) store: Store,
    pub(crate) state: State,
    pub(crate) position: Position,
    pub(crate) snapshots: Arc<SnapshotFolder>,
}

impl Restored {
    /// Opens everything under `layout`.
    pub(crate) async fn open(layout: &Layout, peers: &Peers) -> Result<Self, StartError> {
        let folder = layout.log();
        let log = blocking(move || DiskLog::open(&folder))
            .await
            .map_err(|source| StartError::Log { folder: layout.log().display().to_string(), source })?;
        let folder = layout.snapshots();
        let snapshots =
            blocking(move || SnapshotFolder::open(folder)).await.map_err(in_folder(&layout.snapshots()))?;
        let folder = layout.state();
        let (store, state, position) =
            blocking(move || Store::open(folder)).await.map_err(in_folder(&layout.state()))?;
        let restored = Self { log, store, state, position, snapshots: Arc::new(snapshots) };
        restored.check_snapshot(layout).await?;
        restored.repair(layout, peers).await?;
        if let Some(applied) = restored.position.applied().max(restored.snapshot_reaches()) {
            restored
                .log
                .agree_with(applied)
                .map_err(|source| StartError::Log { folder: layout.log().display().to_string(), source })?;
        }
        Ok(restored)
    }

    /// Raft goes on from the snapshot when it is ahead of the state: then it must be sound.
    async fn check_snapshot(&self, layout: &Layout) -> Result<(), StartError> {
        let Some(snapshot) = self.snapshots.current() else { return Ok(()) };
        if snapshot.head().position.applied() <= self.position.applied() {
            return Ok(());
        }
        let snapshots = Arc::clone(&self.snapshots);
        let check = move || snapshot.load().map(drop).or_else(|error| snapshots.discard_current(&error));
        blocking(check).await.map_err(in_folder(&layout.snapshots()))
    }

    fn snapshot_reaches(&self) -> Option<LogId> {
        self.snapshots.current().and_then(|snapshot| snapshot.head().position.applied())
    }

    /// When neither state nor snapshot reaches to where the log begins, a peer's snapshot must.
    async fn repair(&self, layout: &Layout, peers: &Peers) -> Result<(), StartError> {
        let held = self.position.applied().max(self.snapshot_reaches());
        let Some(purged) = self.log.purged().filter(|purged| Some(*purged) > held) else { return Ok(()) };
        for peer in peers.ids() {
            let snapshots = Arc::clone(&self.snapshots);
            match peers.fetch_snapshot(peer, purged.index, &snapshots).await {
                Ok(snapshot) => {
                    let adopted = blocking(move || {
                        snapshot.load().inspect_err(|_| snapshot.remove())?;
                        snapshots.adopt(snapshot)
                    });
                    adopted.await.map_err(in_folder(&layout.snapshots()))?;
                    tracing::warn!(%peer, "the damaged state was replaced by a snapshot of a peer");
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, %peer, "no snapshot from this peer");
                }
            }
        }
        Err(StartError::Damaged { covers: purged.index })
    }
}

pub(crate) fn in_folder(folder: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
    let folder = folder.display().to_string();
    move |source| StartError::Data { folder, source }
}
