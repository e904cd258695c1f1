//! The wall clocks of all nodes jump at the same moment, as when the host of all of them is set: nobody is right to
//! hand over to. Nothing falls due by it, nothing is held up by it, and every node says so.

use client::v1;
use harness::{eventually, false_clock};

use super::stage::WITHIN;
use super::stage::demo::{DemoStage, Due, assert_none_missed_none_doubled, every, now_ms};

const PERIOD_MS: u64 = 2_000;
/// Instants that are waited for after each jump, and what a busy machine may delay one by.
const AFTER: usize = 3;
const SLOWNESS_MS: u64 = 300_000;
const SKEW_MS: u64 = 1_000;
const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_jump_of_all_clocks_together_starts_no_burst_and_nothing_early() {
    let setup = harness::Setup { false_clocks: true, ..harness::Setup::default() };
    let stage = DemoStage::start(setup).await;
    let name = "orders-db".to_owned();
    stage.declare(&[(name.clone(), every(PERIOD_MS))]).await;
    instants(&stage, &name, AFTER).await;

    for (offset, off) in [("+1h", HOUR_MS), ("-1h", -HOUR_MS)] {
        for id in stage.cluster.ids() {
            false_clock::set(&stage.cluster, id, offset);
        }
        clocks_are_off_by(&stage, Some(off)).await;
        let before = stage.due(&name).await;
        let due = instants(&stage, &name, before.len() + AFTER).await;
        let (real, last) = (now_ms(), due[due.len() - 1].at_ms);
        assert!(last <= real + SKEW_MS, "{offset}: {last} fell due before its time");
        assert!(last + SLOWNESS_MS > real, "{offset}: nothing fell due for long");
        let most = 1 + (real - before[before.len() - 1].at_ms) / PERIOD_MS;
        assert!(due.len() - before.len() <= usize::try_from(most).unwrap(), "{offset}: a burst: {due:#?}");
        for id in stage.cluster.ids() {
            false_clock::set(&stage.cluster, id, "+0");
        }
        clocks_are_off_by(&stage, None).await;
    }
    let due = stage.due(&name).await;
    assert_none_missed_none_doubled(&due, PERIOD_MS, 2);
    assert!(stage.rotations(&name).await.iter().any(|rotation| rotation.stage == "settled"));
}

/// Waits until so many instants have passed in all.
async fn instants(stage: &DemoStage, name: &str, count: usize) -> Vec<Due> {
    eventually("more instants", WITHIN, async || {
        let due = stage.due(name).await;
        if due.len() >= count { Ok(due) } else { Err(due) }
    })
    .await
}

/// Waits until every node says so of its clock.
async fn clocks_are_off_by(stage: &DemoStage, off: Option<i64>) {
    for id in stage.cluster.ids() {
        let client = stage.cluster.client_of(id);
        eventually(format!("the clock of node-{id} to be off by {off:?}"), WITHIN, async || {
            let said =
                client.get_cluster(v1::GetClusterRequest {}).await.map_err(|error| error.to_string())?;
            let said = said.clock_off_ms;
            let apart = said.unwrap_or_default().abs_diff(off.unwrap_or_default());
            if said.is_some() == off.is_some() && apart < SLOWNESS_MS {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .await;
    }
}
