//! The wall clock of the leader jumps, by minutes or by years: it is not followed, the lead goes to a node whose clock
//! is right, every due instant has its one effect, neither early nor late by the jump, and grants end when they should.

use std::time::{SystemTime, UNIX_EPOCH};

use client::v1;
use harness::{eventually, false_clock};

use super::break_glass::{People, ended};
use super::stage::demo::{Due, assert_none_missed_none_doubled};
use super::stage::{CREDENTIAL, Setup, Stage, WITHIN, alternating_users, schedule, told};

/// Long enough for a rotation, so that few instants are left out.
const PERIOD_MS: u64 = 10_000;
const MINUTE_MS: i64 = 60_000;
/// What is put to a clock, and by how much it is wrong then.
const JUMPS: [(&str, i64); 5] = [
    ("+10m", 10 * MINUTE_MS),
    ("-10m", -10 * MINUTE_MS),
    ("+1h", 60 * MINUTE_MS),
    ("-1h", -60 * MINUTE_MS),
    ("+10y", 10 * 365 * 24 * 60 * MINUTE_MS),
];
/// How far clocks that are right may be apart, and how long something that is due may take on a busy machine. The jumps
/// are far larger.
const SKEW_MS: u64 = 1_000;
const SLOWNESS_MS: u64 = 300_000;

#[tokio::test]
async fn a_jump_of_the_leaders_clock_moves_no_rotation_and_no_grant() {
    let cluster = harness::Setup { false_clocks: true, ..harness::Setup::default() };
    let stage = Stage::bare(Setup { cluster, ..Setup::default() }).await;
    stage.declare(&alternating_users(), v1::RotationPolicy::default()).await;
    let people = People::of(&stage).await;
    let timing = Some(v1::Timing { every_ms: PERIOD_MS, ..v1::Timing::default() });
    stage.apply(vec![v1::Schedule { timing, ..schedule(v1::RotationPolicy::default()) }.into()]).await;

    for (offset, off) in JUMPS {
        let (grant, login) = people.granted().await;
        let wrong = stage.cluster.leader().await;
        false_clock::set(&stage.cluster, wrong, offset);
        let jumped = now();
        clock_is_off_by(&stage, wrong, Some(off)).await;
        eventually("another leader", WITHIN, async || {
            let leader = stage.cluster.leader().await;
            (leader != wrong).then_some(()).ok_or(leader)
        })
        .await;

        next_rotation(&stage, jumped).await;
        let over = ended(&stage, &people.bob, &grant).await;
        assert_eq!(over.end_reason, "expired", "{offset}");
        assert!(
            over.ended_ms >= over.expires_ms && now() + SKEW_MS >= over.expires_ms,
            "{offset}: too early"
        );
        assert!(now() < over.expires_ms + SLOWNESS_MS, "{offset}: it outlived its end");
        assert!(!login.works(&stage.postgres).await, "{offset}");

        false_clock::set(&stage.cluster, wrong, "+0");
        clock_is_off_by(&stage, wrong, None).await;
    }
    every_instant_has_one_effect(&stage).await;
}

/// Waits until the node says so of its clock.
async fn clock_is_off_by(stage: &Stage, node: u64, off: Option<i64>) {
    let client = stage.cluster.client_of(node);
    eventually(format!("the clock of node-{node} to be off by {off:?}"), WITHIN, async || {
        let said = client.get_cluster(v1::GetClusterRequest {}).await.map_err(|error| error.to_string())?;
        let said = said.clock_off_ms;
        let apart = said.unwrap_or_default().abs_diff(off.unwrap_or_default());
        // libfaketime has years of its own.
        let alike = said.is_some() == off.is_some() && apart <= off.unwrap_or_default().unsigned_abs() / 100;
        if alike { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

/// Waits for a rotation that fell due after `after`.
async fn next_rotation(stage: &Stage, after: u64) {
    let rotation = eventually("the next rotation", WITHIN, async || {
        let all = stage.rotations().await;
        let next = all.iter().find(|rotation| rotation.due_ms > after && rotation.stage == "settled");
        next.cloned().ok_or_else(|| all.iter().map(told).collect::<Vec<_>>())
    })
    .await;
    assert!(now() + SKEW_MS >= rotation.due_ms, "{} was early", rotation.id);
    assert!(rotation.due_ms < after + SLOWNESS_MS, "{} fell due late", rotation.id);
}

async fn every_instant_has_one_effect(stage: &Stage) {
    let request = v1::PauseScheduleRequest { name: CREDENTIAL.into(), reason: "seen enough".into() };
    stage.client.pause_schedule(request).await.unwrap();
    let all = stage.rotations().await;
    let late = all.iter().find(|rotation| rotation.started_ms < rotation.due_ms);
    assert!(late.is_none(), "early: {late:?}");
    let due: Vec<u64> = all.iter().map(|rotation| rotation.due_ms).collect();
    assert!(due.windows(2).all(|pair| pair[0] > pair[1]), "doubled: {due:?}");
    // Where a rotation takes long, the next instant has the effect that it is left out.
    let records = stage.audit(&format!("schedule/{CREDENTIAL}")).await;
    let of_instants = records.iter().filter(|record| record.action == "schedule.due");
    let instants: Vec<Due> = of_instants.map(Due::of).collect();
    assert_none_missed_none_doubled(&instants, PERIOD_MS, JUMPS.len() + 1);
}

/// The time by the clock of this process, which is right.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
