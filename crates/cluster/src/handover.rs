//! A leader whose disk is full or does not answer, or whose clock is not to be believed, hands the lead over: the others
//! can commit without it.

use std::{sync::Arc, time::Duration};

use model::name::NodeId;
use openraft::{RaftMetrics, ServerState, async_runtime::WatchReceiver as _};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    log::DiskLog,
    raft::{Raft, Types},
    space::Space,
    status,
};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A flush that takes longer than this is a disk that does not answer.
const STALLED: Duration = Duration::from_secs(2);
/// Wait before another is asked, when the first did not take over.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is watched.
pub(crate) struct Handover {
    pub(crate) lead: Lead,
    pub(crate) log: DiskLog,
    pub(crate) shutdown: CancellationToken,
}

/// The lead, and who could take it over.
#[derive(Clone)]
pub(crate) struct Lead {
    pub(crate) raft: Raft,
    pub(crate) space: Arc<Space>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) heartbeat: Duration,
}

impl Handover {
    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let mut patience = LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(patience) => {}
            }
            patience = LOOK_EVERY;
            let Some(reason) = self.reason() else { continue };
            if let Some(successor) = self.lead.successor() {
                tracing::warn!(to = %successor, reason, "handing the lead over");
                if self.lead.raft.trigger().transfer_leader(successor.0).await.is_err() {
                    return;
                }
                patience = AGAIN_AFTER;
            }
        }
    }

    fn reason(&self) -> Option<&'static str> {
        if self.log.flushing_for().is_some_and(|time| time > STALLED) {
            Some("the disk does not answer")
        } else if self.lead.space.is_full_here() {
            Some("the disk is full")
        } else if self.lead.clock.off().is_some() {
            Some("the wall clock is not to be believed")
        } else {
            None
        }
    }
}

impl Lead {
    /// Hands the lead over, when this node leads and another could, and waits until somebody else leads.
    pub(crate) async fn step_down(&self, within: Duration) {
        let Some(successor) = self.successor() else { return };
        tracing::info!(to = %successor, "handing the lead over before this node stops");
        if self.raft.trigger().transfer_leader(successor.0).await.is_err() {
            return;
        }
        let others = |metrics: &RaftMetrics<Types>| metrics.state != ServerState::Leader;
        if self.raft.wait(Some(within)).metrics(others, "another leader").await.is_err() {
            tracing::warn!(to = %successor, "the lead was not taken over in time");
        }
    }

    /// The voter that is heard, has room and a clock that is right, and has the most of the log, when this node leads.
    /// None where all are full, for every change of the leader costs room, or where all clocks are off.
    fn successor(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let peers = status::peers(&metrics, self.heartbeat);
        let heard = peers.iter().filter(|(node, peer)| peer.reachable && voters.contains(&node.0));
        let able = heard.filter(|(node, _)| !self.space.is_full_at(**node) && !self.clock.is_off_at(**node));
        able.max_by_key(|(_, peer)| peer.matched).map(|(node, _)| *node)
    }
}
