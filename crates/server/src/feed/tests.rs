//! The feed as consumers see it, over the real model.

use std::time::Duration;

use api::v1;
use futures::StreamExt as _;
use model::{
    command::{Command, PutConsumer, PutCredential, PutIdentity, PutTarget, Revoke},
    consumer::Subscription,
    credential::Strategy,
    event::{ReasonCode, Subject},
    target::SecretPolicy,
    time::{Span, Time},
    token::Role,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use v1::{feed_service_server::FeedService as _, watch_response::Message};

use super::*;
use crate::{edge::Limits, testing::Node};

const PATIENCE: Duration = Duration::from_secs(60);

/// A node with two credentials and the consumers `gate` (of the first) and `all` (of everything).
fn node() -> Node {
    node_with(Limits::default())
}

fn node_with(limits: Limits) -> Node {
    let node = Node::start_with(limits);
    let put = |command: Command| node.alone.apply("test", command).unwrap();
    put(PutIdentity {
        name: "orders".parse().unwrap(),
        owner: "team-orders".into(),
        purpose: "reads orders".into(),
        workload: "orders-api".into(),
        environment: "test".into(),
        review_by: Time(5_000_000_000_000),
    }
    .into());
    put(PutTarget {
        name: "db".parse().unwrap(),
        provider: "postgres".into(),
        params: [("host".to_owned(), "localhost".to_owned())].into(),
        admin: None,
        secrets: SecretPolicy::default(),
        break_glass_roles: vec![],
    }
    .into());
    for name in ["first", "second"] {
        let place = model::sealed::associated::version(&name.parse().unwrap(), 1);
        let sealed = node.edge.keys.seal(&node.edge.consensus.local(), &"adopted".into(), &place).unwrap();
        put(PutCredential {
            name: name.parse().unwrap(),
            identity: "orders".parse().unwrap(),
            target: "db".parse().unwrap(),
            strategy: Strategy::SingleUser { username: name.into() },
            stores: vec![],
            workloads: vec![],
            shared: None,
            adopt: Some(model::command::Adopt { username: name.into(), version: 1, sealed }),
        }
        .into());
    }
    register(
        &node,
        "gate",
        Subscription { credentials: ["first".parse().unwrap()].into(), ..Default::default() },
    );
    register(&node, "all", Subscription { all: true, ..Default::default() });
    node
}

fn register(node: &Node, name: &str, subscription: Subscription) {
    let command =
        PutConsumer { name: name.parse().unwrap(), owner: "x".into(), subscription, required: true };
    node.alone.apply("test", command.into()).unwrap();
    if !node.edge.consensus.local().tokens().contains(&name.parse().unwrap()) {
        node.issue(name, Role::Consumer, Some(name), None);
    }
}

/// States and lifts a hold: two events about `credential`.
fn hold_and_lift(node: &Node, credential: &str) {
    let subject = Subject::Version(credential.parse().unwrap(), 1);
    let revoke =
        Revoke { subject, code: ReasonCode::Hold, reason: "drill".into(), ack_within: Span::minutes(1) };
    let held = node.alone.apply("test", revoke.into()).unwrap();
    let model::outcome::Applied::Revoked { id, .. } = held else { panic!("{held:?}") };
    let lift = model::command::LiftRevocation { id, reason: "over".into() };
    node.alone.apply("test", lift.into()).unwrap();
}

async fn watch(node: &Node, token: &str, request: v1::WatchRequest) -> Messages<v1::WatchResponse> {
    node.feed().watch(node.request(token, request)).await.unwrap().into_inner()
}

fn from(after_revision: u64) -> v1::WatchRequest {
    v1::WatchRequest { after_revision, ..Default::default() }
}

async fn next(stream: &mut Messages<v1::WatchResponse>) -> Result<Message, Status> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.expect("something comes in time");
    next.expect("the stream goes on").map(|response| response.message.unwrap())
}

/// The next event; heartbeats in between are left out.
async fn next_event(stream: &mut Messages<v1::WatchResponse>) -> v1::Event {
    loop {
        match next(stream).await.unwrap() {
            Message::Event(event) => return event,
            Message::Heartbeat(_) => {}
            Message::Snapshot(snapshot) => panic!("{snapshot:?}"),
        }
    }
}

async fn answer(
    node: &Node,
    token: &str,
    stage: v1::ReceiptStage,
    ranges: &[(u64, u64)],
) -> Result<u64, Status> {
    let ranges = ranges.iter().map(|&(first, last)| v1::RevisionRange { first, last }).collect();
    let request = v1::AcknowledgeRequest { stage: stage.into(), ranges, detail: String::new() };
    let answered = node.feed().acknowledge(node.request(token, request)).await?;
    Ok(answered.into_inner().enforced_up_to)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every refusal carries its code").reason
}

