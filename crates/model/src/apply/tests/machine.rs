//! A driver for scenarios: one state with a clock, and short words for what most of them do.

use std::{collections::BTreeMap, fmt::Debug, str::FromStr};

use crate::{
    State,
    attempt::{Failure, FailureClass, Job, Liveness, Probed, Step, StepOutcome},
    audit,
    command::{
        Acknowledge, Adopt, Answer, Begin, Command, Deliver, Finish, PutConsumer, PutCredential, PutIdentity,
        PutSchedule, PutTarget, Receipt, Revoke, Stamped, Tick, TriggerSchedule,
    },
    consumer::{Consumer, Subscription},
    credential::{Credential, Strategy, Version, VersionState},
    event::{About, Event, EventKind, ReasonCode, Subject},
    name::{NodeId, RotationId},
    outcome::{Applied, Outcome},
    refusal::Code,
    rotation::{Rotation, Stage},
    schedule::{Misfire, RotationPolicy},
    sealed::Sealed,
    state::Timer,
    target::SecretPolicy,
    time::{Span, Time},
    timing::Timing,
};

/// When every scenario begins: a whole multiple of a day, so that schedules are easy to foresee.
pub(super) const START: Time = Time(86_400_000 * 20_000);

/// A name of whatever kind is wanted.
pub(super) fn name<N: FromStr<Err: Debug>>(text: &str) -> N {
    text.parse().unwrap()
}

pub(super) fn sealed(byte: u8) -> Sealed {
    vec![byte; 8].try_into().unwrap()
}

pub(super) fn failed(class: FailureClass, retry_after: Span) -> StepOutcome {
    StepOutcome::Failed { failure: Failure { class, message: "it failed".into() }, retry_after }
}

pub(super) fn unknown() -> StepOutcome {
    StepOutcome::Unknown { message: "connection lost".into() }
}

pub(super) fn probed(candidate: Liveness) -> StepOutcome {
    StepOutcome::Probed(Probed { candidate, current: Liveness::Unknown, retry_after: Span::seconds(5) })
}

pub(super) fn still_live() -> StepOutcome {
    StepOutcome::StillLive { message: "it still logs in".into(), retry_after: Span::seconds(3) }
}

