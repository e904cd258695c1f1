//! The whole road of a credential at the demo service, one performed task after another, over real TCP.
#![expect(clippy::unwrap_used, reason = "in the functions that tests share, as in the tests themselves")]

use std::{sync::Arc, time::Duration};

use model::{
    attempt::{FailureClass, Liveness, Step, StepOutcome},
    credential::Strategy,
    name::{CredentialName, GrantId},
    sealed::associated,
    target::{SecretPolicy, Target},
    time::{Span, Time},
};
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use workers::{
    DataKey, Login, Password, Task, demo, perform,
    task::{Grant, Held, Rotation, Subject},
};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_rotation_overlaps_and_ends_with_the_old_password_refused_and_its_session_cut() {
    let stage = Stage::new().await;
    let first = stage.introduced(None, 1).await;
    let mut session = Session::open(&stage, &first.login).await;
    assert_eq!(session.ask("PING").await.as_deref(), Some("PONG"));

    let second = stage.introduced(Some(&first), 2).await;
    let mut other = Session::open(&stage, &second.login).await;
    assert_eq!(session.ask("PING").await.as_deref(), Some("PONG"), "both live during the overlap");

    let mut ending = rotation(Some(&second), Some(&first));
    ending.retiring = vec![first.clone()];
    ending.survivor = Some(second.clone());
    let live = stage.perform(Step::ProveRefused, &ending).await;
    assert!(matches!(live, StepOutcome::StillLive { .. }), "{live:?}");
    note(&stage.perform(Step::Retire, &ending).await);
    assert_eq!(session.ask("PING").await.as_deref(), Some("PONG"), "retiring alone cuts nothing");
    assert_eq!(note(&stage.perform(Step::Sever, &ending).await), "1 session cut");
    assert_eq!(session.ask("PING").await, None);
    note(&stage.perform(Step::ProveRefused, &ending).await);

    assert_eq!(other.ask("PING").await.as_deref(), Some("PONG"), "the new session lives on");
    assert_eq!(stage.service.sessions("app"), 1);
    // Every step again does no harm.
    for step in [Step::Install, Step::Verify, Step::Publish, Step::Retire, Step::Sever, Step::ProveRefused] {
        note(&stage.perform(step, &ending).await);
    }
    assert_eq!(other.ask("PING").await.as_deref(), Some("PONG"));
}

#[tokio::test]
async fn a_probe_tells_what_the_target_honours() {
    let stage = Stage::new().await;
    let first = stage.introduced(None, 1).await;
    let unknown = Held { number: 2, login: Login::new("app", SecretString::from("never installed")) };
    let probed = stage.perform(Step::Probe, &rotation(Some(&unknown), Some(&first))).await;
    assert_eq!(seen(&probed), (Liveness::Refused, Liveness::Live));
    let probed = stage.perform(Step::Probe, &rotation(Some(&first), None)).await;
    assert_eq!(seen(&probed), (Liveness::Live, Liveness::Absent));
    let again = task(&stage.target, &stage.key, Step::Probe, Subject::Rotation(rotation(Some(&first), None)));
    drop(stage.service);
    assert_eq!(seen(&perform(&again, WITHIN).await), (Liveness::Unknown, Liveness::Absent));
}

#[tokio::test]
async fn a_rollback_leaves_the_version_before_and_nothing_of_the_candidate() {
    let stage = Stage::new().await;
    let first = stage.introduced(None, 1).await;
    let mut session = Session::open(&stage, &first.login).await;
    let second = stage.introduced(Some(&first), 2).await;
    let back = rotation(Some(&second), Some(&first));
    for _ in 0..2 {
        note(&stage.perform(Step::Rollback, &back).await);
        let probed = stage.perform(Step::Probe, &back).await;
        assert_eq!(seen(&probed), (Liveness::Refused, Liveness::Live));
    }
    assert_eq!(session.ask("PING").await.as_deref(), Some("PONG"));
}

