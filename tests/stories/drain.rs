//! Consumers decide how long an old credential lives beside the new one, within the maximum that its schedule sets.

use client::v1::EventKind::{CredentialRestored, CredentialRevoked, CredentialRotated};
use client::{Client, ReceiptStage, v1};
use harness::eventually;

use super::stage::{Consumer, Login, Setup, Stage, WITHIN, alive, alternating_users, passages, told};

/// Long enough to look at both versions while they live, short enough to wait for.
const SHORT_OVERLAP_MS: u64 = 20_000;
const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn a_silent_consumer_keeps_the_old_version_until_the_maximum_and_policy_retire_ends_it() {
    let (stage, run) = overlapping("retire").await;
    let rotation = stage.settled(&run.id).await;
    over_only_after_the_maximum(&rotation, "overlap over without billing: retired all the same");
    assert!(!run.old.works(&stage.postgres).await);
    assert!(!alive(&run.session).await, "a session of the old version is cut");
    stage.assert_only_expected_roles_and_one_live_password().await;
    let owing = stage.status().await.unacknowledged;
    assert!(owing.iter().any(|consumer| consumer.name == "billing"), "what it owes is forgotten: {owing:?}");
}

#[tokio::test]
async fn a_silent_consumer_under_policy_hold_leaves_both_versions_until_a_person_decides() {
    let (stage, run) = overlapping("hold").await;
    let held = stage.reached(&run.id, "quarantined").await;
    over_only_after_the_maximum(&held, "overlap over without billing: held for a decision");
    let quarantined = stage.status().await.quarantined;
    assert_eq!(quarantined.iter().map(|rotation| &rotation.id).collect::<Vec<_>>(), [&run.id]);
    assert!(run.old.works(&stage.postgres).await && run.new.works(&stage.postgres).await);
    assert!(alive(&run.session).await);

    let revision = stage.events().await.last().unwrap().revision;
    let billing = Consumer::follow(&run.silent);
    eventually("the late answer", WITHIN, async || {
        billing.seen().iter().any(|event| event.revision == revision)
    })
    .await;
    stage.retry(&run.id).await;
    stage.settled(&run.id).await;
    assert!(!run.old.works(&stage.postgres).await && !alive(&run.session).await);
    stage.assert_only_expected_roles_and_one_live_password().await;
}

#[tokio::test]
async fn a_silent_consumer_under_policy_abort_brings_the_old_version_back() {
    let (stage, run) = overlapping("abort").await;
    let rotation = stage.reached(&run.id, "aborted").await;
    over_only_after_the_maximum(&rotation, "overlap over without billing: rolled back");
    assert_eq!(stage.secret().await, run.old);
    assert!(run.old.works(&stage.postgres).await && !run.new.works(&stage.postgres).await);
    assert!(alive(&run.session).await, "the version that is kept keeps its sessions");
    stage.assert_only_expected_roles_and_one_live_password().await;
    assert_eq!(stage.versions().await, [(1, "active".into()), (2, "destroyed".into())]);
    let expected =
        [(CredentialRotated, 1), (CredentialRotated, 2), (CredentialRevoked, 2), (CredentialRestored, 1)];
    assert_eq!(stage.told_by_feed().await, expected);
}