#[tokio::test]
async fn a_consumer_sees_its_own_events_in_order_and_each_names_the_one_before() {
    let node = node();
    hold_and_lift(&node, "first");
    hold_and_lift(&node, "second");
    hold_and_lift(&node, "first");
    let mut stream = watch(&node, "gate", from(0)).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = next_event(&mut stream).await;
        assert_eq!(event.credential, "first");
        seen.push((event.previous_revision, event.revision));
    }
    assert_eq!(seen, [(0, 1), (1, 2), (2, 5), (5, 6)]);
    let Message::Heartbeat(beat) = next(&mut stream).await.unwrap() else { panic!("caught up") };
    assert_eq!(beat.revision, 6);

    hold_and_lift(&node, "second");
    hold_and_lift(&node, "first");
    let event = next_event(&mut stream).await;
    assert_eq!((event.previous_revision, event.revision), (6, 9));
    let mut resumed = watch(&node, "gate", from(5)).await;
    let event = next_event(&mut resumed).await;
    assert_eq!((event.previous_revision, event.revision), (5, 6));
}

#[tokio::test]
async fn what_is_sent_was_committed_as_delivered_before() {
    let node = node();
    hold_and_lift(&node, "first");
    let mut stream = watch(&node, "gate", from(0)).await;
    let event = next_event(&mut stream).await;
    let delivered = node.edge.consensus.local().consumers().get(&"gate".parse().unwrap()).unwrap().delivered;
    assert!(delivered >= event.revision);
    assert_eq!(answer(&node, "gate", v1::ReceiptStage::Enforced, &[(1, 2)]).await.unwrap(), 2);
}

#[tokio::test]
async fn watching_another_is_no_delivery_and_needs_the_right_role() {
    let node = node();
    hold_and_lift(&node, "first");
    let observed = v1::WatchRequest { consumer: "gate".into(), ..Default::default() };
    let mut stream = watch(&node, "auditor", observed.clone()).await;
    assert_eq!(next_event(&mut stream).await.revision, 1);
    let whole = v1::WatchRequest { all: true, ..Default::default() };
    let mut stream = watch(&node, "operator", whole.clone()).await;
    assert_eq!(next_event(&mut stream).await.revision, 1);
    let row = node.edge.consensus.local().consumers().get(&"gate".parse().unwrap()).unwrap().clone();
    assert_eq!(row.delivered, 0);

    for (token, request) in [("all", observed), ("all", whole.clone()), ("approver", whole)] {
        let refused = node.feed().watch(node.request(token, request)).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{token}");
    }
    let nobody = node.feed().watch(node.request("admin", from(0))).await.err().unwrap();
    assert_eq!(reason(&nobody), "invalid_request");
}

#[tokio::test]
async fn a_consumer_behind_the_kept_history_is_given_a_snapshot_then_the_tail() {
    let node = node();
    hold_and_lift(&node, "first");
    for _ in 0..model::caps::FEED_EVENTS / 2 + 1 {
        hold_and_lift(&node, "second");
    }
    assert!(node.edge.consensus.local().history_starts_after() > 2);
    for after in [0, 1] {
        let mut stream = watch(&node, "gate", from(after)).await;
        let Message::Snapshot(snapshot) = next(&mut stream).await.unwrap() else {
            panic!("a snapshot comes first")
        };
        assert_eq!(snapshot.revision, node.edge.consensus.local().revision());
        let versions: Vec<_> =
            snapshot.versions.iter().map(|v| (v.credential.as_str(), v.version, v.state.as_str())).collect();
        assert_eq!(versions, [("first", 1, "active")]);
        hold_and_lift(&node, "first");
        let event = next_event(&mut stream).await;
        assert_eq!((event.previous_revision, event.revision), (snapshot.revision, snapshot.revision + 1));
    }
}

#[tokio::test]
async fn a_new_subscription_is_told_by_a_snapshot() {
    let node = node();
    let mut stream = watch(&node, "gate", from(0)).await;
    assert!(matches!(next(&mut stream).await, Ok(Message::Heartbeat(_))));
    register(&node, "gate", Subscription { all: true, ..Default::default() });
    hold_and_lift(&node, "second");
    loop {
        match next(&mut stream).await.unwrap() {
            Message::Snapshot(snapshot) => break assert_eq!(snapshot.versions.len(), 2),
            Message::Heartbeat(_) | Message::Event(_) => {}
        }
    }
}

#[tokio::test]
async fn a_cursor_from_another_cluster_is_refused() {
    let node = node();
    let mut stream = watch(&node, "gate", from(7)).await;
    let refused = next(&mut stream).await.unwrap_err();
    assert_eq!(reason(&refused), "unknown_revision");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let node = node_with(Limits { send_timeout: Duration::from_millis(50), ..Limits::default() });
    for _ in 0..100 {
        hold_and_lift(&node, "first");
    }
    let stream = watch(&node, "gate", from(0)).await;
    while node.edge.open_streams() > 0 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken: Vec<_> = stream.collect().await;
    assert!(taken.len() < 100, "{} waited for the reader", taken.len());
    let last = taken.last().unwrap().as_ref().unwrap_err();
    assert_eq!(reason(last), "too_slow");
}

