//! A revocation is stated at once, followed up until the last consumer has answered, and survives whoever dies.

use client::{Client, ReceiptStage, v1};
use harness::eventually;

use super::stage::{CREDENTIAL, Consumer, Setup, Stage, WITHIN, alternating_users};

/// Long enough for consumers that follow to answer on a busy machine, short enough to wait until another is overdue.
const ACK_WITHIN_MS: u64 = 20_000;

#[tokio::test]
async fn a_revocation_stays_open_until_the_consumer_that_was_away_has_acknowledged() {
    let mut stage = Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await;
    let (api, worker, batch) =
        (stage.consumer("api").await, stage.consumer("worker").await, stage.consumer("batch").await);
    let (api, worker) = (Consumer::follow(&api), Consumer::follow(&worker));
    let compromised = stage.secret().await;
    let session = compromised.session(&stage.postgres).await;

    let id = revoke(&stage, "key-compromise", ACK_WITHIN_MS).await;
    let status = seen(&stage, &id, "two of three have enforced it and one is overdue", |status| {
        let states = |name: &str| receipt(status, name).map(|row| (row.enforced, row.overdue));
        states("api") == Some((true, false))
            && states("worker") == Some((true, false))
            && states("batch") == Some((false, true))
    })
    .await;
    assert!(!status.revocation.unwrap().acked);
    assert!(!receipt(&seen(&stage, &id, "any", |_| true).await, "batch").unwrap().delivered);

    let status = seen(&stage, &id, "the refusal is proven", |status| {
        status.evidence.iter().all(|row| row.refused_ms > 0)
    })
    .await;
    assert_eq!(status.evidence.len(), 1);
    assert!(!compromised.works(&stage.postgres).await);
    assert!(!super::stage::alive(&session).await);

    let leader = stage.cluster.leader().await;
    stage.cluster.kill_node(leader);
    stage.cluster.leader().await;
    let after = seen(&stage, &id, "any", |_| true).await;
    assert!(receipt(&after, "api").unwrap().enforced, "receipts are not lost with the leader");
    assert!(!after.revocation.unwrap().acked);

    let batch = Consumer::follow(&batch);
    let closed = seen(&stage, &id, "acknowledged by all", |status| {
        status.revocation.as_ref().is_some_and(|row| row.acked)
    })
    .await;
    assert!(receipt(&closed, "batch").unwrap().enforced);
    let repair = stage.rotations().await.remove(0);
    stage.settled(&repair.id).await;
    let current = stage.credential().await.current_version;
    assert!(current > compromised.version, "a new version was made in place of the compromised one");
    eventually("all consumers to have seen the same", WITHIN, async || {
        let seen = [&api, &worker, &batch].map(|consumer| {
            consumer.seen().iter().map(|event| (event.revision, event.version)).collect::<Vec<_>>()
        });
        if seen[0].len() >= 2 && seen.iter().all(|one| *one == seen[0]) { Ok(()) } else { Err(seen) }
    })
    .await;

    let audit = stage.audit("").await;
    assert_eq!(audit.iter().filter(|record| record.action == "receipt.overdue").count(), 1, "escalated once");
    stage.cluster.start_node(leader);
    stage.assert_nodes_agree().await;
    stage.assert_only_expected_roles_and_one_live_password().await;
}

