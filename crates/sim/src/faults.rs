//! Faults, drawn from the seed: at most a few at a time, each of which passes by itself.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cluster::sim::{Link, Loss, Node, time};
use model::name::NodeId;

use crate::{
    chance::Chance,
    consumer::{AWAY, leave},
    member::Member,
    target::Mood,
    turnover::{admit, crash_in_a_change, turn_out},
    world::World,
};

/// How long the moment for a fault is waited for.
const WATCHED: Duration = Duration::from_secs(5);

/// Makes faults until the world becomes quiet.
pub(crate) async fn run(world: Arc<World>, mut chance: Chance) {
    loop {
        let pause = chance.millis(300..=4_000);
        time::sleep(pause).await;
        if world.is_quiet() {
            return;
        }
        match chance.number(0..=113) {
            0..=13 => crash_one(&world, &mut chance, Loss::Nothing),
            14..=27 => crash_one(&world, &mut chance, Loss::Unflushed),
            28..=29 => crash_all(&world, &mut chance),
            30..=34 => crash_all_after_an_answer(&world, &mut chance).await,
            35..=38 => crash_after_a_vote(&world, &mut chance).await,
            39..=42 => cut_one_way(&world, &mut chance),
            43..=48 => isolate(&world, &mut chance),
            49..=51 => split(&world, &mut chance),
            52..=58 => worsen(&world, &mut chance),
            59..=66 => jump(&world, &mut chance),
            67..=71 => slow_disk(&world, &mut chance),
            72..=83 => upset_target(&world, &mut chance),
            84..=89 => consumer_away(&world, &mut chance),
            90..=95 => change_membership(&world, &mut chance),
            96..=99 => hand_over(&world, &mut chance).await,
            100..=103 => admit(&world),
            104..=107 => turn_out(&world, &mut chance),
            _ => interrupt_a_change(&world, &mut chance).await,
        }
    }
}

fn crash_one(world: &Arc<World>, chance: &mut Chance, loss: Loss) {
    let Some(place) = any_place(world, chance) else { return };
    world.count(if loss == Loss::Nothing { "crash" } else { "power-loss" });
    world.members[place].crash(loss);
    start_later(world, place, chance.millis(100..=8_000));
}

/// The power of all nodes fails.
fn crash_all(world: &Arc<World>, chance: &mut Chance) {
    world.count("power-loss-of-all");
    for place in 0..world.members.len() {
        world.members[place].crash(Loss::Unflushed);
        start_later(world, place, chance.millis(100..=5_000));
    }
}

/// The power of all nodes fails just when a client was told that its write is done.
async fn crash_all_after_an_answer(world: &Arc<World>, chance: &mut Chance) {
    let before = world.checker.freshness();
    if wait_until(world, || world.checker.freshness() > before).await {
        world.count("power-loss-after-an-answer");
        crash_all(world, chance);
    }
}

/// The power of a node fails just when it has come to another term, which it may have voted in; it is soon back.
async fn crash_after_a_vote(world: &Arc<World>, chance: &mut Chance) {
    if let Some(leader) = leader(world).filter(|_| chance.permille(700)) {
        let place = world.members.iter().position(|member| member.id == leader.id());
        place.into_iter().for_each(|place| fail(world, chance, place, 2_000..=4_000));
    }
    let term = |place: usize| world.members[place].node().map(|node| node.progress().term);
    let terms: Vec<_> = (0..world.members.len()).map(term).collect();
    let voted = || (0..terms.len()).find(|place| terms[*place].is_some() && term(*place) > terms[*place]);
    if wait_until(world, || voted().is_some()).await
        && let Some(place) = voted()
    {
        world.count("power-loss-after-a-vote");
        fail(world, chance, place, 1..=100);
    }
}

fn fail(world: &Arc<World>, chance: &mut Chance, place: usize, away_ms: std::ops::RangeInclusive<u64>) {
    world.members[place].crash(Loss::Unflushed);
    start_later(world, place, chance.millis(away_ms));
}

/// Looks whenever something was acknowledged or a term has begun, for a few seconds and not after faults have ended.
async fn wait_until(world: &World, holds: impl Fn() -> bool + Sync) -> bool {
    let looking = async {
        while !holds() && !world.is_quiet() {
            world.checker.moment().await;
        }
    };
    time::within(WATCHED, looking).await.is_some() && !world.is_quiet()
}

pub(crate) fn start_later(world: &Arc<World>, place: usize, pause: Duration) {
    let world = Arc::clone(world);
    time::spawn(async move {
        time::sleep(pause).await;
        let member = &world.members[place];
        // One that was turned out may be found and switched on while faults last.
        if world.was_let_in(member.id) && (world.is_let_in(member.id) || !world.is_quiet()) {
            member.start().await;
        }
    });
}

fn cut_one_way(world: &Arc<World>, chance: &mut Chance) {
    let (Some(from), Some(to)) = (any_id(world, chance), any_id(world, chance)) else { return };
    if from == to {
        return;
    }
    world.count("partition-one-way");
    relink(world, chance, &[(from, to)], Link { cut: true, ..Link::default() });
}

/// One node is cut off from all others, both ways.
fn isolate(world: &Arc<World>, chance: &mut Chance) {
    let Some(alone) = any_id(world, chance) else { return };
    world.count("isolation");
    let others = world.members.iter().map(|member| member.id).filter(|id| *id != alone);
    let links: Vec<_> = others.flat_map(|other| [(alone, other), (other, alone)]).collect();
    relink(world, chance, &links, Link { cut: true, ..Link::default() });
}

