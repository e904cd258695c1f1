//! The admin service as its callers see it, over the real model.

mod keys;

use std::time::Duration;

use api::resource::Kind;
use futures::StreamExt as _;
use model::{command::Command, time::Span, token::Role};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::{edge::Limits, testing::Node};

const CANARY: &str = "canary-5e1f-secret";
const REVIEW: u64 = 5_000_000_000_000;

fn identity() -> v1::Resource {
    v1::Identity {
        name: "orders".into(),
        owner: "team-orders".into(),
        purpose: "reads orders".into(),
        workload: "orders-api".into(),
        environment: "test".into(),
        review_by_ms: REVIEW,
    }
    .into()
}

fn target() -> v1::Target {
    v1::Target {
        name: "db".into(),
        provider: "postgres".into(),
        params: [("host".to_owned(), "localhost".to_owned()), ("admin_user".to_owned(), "admin".to_owned())]
            .into(),
        admin_password: CANARY.into(),
        break_glass_roles: vec!["readers".into()],
        ..Default::default()
    }
}

fn credential() -> v1::Credential {
    v1::Credential {
        name: "orders-db".into(),
        identity: "orders".into(),
        target: "db".into(),
        strategy: "alternating-users".into(),
        usernames: vec!["orders_a".into(), "orders_b".into()],
        adopt_password: CANARY.into(),
        ..Default::default()
    }
}

fn schedule() -> v1::Schedule {
    v1::Schedule {
        name: "monthly".into(),
        credential: "orders-db".into(),
        timing: Some(v1::Timing { every_ms: 30 * 86_400_000, ..Default::default() }),
        ..Default::default()
    }
}

/// Everything that one rotation needs, in an order that does not matter.
fn everything() -> Vec<v1::Resource> {
    let consumer = v1::Consumer {
        name: "gate".into(),
        owner: "team-gate".into(),
        subscription: Some(v1::Subscription { credentials: vec!["orders-db".into()], ..Default::default() }),
        ..Default::default()
    };
    vec![schedule().into(), consumer.into(), credential().into(), target().into(), identity()]
}

async fn apply(
    node: &Node,
    resources: Vec<v1::Resource>,
    dry_run: bool,
) -> Result<v1::ApplyResponse, Status> {
    let request = node.request("operator", v1::ApplyRequest { resources, dry_run });
    node.admin().apply(request).await.map(Response::into_inner)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every refusal carries its code").reason
}

fn actions(response: &v1::ApplyResponse) -> Vec<(Kind, v1::ChangeAction)> {
    response.changes.iter().map(|change| (Kind::named(change.kind).unwrap(), change.action())).collect()
}

#[tokio::test]
async fn a_file_is_applied_in_the_order_its_references_need_and_again_without_effect() {
    let node = Node::start();
    let first = apply(&node, everything(), false).await.unwrap();
    let order = [Kind::Identity, Kind::Target, Kind::Credential, Kind::Consumer, Kind::Schedule];
    assert_eq!(actions(&first), order.map(|kind| (kind, v1::ChangeAction::Created)));
    assert!(first.changes.iter().all(|change| change.before.is_none() && change.after.is_some()));
    assert_eq!(first.changes[4].next.len(), 5);
    let secrets: Vec<_> = first.changes.iter().map(|change| change.secret_changed).collect();
    assert_eq!(secrets, [false, true, true, false, false]);

    let again = apply(&node, everything(), false).await.unwrap();
    assert_eq!(actions(&again), order.map(|kind| (kind, v1::ChangeAction::Unchanged)));
    assert!(again.changes.iter().all(|change| !change.secret_changed));

    let mut changed = target();
    changed.admin_password = "another".into();
    let third = apply(&node, vec![changed.into()], false).await.unwrap();
    assert_eq!(actions(&third), [(Kind::Target, v1::ChangeAction::Changed)]);
    assert!(third.changes[0].secret_changed);
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let node = Node::start();
    let (before, proposed) = (node.edge.consensus.local().digest(), node.alone.proposed().len());
    let planned = apply(&node, everything(), true).await.unwrap();
    assert_eq!(planned.changes.len(), 5);
    assert!(planned.changes.iter().all(|change| change.action() == v1::ChangeAction::Created));
    assert_eq!(planned.changes[4].next.len(), 5);
    assert_eq!(node.edge.consensus.local().digest(), before);
    assert_eq!(node.alone.proposed().len(), proposed);

    let refused = apply(&node, vec![credential().into()], true).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "unknown_identity"));
}

