//! Keeps the keyring of a running node in step: reads key files again when they change, tells the cluster which root keys
//! this node holds, and ends the node when it could not open what the cluster seals.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cluster::Progress;
use model::{
    State,
    command::AnnounceKeys,
    key::{DataKey, RootKeyId},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{KeyError, files::KeyFiles};
use crate::node::Shared;

/// How often the files are looked at, and how long until something that went wrong is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause between two looks at the state.
const REST: Duration = Duration::from_millis(20);

/// Runs until `shutdown`, or until `unfit` was told why this node must end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut files: KeyFiles,
    unfit: watch::Sender<Option<String>>,
    shutdown: CancellationToken,
) {
    let mut changes = shared.cluster.watch();
    let mut checked: Vec<DataKey> = Vec::new();
    let mut known_by: Vec<RootKeyId> = Vec::new();
    let mut next_look = Instant::now();
    let mut announcing = false;
    loop {
        changes.borrow_and_update();
        let state = shared.cluster.local();
        if next_look <= Instant::now() {
            next_look = Instant::now() + LOOK_EVERY;
            if files.have_changed() {
                reload(&shared, &mut files, &state);
            }
            announcing = true;
        }
        let rows = state.data_keys();
        if rows != checked {
            if let Err(error) = shared.keys.check(&state) {
                // Told before anything else: whoever waits for it ends the node.
                unfit.send_replace(Some(told(&error)));
                return;
            }
            shared.keys.forget(&state);
            checked = rows;
        }
        let ids: Vec<RootKeyId> = shared.keys.root_keys(&state).iter().map(|root| root.id()).collect();
        if known_by != ids {
            make_known(&shared, &state, &ids);
            known_by = ids;
        }
        if std::mem::take(&mut announcing) {
            announce(&shared, &state).await;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep_until(next_look) => {}
            changed = Progress::next(&mut changes, REST) => if changed.is_err() { return },
        }
    }
}

/// Both ports show certificates under these root keys, and believe those under any of them.
fn make_known(shared: &Shared, state: &State, ids: &[RootKeyId]) {
    match shared.follow_root_keys(state) {
        Ok(()) => tracing::info!(root_keys = ?ids, "certificates are under these root keys"),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            root_keys = ?ids,
            "certificates cannot be issued under these root keys: those of before are kept"
        ),
    }
}

/// What is wrong and what to do, in one line for the log and the last words of a node.
pub(crate) fn told(error: &KeyError) -> String {
    format!("{error}; {}", error.remedy())
}

/// Takes other keys from the files; as long as those are no use, the ones of before are kept.
fn reload(shared: &Shared, files: &mut KeyFiles, state: &State) {
    let roots = match files.read() {
        Ok(roots) => roots,
        Err(error) => {
            tracing::error!(%error, "the root key files have changed and cannot be used: the keys of before are kept");
            return;
        }
    };
    match shared.keys.replace(roots, state) {
        Ok(()) => {
            tracing::info!(root_keys = ?shared.keys.held(), "the root key files have changed and were read")
        }
        Err(error) => {
            tracing::error!(%error, "the root key files hold other keys: the keys of before are kept");
        }
    }
}

/// Tells the cluster which root keys this node holds, when it has it otherwise.
async fn announce(shared: &Shared, state: &State) {
    let (node, held) = (shared.node, shared.keys.held());
    let told = state.root_keys().values().filter(|row| row.holders.contains(&node)).map(|row| row.id);
    if state.data_key().is_none() || told.collect::<BTreeSet<_>>() == held || !can_be_told(shared, state) {
        return;
    }
    match shared.cluster.propose(shared.actor(), AnnounceKeys { node, held }.into()).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => tracing::warn!(%refusal, "the cluster does not take this node's root keys"),
        Err(error) => tracing::debug!(%error, "root keys not announced yet"),
    }
}

/// Whether there is a leader, and every member runs this version: an older one would stop at the command.
fn can_be_told(shared: &Shared, state: &State) -> bool {
    let status = shared.cluster.status();
    let current = |id| state.nodes().get(id).is_some_and(|node| node.version == env!("CARGO_PKG_VERSION"));
    status.leader.is_some() && status.members.keys().all(current)
}