/// The nodes fall into two groups.
fn split(world: &Arc<World>, chance: &mut Chance) {
    world.count("partition");
    let one: BTreeSet<NodeId> =
        world.members.iter().map(|member| member.id).filter(|_| chance.permille(500)).collect();
    let links: Vec<_> =
        pairs(world).into_iter().filter(|(from, to)| one.contains(from) != one.contains(to)).collect();
    relink(world, chance, &links, Link { cut: true, ..Link::default() });
}

/// Messages are lost, late and repeated, everywhere.
fn worsen(world: &Arc<World>, chance: &mut Chance) {
    world.count("bad-network");
    let share = |chance: &mut Chance, most: u64| u32::try_from(chance.number(0..=most)).unwrap_or_default();
    let link = Link {
        cut: false,
        lost: share(chance, 250),
        repeated: share(chance, 250),
        least: Duration::from_millis(1),
        most: chance.millis(2..=300),
    };
    let links = pairs(world);
    relink(world, chance, &links, link);
}

fn relink(world: &Arc<World>, chance: &mut Chance, links: &[(NodeId, NodeId)], link: Link) {
    let pause = chance.millis(300..=10_000);
    for (from, to) in links {
        world.network.set(*from, *to, link);
    }
    world.trace.line(format_args!("network {link:?} on {links:?}"));
    let (world, links) = (Arc::clone(world), links.to_vec());
    time::spawn(async move {
        time::sleep(pause).await;
        for (from, to) in links {
            world.network.set(from, to, Link::default());
        }
    });
}

fn jump(world: &Arc<World>, chance: &mut Chance) {
    let Some(place) = any_place(world, chance) else { return };
    world.count("clock-jump");
    let furthest = if chance.permille(200) { 20_000 } else { 1_500 };
    let millis = chance.number(0..=2 * furthest);
    let millis = i64::try_from(millis).unwrap_or_default() - i64::try_from(furthest).unwrap_or_default();
    let member: &Member = &world.members[place];
    member.skew.set(millis);
    world.trace.line(format_args!("{} has its clock wrong by {millis} ms", member.id));
}

fn slow_disk(world: &Arc<World>, chance: &mut Chance) {
    let Some(place) = any_place(world, chance) else { return };
    world.count("slow-disk");
    let most = chance.millis(20..=1_500);
    world.members[place].disk.be_slow(Duration::from_millis(1), most);
    let (world, pause) = (Arc::clone(world), chance.millis(1_000..=8_000));
    time::spawn(async move {
        time::sleep(pause).await;
        world.soothe_disk(place);
    });
}

fn upset_target(world: &Arc<World>, chance: &mut Chance) {
    let mut mood = Mood::default();
    match chance.number(0..=3) {
        0 => {
            world.count("target-slow");
            mood.slowest_ms = chance.number(500..=6_000);
        }
        1 => {
            world.count("target-failing");
            mood.fails = chance.number(100..=900);
        }
        2 => {
            world.count("target-unreachable");
            mood.unreachable = true;
        }
        _ => {
            world.count("reply-lost");
            mood.loses_replies = chance.number(100..=700);
        }
    }
    world.target.be(mood);
    world.trace.line(format_args!("target {mood:?}"));
    let (world, pause) = (Arc::clone(world), chance.millis(500..=8_000));
    time::spawn(async move {
        time::sleep(pause).await;
        world.target.be(Mood::default());
    });
}

fn consumer_away(world: &Arc<World>, chance: &mut Chance) {
    let Some(away) = chance.one_of(&world.away) else { return };
    world.count("consumer-away");
    leave(away, chance.millis(AWAY));
}

/// A change of the voters begins, and the leader crashes in its midst.
async fn interrupt_a_change(world: &Arc<World>, chance: &mut Chance) {
    match chance.number(0..=2) {
        0 => admit(world),
        1 => turn_out(world, chance),
        _ => change_membership(world, chance),
    }
    crash_in_a_change(world, chance).await;
}

/// One voter fewer, or all members voters again.
fn change_membership(world: &Arc<World>, chance: &mut Chance) {
    let Some(leader) = leader(world) else { return };
    world.count("membership-change");
    let mut voters = leader.voters();
    let members = leader.membership().members;
    let everyone: BTreeSet<NodeId> = members.into_iter().filter(|id| world.is_let_in(*id)).collect();
    let leaves: Vec<NodeId> = voters.iter().copied().collect();
    match chance.one_of(&leaves) {
        Some(leaving) if voters.len() > 2 => drop(voters.remove(leaving)),
        _ => voters = everyone,
    }
    let trace = world.trace.clone();
    time::spawn(async move {
        let changed = leader.change_voters(&voters).await;
        trace.line(format_args!("voters {voters:?}: {}", if changed.is_ok() { "done" } else { "not done" }));
    });
}

async fn hand_over(world: &Arc<World>, chance: &mut Chance) {
    let (Some(leader), Some(to)) = (leader(world), any_id(world, chance)) else { return };
    if leader.id() != to && leader.voters().contains(&to) {
        world.count("leader-handed-over");
        leader.hand_over(to).await;
    }
}

/// A node that says it leads.
pub(crate) fn leader(world: &World) -> Option<Node> {
    world.members.iter().filter_map(Member::node).find(|node| node.progress().is_leader)
}

fn any_place(world: &World, chance: &mut Chance) -> Option<usize> {
    let mut places: Vec<usize> = (0..world.members.len()).collect();
    places.retain(|place| world.is_let_in(world.members[*place].id));
    chance.one_of(&places).copied()
}

fn any_id(world: &World, chance: &mut Chance) -> Option<NodeId> {
    any_place(world, chance).map(|place| world.members[place].id)
}

fn pairs(world: &World) -> Vec<(NodeId, NodeId)> {
    let ids: Vec<NodeId> = world.members.iter().map(|member| member.id).collect();
    ids.iter()
        .flat_map(|from| ids.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to)
        .collect()
}