#[tokio::test]
async fn failures_are_classed_by_what_can_be_done_about_them() {
    let stage = Stage::new().await;
    let first = stage.introduced(None, 1).await;
    let subject = Subject::Rotation(rotation(Some(&first), None));

    let mut wrong = task(&stage.target, &stage.key, Step::Install, subject.clone());
    wrong.admin = Some(Password::from(SecretString::from("not the administrator's")));
    assert_eq!(class(&perform(&wrong, WITHIN).await), FailureClass::WrongCredential);
    wrong.admin = None;
    assert_eq!(class(&perform(&wrong, WITHIN).await), FailureClass::WrongCredential);

    let mut nowhere = task(&stage.target, &stage.key, Step::Install, subject.clone());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    nowhere.target.params.insert("port".into(), free.port().to_string());
    assert_eq!(class(&perform(&nowhere, WITHIN).await), FailureClass::Unreachable);
    nowhere.target.params.insert("colour".into(), "blue".into());
    assert_eq!(class(&perform(&nowhere, WITHIN).await), FailureClass::Permanent);

    // A server that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hangs = task(&stage.target, &stage.key, Step::Install, subject);
    hangs.target.params.insert("port".into(), silent.local_addr().unwrap().port().to_string());
    let outcome = perform(&hangs, Duration::from_millis(100)).await;
    assert!(matches!(outcome, StepOutcome::Unknown { .. }), "{outcome:?}");
    hangs.step = Step::Retire;
    let Subject::Rotation(ending) = &mut hangs.subject else { unreachable!() };
    ending.retiring = vec![first];
    assert_eq!(class(&perform(&hangs, Duration::from_millis(100)).await), FailureClass::Retryable);
}

#[tokio::test]
async fn a_grant_ends_by_the_targets_own_clock_and_leaves_nothing() {
    let stage = Stage::new().await;
    let mut grant = Grant { id: GrantId(7), role: "operators".into(), login: None, valid_until: Time::MAX };
    for step in [Step::Retire, Step::Sever, Step::ProveRefused, Step::Remove] {
        note(&stage.grant(step, &grant).await);
    }
    let StepOutcome::Prepared { username, sealed } = stage.grant(Step::Prepare, &grant).await else {
        panic!("a grant is prepared")
    };
    assert!(username.starts_with("revolve_bg_7_"), "{username}");
    let password = stage.key.open(&sealed, &associated::grant(GrantId(7))).unwrap();
    let login = Login::new(username, password);
    grant.login = Some(login.clone());
    note(&stage.grant(Step::Install, &grant).await);
    note(&stage.grant(Step::Install, &grant).await);
    let mut session = Session::open(&stage, &login).await;
    for step in [Step::Retire, Step::Sever, Step::ProveRefused, Step::Remove, Step::Remove] {
        note(&stage.grant(step, &grant).await);
    }
    assert_eq!(session.ask("PING").await, None);

    grant.valid_until = Time(1);
    let expired = stage.grant(Step::Install, &grant).await;
    assert!(matches!(expired, StepOutcome::Unknown { .. }), "{expired:?}");
    note(&stage.grant(Step::ProveRefused, &grant).await);
}

#[tokio::test]
async fn no_outcome_and_no_task_prints_a_password() {
    let stage = Stage::new().await;
    let first = stage.introduced(None, 1).await;
    let both = rotation(Some(&first), Some(&first));
    for step in [Step::Install, Step::Verify, Step::Probe, Step::ProveRefused, Step::Rollback] {
        let printed = format!("{:?} {both:?}", stage.perform(step, &both).await);
        assert!(!printed.contains(first.login.password.expose()), "{printed}");
        assert!(!printed.contains(ADMIN_PASSWORD), "{printed}");
    }
}

const ADMIN_PASSWORD: &str = "the-administrator";

