//! How a cluster comes to be: the configured node with the lowest id initialises it, once.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use model::name::NodeId;
use openraft::impls::BasicNode;
use tokio_util::sync::CancellationToken;

use crate::{fatal::Fatal, peer::Peers, raft::Raft, settings::Settings};

/// Wait between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Longest time a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Initialises the cluster if that is this node's part.
///
/// Every other node must answer that it belongs to no cluster. One that does not answer might know of a cluster this
/// node was part of before its disk was wiped, and a second cluster beside the first would be two truths: better to
/// wait.
pub(crate) async fn form(
    settings: Settings,
    raft: Raft,
    peers: Peers,
    fatal: &Fatal,
    shutdown: CancellationToken,
) {
    if settings.peers.keys().next() != Some(&settings.node) {
        return;
    }
    let mut waiting = false;
    while let Ok(false) = raft.is_initialized().await {
        match ask(&peers).await {
            Answers::AllFresh => match initialise(&settings, &raft).await {
                Ok(()) => return,
                Err(error) => fatal.raise(format!("the cluster cannot be initialised: {error}")),
            },
            Answers::Member(node) => {
                tracing::warn!(
                    %node,
                    "this node has no log, but a peer belongs to a cluster already: waiting to be given its state",
                );
                return;
            }
            Answers::Missing(node) if !waiting => {
                tracing::info!(%node, "waiting for every configured node before the cluster is formed");
                waiting = true;
            }
            Answers::Missing(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

enum Answers {
    AllFresh,
    Member(NodeId),
    Missing(NodeId),
}

async fn ask(peers: &Peers) -> Answers {
    let asked = peers.ids().map(|node| async move { (node, peers.initialised(node, ASK_TIMEOUT).await) });
    let mut answers = Answers::AllFresh;
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(true) => return Answers::Member(node),
            Ok(false) => {}
            Err(_) => answers = Answers::Missing(node),
        }
    }
    answers
}

async fn initialise(settings: &Settings, raft: &Raft) -> Result<(), impl std::error::Error + use<>> {
    let members: BTreeMap<u64, BasicNode> =
        settings.peers.iter().map(|(node, address)| (node.0, BasicNode::new(address))).collect();
    tracing::info!(nodes = members.len(), "forming a new cluster");
    raft.initialize(members).await
}