#[tokio::test]
async fn one_malformed_resource_keeps_the_whole_file_out() {
    let node = Node::start();
    let bad: Vec<(v1::Resource, &str)> = vec![
        (v1::Target { provider: "abacus".into(), ..target() }.into(), "invalid_request"),
        (
            v1::Target { params: [("password".to_owned(), CANARY.to_owned())].into(), ..target() }.into(),
            "invalid_request",
        ),
        (v1::Schedule { timing: None, ..schedule() }.into(), "invalid_request"),
        (
            v1::Schedule { timing: Some(v1::Timing { every_ms: 1, ..Default::default() }), ..schedule() }
                .into(),
            "invalid_timing",
        ),
        (v1::Credential { name: "No Name".into(), ..credential() }.into(), "invalid_request"),
        (identity(), "invalid_request"),
        (v1::Resource::default(), "invalid_request"),
    ];
    for (resource, code) in bad {
        let refused = apply(&node, vec![identity(), resource], false).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), refused.code()), (code, Code::InvalidArgument), "{refused}");
        assert!(refused.message().contains("resources[1]"), "{refused}");
        assert!(!refused.message().contains(CANARY), "{refused}");
    }
    assert!(node.edge.consensus.local().identities().is_empty());
}

#[tokio::test]
async fn no_secret_is_in_any_answer_command_or_record() {
    let node = Node::start();
    let applied = apply(&node, everything(), false).await.unwrap();
    assert_free_of_secrets(&format!("{applied:?}"));
    for kind in Kind::ALL {
        let wire =
            v1::ListResourcesRequest { kind: v1::ResourceKind::from(kind).into(), ..Default::default() };
        let listed = node.admin().list_resources(node.request("auditor", wire)).await.unwrap().into_inner();
        for resource in &listed.resources {
            assert_free_of_secrets(&format!("{resource:?}"));
            match &resource.kind {
                Some(v1::resource::Kind::Target(row)) => {
                    assert!(row.has_admin_password && row.admin_password.is_empty())
                }
                Some(v1::resource::Kind::Credential(row)) => assert!(row.adopt_password.is_empty()),
                _ => {}
            }
        }
    }
    for (_, command) in node.alone.proposed() {
        assert_free_of_secrets(&format!("{command:?}"));
    }
    for record in node.edge.consensus.local().records() {
        let value = record.value.unwrap_or_default();
        assert!(!value.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()));
    }
    assert_free_of_secrets(&format!("{:?}", v1::ApplyRequest { resources: everything(), dry_run: true }));
}

fn assert_free_of_secrets(text: &str) {
    assert!(!text.contains(CANARY), "{text}");
}

#[tokio::test]
async fn a_consumer_reads_what_its_subscription_covers_and_the_reading_is_recorded() {
    let node = Node::start();
    apply(&node, everything(), false).await.unwrap();
    let mut other = credential();
    (other.name, other.usernames) = ("billing-db".into(), vec!["billing_a".into(), "billing_b".into()]);
    apply(&node, vec![other.into()], false).await.unwrap();
    node.issue("gate", Role::Consumer, Some("gate"), None);
    let get = |token: &str, name: &str| {
        let request = node.request(token, v1::GetSecretRequest { credential: name.into() });
        let admin = node.admin();
        async move { admin.get_secret(request).await.map(Response::into_inner) }
    };

    let secret = get("gate", "orders-db").await.unwrap();
    assert_eq!((secret.version, secret.username.as_str(), secret.password.as_str()), (1, "orders_a", CANARY));
    assert_eq!(secret.connection["host"], "localhost");
    let (actor, command) = node.alone.proposed().pop().unwrap();
    assert!(matches!(command, Command::RecordRead(_)) && actor == "gate");
    assert!(get("admin", "billing-db").await.is_ok());

    for (token, name) in
        [("gate", "billing-db"), ("gate", "nothing"), ("operator", "orders-db"), ("auditor", "orders-db")]
    {
        let refused = get(token, name).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{token} {name}");
    }
    let subject = v1::revocation_subject::Subject::Credential("orders-db".into());
    let hold = v1::CreateRevocationRequest {
        subject: Some(v1::RevocationSubject { subject: Some(subject) }),
        reason_code: "hold".into(),
        reason: "drill".into(),
        ack_within_ms: 0,
    };
    node.admin().create_revocation(node.request("operator", hold)).await.unwrap();
    let refused = get("gate", "orders-db").await.unwrap_err();
    assert_eq!(reason(&refused), "no_secret");
}

