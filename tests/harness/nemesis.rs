//! Faults for a cluster, drawn from a seed: which kind, which node and for how long. When a fault strikes depends on
//! the cluster, so a seed repeats the plan, not the run.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use client::{Client, v1};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::{Cluster, eventually};

/// How long the others may take to elect a leader in place of a lost one, on a busy machine.
const ELECTED_WITHIN: Duration = Duration::from_secs(120);
/// How long a node may take to say whom it follows.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of one node, and its restart.
    KillOne,
    /// `kill -9` of all nodes, and their restart.
    KillAll,
    /// SIGSTOP of one node, and SIGCONT.
    Pause,
    /// One node and the others do not hear each other.
    Partition,
    /// One node hears others who do not hear it, or the other way round.
    OneWay,
    /// The leader is killed, and comes back when another leads.
    LeaderChange,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::KillOne, Self::KillAll, Self::Pause, Self::Partition, Self::OneWay, Self::LeaderChange];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillOne => "kill one",
            Self::KillAll => "kill all",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way partition",
            Self::LeaderChange => "leader change",
        })
    }
}

/// Draws faults and injects them.
#[derive(Debug)]
pub struct Nemesis {
    random: StdRng,
    /// How long a fault lasts, in milliseconds.
    lasts_ms: RangeInclusive<u64>,
    /// What is left of the round: each kind comes once in every six faults.
    round: Vec<Fault>,
    since: Instant,
    injected: BTreeMap<Fault, usize>,
    log: Vec<String>,
}

/// A fault as drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Blow {
    fault: Fault,
    /// Strikes whoever leads.
    at_leader: bool,
    /// Strikes this one of the nodes, when it need not lead.
    victim: usize,
    /// Of a one-way partition: the victim is not heard, else it hears nothing.
    outwards: bool,
    /// Of a one-way partition: only this one of the others is concerned, else all.
    single: Option<usize>,
    lasts: Duration,
}

impl Nemesis {
    /// Faults from `seed`, of such durations.
    #[must_use]
    pub fn new(seed: u64, lasts_ms: RangeInclusive<u64>) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            lasts_ms,
            round: Vec::new(),
            since: Instant::now(),
            injected: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// How many faults of each kind have been injected.
    #[must_use]
    pub fn injected(&self) -> &BTreeMap<Fault, usize> {
        &self.injected
    }

    /// What was done, with the seconds since the start.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// Injects the next fault, lets it last, and makes everything whole again.
    ///
    /// # Panics
    ///
    /// When the cluster does not elect a leader though a majority is there.
    pub async fn strike(&mut self, cluster: &mut Cluster) {
        let blow = self.draw(cluster.ids().len());
        let ids = cluster.ids();
        let leads = eventually("a leader to strike", ELECTED_WITHIN, async || leader(cluster).await).await;
        let victim = if blow.at_leader { leads } else { ids[blow.victim] };
        let others: Vec<u64> = ids.iter().copied().filter(|id| *id != victim).collect();
        let role = if victim == leads { "leader" } else { "follower" };
        self.note(format!("{} at node {victim} ({role}), {:?}", blow.fault, blow.lasts));
        match blow.fault {
            Fault::KillOne => {
                cluster.kill_node(victim);
                tokio::time::sleep(blow.lasts).await;
                cluster.start_node(victim);
            }
            Fault::KillAll => {
                ids.iter().for_each(|id| cluster.kill_node(*id));
                ids.iter().for_each(|id| cluster.start_node(*id));
            }
            Fault::Pause => {
                cluster.pause_node(victim);
                tokio::time::sleep(blow.lasts).await;
                cluster.resume_node(victim);
            }
            Fault::Partition => {
                for other in &others {
                    cluster.network().cut(victim, *other);
                    cluster.network().cut(*other, victim);
                }
                tokio::time::sleep(blow.lasts).await;
                cluster.network().heal();
            }
            Fault::OneWay => {
                let concerned = blow.single.map_or(others.clone(), |index| vec![others[index]]);
                for other in concerned {
                    let (from, to) = if blow.outwards { (victim, other) } else { (other, victim) };
                    self.note(format!("  nothing from {from} arrives at {to}"));
                    cluster.network().cut(from, to);
                }
                tokio::time::sleep(blow.lasts).await;
                cluster.network().heal();
            }
            Fault::LeaderChange => {
                cluster.kill_node(victim);
                let next = eventually("another leader", ELECTED_WITHIN, async || {
                    leader(cluster).await.filter(|next| *next != victim)
                })
                .await;
                self.note(format!("  node {next} leads"));
                cluster.start_node(victim);
            }
        }
        self.note("  healed");
        *self.injected.entry(blow.fault).or_default() += 1;
    }

    fn draw(&mut self, nodes: usize) -> Blow {
        let random = &mut self.random;
        if self.round.is_empty() {
            self.round = Fault::ALL.to_vec();
            self.round.shuffle(random);
        }
        let fault = self.round.pop().expect("a round was just begun");
        Blow {
            fault,
            at_leader: fault == Fault::LeaderChange || random.random_bool(0.5),
            victim: random.random_range(0..nodes),
            outwards: random.random_bool(0.5),
            single: random.random_bool(0.3).then(|| random.random_range(0..nodes - 1)),
            lasts: Duration::from_millis(random.random_range(self.lasts_ms.clone())),
        }
    }

    /// Notes what happened for the log.
    pub(crate) fn note(&mut self, what: impl fmt::Display) {
        self.log.push(format!("{:8.3} s  {what}", self.since.elapsed().as_secs_f64()));
    }
}

/// The leader that most nodes name, if any.
pub(crate) async fn leader(cluster: &Cluster) -> Option<u64> {
    let clients = cluster.running().into_iter().map(|id| cluster.client_of(id));
    let answers = join_all(clients.map(named)).await;
    let mut votes = BTreeMap::<u64, usize>::new();
    for leader in answers.into_iter().flatten() {
        *votes.entry(leader).or_default() += 1;
    }
    let majority = votes.into_iter().find(|(_, count)| *count * 2 > cluster.ids().len());
    majority.map(|(leader, _)| leader)
}

async fn named(client: Client) -> Option<u64> {
    let answer = tokio::time::timeout(ASK_TIMEOUT, client.get_cluster(v1::GetClusterRequest {})).await;
    answer.ok()?.ok().map(|answer| answer.leader).filter(|leader| *leader != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_again_and_each_kind_in_every_round() {
        let drawn = |seed| {
            let mut nemesis = Nemesis::new(seed, 1_000..=10_000);
            (0..12).map(|_| nemesis.draw(3)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        for round in drawn(7).chunks(Fault::ALL.len()) {
            let mut kinds: Vec<_> = round.iter().map(|blow| blow.fault).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Fault::ALL);
        }
    }
}
