//! A simulated consumer: takes events from whichever node answers, and answers for them through the commands that the
//! feed service uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cluster::sim::{Node, time};
use model::{
    command::{Acknowledge, Answer, Deliver, Receipt},
    name::ConsumerName,
};

use crate::{chance::Chance, check::Checker, member::any_node, world::World};

/// Most events handed over at one time.
const PAGE: usize = 8;

pub(crate) struct Consumer {
    pub(crate) name: ConsumerName,
    pub(crate) away: Arc<AtomicBool>,
    pub(crate) chance: Chance,
    pub(crate) checker: Checker,
    /// The last revision it was handed; `None` before it knows where it begins.
    pub(crate) cursor: Option<u64>,
    /// What it has not yet said it enforced.
    pub(crate) open: BTreeSet<u64>,
}

impl Consumer {
    /// Runs until the world ends.
    pub(crate) async fn run(mut self, world: Arc<World>) {
        while !world.is_over() {
            let pause = self.chance.millis(100..=900);
            time::sleep(pause).await;
            if self.away.load(Ordering::Relaxed) {
                continue;
            }
            let Some(node) = any_node(&world.members, &mut self.chance) else { continue };
            self.take(&node).await;
            self.answer(&node).await;
        }
    }

    /// Takes what is new: the delivery is committed before anything is handed over.
    async fn take(&mut self, node: &Node) {
        let state = node.local();
        let Some(row) = state.consumers().get(&self.name) else { return };
        let cursor = *self.cursor.get_or_insert(row.since);
        let new: Vec<u64> = state.stream_of(row, cursor).take(PAGE).map(|event| event.revision).collect();
        let Some(last) = new.last().copied() else { return };
        let deliver = Deliver { upto: BTreeMap::from([(self.name.clone(), last)]) };
        let Ok(Ok(_)) = node.propose("system".into(), deliver.into()).await else { return };
        self.checker.handed(self.name.as_str(), cursor, &new);
        self.cursor = Some(last);
        self.open.extend(&new);
        let ranges = new.iter().map(|revision| (*revision, *revision)).collect();
        self.say(node, Receipt::Received, ranges).await;
    }

    /// Says of some events, in any order, that they are enforced, and now and then that one could not be.
    async fn answer(&mut self, node: &Node) {
        let chosen: Vec<u64> = self.open.iter().copied().filter(|_| self.chance.permille(600)).collect();
        if chosen.is_empty() {
            return;
        }
        if self.chance.permille(50) {
            let detail = "not today".to_owned();
            self.say(node, Receipt::Failed { detail }, vec![(chosen[0], chosen[0])]).await;
            return;
        }
        let ranges = chosen.iter().map(|revision| (*revision, *revision)).collect();
        if self.say(node, Receipt::Enforced, ranges).await {
            self.open.retain(|revision| !chosen.contains(revision));
        }
        // A repeat does no harm.
        if self.chance.permille(100) {
            self.say(node, Receipt::Enforced, vec![(chosen[0], chosen[0])]).await;
        }
    }

    async fn say(&self, node: &Node, receipt: Receipt, ranges: Vec<(u64, u64)>) -> bool {
        let answer = Answer { consumer: self.name.clone(), receipt, ranges };
        let command = Acknowledge { answers: vec![answer] };
        let said = node.propose(self.name.to_string(), command.into()).await;
        matches!(said, Ok(Ok(_)))
    }
}

/// How long a consumer may stay away.
pub(crate) const AWAY: std::ops::RangeInclusive<u64> = 2_000..=30_000;

/// A consumer leaves for a while.
pub(crate) fn leave(away: &Arc<AtomicBool>, pause: Duration) {
    away.store(true, Ordering::Relaxed);
    let away = Arc::clone(away);
    time::spawn(async move {
        time::sleep(pause).await;
        away.store(false, Ordering::Relaxed);
    });
}