/// A state and its clock. Each command is checked on its way: what is refused changes nothing and is audited, and
/// what is derived never strays from the tables. The audit chain is verified when the machine is dropped.
pub(super) struct Machine {
    pub(super) state: State,
    pub(super) now: Time,
    /// Every command so far.
    pub(super) sent: Vec<Stamped>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            audit::verify(self.state.audit().values(), self.state.audit_head()).unwrap();
        }
    }
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { state: State::default(), now: START, sent: Vec::new() }
    }

    /// With an identity `orders` and a target `db` that hands out `reader`.
    pub(super) fn with_target() -> Self {
        let mut machine = Self::new();
        machine.ok(identity("orders"));
        machine.ok(target("db"));
        machine
    }

    /// With the credential `orders-db` beside them, whose version 1 is adopted, and its schedule `nightly`.
    pub(super) fn with_credential(strategy: Strategy) -> Self {
        let mut machine = Self::with_target();
        machine.ok(PutCredential { adopt: Some(adopt(&strategy)), ..credential("orders-db", strategy) });
        machine.ok(schedule("nightly", "orders-db"));
        machine
    }

    /// With two users in turn.
    pub(super) fn alternating() -> Self {
        Self::with_credential(alternating())
    }

    pub(super) fn send(&mut self, actor: &str, command: impl Into<Command>) -> Outcome {
        let stamped = Stamped { at: self.now, actor: actor.to_owned(), command: command.into() };
        let (content, records) = (self.state.content_digest(), self.state.audit_head().sequence);
        let outcome = self.state.apply(&stamped);
        self.sent.push(stamped);
        if let Err(refusal) = &outcome {
            assert_eq!(self.state.content_digest(), content, "a refusal changed something: {refusal:?}");
            let head = self.state.audit_head().sequence;
            assert_eq!(head, records + 1, "a refusal is one record");
            let record = self.state.audit().get(&head).unwrap();
            assert_eq!(record.refused.as_deref(), Some(refusal.code.as_str()));
            assert_eq!(record.actor, actor);
        }
        self.state.assert_derived();
        outcome
    }

    pub(super) fn ok_by(&mut self, actor: &str, command: impl Into<Command>) -> Applied {
        self.send(actor, command).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
    }

    pub(super) fn ok(&mut self, command: impl Into<Command>) -> Applied {
        self.ok_by("alice", command)
    }

    pub(super) fn refused_by(&mut self, actor: &str, code: Code, command: impl Into<Command>) {
        let refusal = self.send(actor, command).expect_err("must be refused");
        assert_eq!(refusal.code, code, "{}", refusal.message);
    }

    pub(super) fn refused(&mut self, code: Code, command: impl Into<Command>) {
        self.refused_by("alice", code, command);
    }

    /// Lets time pass, and the leader notice.
    pub(super) fn wait(&mut self, span: Span) {
        self.now = self.now.plus(span);
        self.tick();
    }

    pub(super) fn wait_until(&mut self, at: Time) {
        self.wait(at.since(self.now));
        assert!(self.now >= at);
    }

    /// Waits until the next step of `id` may be begun.
    pub(super) fn wait_out(&mut self, id: RotationId) {
        self.wait_until(self.rotation(id).retry.not_before.max(self.now));
    }

    pub(super) fn tick(&mut self) {
        self.ok_by("system", Tick {});
    }

    pub(super) fn trigger(&mut self) -> RotationId {
        let applied = self.ok(TriggerSchedule { name: name("nightly") });
        let Applied::Started(id) = applied else { panic!("{applied:?}") };
        id
    }

    pub(super) fn begin(&mut self, job: Job, step: Step) -> u64 {
        let applied = self.ok_by("node-1", begin(job, step));
        let Applied::Begun { fence } = applied else { panic!("{applied:?}") };
        fence
    }

    pub(super) fn finish(&mut self, job: Job, fence: u64, outcome: StepOutcome) {
        self.ok_by("node-1", Finish { job, fence, outcome });
    }

    /// Begins the step and reports the outcome.
    pub(super) fn attempt(&mut self, job: Job, step: Step, outcome: StepOutcome) {
        let fence = self.begin(job, step);
        self.finish(job, fence, outcome);
    }

    /// Performs the steps with success, as they come.
    pub(super) fn perform(&mut self, id: RotationId, steps: &[Step]) {
        let job = Job::Rotation(id);
        for step in steps {
            let outcome = match step {
                Step::Prepare => self.prepared(id),
                Step::Probe => probed(Liveness::Live),
                Step::Install
                | Step::Verify
                | Step::Publish
                | Step::Retire
                | Step::Sever
                | Step::ProveRefused
                | Step::Rollback
                | Step::Remove => StepOutcome::Done { note: String::new() },
            };
            self.attempt(job, *step, outcome);
        }
    }

    /// The candidate that `id` should be given.
    pub(super) fn prepared(&self, id: RotationId) -> StepOutcome {
        let rotation = self.rotation(id);
        let credential = self.state.credentials().get(&rotation.credential).unwrap();
        let key = |number| (rotation.credential.clone(), number);
        let before = rotation.from.and_then(|from| self.state.versions().get(&key(from)));
        let username = credential.strategy.successor_of(before.map(|row| row.username.as_str())).to_owned();
        StepOutcome::Prepared { username, sealed: sealed(2) }
    }

    /// Performs whatever is owed for `id` with success until it waits or has ended.
    pub(super) fn run(&mut self, id: RotationId) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.stage(id).step() {
            self.perform(id, &[step]);
            steps.push(step);
            assert!(steps.len() < 50, "goes round in circles: {steps:?}");
        }
        steps
    }

    pub(super) fn rotation(&self, id: RotationId) -> Rotation {
        self.state.rotations().get(&id).unwrap().clone()
    }

    pub(super) fn stage(&self, id: RotationId) -> Stage {
        self.rotation(id).stage
    }

    pub(super) fn credential(&self) -> Credential {
        self.state.credentials().get(&name("orders-db")).unwrap().clone()
    }

    pub(super) fn version(&self, number: u32) -> Version {
        self.state.versions().get(&(name("orders-db"), number)).unwrap().clone()
    }

    pub(super) fn standing(&self, number: u32) -> VersionState {
        self.version(number).state
    }

    /// The feed as kinds, oldest first.
    pub(super) fn feed(&self) -> Vec<EventKind> {
        self.state.events().values().map(|event| event.kind).collect()
    }

    pub(super) fn event(&self, revision: u64) -> Event {
        self.state.events().get(&revision).unwrap().clone()
    }

    pub(super) fn consumer(&self, consumer: &str) -> Consumer {
        self.state.consumers().get(&name(consumer)).unwrap().clone()
    }

    /// Hands everything there is to `consumer`.
    pub(super) fn deliver(&mut self, consumer: &str) {
        let upto = BTreeMap::from([(name(consumer), self.state.revision())]);
        self.ok_by("system", Deliver { upto });
    }

    pub(super) fn answer(&mut self, consumer: &str, receipt: Receipt, ranges: &[(u64, u64)]) -> Vec<Code> {
        let answer = Answer { consumer: name(consumer), receipt, ranges: ranges.to_vec() };
        let applied = self.ok_by(consumer, Acknowledge { answers: vec![answer] });
        let Applied::Answered { refused } = applied else { panic!("{applied:?}") };
        refused.into_iter().map(|(_, refusal)| refusal.code).collect()
    }

    pub(super) fn enforce(&mut self, consumer: &str, revision: u64) {
        assert_eq!(self.answer(consumer, Receipt::Enforced, &[(revision, revision)]), []);
    }

    pub(super) fn audited(&self, action: &str) -> usize {
        self.state.audit().values().filter(|record| record.action == action).count()
    }
}