#[tokio::test]
async fn when_every_consumer_has_acknowledged_the_old_version_goes_at_once() {
    let policy = v1::RotationPolicy { overlap_max_ms: HOUR_MS, ..v1::RotationPolicy::default() };
    let stage = Stage::start(Setup::default(), &alternating_users(), policy).await;
    let old = stage.secret().await;
    let (billing, shipping) = (stage.consumer("billing").await, stage.consumer("shipping").await);
    let billing = Consumer::follow(&billing);
    let id = stage.trigger().await;
    let waiting = stage.seen(&id, "waiting for shipping alone", |run| run.waiting_for == ["shipping"]).await;
    assert!(old.works(&stage.postgres).await, "one of two is not enough");

    let shipping = Consumer::follow(&shipping);
    let rotation = stage.settled(&id).await;
    assert_eq!(passages(&rotation, "drain", "every required consumer has moved"), 1, "{}", told(&rotation));
    assert!(rotation.ended_ms < waiting.drain_until_ms, "the hour is not over");
    assert!(!old.works(&stage.postgres).await);
    stage.assert_only_expected_roles_and_one_live_password().await;
    // Both are told of the end as well, and answer.
    let is_the_end = |event: &v1::Event| event.kind() == CredentialRevoked && event.version == old.version;
    for consumer in [&billing, &shipping] {
        eventually("both to be told", WITHIN, async || consumer.seen().iter().any(is_the_end)).await;
    }
    eventually("nothing owed", WITHIN, async || {
        let owed = stage.status().await.unacknowledged;
        if owed.is_empty() { Ok(()) } else { Err(owed) }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_only_received_or_failed_does_not_end_the_overlap() {
    let policy = v1::RotationPolicy { overlap_max_ms: HOUR_MS, ..v1::RotationPolicy::default() };
    let stage = Stage::start(Setup::default(), &alternating_users(), policy).await;
    let old = stage.secret().await;
    let billing = stage.consumer("billing").await;
    let id = stage.trigger().await;
    stage.reached(&id, "drain").await;
    let revision = stage.events().await.last().unwrap().revision;
    let mut feed = billing.subscribe(client::SubscribeOptions::default());
    while feed.progress().position() < revision {
        feed.next().await.unwrap();
    }
    for stage_of_receipt in [ReceiptStage::Received, ReceiptStage::Failed] {
        billing
            .acknowledge(stage_of_receipt, [revision..=revision], "the pool does not reload")
            .await
            .unwrap();
        let rotation = stage.rotation(&id).await;
        assert_eq!(
            (rotation.stage.as_str(), &rotation.waiting_for[..]),
            ("drain", &["billing".to_owned()][..])
        );
        assert!(old.works(&stage.postgres).await);
    }
    billing.acknowledge(ReceiptStage::Enforced, [revision..=revision], "").await.unwrap();
    stage.settled(&id).await;
    assert!(!old.works(&stage.postgres).await);
}

/// A rotation that waits for a consumer.
struct Overlap {
    id: String,
    old: Login,
    new: Login,
    /// Opened with the old version.
    session: tokio_postgres::Client,
    /// The consumer that says nothing.
    silent: Client,
    /// The consumer that answers; it does so until this is dropped.
    _answering: Consumer,
}

/// A stage where one of two consumers does not answer, seen while both versions live.
async fn overlapping(policy: &str) -> (Stage, Overlap) {
    let policy = v1::RotationPolicy {
        overlap_max_ms: SHORT_OVERLAP_MS,
        on_overlap_end: policy.into(),
        ..v1::RotationPolicy::default()
    };
    let stage = Stage::start(Setup::default(), &alternating_users(), policy).await;
    let old = stage.secret().await;
    let session = old.session(&stage.postgres).await;
    let silent = stage.consumer("billing").await;
    let shipping = stage.consumer("shipping").await;
    let answering = Consumer::follow(&shipping);
    let id = stage.trigger().await;
    stage.seen(&id, "waiting for billing alone", |run| run.waiting_for == ["billing"]).await;
    let new = stage.secret().await;
    assert_eq!(new.version, old.version + 1);
    assert!(new.works(&stage.postgres).await, "the new version is published before the old one goes");
    (stage, Overlap { id, old, new, session, silent, _answering: answering })
}

/// The wait ended for this reason, and not before the maximum.
fn over_only_after_the_maximum(rotation: &v1::Rotation, reason: &str) {
    let passage = rotation.history.iter().find(|passage| passage.stage == "drain");
    let passage = passage.unwrap_or_else(|| panic!("no drain: {}", told(rotation)));
    assert!(passage.note.starts_with(reason), "{}", told(rotation));
    assert!(passage.at_ms >= rotation.drain_until_ms, "the old version died before the maximum");
}
