//! One world: it is set up, lives under faults for a while, and must then come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cluster::sim::{Membership, Network, Node, Traffic, time};
use model::{
    State,
    attempt::Job,
    command::{ApproveGrant, Command, PauseSchedule, RetryRotation, ReviewGrant},
    grant::GrantStage,
    name::NodeId,
    rotation::Stage,
};

use crate::{
    chance::{Chance, derive},
    check::{Checker, Invariant, Violation},
    client::Client,
    consumer::Consumer,
    faults,
    member::{Member, Surroundings, any_node},
    setup,
    target::{Mood, Target},
    trace::{Record, Trace, lock},
    turnover,
};

/// How long the beginning and the coming to rest may take.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
const SETTLES_WITHIN: Duration = Duration::from_secs(1_800);
/// How often it is looked whether the world has come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the world is under faults, in milliseconds.
const UNDER_FAULTS: std::ops::RangeInclusive<u64> = 10_000..=35_000;
const CLIENTS: u64 = 3;
/// An ordinary disk.
const DISK: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(2));

/// What became of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How many nodes it had.
    pub nodes: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened.
    pub trace: Record,
    /// How much happened.
    pub tally: Tally,
}

/// How much happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands committed.
    pub commands: u64,
    /// Things done at the target and the store.
    pub effects: u64,
    /// Messages handed to the network.
    pub messages: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

/// What everyone in a world shares.
pub(crate) struct World {
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) target: Target,
    pub(crate) trace: Trace,
    pub(crate) away: Vec<Arc<AtomicBool>>,
    pub(crate) checker: Checker,
    /// The nodes that the cluster was formed of.
    founders: BTreeSet<NodeId>,
    quiet: AtomicBool,
    over: AtomicBool,
    faults: Mutex<BTreeMap<&'static str, u64>>,
}

impl World {
    fn new(seed: u64, size: u64, trace: Trace) -> Self {
        let checker = Checker::new(trace.clone());
        let network = Network::new(derive(seed, 1));
        let target = Target::new(Chance::new(seed, 2), checker.clone(), trace.clone());
        setup::prepare(&target);
        let founders: BTreeSet<NodeId> = (1..=size).map(NodeId).collect();
        let all: BTreeSet<NodeId> = (1..=size + turnover::SPARE).map(NodeId).collect();
        let around = Surroundings {
            network: network.clone(),
            target: target.clone(),
            checker: checker.clone(),
            trace: trace.clone(),
        };
        let members = all.iter().map(|id| Member::new(*id, &all, seed, around.clone())).collect();
        Self {
            members,
            network,
            target,
            trace,
            away: setup::CONSUMERS.iter().map(|_| Arc::default()).collect(),
            checker,
            founders,
            quiet: AtomicBool::new(false),
            over: AtomicBool::new(false),
            faults: Mutex::default(),
        }
    }

    /// Whether faults have ended.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether a node was there from the beginning, or was let in later.
    pub(crate) fn was_let_in(&self, node: NodeId) -> bool {
        self.founders.contains(&node) || self.checker.was_admitted(node)
    }

    /// Whether a node is to take part: it was let in, and was not turned out.
    pub(crate) fn is_let_in(&self, node: NodeId) -> bool {
        self.was_let_in(node) && !self.checker.is_turned_out(node)
    }

    /// Those that are to take part.
    fn present(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|member| member.id).filter(|id| self.is_let_in(*id)).collect()
    }

    pub(crate) fn count(&self, fault: &'static str) {
        *lock(&self.faults).entry(fault).or_default() += 1;
        self.trace.line(format_args!("fault {fault}"));
    }

    pub(crate) fn soothe_disk(&self, place: usize) {
        self.members[place].disk.be_slow(DISK.0, DISK.1);
    }

    fn tally(&self) -> Tally {
        let Traffic { sent, .. } = self.network.traffic();
        Tally {
            commands: self.checker.commands(),
            effects: self.target.effects(),
            messages: sent,
            lasted: time::elapsed(),
            faults: lock(&self.faults).clone(),
        }
    }
}

/// Runs the world of a seed. All lines of its trace are kept when `whole`, the last ones otherwise.
#[must_use]
pub fn run(seed: u64, whole: bool) -> Report {
    time::run(seed, async move {
        let trace = Trace::new(whole);
        let mut chance = Chance::new(seed, 0);
        let size = if chance.permille(350) { 5 } else { 3 };
        let world = Arc::new(World::new(seed, size, trace.clone()));
        if live(&world, seed, &mut chance).await.is_none() && world.checker.violation().is_none() {
            world.checker.fail(Invariant::Settles, unsettled(&world));
        }
        world.over.store(true, Ordering::Relaxed);
        let (violation, tally) = (world.checker.violation(), world.tally());
        Report { seed, nodes: size, violation, trace: trace.record(), tally }
    })
}