#[tokio::test]
async fn a_forged_acknowledgement_is_refused_and_audited() {
    let stage = Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await;
    let api = stage.consumer("api").await;
    let silent = stage.consumer("silent").await;
    let following = Consumer::follow(&api);
    let id = revoke(&stage, "key-compromise", 60_000).await;
    let status = seen(&stage, &id, "enforced by `api`", |status| {
        receipt(status, "api").is_some_and(|row| row.enforced)
    })
    .await;
    let revision = status.revocation.unwrap().revisions[0];
    drop(following);

    assert_eq!(refusal(&silent, revision).await, "never_delivered", "an event that was never sent to it");
    assert_eq!(refusal(&api, revision + 1_000).await, "unknown_revision", "an event that does not exist");
    assert_eq!(refusal(&stage.client, revision).await, "permission_denied", "somebody who is no consumer");
    let nobody =
        stage.cluster.client("rvlt_api-token.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned().into());
    assert_eq!(refusal(&nobody, revision).await, "unauthenticated", "somebody with a made-up secret");

    let status = seen(&stage, &id, "any", |_| true).await;
    assert!(!receipt(&status, "silent").unwrap().enforced && !status.revocation.unwrap().acked);
    eventually("four audited refusals", WITHIN, async || {
        let audit = stage.audit("").await;
        let refused: Vec<String> = audit
            .into_iter()
            .filter(|record| record.action == "feed.acknowledge")
            .map(|record| record.refused)
            .collect();
        let codes = ["never_delivered", "unknown_revision", "permission_denied", "unauthenticated"];
        codes.iter().all(|code| refused.iter().any(|refused| refused == code)).then_some(()).ok_or(refused)
    })
    .await;
    let verdict = stage.client.verify_audit(v1::VerifyAuditRequest {}).await.unwrap();
    assert!(verdict.intact, "{}", verdict.problem);
}

#[tokio::test]
async fn a_hold_is_told_and_lifted_and_touches_no_target() {
    let stage = Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await;
    let held = stage.secret().await;
    let id = revoke(&stage, "hold", 60_000).await;
    let read = || v1::GetSecretRequest { credential: CREDENTIAL.into() };
    let refused = answered(async || stage.client.get_secret(read()).await).await.unwrap_err();
    assert_eq!(code_of(&refused), "no_secret", "a held secret is not handed out");
    assert!(held.works(&stage.postgres).await);
    let lift = v1::LiftRevocationRequest { id, reason: "false alarm".into() };
    stage.client.lift_revocation(lift.clone()).await.unwrap();
    assert_eq!(stage.secret().await, held);
    let again = stage.client.lift_revocation(lift).await.unwrap_err();
    assert_eq!(code_of(&again), "already_lifted");
    let kinds: Vec<v1::EventKind> = stage.told_by_feed().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], [v1::EventKind::CredentialRevoked, v1::EventKind::HoldLifted]);
}

async fn revoke(stage: &Stage, code: &str, ack_within_ms: u64) -> String {
    let subject = v1::revocation_subject::Subject::Credential(CREDENTIAL.into());
    let request = v1::CreateRevocationRequest {
        subject: Some(v1::RevocationSubject { subject: Some(subject) }),
        reason_code: code.into(),
        reason: "found in a public repository".into(),
        ack_within_ms,
    };
    stage.client.create_revocation(request).await.unwrap().id
}

async fn seen(
    stage: &Stage,
    id: &str,
    what: &str,
    awaited: impl Fn(&v1::GetRevocationResponse) -> bool,
) -> v1::GetRevocationResponse {
    eventually(format!("{id} to be seen: {what}"), WITHIN, async || {
        let answer = stage.client.get_revocation(v1::GetRevocationRequest { id: id.into() }).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if awaited(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await
}

fn receipt<'a>(status: &'a v1::GetRevocationResponse, consumer: &str) -> Option<&'a v1::ReceiptStanding> {
    status.receipts.iter().find(|row| row.consumer == consumer)
}

/// The code with which an acknowledgement of `revision` is refused.
async fn refusal(client: &Client, revision: u64) -> String {
    let acknowledge = async || client.acknowledge(ReceiptStage::Enforced, [revision..=revision], "").await;
    code_of(&answered(acknowledge).await.expect_err("it must be refused"))
}

/// What the cluster answers, yes or no, once it does.
async fn answered<T>(ask: impl AsyncFn() -> Result<T, client::Error>) -> Result<T, client::Error> {
    harness::answered("an answer", WITHIN, ask).await
}

fn code_of(error: &client::Error) -> String {
    error.refused().unwrap_or_else(|| panic!("not refused: {error:?}")).code.clone()
}