#[tokio::test]
async fn many_answers_go_into_one_entry_and_a_refused_one_harms_no_other() {
    let node = node_with(Limits { feed_linger: Duration::from_millis(50), ..Limits::default() });
    hold_and_lift(&node, "first");
    let names: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
    for name in &names {
        register(&node, name, Subscription { all: true, ..Default::default() });
    }
    hold_and_lift(&node, "first");
    for name in &names {
        node.edge.batches.deliver(&name.parse().unwrap(), 4).await.unwrap();
    }
    let before = entries(&node);
    let answers = names.iter().enumerate().map(|(n, name)| {
        let node = &node;
        async move { answer(node, name, v1::ReceiptStage::Enforced, &[(3, if n == 7 { 9 } else { 4 })]).await }
    });
    for (n, result) in futures::future::join_all(answers).await.into_iter().enumerate() {
        match result {
            Ok(upto) => assert_eq!((upto, n != 7), (4, true)),
            Err(status) => assert_eq!((reason(&status).as_str(), n), ("unknown_revision", 7)),
        }
    }
    assert_eq!(entries(&node) - before, 1);
    let refused =
        node.edge.consensus.local().audit().values().rev().find_map(|record| record.refused.clone());
    assert_eq!(refused.as_deref(), Some("unknown_revision"), "the refused answer is audited");
}

fn entries(node: &Node) -> usize {
    node.alone.proposed().iter().filter(|(_, command)| matches!(command, Command::Acknowledge(_))).count()
}

#[tokio::test]
async fn deliveries_of_many_streams_go_into_few_entries() {
    // Long enough for all of them to be woken in on a busy machine.
    let node = node_with(Limits { feed_linger: Duration::from_millis(500), ..Limits::default() });
    let names: Vec<_> = (0..50).map(|n| format!("c{n}")).collect();
    let mut streams = Vec::new();
    for name in &names {
        register(&node, name, Subscription { all: true, ..Default::default() });
    }
    for name in &names {
        streams.push(watch(&node, name, from(0)).await);
    }
    for stream in &mut streams {
        assert!(matches!(next(stream).await, Ok(Message::Heartbeat(_))));
    }
    hold_and_lift(&node, "first");
    for stream in &mut streams {
        next_event(stream).await;
    }
    let deliveries =
        node.alone.proposed().iter().filter(|(_, command)| matches!(command, Command::Deliver(_))).count();
    assert!(deliveries <= 4, "{deliveries} entries for 50 streams");
}

#[tokio::test]
async fn a_forged_answer_is_refused_and_audited() {
    let node = node();
    hold_and_lift(&node, "first");
    let never_sent = answer(&node, "gate", v1::ReceiptStage::Enforced, &[(1, 1)]).await.unwrap_err();
    assert_eq!(reason(&never_sent), "never_delivered");
    let not_a_consumer = answer(&node, "operator", v1::ReceiptStage::Enforced, &[(1, 1)]).await.unwrap_err();
    assert_eq!(not_a_consumer.code(), Code::PermissionDenied);
    let audited = || {
        let state = node.edge.consensus.local();
        let refused: Vec<_> = state.audit().values().filter_map(|record| record.refused.clone()).collect();
        refused
    };
    while !audited().contains(&"permission_denied".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(audited().contains(&"never_delivered".to_owned()));
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_the_node() {
    let node = node();
    let mut stream = watch(&node, "gate", from(0)).await;
    assert!(next(&mut stream).await.is_ok());
    let revoke = model::command::RevokeToken { name: "gate".parse().unwrap(), reason: "lost".into() };
    node.alone.apply("test", revoke.into()).unwrap();
    assert_eq!(reason(&next(&mut stream).await.unwrap_err()), "token_dead");

    let expires = Some(node.edge.consensus.now().plus(Span::hours(1)));
    node.issue("late", Role::Consumer, Some("gate"), expires);
    let mut stream = watch(&node, "late", from(0)).await;
    assert!(next(&mut stream).await.is_ok());
    node.alone.pass(Span::hours(2));
    assert_eq!(reason(&next(&mut stream).await.unwrap_err()), "token_dead");

    let mut stream = watch(&node, "all", from(0)).await;
    assert!(next(&mut stream).await.is_ok());
    node.shutdown.cancel();
    assert_eq!(reason(&next(&mut stream).await.unwrap_err()), "shutting_down");
    while node.edge.open_streams() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_token_cannot_take_all_streams() {
    let node = node_with(Limits { streams_per_token: 2, ..Limits::default() });
    let _open = [watch(&node, "gate", from(0)).await, watch(&node, "gate", from(0)).await];
    let refused = node.feed().watch(node.request("gate", from(0))).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "overloaded"));
    assert!(node.feed().watch(node.request("all", from(0))).await.is_ok());
}
