//! Declarations: what is refused, and by which rule.

use super::machine::{START, adopt, alternating, credential, identity, overlapping, single, target};
use super::{Machine, name};
use crate::{
    caps,
    command::{
        Adopt, PutCredential, PutIdentity, PutStore, PutTarget, RemoveIdentity, RemoveStore, RemoveTarget,
    },
    credential::{Placement, SharedException, Strategy},
    outcome::Applied,
    refusal::Code,
    target::{Alphabet, SecretPolicy},
    time::{Span, Time},
};

fn store(text: &str) -> PutStore {
    PutStore { name: name(text), kind: "file".into(), params: [].into(), access: None }
}

fn place(store: &str, path: &str) -> Placement {
    Placement { store: name(store), path: path.into() }
}

#[test]
fn an_identity_has_one_owner_purpose_workload_environment_and_review_date() {
    let mut machine = Machine::new();
    let put = || identity("orders");
    machine.refused(Code::OwnerRequired, PutIdentity { owner: " ".into(), ..put() });
    machine.refused(Code::OwnerRequired, PutIdentity { owner: "ann, bob".into(), ..put() });
    machine.refused(Code::PurposeRequired, PutIdentity { purpose: String::new(), ..put() });
    machine.refused(Code::WorkloadRequired, PutIdentity { workload: String::new(), ..put() });
    machine.refused(Code::EnvironmentRequired, PutIdentity { environment: String::new(), ..put() });
    machine.refused(Code::ReviewDateRequired, PutIdentity { review_by: Time(0), ..put() });
    machine.refused(Code::ReviewDateRequired, PutIdentity { review_by: START, ..put() });
    machine.refused(Code::TooLong, PutIdentity { purpose: "x".repeat(caps::TEXT_BYTES + 1), ..put() });
    machine.refused(Code::InvalidRequest, PutIdentity { purpose: "a\u{1b}[31m".into(), ..put() });
    assert_eq!(machine.ok(put()), Applied::Changed);
    machine.wait(Span::days(400));
    assert_eq!(machine.ok(put()), Applied::Unchanged, "what stands may be said again");
}

#[test]
fn what_is_in_use_is_not_removed() {
    let mut machine = Machine::alternating();
    machine.ok(store("files"));
    machine.ok(PutCredential {
        stores: vec![place("files", "orders")],
        ..credential("orders-db", alternating())
    });
    machine.refused(Code::InUse, RemoveIdentity { name: name("orders") });
    machine.refused(Code::InUse, RemoveTarget { name: name("db") });
    machine.refused(Code::InUse, RemoveStore { name: name("files") });
    machine.ok(credential("orders-db", alternating()));
    machine.ok(RemoveStore { name: name("files") });
    machine.refused(Code::UnknownStore, RemoveStore { name: name("files") });
    machine.refused(Code::UnknownTarget, RemoveTarget { name: name("nowhere") });
    machine.refused(Code::UnknownIdentity, RemoveIdentity { name: name("nobody") });
}

#[test]
fn a_target_and_a_store_keep_their_kind_and_their_secret() {
    let mut machine = Machine::with_target();
    machine.refused(Code::Immutable, PutTarget { provider: "redis".into(), ..target("db") });
    assert_eq!(machine.ok(PutTarget { admin: None, ..target("db") }), Applied::Unchanged);
    assert!(machine.state.targets().get(&name("db")).unwrap().admin.is_some());
    for length in [caps::SECRET_MIN - 1, caps::SECRET_MAX + 1] {
        let secrets = SecretPolicy { length, alphabet: Alphabet::Symbols };
        machine.refused(Code::OutOfRange, PutTarget { secrets, ..target("db") });
    }
    machine.refused(Code::TextRequired, PutTarget { provider: String::new(), ..target("db") });
    machine.ok(store("files"));
    machine.refused(Code::Immutable, PutStore { kind: "vault-kv".into(), ..store("files") });
}