/// A demo service and a declared target that leads to it.
struct Stage {
    service: demo::Service,
    target: Target,
    key: Arc<DataKey>,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = Login::new("admin", SecretString::from(ADMIN_PASSWORD));
        let service = demo::Service::start(listener, &admin).unwrap();
        let port = service.address().port().to_string();
        let target = Target {
            name: "demo".parse().unwrap(),
            provider: "demo".into(),
            params: [("host".into(), "127.0.0.1".into()), ("port".into(), port)].into(),
            admin: None,
            secrets: SecretPolicy::default(),
            break_glass_roles: vec!["operators".into()],
        };
        workers::provider::check(&target).unwrap();
        Self { service, target, key: Arc::new(DataKey::generate(1)) }
    }

    /// Prepares, installs, verifies and publishes one version.
    async fn introduced(&self, current: Option<&Held>, number: u32) -> Held {
        let mut run = rotation(None, current);
        run.next_version = number;
        let prepared = self.perform(Step::Prepare, &run).await;
        let StepOutcome::Prepared { username, sealed } = prepared else { panic!("{prepared:?}") };
        let password = self.key.open(&sealed, &associated::version(&credential(), number)).unwrap();
        let held = Held { number, login: Login::new(username, password) };
        run.candidate = Some(held.clone());
        for step in [Step::Install, Step::Verify, Step::Publish] {
            note(&self.perform(step, &run).await);
        }
        held
    }

    async fn perform(&self, step: Step, rotation: &Rotation) -> StepOutcome {
        perform(&task(&self.target, &self.key, step, Subject::Rotation(rotation.clone())), WITHIN).await
    }

    async fn grant(&self, step: Step, grant: &Grant) -> StepOutcome {
        perform(&task(&self.target, &self.key, step, Subject::Grant(grant.clone())), WITHIN).await
    }
}

fn rotation(candidate: Option<&Held>, current: Option<&Held>) -> Rotation {
    Rotation {
        credential: credential(),
        strategy: Strategy::Overlapping { username: "app".into() },
        next_version: 1,
        candidate: candidate.cloned(),
        current: current.cloned(),
        retiring: Vec::new(),
        survivor: None,
        installed_by: None,
        placements: Vec::new(),
    }
}

fn task(target: &Target, key: &Arc<DataKey>, step: Step, subject: Subject) -> Task {
    let admin = Some(Password::from(SecretString::from(ADMIN_PASSWORD)));
    Task { step, subject, target: target.clone(), admin, data_key: Arc::clone(key), failures: 0 }
}

fn credential() -> CredentialName {
    "demo-app".parse().unwrap()
}

/// The note of a step that was done.
fn note(outcome: &StepOutcome) -> &str {
    let StepOutcome::Done { note } = outcome else { panic!("not done: {outcome:?}") };
    note
}

fn seen(outcome: &StepOutcome) -> (Liveness, Liveness) {
    let StepOutcome::Probed(probed) = outcome else { panic!("not probed: {outcome:?}") };
    (probed.candidate, probed.current)
}

fn class(outcome: &StepOutcome) -> FailureClass {
    let StepOutcome::Failed { failure, retry_after } = outcome else { panic!("not failed: {outcome:?}") };
    assert!(*retry_after > Span(0));
    failure.class
}

/// A consumer's session at the demo service.
struct Session(BufReader<TcpStream>);

impl Session {
    async fn open(stage: &Stage, login: &Login) -> Self {
        let mut session = Self(BufReader::new(TcpStream::connect(stage.service.address()).await.unwrap()));
        let answer = session.ask(&format!("LOGIN {} {}", login.username, login.password.expose())).await;
        assert_eq!(answer.as_deref(), Some("OK"));
        session
    }

    /// The answer to one line, or `None` when the session is over.
    async fn ask(&mut self, line: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await.ok()?;
        answer.strip_suffix('\n').map(str::to_owned)
    }
}
