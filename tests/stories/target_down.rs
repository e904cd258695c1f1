//! A target that is away is tried for as long as it takes, and one that says no is left alone until a person has
//! mended the cause. Neither harms the credential in use.

use client::v1;
use harness::eventually;

use super::stage::{
    ROTATOR, ROTATOR_PASSWORD, Setup, Stage, WITHIN, Witness, alternating_users, single_user, told,
};

#[tokio::test]
async fn a_target_that_is_down_is_tried_with_growing_waits_across_a_change_of_leader_until_it_is_back() {
    let mut stage = Stage::start(Setup::default(), &single_user(), v1::RotationPolicy::default()).await;
    let old = stage.secret().await;
    stage.postgres.stop().await;
    let id = stage.trigger().await;
    let backing_off = |least: u32| {
        move |run: &v1::Rotation| {
            run.failed_attempts >= least
                && run.failure_class == "unreachable"
                && run.history.last().is_some_and(|last| run.not_before_ms > last.at_ms)
        }
    };
    let first = stage.seen(&id, "a failed attempt", backing_off(1)).await;
    // Two more: each wait is double the one before, more than jitter can hide.
    let before = stage.seen(&id, "more failed attempts", backing_off(first.failed_attempts + 2)).await;
    let (short, long) = (wait_ms(&first), wait_ms(&before));
    assert!(long > short, "waits grow: {short} ms, then {long} ms");
    let failing = stage.status().await.failing;
    assert_eq!(failing.iter().map(|rotation| &rotation.id).collect::<Vec<_>>(), [&id]);

    let leader = stage.cluster.leader().await;
    stage.cluster.kill_node(leader);
    assert_ne!(stage.cluster.leader().await, leader);
    let kept = stage.rotation(&id).await;
    assert!(kept.failed_attempts >= before.failed_attempts, "the counter started over: {}", told(&kept));
    stage.seen(&id, "one more failed attempt", backing_off(kept.failed_attempts + 1)).await;

    stage.postgres.start_again().await;
    stage.settled(&id).await;
    assert_eq!(stage.secret().await.version, old.version + 1);
    assert!(!old.works(&stage.postgres).await);
    stage.assert_only_expected_roles_and_one_live_password().await;
    stage.cluster.start_node(leader);
    stage.assert_nodes_agree().await;
}

#[tokio::test]
async fn a_target_that_refuses_is_not_tried_again_and_the_old_version_is_untouched() {
    let stage = Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await;
    let spoil = format!("ALTER ROLE {ROTATOR} NOCREATEROLE");
    stage.postgres.admin().await.batch_execute(&spoil).await.unwrap();
    let id = refused(&stage, "rejected-by-target", "CREATEROLE").await;

    let mend = format!("ALTER ROLE {ROTATOR} CREATEROLE");
    stage.postgres.admin().await.batch_execute(&mend).await.unwrap();
    goes_on(&stage, &id).await;
}

#[tokio::test]
async fn an_administrative_password_that_is_refused_is_not_tried_until_it_is_declared_anew() {
    let stage = Stage::start(Setup::default(), &single_user(), v1::RotationPolicy::default()).await;
    let other = format!("{ROTATOR_PASSWORD}-changed-by-somebody");
    let spoil = format!("ALTER ROLE {ROTATOR} PASSWORD '{other}'");
    stage.postgres.admin().await.batch_execute(&spoil).await.unwrap();
    let id = refused(&stage, "wrong-credential", ROTATOR).await;

    stage.apply(vec![stage.target(&other).into()]).await;
    goes_on(&stage, &id).await;
}

/// A rotation that the target refuses: it stops at once, shows, names the cause, and has changed nothing.
async fn refused(stage: &Stage, class: &str, cause: &str) -> String {
    let old = stage.secret().await;
    let session = old.session(&stage.postgres).await;
    let witness = Witness::begin(&stage.postgres).await;
    let id = stage.trigger().await;
    let rotation = stage.reached(&id, "quarantined").await;
    assert_eq!(
        (rotation.failure_class.as_str(), rotation.failed_attempts),
        (class, 1),
        "{}",
        told(&rotation)
    );
    assert!(rotation.failure.contains(cause), "{}", told(&rotation));
    let shown = stage.status().await.quarantined;
    assert_eq!(shown.iter().map(|rotation| &rotation.id).collect::<Vec<_>>(), [&id]);
    let audited = stage.audit(&format!("rotation/{id}")).await;
    assert!(audited.iter().any(|record| record.detail.contains(class)), "{audited:?}");

    assert_eq!(stage.secret().await, old);
    assert!(old.works(&stage.postgres).await);
    assert!(session.simple_query("SELECT 1").await.is_ok(), "its sessions go on");
    witness.confirm(&stage.postgres, &[old]).await;
    stage.assert_only_expected_roles_and_one_live_password().await;
    id
}

/// Once the cause is mended, a person lets the same rotation go on, with the same candidate.
async fn goes_on(stage: &Stage, id: &str) {
    let old = stage.secret().await;
    stage.retry(id).await;
    stage.settled(id).await;
    assert_eq!(stage.versions().await, [(1, "destroyed".into()), (2, "active".into())]);
    assert!(!old.works(&stage.postgres).await);
    eventually("nothing quarantined", WITHIN, async || stage.status().await.quarantined.is_empty()).await;
    stage.assert_only_expected_roles_and_one_live_password().await;
}

/// How long a rotation waits after its last failure.
fn wait_ms(rotation: &v1::Rotation) -> u64 {
    let failed = rotation.history.last().expect("a failed attempt is in the history").at_ms;
    rotation.not_before_ms.saturating_sub(failed)
}
