//! The Secrets Manager store over AWS's wire protocol: which labels and values an independent client sees after each
//! step. The emulator checks no permissions; what AWS alone refuses is not shown here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use harness::{Moto, Proxy};
use model::{
    attempt::{FailureClass, Step, StepOutcome},
    credential::Strategy,
    store::Store,
    target::{SecretPolicy, Target},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use workers::{
    DataKey, Fault, Login, Password, Task,
    bundle::Bundle,
    demo, perform, store,
    task::{Held, Placed, Rotation, Subject},
};

const WITHIN: Duration = Duration::from_secs(60);
const PATH: &str = "prod/orders-db";

#[tokio::test]
async fn labels_move_in_the_order_of_the_rotation_contract() {
    let stage = Stage::new().await;
    let store = stage.store().await;
    let (one, two, three) = (stage.bundle(1), stage.bundle(2), stage.bundle(3));

    store.stage(PATH, &one).await.unwrap();
    store.promote(PATH, &one).await.unwrap();
    assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &one)]));

    store.stage(PATH, &two).await.unwrap();
    assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &one), ("AWSPENDING", &two)]));
    store.promote(PATH, &two).await.unwrap();
    assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &two), ("AWSPREVIOUS", &one)]));

    store.stage(PATH, &three).await.unwrap();
    assert_eq!(
        stage.labels().await,
        labels(&[("AWSCURRENT", &two), ("AWSPENDING", &three), ("AWSPREVIOUS", &one)])
    );
    store.promote(PATH, &three).await.unwrap();
    assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &three), ("AWSPREVIOUS", &two)]));
}

#[tokio::test]
async fn every_verb_may_be_repeated_and_makes_no_second_version() {
    let stage = Stage::new().await;
    let store = stage.store().await;
    let (one, two) = (stage.bundle(1), stage.bundle(2));
    for bundle in [&one, &two] {
        for _ in 0..3 {
            store.stage(PATH, bundle).await.unwrap();
        }
        for _ in 0..3 {
            store.promote(PATH, bundle).await.unwrap();
            // A late retry of an install that was overtaken.
            store.stage(PATH, bundle).await.unwrap();
        }
    }
    assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &two), ("AWSPREVIOUS", &one)]));
    let secret = stage.moto.secret(PATH).await;
    assert_eq!(secret["versions"].as_object().unwrap().len(), 2, "{secret}");
}

#[tokio::test]
async fn a_candidate_is_taken_back_before_and_after_it_was_current() {
    let stage = Stage::new().await;
    let store = stage.store().await;
    let (one, two, three) = (stage.bundle(1), stage.bundle(2), stage.bundle(3));
    store.stage(PATH, &one).await.unwrap();
    store.promote(PATH, &one).await.unwrap();

    store.stage(PATH, &two).await.unwrap();
    for _ in 0..2 {
        store.restore(PATH, &two, Some(&one)).await.unwrap();
        assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &one)]));
    }
    store.stage(PATH, &three).await.unwrap();
    store.promote(PATH, &three).await.unwrap();
    for _ in 0..2 {
        store.restore(PATH, &three, Some(&one)).await.unwrap();
        assert_eq!(stage.labels().await, labels(&[("AWSCURRENT", &one)]));
    }
    store.restore("prod/never-made", &three, None).await.unwrap();
}

#[tokio::test]
async fn a_value_that_somebody_else_wrote_is_kept_and_brought_back() {
    let stage = Stage::new().await;
    let store = stage.store().await;
    let theirs = json!({ "Name": PATH, "SecretString": "theirs" });
    stage.moto.call("create_secret", theirs).await.unwrap();
    let one = stage.bundle(1);
    store.stage(PATH, &one).await.unwrap();
    assert_eq!(stage.labels().await["AWSCURRENT"], "theirs");
    store.promote(PATH, &one).await.unwrap();
    assert_eq!(stage.labels().await["AWSPREVIOUS"], "theirs");
    store.restore(PATH, &one, None).await.unwrap();
    assert_eq!(stage.labels().await, BTreeMap::from([("AWSCURRENT".to_owned(), "theirs".to_owned())]));
}

#[tokio::test]
async fn another_value_under_our_token_is_never_promoted() {
    let stage = Stage::new().await;
    let store = stage.store().await;
    store.stage(PATH, &stage.bundle(1)).await.unwrap();
    let mut forged = stage.bundle(1);
    forged.login.password = SecretString::from("another").into();
    let fault = store.stage(PATH, &forged).await.unwrap_err();
    assert_eq!(fault.class, FailureClass::Permanent, "{fault}");
}

#[tokio::test]
async fn failures_are_classed_and_hold_no_secret() {
    let stage = Stage::new().await;
    let bundle = stage.bundle(1);
    let classed = async |declared: &Store, access: Option<&SecretString>| -> Fault {
        match store::connect(declared, access).await {
            Ok(store) => store.stage(PATH, &bundle).await.unwrap_err(),
            Err(fault) => fault,
        }
    };
    let access = access("testing");
    let mut nowhere = stage.declared.clone();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    nowhere.params.insert("endpoint_url".into(), format!("http://{free}"));
    let fault = classed(&nowhere, Some(&access)).await;
    assert_eq!(fault.class, FailureClass::Unreachable, "{fault}");

    let proxy = Proxy::start(([127, 0, 0, 1], stage.moto.port()).into()).await;
    proxy.blackhole();
    let mut silent = stage.declared.clone();
    silent.params.insert("endpoint_url".into(), format!("http://127.0.0.1:{}", proxy.port()));
    silent.params.insert("operation_timeout".into(), "300ms".into());
    let fault = classed(&silent, Some(&access)).await;
    assert_eq!(fault.class, FailureClass::Unreachable, "{fault}");

    let store = stage.store().await;
    store.stage(PATH, &bundle).await.unwrap();
    let delete = json!({ "SecretId": PATH, "RecoveryWindowInDays": 7 });
    stage.moto.call("delete_secret", delete).await.unwrap();
    let fault = store.stage(PATH, &bundle).await.unwrap_err();
    assert_eq!(fault.class, FailureClass::RejectedByTarget, "{fault}");
    let fault = store.promote("prod/never-made", &bundle).await.unwrap_err();
    assert_eq!(fault.class, FailureClass::RejectedByTarget, "{fault}");
    assert!(!fault.to_string().contains(bundle.login.password.expose()));
}