/// `None` when it did not come as far as it had to in time, or a promise was broken.
async fn live(world: &Arc<World>, seed: u64, chance: &mut Chance) -> Option<()> {
    let mut operator = client(world, seed, 0);
    begin(world, &mut operator, chance).await?;
    for number in 1..=CLIENTS {
        time::spawn(client(world, seed, number).run(Arc::clone(world)));
    }
    for (place, name) in setup::CONSUMERS.iter().enumerate() {
        let consumer = Consumer {
            name: name.parse().expect("the names of a world are valid"),
            away: Arc::clone(&world.away[place]),
            chance: Chance::new(seed, 40 + place as u64),
            checker: world.checker.clone(),
            cursor: None,
            open: BTreeSet::new(),
        };
        time::spawn(consumer.run(Arc::clone(world)));
    }
    time::spawn(faults::run(Arc::clone(world), Chance::new(seed, 3)));
    time::spawn(turnover::run(Arc::clone(world), Chance::new(seed, 4)));
    let end = time::elapsed() + chance.millis(UNDER_FAULTS);
    while time::elapsed() < end {
        time::sleep(LOOK_EVERY).await;
        if world.checker.violation().is_some() {
            return None;
        }
    }
    make_peace(world).await;
    settle(world, &mut operator, chance).await
}

fn client(world: &World, seed: u64, number: u64) -> Client {
    Client {
        number,
        chance: Chance::new(seed, 20 + number),
        checker: world.checker.clone(),
        trace: world.trace.clone(),
        asked: 0,
    }
}

/// Starts the nodes, forms the cluster and declares what every world begins with.
async fn begin(world: &World, operator: &mut Client, chance: &mut Chance) -> Option<()> {
    for member in world.members.iter().filter(|member| world.founders.contains(&member.id)) {
        member.start().await;
    }
    let first = world.members.first()?.node()?;
    if let Err(error) = first.form(&world.founders).await {
        world.checker.fail(Invariant::Settles, error.to_string());
        return None;
    }
    for command in setup::commands(chance) {
        while !operator.ask(&first, command.clone()).await {
            if time::elapsed() > BEGINS_WITHIN {
                return None;
            }
        }
    }
    Some(())
}

/// Faults end.
async fn make_peace(world: &World) {
    world.quiet.store(true, Ordering::Relaxed);
    world.trace.line("peace");
    world.network.heal();
    world.target.be(Mood::default());
    for away in &world.away {
        away.store(false, Ordering::Relaxed);
    }
    for (place, member) in world.members.iter().enumerate() {
        member.skew.set(0);
        world.soothe_disk(place);
        if world.is_let_in(member.id) {
            member.start().await;
        }
    }
}

/// The operator stops the schedules and decides what waits for a decision, until nothing is owed any more.
async fn settle(world: &World, operator: &mut Client, chance: &mut Chance) -> Option<()> {
    let end = time::elapsed() + SETTLES_WITHIN;
    while time::elapsed() < end {
        if world.checker.violation().is_some() {
            return None;
        }
        let all: Vec<_> = world.members.iter().filter_map(Member::node).collect();
        let state = world.checker.reference();
        let decisions = decisions(&state);
        if let Some(command) = decisions.into_iter().next() {
            match any_node(&world.members, chance) {
                Some(node) => drop(operator.ask(&node, command).await),
                None => time::sleep(LOOK_EVERY).await,
            }
            continue;
        }
        let same = all.iter().all(|node| node.local().digest() == state.digest());
        if owes_nothing(&state) && same && has_followed(world, &all) {
            let states: Vec<_> = all.iter().map(|node| (node.id(), node.local())).collect();
            world.checker.ended(&states, &world.target.holdings());
            return Some(());
        }
        time::sleep(LOOK_EVERY).await;
    }
    None
}

/// Whether those that are to take part run and vote, and no others.
fn has_followed(world: &World, all: &[Node]) -> bool {
    let present = world.present();
    let settled = Membership { voters: vec![present.clone()], members: present.clone() };
    let running: BTreeSet<NodeId> = all.iter().map(Node::id).collect();
    running == present && faults::leader(world).is_some_and(|leader| leader.membership() == settled)
}

/// What waits for a person.
fn decisions(state: &State) -> Vec<Command> {
    let running = state.schedules().values().filter(|row| row.paused.is_none());
    let mut commands: Vec<Command> = running
        .map(|row| PauseSchedule { name: row.name.clone(), reason: "the end".into() }.into())
        .collect();
    for job in state.open_jobs() {
        match job {
            Job::Rotation(id) => {
                let stage = state.rotations().get(&id).map(|row| row.stage);
                if stage == Some(Stage::Quarantined) {
                    commands.push(RetryRotation { id }.into());
                }
            }
            Job::Grant(id) => match state.grants().get(&id).map(|row| row.stage) {
                Some(GrantStage::Requested) => commands.push(ApproveGrant { id }.into()),
                Some(GrantStage::AwaitingReview) => {
                    commands.push(ReviewGrant { id, note: "seen".into() }.into());
                }
                _ => {}
            },
        }
    }
    commands
}

fn owes_nothing(state: &State) -> bool {
    let caught_up = |consumer: &model::consumer::Consumer| state.outstanding_of(consumer).next().is_none();
    state.open_jobs().next().is_none() && state.consumers().values().all(caught_up)
}

/// What is still open, for the report.
fn unsettled(world: &World) -> String {
    let state = world.checker.reference();
    let nodes: Vec<String> = world
        .members
        .iter()
        .map(|member| match member.node() {
            Some(node) => format!("{} {:?} {:?}", member.id, node.progress(), node.membership()),
            None => format!("{} is down", member.id),
        })
        .collect();
    let jobs: Vec<String> = state
        .open_jobs()
        .map(|job| match job {
            Job::Rotation(id) => format!("{:?}", state.rotations().get(&id)),
            Job::Grant(id) => format!("{:?}", state.grants().get(&id)),
        })
        .collect();
    format!("nodes: {nodes:?}; now {}; open: {jobs:?}", state.now())
}
