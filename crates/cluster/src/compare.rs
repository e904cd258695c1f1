//! Listens to what the other nodes say of themselves: learns what they have promised, for the day one of them comes
//! back with less, and compares digests of the state. A replica that differs from a majority is wrong about
//! something it has shown: it stops, and begins anew from the others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::name::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Description, Gate, Roll, ask_all},
    clock::Clock,
    disk::{Layout, is_full},
    fatal::{self, Fatal},
    log::DiskLog,
    machine::{View, blocking},
    peer::Peers,
    promise::Promises,
    raft::Raft,
    space::Space,
    status::LeaderHears,
};

/// Wait between two rounds.
const EVERY: Duration = Duration::from_secs(1);

/// What the task needs.
pub(crate) struct Comparing {
    pub(crate) node: NodeId,
    pub(crate) layout: Layout,
    pub(crate) raft: Raft,
    pub(crate) log: DiskLog,
    pub(crate) peers: Peers,
    pub(crate) gate: Arc<Gate>,
    pub(crate) promises: Arc<Promises>,
    pub(crate) view: Arc<View>,
    pub(crate) space: Arc<Space>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) heard: Arc<LeaderHears>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) shutdown: CancellationToken,
}

/// What a comparison has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Alike,
    /// Replicas differ at this entry, and no majority is on one side.
    Unclear(u64),
    /// A majority agrees on another state than this node's at this entry.
    Outvoted(u64),
}

impl Comparing {
    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let mut told = None;
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
            let answers = ask_all(&self.peers, self.peers.ids(), &self.clock).await;
            self.learn(&answers);
            self.look_for_oneself(&answers);
            for answer in &answers {
                self.space.hear(answer.node, answer.full);
            }
            self.save().await;
            match compare(&self.view.digests(), &answers, self.peers.ids().len() + 1) {
                Finding::Alike => {}
                Finding::Unclear(index) if told != Some(index) => {
                    tracing::error!(
                        index,
                        "the replicas of the state differ, and no majority is on one side"
                    );
                    told = Some(index);
                }
                Finding::Unclear(_) => {}
                Finding::Outvoted(index) => return self.quarantine(index).await,
            }
        }
        self.save().await;
    }

    fn learn(&self, answers: &[Description]) {
        for (storage, promise) in answers.iter().flat_map(|answer| &answer.promises) {
            self.promises.learn(*storage, *promise);
        }
        if self.gate.admission() == Admission::Admitted {
            self.promises.learn(self.gate.storage(), self.log.durable().promise(self.node));
        }
        let metrics = self.raft.metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        let is_member = |storage| membership.nodes().any(|(_, member)| member.storage == storage);
        if membership.log_id().is_some() {
            self.promises.keep(is_member);
        }
    }

    /// A node that was taken out hears nothing more from the leader; the others tell it.
    fn look_for_oneself(&self, answers: &[Description]) {
        let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
        let said = answers.iter().find(|answer| Some(answer.node) == leader);
        self.heard.take(said.map(|answer| answer.hears.clone()).unwrap_or_default());

        let own = Roll::from(&*self.raft.metrics().borrow_watched().membership_config);
        let newest = answers.iter().map(|answer| &answer.membership).max_by_key(|roll| roll.at);
        let is_out =
            newest.is_some_and(|newest| newest.at > own.at && !newest.members.contains_key(&self.node));
        if is_out {
            self.gate.doubt();
        }
    }

    async fn save(&self) {
        let promises = Arc::clone(&self.promises);
        match blocking(move || promises.save()).await {
            Ok(()) => {}
            // The others know it too, and it is written when there is room.
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "what the other nodes promised was not written");
            }
            Err(error) => self.fatal.raise(format!(
                "`{}` cannot be made durable: {error}; {}",
                self.layout.promises().display(),
                fatal::DISK
            )),
        }
    }

    async fn quarantine(&self, index: u64) {
        let reason = format!(
            "its state after entry {index} is not the one that the majority of the nodes has: it was damaged, or a \
             command was applied differently"
        );
        let (layout, text) = (self.layout.clone(), reason.clone());
        let kept = blocking(move || layout.quarantine(&text)).await;
        match kept {
            Ok(()) => self.fatal.raise(format!("{reason}; at its next start it begins anew from the others")),
            Err(error) => self.fatal.raise(format!("{reason}; and that could not be written down: {error}")),
        }
    }
}

/// Compares the newest entry for which there is a majority of digests, and any other that differs.
fn compare(own: &BTreeMap<u64, [u8; 32]>, answers: &[Description], nodes: usize) -> Finding {
    let mut finding = Finding::Alike;
    for (index, mine) in own.iter().rev() {
        let mut sides = BTreeMap::from([(*mine, 1)]);
        for theirs in answers.iter().filter_map(|answer| answer.digests.get(index)) {
            *sides.entry(*theirs).or_default() += 1;
        }
        if sides.len() > 1 && sides.iter().any(|(side, count)| side != mine && *count > nodes / 2) {
            return Finding::Outvoted(*index);
        }
        if sides.len() > 1 && sides[mine] <= nodes / 2 {
            finding = Finding::Unclear(*index);
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use model::time::Time;
    use uuid::Uuid;

    use super::*;

    fn answer(digests: &[(u64, u8)]) -> Description {
        Description {
            node: NodeId(2),
            initialised: true,
            storage: Uuid::nil(),
            membership: Roll::default(),
            promises: BTreeMap::new(),
            digests: digests.iter().map(|(index, byte)| (*index, [*byte; 32])).collect(),
            full: false,
            time: Time::default(),
            clock_off: false,
            removed: None,
            hears: BTreeMap::new(),
        }
    }

    fn finding(own: &[(u64, u8)], others: &[&[(u64, u8)]]) -> Finding {
        let answers: Vec<_> = others.iter().map(|digests| answer(digests)).collect();
        compare(&answer(own).digests, &answers, 3)
    }

    #[test]
    fn only_equal_entries_are_compared() {
        assert_eq!(finding(&[(64, 1), (128, 2)], &[&[(64, 1)], &[(192, 9)]]), Finding::Alike);
        assert_eq!(finding(&[], &[&[(64, 1)], &[(64, 2)]]), Finding::Alike);
    }

    #[test]
    fn the_minority_knows_that_it_is_one() {
        assert_eq!(finding(&[(64, 1)], &[&[(64, 2)], &[(64, 2)]]), Finding::Outvoted(64));
        assert_eq!(finding(&[(64, 1)], &[&[(64, 1)], &[(64, 2)]]), Finding::Alike);
        assert_eq!(finding(&[(64, 1), (128, 5)], &[&[(64, 2)], &[(64, 2)]]), Finding::Outvoted(64));
    }

    #[test]
    fn without_a_majority_nobody_is_blamed() {
        assert_eq!(finding(&[(64, 1)], &[&[(64, 2)]]), Finding::Unclear(64));
        assert_eq!(finding(&[(64, 1)], &[&[(64, 2)], &[(64, 3)]]), Finding::Unclear(64));
    }
}
