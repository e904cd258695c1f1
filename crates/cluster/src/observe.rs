//! What Raft says about itself, passed on: who leads, whom the members are, and what ends this node.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use model::name::NodeId;
use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio_util::sync::CancellationToken;

use crate::{
    fatal::{self, Fatal},
    known,
    machine::{View, blocking},
    parts::Parts,
    peer::Peers,
    raft::{Raft, addresses},
    status::Progress,
};

/// What is told of what Raft says. The log is no part of it: a node that stops must let go of it.
pub(crate) struct Observing {
    data: PathBuf,
    raft: Raft,
    peers: Peers,
    view: Arc<View>,
    fatal: Arc<Fatal>,
    shutdown: CancellationToken,
}

impl Observing {
    pub(crate) fn of(parts: &Parts) -> Self {
        Self {
            data: parts.settings.data.clone(),
            raft: parts.raft.clone(),
            peers: parts.peers.clone(),
            view: Arc::clone(&parts.view),
            fatal: Arc::clone(&parts.fatal),
            shutdown: parts.shutdown.clone(),
        }
    }

    /// Passes on what Raft says about itself, until it has stopped.
    pub(crate) async fn run(self) {
        let Self { data, raft, peers, view, fatal, shutdown } = self;
        let mut metrics = raft.metrics();
        let mut followed = known::read(&data);
        // Raft has something new to say several times with every entry; its members change rarely.
        let mut membership = None;
        loop {
            let said = metrics.borrow_watched().membership_config.clone();
            if membership.as_ref() != Some(&said) {
                let members = addresses(&said);
                if members != followed && !members.is_empty() {
                    peers.follow(members.clone());
                    keep(&data, &members).await;
                    followed = members;
                }
                membership = Some(said);
            }
            let (running, seen) = {
                let metrics = metrics.borrow_watched();
                let seen = Progress {
                    applied: None,
                    leader: metrics.current_leader.map(NodeId),
                    term: metrics.current_term,
                    is_leader: metrics.state == ServerState::Leader,
                };
                (metrics.running_state.clone(), seen)
            };
            view.progress().send_if_modified(|progress| {
                let new = Progress { applied: progress.applied, ..seen };
                let changed = *progress != new;
                *progress = new;
                changed
            });
            if let Err(error) = running {
                if !shutdown.is_cancelled() {
                    fatal.raise(match error {
                        openraft::errors::Fatal::StorageError(error) => {
                            format!("the disk under `{}` failed: {error}; {}", data.display(), fatal::DISK)
                        }
                        error @ (openraft::errors::Fatal::Panicked | openraft::errors::Fatal::Stopped) => {
                            error.to_string()
                        }
                    });
                }
                return;
            }
            if metrics.changed().await.is_err() {
                if !shutdown.is_cancelled() {
                    fatal.raise("raft has ended".into());
                }
                return;
            }
        }
    }
}

/// Keeps the members beside the data folder. It is advice for the next start: what cannot be written is only told.
async fn keep(data: &Path, members: &BTreeMap<NodeId, String>) {
    let (data, members) = (data.to_owned(), members.clone());
    if let Err(error) = blocking(move || known::write(&data, &members)).await {
        tracing::warn!(%error, "the members cannot be kept beside the data folder");
    }
}
