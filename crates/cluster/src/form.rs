//! How a cluster comes to be: the configured node with the lowest id initialises it, once.

use std::{collections::BTreeMap, time::Duration};

use model::name::NodeId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    admission::ask_all,
    clock::Clock,
    fatal::Fatal,
    known,
    peer::Peers,
    raft::{Member, Raft},
    settings::Settings,
};

/// Wait between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Initialises the cluster if that is this node's part.
///
/// Every other node must answer that it belongs to no cluster. One that does not answer might know of a cluster this
/// node was part of before its disk was wiped, and a second cluster beside the first would be two truths: better to
/// wait. The members are registered with the storage that they answered for.
pub(crate) async fn form(
    settings: Settings,
    storage: Uuid,
    raft: Raft,
    peers: Peers,
    clock: &Clock,
    fatal: &Fatal,
    shutdown: CancellationToken,
) {
    let first = settings.peers.keys().copied().chain(peers.ids()).min();
    if first != Some(settings.node) {
        return;
    }
    let mut waiting = false;
    while let Ok(false) = raft.is_initialized().await {
        let answers = ask_all(&peers, peers.everyone(), clock).await;
        if let Some(member) = answers.iter().find(|answer| answer.initialised) {
            tracing::warn!(node = %member.node, "this node has no log, but a peer belongs to a cluster already");
            return;
        }
        let mut storages: BTreeMap<NodeId, Uuid> =
            answers.iter().map(|answer| (answer.node, answer.storage)).collect();
        storages.insert(settings.node, storage);
        let known = settings.peers.keys().copied().chain(peers.ids());
        match known.into_iter().find(|node| !storages.contains_key(node)) {
            None => match initialise(&settings, &storages, &raft).await {
                Ok(()) => return,
                Err(error) => fatal.raise(format!("the cluster cannot be initialised: {error}")),
            },
            Some(node) if !waiting => {
                tracing::info!(
                    %node,
                    members = %known::path(&settings.data).display(),
                    "waiting for every node that is configured, or was a member when the file beside the data folder \
                     was written, before a cluster is formed",
                );
                waiting = true;
            }
            Some(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

async fn initialise(
    settings: &Settings,
    storages: &BTreeMap<NodeId, Uuid>,
    raft: &Raft,
) -> Result<(), impl std::error::Error + use<>> {
    let member = |(node, address): (&NodeId, &String)| {
        storages.get(node).map(|storage| (node.0, Member::new(address, *storage)))
    };
    let members: BTreeMap<u64, Member> = settings.peers.iter().filter_map(member).collect();
    tracing::info!(nodes = members.len(), "forming a new cluster");
    raft.initialize(members).await
}