#[tokio::test]
async fn a_rotation_stages_before_it_installs_and_flips_when_it_publishes() {
    let stage = Stage::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = Login::new("admin", SecretString::from("the-administrator"));
    let service = demo::Service::start(listener, &admin).unwrap();
    let port = service.address().port().to_string();
    let mut task = stage.task(admin.password, &port);
    let mut held = Vec::new();
    for number in 1..=2 {
        let login = Login::new("app", Password::generate(&SecretPolicy::default()));
        held.push(Held { number, login });
        let Subject::Rotation(rotation) = &mut task.subject else { unreachable!() };
        rotation.candidate = held.last().cloned();
        rotation.current = held.len().checked_sub(2).map(|before| held[before].clone());
        done(&mut task, Step::Install).await;
        let staged = stage.labels().await;
        assert!(staged.contains_key("AWSPENDING"), "{staged:?}");
        for step in [Step::Verify, Step::Publish, Step::Publish] {
            done(&mut task, step).await;
        }
        assert_eq!(stage.current().await, (number, held.last().unwrap().login.password.expose().to_owned()));
    }
    done(&mut task, Step::Rollback).await;
    assert_eq!(stage.current().await, (1, held[0].login.password.expose().to_owned()));
    assert!(!stage.labels().await.contains_key("AWSPENDING"));
}

/// An emulator and a declared store that leads to it.
struct Stage {
    moto: Moto,
    declared: Store,
}

impl Stage {
    async fn new() -> Self {
        let moto = Moto::start().await;
        let declared = Store {
            name: "aws".parse().unwrap(),
            kind: "aws-secrets-manager".into(),
            params: [("region".into(), "us-east-1".into()), ("endpoint_url".into(), moto.endpoint())].into(),
            access: None,
        };
        store::check(&declared).unwrap();
        Self { moto, declared }
    }

    async fn store(&self) -> Box<dyn store::Store> {
        store::connect(&self.declared, Some(&access("testing"))).await.unwrap()
    }

    fn bundle(&self, version: u32) -> Bundle {
        let login = Login::new("app", SecretString::from(format!("password-{version}")));
        Bundle::new(&"orders-db".parse().unwrap(), version, &target("5432"), &login).unwrap()
    }

    /// The value on each label, as the independent client reads it.
    async fn labels(&self) -> BTreeMap<String, String> {
        let secret = self.moto.secret(PATH).await;
        let stages = secret["stages"].as_object().unwrap_or_else(|| panic!("{secret}"));
        let value = |stage: &Value| stage["value"].as_str().unwrap_or("none").to_owned();
        stages.iter().map(|(label, stage)| (label.clone(), value(stage))).collect()
    }

    /// Version and password of the current bundle.
    async fn current(&self) -> (u32, String) {
        let bundle: Value = serde_json::from_str(&self.labels().await["AWSCURRENT"]).unwrap();
        let version = bundle["version"].as_u64().and_then(|version| version.try_into().ok()).unwrap();
        (version, bundle["password"].as_str().unwrap().to_owned())
    }

    fn task(&self, admin: Password, port: &str) -> Task {
        let placed =
            Placed { store: self.declared.clone(), access: Some(access("testing")), path: PATH.into() };
        let rotation = Rotation {
            credential: "orders-db".parse().unwrap(),
            strategy: Strategy::Overlapping { username: "app".into() },
            next_version: 1,
            candidate: None,
            current: None,
            retiring: Vec::new(),
            survivor: None,
            installed_by: None,
            placements: vec![placed],
        };
        Task {
            step: Step::Install,
            subject: Subject::Rotation(rotation),
            target: target(port),
            admin: Some(admin),
            data_key: Arc::new(DataKey::generate(1)),
            failures: 0,
        }
    }
}

fn target(port: &str) -> Target {
    Target {
        name: "orders".parse().unwrap(),
        provider: "demo".into(),
        params: [("host".into(), "127.0.0.1".into()), ("port".into(), port.into())].into(),
        admin: None,
        secrets: SecretPolicy::default(),
        break_glass_roles: Vec::new(),
    }
}

fn access(key: &str) -> SecretString {
    json!({ "access_key_id": key, "secret_access_key": key }).to_string().into()
}

fn labels(expected: &[(&str, &Bundle)]) -> BTreeMap<String, String> {
    let value = |bundle: &Bundle| bundle.to_json().expose_secret().to_owned();
    expected.iter().map(|(label, bundle)| ((*label).to_owned(), value(bundle))).collect()
}

async fn done(task: &mut Task, step: Step) {
    task.step = step;
    let outcome = perform(task, WITHIN).await;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{step:?}: {outcome:?}");
}
