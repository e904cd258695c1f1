//! Nodes come and go: they are let in and turned out by a command, and whoever leads makes the membership follow, a step at
//! a time, as the leader of a real cluster does.

use std::{sync::Arc, time::Duration};

use cluster::sim::{Loss, Node, time};
use model::{
    command::{AdmitNode, Command, RemoveNode},
    name::NodeId,
};

use crate::{
    chance::Chance,
    faults::{leader, start_later},
    world::World,
};

/// Places for nodes that are let in while the world lives.
pub(crate) const SPARE: u64 = 2;
/// Fewest voters that stay when one is turned out.
const FEWEST: usize = 3;
/// How often the leader looks whether a step is owed.
const TIDY_EVERY: Duration = Duration::from_millis(500);
/// A node that lacks no more may vote.
const CAUGHT_UP_ENTRIES: u64 = 256;
/// How long the midst of a change is waited for.
const WATCHED: Duration = Duration::from_secs(3);
/// How long after its beginning the leader crashes, in milliseconds: from before the others have heard of it until after it
/// may be committed.
const MIDST_MS: std::ops::RangeInclusive<u64> = 0..=15;

/// Makes the membership follow until the world is over.
pub(crate) async fn run(world: Arc<World>, mut chance: Chance) {
    while !world.is_over() {
        time::sleep(TIDY_EVERY).await;
        start_who_was_let_in(&world).await;
        end_who_is_gone(&world, &mut chance);
        if let Some(leader) = leader(&world) {
            tidy(&world, &leader).await;
        }
    }
}

/// A node that was let in starts for the first time; after that it is started by what has ended it.
async fn start_who_was_let_in(world: &World) {
    for member in &world.members {
        if world.is_let_in(member.id) && !member.has_run() {
            member.start().await;
        }
    }
}

/// The process of a node that was turned out ends when it is told so, some time later.
fn end_who_is_gone(world: &World, chance: &mut Chance) {
    for member in &world.members {
        if world.checker.is_gone(member.id) && (world.is_quiet() || chance.permille(150)) {
            member.crash(Loss::Nothing);
        }
    }
}

/// One step of what is owed. What fails is looked at anew.
async fn tidy(world: &World, leader: &Node) {
    let (state, membership) = (leader.local(), leader.membership());
    if membership.voters.len() > 1 {
        return drop(leader.finish_change().await);
    }
    let voters = leader.voters();
    if let Some(gone) = membership.members.iter().find(|id| state.removal_of(**id).is_some()) {
        return if *gone == leader.id() {
            let heard = leader.heard();
            let next = voters.iter().find(|id| *id != gone && heard.contains(id));
            if let Some(next) = next {
                leader.hand_over(*next).await;
            }
        } else {
            drop(leader.take_out(*gone).await);
        };
    }
    for id in world.members.iter().map(|member| member.id).filter(|id| world.is_let_in(*id)) {
        if !membership.members.contains(&id) {
            return drop(leader.add_learner(id).await);
        }
        let has_caught_up = leader.lag(id).is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES);
        if !voters.contains(&id) && has_caught_up && leader.heard().contains(&id) {
            if leader.promote(id).await.is_ok() {
                world.count("node-promoted");
            }
            return;
        }
    }
}

/// Lets a node in, when there is a place for one.
pub(crate) fn admit(world: &World) {
    let Some(leader) = leader(world) else { return };
    let ids = || world.members.iter().map(|member| member.id);
    let Some(new) = ids().find(|id| !world.was_let_in(*id)) else { return };
    let highest = ids().filter(|id| world.was_let_in(*id)).max();
    world.count("node-let-in");
    let command = AdmitNode {
        invitation: None,
        storage: [u8::try_from(new.0).unwrap_or_default(); 16],
        peer_address: format!("{new}:1"),
        learner: false,
        highest: highest.unwrap_or_default(),
    };
    order(leader, command);
}

/// Turns a voter out for good, often the one that leads, when enough are left.
pub(crate) fn turn_out(world: &World, chance: &mut Chance) {
    let Some(leader) = leader(world) else { return };
    let voters: Vec<NodeId> =
        leader.voters().into_iter().filter(|id| !world.checker.is_turned_out(*id)).collect();
    if voters.len() <= FEWEST {
        return;
    }
    let leads = leader.id();
    let node = if chance.permille(400) { Some(leads) } else { chance.one_of(&voters).copied() };
    let Some(node) = node.filter(|node| voters.contains(node)) else { return };
    world.count(if node == leads { "leader-turned-out" } else { "node-turned-out" });
    order(leader, RemoveNode { node, reason: "a fault".into(), highest: node });
}

fn order(leader: Node, command: impl Into<Command>) {
    let command = command.into();
    time::spawn(async move { drop(leader.propose("operator".into(), command).await) });
}

/// The leader crashes in the midst of a change of the voters: the old and the new ones must both agree, and it does not
/// know yet whether they do.
pub(crate) async fn crash_in_a_change(world: &Arc<World>, chance: &mut Chance) {
    let Some(leader) = time::within(WATCHED, world.checker.change_begun()).await else { return };
    time::sleep(chance.millis(MIDST_MS)).await;
    let Some(place) = world.members.iter().position(|member| member.id == leader) else { return };
    if world.is_quiet() {
        return;
    }
    world.count("leader-crash-in-a-change");
    world.members[place].crash(if chance.permille(500) { Loss::Nothing } else { Loss::Unflushed });
    start_later(world, place, chance.millis(100..=8_000));
}