#[tokio::test]
async fn a_revocation_shows_how_every_consumer_stands() {
    let node = Node::start();
    apply(&node, everything(), false).await.unwrap();
    let subject = v1::revocation_subject::Subject::Version(v1::VersionRef {
        credential: "orders-db".into(),
        version: 1,
    });
    let request = v1::CreateRevocationRequest {
        subject: Some(v1::RevocationSubject { subject: Some(subject) }),
        reason_code: "key-compromise".into(),
        reason: "leaked".into(),
        ack_within_ms: 60_000,
    };
    let created =
        node.admin().create_revocation(node.request("operator", request)).await.unwrap().into_inner();
    let get = || {
        let request = node.request("auditor", v1::GetRevocationRequest { id: created.id.clone() });
        let admin = node.admin();
        async move { admin.get_revocation(request).await.unwrap().into_inner() }
    };
    let shown = get().await;
    assert_eq!(shown.receipts.len(), created.revisions.len());
    let standing = &shown.receipts[0];
    assert_eq!((standing.consumer.as_str(), standing.delivered, standing.overdue), ("gate", false, false));
    assert_eq!(shown.evidence[0].subject, "orders-db@1");
    assert_eq!(shown.evidence[0].refused_ms, 0);

    node.alone.pass(Span::minutes(2));
    assert!(get().await.receipts[0].overdue);
    let waive = v1::WaiveReceiptRequest {
        consumer: "gate".into(),
        revision: created.revisions[0],
        reason: "gone".into(),
    };
    node.admin().waive_receipt(node.request("operator", waive)).await.unwrap();
    let standing = get().await.receipts[0].clone();
    assert!(standing.waived && !standing.overdue);
}

#[tokio::test]
async fn nobody_decides_on_their_own_grant() {
    let node = Node::start();
    apply(&node, everything(), false).await.unwrap();
    let request = v1::RequestGrantRequest {
        target: "db".into(),
        role: "readers".into(),
        duration_ms: 60_000,
        ticket: "INC-1".into(),
        reason: "outage".into(),
    };
    let id = node.admin().request_grant(node.request("approver", request)).await.unwrap().into_inner().id;
    let approve = |token: &str| {
        let request = node.request(token, v1::ApproveGrantRequest { id: id.clone() });
        let admin = node.admin();
        async move { admin.approve_grant(request).await }
    };
    assert_eq!(reason(&approve("approver").await.unwrap_err()), "own_grant");
    assert_eq!(reason(&approve("operator").await.unwrap_err()), "permission_denied");
    approve("admin").await.unwrap();
    let reveal = node.admin().reveal_grant(node.request("operator", v1::RevealGrantRequest { id })).await;
    assert_eq!(reason(&reveal.unwrap_err()), "not_the_requester");
}

#[tokio::test]
async fn tokens_are_shown_once_and_stop_working_when_revoked_or_expired() {
    let node = Node::start();
    let issue = v1::IssueTokenRequest {
        name: "ci".into(),
        role: "auditor".into(),
        ttl_ms: 60_000,
        ..Default::default()
    };
    let issued = node.admin().issue_token(node.request("admin", issue)).await.unwrap().into_inner();
    let status = || {
        let mut request = Request::new(v1::GetStatusRequest {});
        request.metadata_mut().insert("authorization", format!("Bearer {}", issued.token).parse().unwrap());
        let admin = node.admin();
        async move { admin.get_status(request).await }
    };
    assert!(status().await.is_ok());
    let listed = node
        .admin()
        .list_tokens(node.request("auditor", v1::ListTokensRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(listed.tokens.iter().any(|token| token.name == "ci"));
    assert!(!format!("{listed:?}").contains(issued.token.rsplit('.').next().unwrap()));
    node.alone.pass(Span::minutes(2));
    assert_eq!(reason(&status().await.unwrap_err()), "token_dead");

    let revoke = v1::RevokeTokenRequest { name: "operator".into(), reason: "left".into() };
    node.admin().revoke_token(node.request("admin", revoke)).await.unwrap();
    assert_eq!(reason(&apply(&node, vec![identity()], false).await.unwrap_err()), "token_dead");
}

#[tokio::test]
async fn calls_without_a_valid_token_are_refused_and_audited() {
    let node = Node::start();
    let refused = node.admin().get_status(Request::new(v1::GetStatusRequest {})).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "unauthenticated"));
    let stranger = crate::token::Bearer::generate("admin".parse().unwrap()).to_text();
    let mut request = Request::new(v1::GetStatusRequest {});
    let text = format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&stranger));
    request.metadata_mut().insert("authorization", text.parse().unwrap());
    assert_eq!(node.admin().get_status(request).await.unwrap_err().code(), Code::Unauthenticated);
    let actors = || {
        let state = node.edge.consensus.local();
        let refused = state.audit().values().filter(|record| record.refused.is_some());
        refused.map(|record| record.actor.clone()).collect::<Vec<_>>()
    };
    while actors().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(actors(), ["anonymous", "anonymous as token/admin"]);
}