pub(super) fn begin(job: Job, step: Step) -> Begin {
    Begin { job, step, node: NodeId(1) }
}

pub(super) fn revoke(subject: Subject, code: ReasonCode) -> Revoke {
    Revoke { subject, code, reason: "found in a public place".into(), ack_within: Span::minutes(5) }
}

pub(super) fn identity(text: &str) -> PutIdentity {
    PutIdentity {
        name: name(text),
        owner: "payments".into(),
        purpose: "takes orders".into(),
        workload: "orders-api".into(),
        environment: "production".into(),
        review_by: START.plus(Span::days(365)),
    }
}

pub(super) fn target(text: &str) -> PutTarget {
    PutTarget {
        name: name(text),
        provider: "postgres".into(),
        params: BTreeMap::from([("host".to_owned(), "db.internal".to_owned())]),
        admin: Some(sealed(9)),
        secrets: SecretPolicy::default(),
        break_glass_roles: vec!["reader".into()],
    }
}

pub(super) fn alternating() -> Strategy {
    Strategy::AlternatingUsers { usernames: ["orders_a".into(), "orders_b".into()] }
}

pub(super) fn single() -> Strategy {
    Strategy::SingleUser { username: "orders".into() }
}

pub(super) fn overlapping() -> Strategy {
    Strategy::Overlapping { username: "orders".into() }
}

pub(super) fn adopt(strategy: &Strategy) -> Adopt {
    Adopt { username: strategy.successor_of(None).to_owned(), version: 1, sealed: sealed(1) }
}

pub(super) fn credential(text: &str, strategy: Strategy) -> PutCredential {
    PutCredential {
        name: name(text),
        identity: name("orders"),
        target: name("db"),
        strategy,
        stores: Vec::new(),
        workloads: Vec::new(),
        shared: None,
        adopt: None,
    }
}

/// Every day at midnight, with an overlap of an hour and three attempts.
pub(super) fn schedule(text: &str, credential: &str) -> PutSchedule {
    PutSchedule {
        name: name(text),
        credential: name(credential),
        timing: Timing::Every { period: Span::days(1), phase: Span(0) },
        jitter: Span(0),
        misfire: Misfire::RunOnce,
        policy: RotationPolicy { overlap_max: Span::hours(1), max_attempts: 3, ..RotationPolicy::default() },
    }
}

pub(super) fn consumer(text: &str, required: bool) -> PutConsumer {
    PutConsumer {
        name: name(text),
        owner: "edge team".into(),
        subscription: Subscription { all: true, ..Subscription::default() },
        required,
    }
}

pub(super) fn prepared_for(username: &str) -> StepOutcome {
    StepOutcome::Prepared { username: username.to_owned(), sealed: sealed(2) }
}

/// What no command does so plainly.
impl Machine {
    /// Appends events about version 1 of `orders-db`.
    pub(super) fn append_events(&mut self, count: u64) {
        for _ in 0..count {
            let about = About::Version { credential: name("orders-db"), version: 1 };
            let within = Span::days(30);
            self.state.append_event(
                EventKind::CredentialRestored,
                about,
                ReasonCode::Unspecified,
                None,
                within,
            );
        }
        self.state.write_facts();
    }

    /// As if so many events had come and gone.
    pub(super) fn skip_revisions(&mut self, count: u64) {
        self.state.facts.revision += count;
        self.state.write_facts();
    }
}

impl State {
    /// Lets an event leave the history.
    pub(super) fn forget_events(&mut self, revision: u64) {
        self.timed(Timer::Event(revision), |state| state.events.remove(&revision));
    }
}
