//! Applies committed entries to the model and publishes the state that results.

mod incoming;
mod keeper;
mod loader;
mod persister;
mod samples;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, sync::Arc};

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt as _};
use model::{
    State,
    command::Stamped,
    planted::{Bug, is_planted},
    table::{Digest, LoadError},
};
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

pub(crate) use keeper::{Files, Keeper};
pub(crate) use loader::{Batch, Loader};
pub(crate) use persister::Persister;
pub(crate) use snapshot::{Frame, SnapshotFile, SnapshotFolder};

use samples::Samples;

use crate::{
    batch::Outcomes,
    raft::{Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, log_id, term_and_index},
    status::Progress,
};

/// Where in the log a state stands, and what it must look like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Term and index of the last applied entry.
    pub(crate) applied: Option<(u64, u64)>,
    /// The membership in force there.
    pub(crate) membership: StoredMembership,
    /// The digest of the state.
    pub(crate) digest: Digest,
}

impl Position {
    /// The last applied entry.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.applied.map(|(term, index)| log_id(term, index))
    }
}

/// A stored state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// It cannot be read.
    #[error("stored state cannot be read")]
    Io(#[from] io::Error),
    /// A row does not decode.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is not the state it should be.
    #[error("stored state does not have its digest")]
    Digest,
    /// A key or value is malformed.
    #[error("stored state has a malformed entry")]
    Unreadable,
    /// It was being written when the process ended.
    #[error("stored state is unfinished")]
    Unfinished,
    /// The snapshot that it is built upon is not there.
    #[error("stored state has lost the snapshot that it is built upon")]
    Baseless,
    /// The snapshot that it is built upon is damaged.
    #[error("the snapshot under the stored state is damaged")]
    Base,
    /// A newer build wrote it.
    #[error("stored state has format {0}, which is not known to this build")]
    Format(u16),
    /// Somebody else has it open: nothing is said of its content.
    #[error("stored state is in use")]
    InUse,
    /// Sled panicked over it.
    #[error("stored state made its reader panic")]
    Panicked,
}

impl From<RestoreError> for io::Error {
    fn from(error: RestoreError) -> Self {
        if let RestoreError::Io(error) = error { error } else { Self::new(io::ErrorKind::InvalidData, error) }
    }
}

/// What readers see: the newest applied state, and how far it goes.
pub(crate) struct View {
    state: ArcSwap<State>,
    samples: Samples,
    progress: watch::Sender<Progress>,
}

impl View {
    /// The newest applied state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Digests at some of the last entries, to be compared with those of other nodes.
    pub(crate) fn digests(&self) -> BTreeMap<u64, [u8; 32]> {
        self.samples.all()
    }

    /// Waits until the entry at `index` was applied here, at most until `deadline`.
    pub(crate) async fn reached(&self, index: u64, deadline: Instant) {
        if self.progress.borrow().applied >= Some(index) {
            return;
        }
        let mut progress = self.progress.subscribe();
        let applied = progress.wait_for(|progress| progress.applied >= Some(index));
        // A node that is cut off catches up later.
        drop(tokio::time::timeout_at(deadline, applied).await);
    }

    /// How far the state goes and who leads.
    pub(crate) const fn progress(&self) -> &watch::Sender<Progress> {
        &self.progress
    }

    /// The newest applied state, and the last entry that is in it: one is of no use for a comparison without the other.
    pub(crate) fn state_at(&self) -> (Arc<State>, Option<u64>) {
        // Both are set while nobody borrows.
        let progress = self.progress.borrow();
        (self.state(), progress.applied)
    }

    fn publish(&self, state: State, applied: Option<u64>) {
        self.progress.send_modify(|progress| {
            self.state.store(Arc::new(state));
            progress.applied = applied;
        });
    }
}

/// The state machine. What it has applied is kept by `K`.
pub(crate) struct Machine<K = Files> {
    state: State,
    position: Position,
    view: Arc<View>,
    keeper: K,
}

impl Machine {
    /// Goes on from a restored state, and keeps it in files.
    pub(crate) fn new(
        state: State,
        position: Position,
        persister: Persister,
        snapshots: Arc<SnapshotFolder>,
    ) -> (Self, Arc<View>) {
        Self::kept_by(Files::new(persister, snapshots), state, position)
    }
}

impl<K: Keeper> Machine<K> {
    /// Goes on from a restored state.
    pub(crate) fn kept_by(keeper: K, state: State, position: Position) -> (Self, Arc<View>) {
        let progress = Progress { applied: position.applied.map(|(_, index)| index), ..Progress::default() };
        let view = Arc::new(View {
            state: ArcSwap::from_pointee(state.clone()),
            samples: Samples::default(),
            progress: watch::Sender::new(progress),
        });
        (Self { state, position, view: Arc::clone(&view), keeper }, view)
    }

    /// Applies one entry, or nothing of it.
    fn apply_entry(&mut self, entry: Entry) -> io::Result<Outcomes> {
        let outcomes = match entry.payload {
            Payload::Blank => Outcomes::default(),
            Payload::Normal(batch) => {
                // An unknown command stops the node here; skipping it would make the replicas differ.
                let kept = |one: &Result<_, _>| one.is_ok() || !is_planted(Bug::UnknownSkipped);
                let commands = batch.commands().filter(kept).collect::<Result<Vec<Stamped>, _>>()?;
                Outcomes(commands.iter().map(|stamped| self.state.apply(stamped)).collect())
            }
            Payload::Membership(membership) => {
                self.position.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcomes::default()
            }
        };
        self.position.applied = Some(term_and_index(entry.log_id));
        Ok(outcomes)
    }

    fn publish(&self) {
        self.view.publish(self.state.clone(), self.position.applied.map(|(_, index)| index));
    }
}

impl<K: Keeper> RaftStateMachine<K::Config> for Machine<K> {
    type SnapshotData = K::Snapshot;
    type SnapshotBuilder = Builder<K>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.position.applied(), self.position.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> io::Result<()>
    where
        Entries: Stream<Item = io::Result<EntryResponder<K::Config>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let index = entry.log_id.index;
            let outcomes = self.apply_entry(entry)?;
            self.view.samples.take(index, &self.state);
            answers.extend(responder.map(|responder| (responder, outcomes)));
        }
        self.keeper.state(self.state.drain_ledger());
        let records = self.state.drain_changes();
        self.position.digest = self.state.digest();
        // Published before anyone is answered: who has an answer must find it in the state.
        self.publish();
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        self.keeper.write(records, self.position.clone()).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let begun = self.keeper.begin(self.position.clone()).await;
        Builder {
            begun,
            state: self.state.clone(),
            position: self.position.clone(),
            keeper: self.keeper.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: K::Snapshot) -> io::Result<()> {
        let (state, position) = self.keeper.install(snapshot).await?;
        tracing::info!(snapshot = %meta.signature().last_log_id.map_or(0, |id| id.index), "snapshot installed");
        self.state = state;
        self.position = position;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<K::Snapshot>>> {
        Ok(self.keeper.snapshot())
    }
}

/// Writes a snapshot of the state as it was when the builder was made.
pub(crate) struct Builder<K> {
    state: State,
    position: Position,
    keeper: K,
    /// Whether the keeper was told; making a builder has no error of its own.
    begun: io::Result<()>,
}

impl<K: Keeper> RaftSnapshotBuilder<K::Config> for Builder<K> {
    type SnapshotData = K::Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<K::Snapshot>> {
        std::mem::replace(&mut self.begun, Ok(()))?;
        self.keeper.build(self.state.clone(), self.position.clone()).await
    }
}

/// Runs file work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
