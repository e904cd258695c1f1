//! The leader dies in the midst of a change of the voters. The change ends whole or not at all, whoever leads next finishes
//! it or undoes it, nothing that was acknowledged is lost, and the order can be given again.

use client::v1;
use harness::eventually;

use super::machines::{Machines, refused};
use super::writers::Writers;
use super::{WITHIN, healthy, nothing_is_lost};

/// A leader that has not heard a majority for this long begins nothing: longer than its lease, `election_max_ms`.
const LEASE_OVER_MS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_the_midst_of_a_promotion_leaves_it_whole_or_not_at_all() {
    let mut machines = Machines::start(3).await;
    let more = [machines.prepare(), machines.prepare()];
    let writers = Writers::start(&machines.admin_of_each());
    for machine in more {
        let token = machines.invite(&[]);
        machines.join_at(machine, &token, &["--learner"]).await;
    }
    writers.have_written(50).await;

    // The other voters are frozen: what the leader has sent to them is there when they go on.
    let (leader, others) = caught(&mut machines, 4, &[1, 2, 3], FROZEN).await;
    machines.kill(leader);
    for other in others {
        machines.resume(other);
    }
    machines.settled(&[1, 2, 3, 4]).await;
    machines.order("promote", 4, "it may be asked for again").await;
    machines.run(leader);
    machines.voters(&[1, 2, 3, 4]).await;
    writers.have_written(50).await;

    // The other voters are dead and have not heard of the change. Those that have die with the leader.
    let (leader, others) = caught(&mut machines, 5, &[1, 2, 3, 4], DEAD).await;
    machines.kill(leader);
    machines.kill(5);
    for other in others {
        machines.run(other);
    }
    machines.settled(&[1, 2, 3, 4]).await;
    writers.have_written(50).await;
    // Who comes back with half a change in its log gives it up. The promotion is owed still, and is carried out.
    machines.run(leader);
    machines.run(5);
    machines.voters(&[1, 2, 3, 4, 5]).await;
    machines.settled(&[1, 2, 3, 4, 5]).await;
    machines.order("promote", 5, "it may be asked for again").await;

    writers.have_written(50).await;
    let written = writers.stop().await;
    nothing_is_lost(&machines, &[1, 2, 3, 4, 5], &written).await;
    healthy(&machines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_the_midst_of_its_own_removal_is_out_for_good() {
    let mut machines = Machines::start(3).await;
    let writers = Writers::start(&machines.admin_of_each());
    writers.have_written(50).await;

    // It dies when its removal is committed, and before it has handed the lead over.
    let leader = machines.leader().await;
    let name = format!("node-{leader}");
    machines.crash_at("remove.committed");
    let ordered =
        machines.cli_at(leader, &["cluster", "remove", &name, "--reason", "it is the oldest", "--yes"]);
    assert!(!ordered.status.success(), "{ordered:?}");
    machines.ended(leader).await;
    let mut left: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    machines.settled(&left).await;
    machines.voters(&left).await;
    machines.order("remove", leader, "it may be asked for again").await;
    writers.have_written(50).await;

    machines.run(leader);
    let said = machines.ended(leader).await;
    assert!(said.contains("was removed from the cluster: it is the oldest"), "{said}");
    left.push(machines.join(&[]).await);
    assert_eq!(left[2], 4, "the number is not used again");
    machines.voters(&left).await;

    writers.have_written(50).await;
    let written = writers.stop().await;
    nothing_is_lost(&machines, &left, &written).await;
    healthy(&machines).await;
}

/// How the other voters are taken away, and brought back.
struct Away {
    take: fn(&mut Machines, u64),
    bring_back: fn(&mut Machines, u64),
}

const FROZEN: Away = Away { take: Machines::pause, bring_back: Machines::resume };
const DEAD: Away = Away { take: Machines::kill, bring_back: Machines::run };

/// Brings the leader into the midst of letting `learner` vote: the change is begun, and not committed, as the other voters
/// are taken `away`. Gives the leader and those others.
async fn caught(machines: &mut Machines, learner: u64, voters: &[u64], away: Away) -> (u64, Vec<u64>) {
    // While the learner does not answer, its promotion is owed and is not begun.
    machines.pause(learner);
    missed(machines, learner, voters).await;
    let name = format!("node-{learner}");
    let promote = ["cluster", "promote", &name, "--reason", "it has proven itself", "--yes"];
    let told = refused(&machines.cli(&promote), 5);
    assert!(told.contains("does not answer"), "{told}");

    loop {
        let leader = missed(machines, learner, voters).await;
        let others: Vec<u64> = voters.iter().copied().filter(|node| *node != leader).collect();
        for other in &others {
            (away.take)(machines, *other);
        }
        machines.resume(learner);
        if is_begun(machines, leader, &others).await {
            return (leader, others);
        }
        // The learner was heard too late: a leader alone begins nothing once its lease is over. From the start.
        machines.pause(learner);
        eventually("the learner is missed again", WITHIN, async || {
            is_missed(&machines.seen_by(leader).await?, learner, &[])
        })
        .await;
        for other in others {
            (away.bring_back)(machines, other);
        }
    }
}

/// Waits until the leader hears these voters, and not this node; gives the leader.
async fn missed(machines: &Machines, node: u64, voters: &[u64]) -> u64 {
    eventually(format!("node {node} is missed, and {voters:?} are heard"), WITHIN, async || {
        let leader = machines.leader().await;
        is_missed(&machines.seen_by(leader).await?, node, voters).map(|()| leader)
    })
    .await
}

/// Whether a leader that has `seen` this hears these voters, and not this node.
fn is_missed(seen: &v1::GetClusterResponse, node: u64, voters: &[u64]) -> Result<(), String> {
    let is_as_wanted = |member: &v1::Member| {
        if member.id == node { !member.reachable } else { member.reachable || !voters.contains(&member.id) }
    };
    let done = seen.leader == seen.node && seen.members.iter().all(is_as_wanted);
    if done { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// Waits until the leader has begun a change, or has heard nothing of the others for so long that it will not.
async fn is_begun(machines: &Machines, leader: u64, others: &[u64]) -> bool {
    eventually("a change that is begun, or a lease that is over", WITHIN, async || {
        let seen = machines.seen_by(leader).await?;
        let is_silent = |member: &v1::Member| member.silent_ms.is_some_and(|silent| silent > LEASE_OVER_MS);
        let mut others = seen.members.iter().filter(|member| others.contains(&member.id));
        match (seen.changing && seen.leader == leader, others.all(is_silent)) {
            (true, _) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err(format!("{seen:?}")),
        }
    })
    .await
}