#[test]
fn a_credential_belongs_to_known_things_and_keeps_them() {
    let mut machine = Machine::with_target();
    let put = || credential("orders-db", alternating());
    machine.refused(Code::UnknownIdentity, PutCredential { identity: name("nobody"), ..put() });
    machine.refused(Code::UnknownTarget, PutCredential { target: name("nowhere"), ..put() });
    machine.refused(Code::UnknownStore, PutCredential { stores: vec![place("files", "x")], ..put() });
    machine.ok(put());
    machine.ok(target("other"));
    machine.ok(identity("other"));
    machine.refused(Code::Immutable, PutCredential { target: name("other"), ..put() });
    machine.refused(Code::Immutable, PutCredential { identity: name("other"), ..put() });
    machine.refused(Code::Immutable, PutCredential { strategy: single(), ..put() });
    let same = Strategy::AlternatingUsers { usernames: ["x".into(), "x".into()] };
    machine.refused(Code::OutOfRange, credential("second", same));
    let long = Strategy::SingleUser { username: "x".repeat(caps::USERNAME_BYTES + 1) };
    machine.refused(Code::TooLong, credential("second", long));
}

#[test]
fn one_credential_serves_one_workload_unless_someone_answers_for_more() {
    let mut machine = Machine::with_target();
    let put = || PutCredential {
        workloads: vec!["orders-api".into(), "orders-batch".into()],
        ..credential("orders-db", alternating())
    };
    machine.refused(Code::SharedExceptionRequired, put());
    let foreign = PutCredential { workloads: vec!["someone-else".into()], ..put() };
    machine.refused(Code::SharedExceptionRequired, foreign);
    let exception = SharedException {
        owner: "payments".into(),
        reason: "batch is being split off".into(),
        ends: START.plus(Span::days(30)),
    };
    let excused = |shared: SharedException| PutCredential { shared: Some(shared), ..put() };
    let spoilt = [
        SharedException { owner: String::new(), ..exception.clone() },
        SharedException { reason: " ".into(), ..exception.clone() },
        SharedException { ends: START, ..exception.clone() },
    ];
    for shared in spoilt {
        machine.refused(Code::SharedExceptionRequired, excused(shared));
    }
    machine.ok(excused(exception));
    assert_eq!(machine.credential().workloads.len(), 2);
    let own =
        PutCredential { workloads: vec!["orders-api".into()], ..credential("orders-db", alternating()) };
    machine.ok(own);
}

#[test]
fn two_credentials_never_share_a_user_or_a_place() {
    let mut machine = Machine::with_target();
    machine.ok(store("files"));
    let first = credential("orders-db", alternating());
    machine.ok(PutCredential { stores: vec![place("files", "orders")], ..first });
    for strategy in [
        Strategy::SingleUser { username: "orders_b".into() },
        Strategy::AlternatingUsers { usernames: ["fresh".into(), "orders_a".into()] },
    ] {
        machine.refused(Code::TakenByAnother, credential("second", strategy));
    }
    let second = || credential("second", overlapping());
    machine
        .refused(Code::TakenByAnother, PutCredential { stores: vec![place("files", "orders")], ..second() });
    machine.ok(target("other"));
    let elsewhere = Strategy::SingleUser { username: "orders_a".into() };
    machine.ok(PutCredential { target: name("other"), ..credential("third", elsewhere) });
    machine.ok(credential("orders-db", alternating()));
    machine.ok(PutCredential { stores: vec![place("files", "orders")], ..second() });
    let twice = vec![place("files", "a"), place("files", "a")];
    machine.refused(Code::TakenByAnother, PutCredential { stores: twice, ..second() });
}

#[test]
fn a_value_is_adopted_once_for_a_new_credential_and_one_of_its_users() {
    let mut machine = Machine::with_target();
    let put = |adopt| PutCredential { adopt: Some(adopt), ..credential("orders-db", alternating()) };
    let good = adopt(&alternating());
    machine.refused(Code::Conflict, put(Adopt { version: 2, ..good.clone() }));
    machine.refused(Code::OutOfRange, put(Adopt { username: "stranger".into(), ..good.clone() }));
    machine.ok(put(good.clone()));
    assert_eq!(machine.credential().current, Some(1));
    machine.refused(Code::AlreadyExists, put(good));
}

#[test]
fn many_credentials_are_declared_without_looking_at_all_others() {
    let mut state = crate::State::default();
    let mut send = |command: crate::command::Command| {
        let stamped = crate::command::Stamped { at: START, actor: "alice".into(), command };
        assert!(state.apply(&stamped).is_ok());
    };
    send(identity("orders").into());
    send(target("db").into());
    for number in 0..10_000 {
        let strategy = Strategy::SingleUser { username: format!("user_{number}") };
        send(credential(&format!("c-{number}"), strategy).into());
    }
    assert_eq!(state.credentials().len(), 10_000);
}