#[tokio::test]
async fn status_answers_without_a_leader_and_writes_do_not() {
    let node = Node::start();
    node.alone.lose_leader(true);
    let status =
        node.admin().get_status(node.request("auditor", v1::GetStatusRequest {})).await.unwrap().into_inner();
    assert_eq!((status.leader, status.voters), (0, 1));
    assert!(node.admin().get_cluster(node.request("auditor", v1::GetClusterRequest {})).await.is_ok());
    let refused = apply(&node, vec![identity()], false).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "no_leader"));
}

#[tokio::test]
async fn lists_go_on_where_the_last_page_ended() {
    let node = Node::start();
    let named = |n: usize| match identity().kind {
        Some(v1::resource::Kind::Identity(row)) => v1::Identity { name: format!("i{n:03}"), ..row }.into(),
        _ => unreachable!("an identity"),
    };
    apply(&node, (0..25).map(named).collect(), false).await.unwrap();
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = v1::ListResourcesRequest {
            kind: v1::ResourceKind::Identity.into(),
            page_size: 10,
            page_token: token,
        };
        let page = node.admin().list_resources(node.request("auditor", request)).await.unwrap().into_inner();
        seen.extend(page.resources.iter().map(|resource| resource.key().unwrap().1.to_owned()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|n| format!("i{n:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_audit_log_is_followed_and_verified() {
    let node = Node::start();
    apply(&node, vec![identity()], false).await.unwrap();
    let request = v1::WatchAuditRequest { last: 1, follow: true, ..Default::default() };
    let mut stream = node.admin().watch_audit(node.request("auditor", request)).await.unwrap().into_inner();
    let mut next = async || stream.next().await.unwrap().unwrap().record.unwrap();
    let first = next().await;
    assert_eq!((first.action.as_str(), first.actor.as_str()), ("identity.put", "operator"));
    apply(&node, vec![target().into()], false).await.unwrap();
    let second = next().await;
    assert_eq!((second.action.as_str(), second.previous), ("target.put", first.hash));

    let all = v1::WatchAuditRequest::default();
    let stream = node.admin().watch_audit(node.request("auditor", all)).await.unwrap().into_inner();
    let records = stream.map(|record| record.unwrap().record.unwrap().sequence).collect::<Vec<_>>().await;
    assert_eq!(records, (1..=second.sequence).collect::<Vec<_>>());
    let verified =
        node.admin().verify_audit(node.request("auditor", v1::VerifyAuditRequest {})).await.unwrap();
    let verified = verified.into_inner();
    assert!(verified.intact && verified.records >= second.sequence, "{}", verified.problem);
}

#[tokio::test]
async fn calls_over_the_limit_are_told_to_come_back() {
    let node = Node::start_with(Limits { calls: 0, ..Limits::default() });
    let refused = apply(&node, vec![identity()], false).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "overloaded"));
}

#[tokio::test]
async fn over_the_wire_a_refusal_carries_its_code_and_what_to_do() {
    use v1::admin_service_client::AdminServiceClient;

    let node = Node::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let router = tonic::transport::Server::builder().add_service(Service::mount(Arc::clone(&node.edge)));
    tokio::spawn(router.serve_with_incoming(incoming));
    let mut client = AdminServiceClient::connect(address).await.unwrap();

    let refused = client.get_status(v1::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("unauthenticated", "revolve"));
    assert!(info.metadata["remedy"].contains("REVOLVE_TOKEN"));

    let status = client.get_status(node.request("auditor", v1::GetStatusRequest {})).await.unwrap();
    assert_eq!(status.into_inner().leader, 1);
    let large = v1::GetRotationRequest { id: "x".repeat(REQUEST_BYTES + 1) };
    assert_eq!(
        client.get_rotation(node.request("auditor", large)).await.unwrap_err().code(),
        Code::OutOfRange
    );
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_keeps_nobody_out() {
    let node = Node::start();
    let stranger = crate::token::Bearer::generate("nobody".parse().unwrap()).to_text();
    let text = format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&stranger));
    let flood = (0..2_000).map(|_| {
        let (admin, text) = (node.admin(), text.clone());
        async move {
            let mut request = Request::new(v1::GetStatusRequest {});
            request.metadata_mut().insert("authorization", text.parse().unwrap());
            admin.get_status(request).await.unwrap_err().code()
        }
    });
    let known = apply(&node, vec![identity()], false);
    let (codes, known) = tokio::join!(futures::future::join_all(flood), known);
    assert!(known.is_ok());
    assert!(codes.iter().all(|code| matches!(code, Code::Unauthenticated | Code::ResourceExhausted)));
}
