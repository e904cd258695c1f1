//! What a node finds on its disk when it starts, and how it repairs what is damaged: the state from the snapshot and
//! the log, the snapshot from a peer. A damaged log is cut before the damage; when the node had promised more, the
//! others say so, and it comes back as a learner.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use model::{State, name::NodeId};

use crate::{
    disk::Layout,
    error::StartError,
    log::DiskLog,
    machine::{Position, SnapshotFile, SnapshotFolder, blocking},
    peer::{CallError, Peers},
    raft::{LogId, addresses, term_and_index},
    settings::{Rejoin, StateCheck},
    space::Space,
    store::Store,
};

/// How long peers are asked for a snapshot that this node cannot start without, and how often.
const PEERS_WITHIN: Duration = Duration::from_secs(20);
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

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
    pub(crate) async fn open(
        layout: &Layout,
        peers: &Peers,
        rejoin: Rejoin,
        space: &Arc<Space>,
    ) -> Result<Self, StartError> {
        // Whoever has nobody to ask, or is not to be repaired without being asked, is told and nothing is touched.
        let may_mend = rejoin == Rejoin::Automatic && !peers.everyone().is_empty();
        if let Some(reason) = layout.quarantine_reason().map_err(in_folder(&layout.log()))? {
            if !may_mend {
                return Err(StartError::Quarantined { reason });
            }
            tracing::error!(reason, "this node was quarantined: it begins anew, as a learner");
            layout.give_up().map_err(in_folder(&layout.log()))?;
        }
        let opening = layout.clone();
        let log = blocking(move || open_log(&opening, may_mend))
            .await
            .map_err(|source| StartError::Log { folder: layout.log().display().to_string(), source })?
            .within(Arc::clone(space));
        let folder = layout.snapshots();
        let snapshots =
            blocking(move || SnapshotFolder::open(folder)).await.map_err(in_folder(&layout.snapshots()))?;
        let snapshots = snapshots.within(Arc::clone(space));
        let (folder, newest) = (layout.state(), snapshots.current());
        let opened = blocking(move || Store::open(folder, newest.as_ref())).await;
        let (store, state, position) = opened.map_err(in_folder(&layout.state()))?;
        peers.follow(addresses(&position.membership));
        let restored = Self { log, store, state, position, snapshots: Arc::new(snapshots) };
        restored.check_snapshot(layout).await?;
        restored.repair(layout, peers).await?;
        let restored = restored.stood_in_for(layout).await?;
        if let Some(applied) = restored.position.applied().max(restored.snapshot_reaches()) {
            restored
                .log
                .agree_with(applied)
                .map_err(|source| StartError::Log { folder: layout.log().display().to_string(), source })?;
        }
        Ok(restored)
    }

    /// The same, when this node can be of use with the state.
    pub(crate) fn fit_for(self, check: &StateCheck) -> Result<Self, StartError> {
        check.pass(&self.state)?;
        Ok(self)
    }

    /// A log that was cut ends before the state: a snapshot stands in for what is missing, for Raft takes entries that
    /// it does not have to be covered by one.
    async fn stood_in_for(self, layout: &Layout) -> Result<Self, StartError> {
        let (applied, snapshot) = (self.position.applied(), self.snapshot_reaches());
        if applied.map(term_and_index) <= self.log.durable().last || applied <= snapshot {
            return Ok(self);
        }
        let stand_in = move || {
            self.snapshots.write(&self.state, self.position.clone())?;
            Ok(Self { store: self.store.start_over(&self.position)?, ..self })
        };
        blocking(stand_in).await.map_err(in_folder(&layout.root()))
    }

    /// Raft goes on from the snapshot when it is ahead of the state, and a peer may need it at any time: one that is
    /// damaged is set aside, and Raft makes another. One that the state was read with is not.
    async fn check_snapshot(&self, layout: &Layout) -> Result<(), StartError> {
        if self.store.is_based() {
            return Ok(());
        }
        let ahead = self.snapshot_reaches() > self.position.applied();
        let snapshots = Arc::clone(&self.snapshots);
        let check = move || {
            let checked = if ahead {
                snapshots.load_current()
            } else {
                snapshots.current().map_or(Ok(()), |newest| newest.check())
            };
            checked.or_else(|error| snapshots.discard_current(&error))
        };
        blocking(check).await.map_err(in_folder(&layout.snapshots()))
    }

    fn snapshot_reaches(&self) -> Option<LogId> {
        self.snapshots.current().and_then(|snapshot| snapshot.head().position.applied())
    }

    /// When neither state nor snapshot reaches to where the log begins, a peer's snapshot must. Peers may be starting too.
    async fn repair(&self, layout: &Layout, peers: &Peers) -> Result<(), StartError> {
        let held = self.position.applied().max(self.snapshot_reaches());
        let Some(purged) = self.log.purged().filter(|purged| Some(*purged) > held) else { return Ok(()) };
        tracing::error!(
            "what is stored of the state cannot be used, and the log does not go back so far: peers are asked"
        );
        let begun = Instant::now();
        while !peers.everyone().is_empty() {
            if let Some((peer, snapshot)) = self.fetch_from_any(layout, peers, purged.index).await? {
                let snapshots = Arc::clone(&self.snapshots);
                let adopted = blocking(move || snapshots.adopt(snapshot));
                adopted.await.map_err(in_folder(&layout.snapshots()))?;
                tracing::warn!(%peer, "the damaged state was replaced by a snapshot of a peer");
                return Ok(());
            }
            if begun.elapsed() > PEERS_WITHIN {
                break;
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
        Err(StartError::Damaged { covers: purged.index })
    }

    async fn fetch_from_any(
        &self,
        layout: &Layout,
        peers: &Peers,
        covers: u64,
    ) -> Result<Option<(NodeId, SnapshotFile)>, StartError> {
        for peer in peers.everyone() {
            match self.fetch(peers, peer, covers).await {
                Ok(snapshot) => return Ok(Some((peer, snapshot))),
                Err(CallError::Disk(error)) => return Err(in_folder(&layout.snapshots())(error)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, %peer, "no snapshot from this peer");
                }
            }
        }
        Ok(None)
    }

    /// Asks one peer for its snapshot, again while more of it arrives each time.
    async fn fetch(&self, peers: &Peers, peer: NodeId, covers: u64) -> Result<SnapshotFile, CallError> {
        let arrived = || self.snapshots.frames_taken();
        loop {
            let before = arrived();
            match peers.fetch_snapshot(peer, covers, &self.snapshots).await {
                Err(CallError::NoAnswer(error)) if arrived() > before => {
                    tracing::warn!(error = &*error as &dyn std::error::Error, %peer, "a snapshot was cut short: on with it");
                }
                fetched => return fetched,
            }
        }
    }
}

fn open_log(layout: &Layout, may_mend: bool) -> io::Result<DiskLog> {
    let opened = DiskLog::open(&layout.log());
    let Err(error) = opened else { return opened };
    let Some(damage) = DiskLog::mend(&layout.log(), &layout.damaged().join("log"), may_mend)? else {
        return Err(error);
    };
    tracing::error!(
        %damage,
        aside = %layout.damaged().display(),
        "the log is damaged: it was cut before the damage; what was lost by that is asked of the other nodes",
    );
    DiskLog::open(&layout.log()).or_else(|error| {
        if !may_mend {
            return Err(error);
        }
        tracing::error!(%error, "what is left of the log cannot be used: this node begins anew, as a learner");
        layout.give_up()?;
        DiskLog::open(&layout.log())
    })
}

pub(crate) fn in_folder(folder: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
    let folder = folder.display().to_string();
    move |source| StartError::Data { folder, source }
}
