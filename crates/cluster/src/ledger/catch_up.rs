//! Writes what this node's ledger has taken, and fetches what it lacks: it took a snapshot in place of the log, or its files were damaged.

use std::{sync::Arc, time::Duration};

use model::ledger::LedgerEntry;
use tokio_util::sync::CancellationToken;

use super::Ledger;
use crate::{
    fatal::{self, Fatal},
    machine::{View, blocking},
    peer::Peers,
};

/// How often it is looked whether something is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what was taken is written. It is made durable before the state is.
const SPILL_EVERY: Duration = Duration::from_millis(50);
/// Longest time for a peer to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The task.
pub(crate) struct CatchingUp {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) view: Arc<View>,
    pub(crate) peers: Peers,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) shutdown: CancellationToken,
}

impl CatchingUp {
    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let mut told = false;
        loop {
            let wanted = self.view.state().ledger_head();
            let lacks = self.ledger.head().sequence < wanted.sequence;
            if lacks && !told {
                tracing::info!(
                    held = self.ledger.head().sequence,
                    wanted = wanted.sequence,
                    "the ledger lacks entries"
                );
            }
            told = lacks;
            let mut on = false;
            if lacks {
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    filled = self.fill() => on = filled,
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY), if !on => {}
                () = std::future::ready(()), if on => {}
            }
        }
    }

    /// Writes what was taken, soon after, until the node stops.
    pub(crate) async fn spill(ledger: Arc<Ledger>, fatal: Arc<Fatal>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SPILL_EVERY) => {}
            }
            if !ledger.waits() {
                continue;
            }
            let writing = Arc::clone(&ledger);
            match blocking(move || writing.spill()).await {
                // It waits in memory meanwhile, and in the log.
                Err(error) if !crate::disk::is_full(&error) => {
                    fatal.raise(format!("the ledger cannot be written: {error}; {}", fatal::DISK));
                    return;
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Takes what one peer has, and says whether that was something.
    async fn fill(&self) -> bool {
        let after = self.ledger.head();
        let mut all_answered = true;
        let mut beyond: Option<Vec<LedgerEntry>> = None;
        for peer in self.peers.ids() {
            match self.peers.fetch_ledger(peer, after.sequence, FETCH_TIMEOUT).await {
                Ok(entries) => match entries.first() {
                    Some(first) if first.check_behind(after).is_ok() => {
                        return self.take(entries, false).await;
                    }
                    Some(first) if first.sequence > after.sequence + 1 => {
                        let nearer = |held: &Vec<LedgerEntry>| held[0].sequence > first.sequence;
                        if beyond.as_ref().is_none_or(nearer) {
                            beyond = Some(entries);
                        }
                    }
                    Some(_) | None => {}
                },
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, %peer, "no ledger from this peer");
                    all_answered = false;
                }
            }
        }
        if !all_answered {
            return false;
        }
        match beyond {
            Some(entries) => {
                tracing::error!(
                    from = after.sequence + 1,
                    to = entries[0].sequence - 1,
                    "no node holds these ledger entries"
                );
                self.take(entries, true).await
            }
            None => {
                let head = self.view.state().ledger_head();
                if self.ledger.head() == after && head.sequence > after.sequence {
                    tracing::error!(
                        from = after.sequence + 1,
                        to = head.sequence,
                        "no node holds these ledger entries"
                    );
                    self.ledger.skip_to(head);
                }
                false
            }
        }
    }

    async fn take(&self, entries: Vec<LedgerEntry>, over_gap: bool) -> bool {
        let ledger = Arc::clone(&self.ledger);
        match blocking(move || ledger.fill(entries, over_gap)).await {
            Ok(()) => true,
            Err(error) => {
                if crate::disk::is_full(&error) {
                    tracing::warn!(%error, "no room for the ledger: it is fetched when there is some");
                } else {
                    self.fatal.raise(format!("the ledger cannot be written: {error}; {}", fatal::DISK));
                }
                false
            }
        }
    }
}
