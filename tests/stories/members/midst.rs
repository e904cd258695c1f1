//! The leader dies in the midst of a change of the voters. The change ends whole or not at all, whoever leads next finishes
//! it or undoes it, nothing that was acknowledged is lost, and the order can be given again.

use harness::eventually;

use super::machines::{Machines, refused};
use super::writers::Writers;
use super::{WITHIN, healthy, nothing_is_lost};

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
    let (leader, others) = caught(&mut machines, 4, &[1, 2, 3], Machines::pause).await;
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
    let (leader, others) = caught(&mut machines, 5, &[1, 2, 3, 4], Machines::kill).await;
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

/// Brings the leader into the midst of letting `learner` vote: the change is begun, and not committed, as the other voters
/// are taken `away`. Gives the leader and those others.
async fn caught(
    machines: &mut Machines,
    learner: u64,
    voters: &[u64],
    away: fn(&mut Machines, u64),
) -> (u64, Vec<u64>) {
    // While the learner does not answer, its promotion is owed and is not begun.
    machines.pause(learner);
    let leader = machines.leader().await;
    eventually("the learner is missed", WITHIN, async || {
        let seen = machines.seen_by(leader).await?;
        let member = seen.members.into_iter().find(|member| member.id == learner);
        if member.as_ref().is_some_and(|member| !member.reachable) {
            Ok(())
        } else {
            Err(format!("{member:?}"))
        }
    })
    .await;
    let name = format!("node-{learner}");
    let promote = ["cluster", "promote", &name, "--reason", "it has proven itself", "--yes"];
    let told = refused(&machines.cli(&promote), 5);
    assert!(told.contains("does not answer"), "{told}");

    let leader = machines.leader().await;
    let others: Vec<u64> = voters.iter().copied().filter(|node| *node != leader).collect();
    for other in &others {
        away(machines, *other);
    }
    machines.resume(learner);
    eventually("a change that is begun", WITHIN, async || {
        let seen = machines.seen_by(leader).await?;
        if seen.changing && seen.leader == leader { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    (leader, others)
}
