//! Applies committed entries to the model and publishes the state that results.

mod persister;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt as _};
use model::{
    State,
    command::Stamped,
    table::{Digest, LoadError},
};
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use persister::Persister;
pub(crate) use snapshot::{Frame, SnapshotFile, SnapshotFolder};

use crate::{
    batch::Outcomes,
    raft::{Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types, log_id, term_and_index},
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
    progress: watch::Sender<Progress>,
}

impl View {
    /// The newest applied state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// How far the state goes and who leads.
    pub(crate) const fn progress(&self) -> &watch::Sender<Progress> {
        &self.progress
    }

    fn publish(&self, state: State, applied: Option<u64>) {
        self.state.store(Arc::new(state));
        self.progress.send_modify(|progress| progress.applied = applied);
    }
}

/// The state machine.
pub(crate) struct Machine {
    state: State,
    position: Position,
    view: Arc<View>,
    persister: Persister,
    snapshots: Arc<SnapshotFolder>,
}

impl Machine {
    /// Goes on from a restored state.
    pub(crate) fn new(
        state: State,
        position: Position,
        persister: Persister,
        snapshots: Arc<SnapshotFolder>,
    ) -> (Self, Arc<View>) {
        let progress = Progress { applied: position.applied.map(|(_, index)| index), ..Progress::default() };
        let view = Arc::new(View {
            state: ArcSwap::from_pointee(state.clone()),
            progress: watch::Sender::new(progress),
        });
        (Self { state, position, view: Arc::clone(&view), persister, snapshots }, view)
    }

    /// Applies one entry, or nothing of it.
    fn apply_entry(&mut self, entry: Entry) -> io::Result<Outcomes> {
        let outcomes = match entry.payload {
            Payload::Blank => Outcomes::default(),
            Payload::Normal(batch) => {
                // An unknown command stops the node here; skipping it would make the replicas differ.
                let commands = batch.commands().collect::<Result<Vec<Stamped>, _>>()?;
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

    fn builder(&self) -> Builder {
        Builder {
            state: self.state.clone(),
            position: self.position.clone(),
            persister: self.persister.clone(),
            snapshots: Arc::clone(&self.snapshots),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.position.applied(), self.position.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> io::Result<()>
    where
        Entries: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcomes = self.apply_entry(entry)?;
            answers.extend(responder.map(|responder| (responder, outcomes)));
        }
        let records = self.state.drain_changes();
        self.position.digest = self.state.digest();
        // Published before anyone is answered: who has an answer must find it in the state.
        self.publish();
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        self.persister.write(records, self.position.clone()).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let folder = Arc::clone(&self.snapshots);
        let (snapshot, state) = blocking(move || {
            let state = snapshot.load()?;
            Ok((folder.adopt(snapshot)?, state))
        })
        .await?;
        tracing::info!(snapshot = %meta.signature().last_log_id.map_or(0, |id| id.index), "snapshot installed");
        self.persister.replace(state.clone(), snapshot.head().position.clone()).await?;
        self.state = state;
        self.position = snapshot.head().position.clone();
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.current().map(|snapshot| Snapshot { meta: snapshot.meta(), snapshot }))
    }
}

/// Writes a snapshot of the state as it was when the builder was made.
pub(crate) struct Builder {
    state: State,
    position: Position,
    persister: Persister,
    snapshots: Arc<SnapshotFolder>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        // The log is purged behind a snapshot: what it covers must be durable in both places first.
        self.persister.checkpoint().await?;
        let (folder, state, position) =
            (Arc::clone(&self.snapshots), self.state.clone(), self.position.clone());
        let snapshot = blocking(move || folder.write(&state, position)).await?;
        Ok(Snapshot { meta: snapshot.meta(), snapshot })
    }
}

/// Runs file work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
