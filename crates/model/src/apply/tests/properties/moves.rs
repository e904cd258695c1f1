//! Moves: small numbers that become commands by looking at the state, so that most of them make sense and a case
//! shrinks to the few that matter.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::keys::{NEW, OLD, added, announced, resealed, rewrapped, under};
use super::super::machine::{
    adopt, alternating, begin, consumer, credential, failed, identity, overlapping, prepared_for, probed,
    revoke, schedule, sealed, single, still_live, target, unknown,
};
use crate::{
    State,
    attempt::{FailureClass, Job, Liveness, Step, StepOutcome},
    certificate::Party,
    command::*,
    consumer::Subscription,
    credential::Placement,
    event::{ReasonCode, Subject},
    key::RootKeyId,
    name::{GrantId, NodeId, RevocationId, RotationId},
    schedule::{Misfire, OverlapEnd},
    sealed::Sealed,
    time::{Span, Time},
    token::Role,
};

/// One move: a kind and three numbers that say more.
#[derive(Clone, Debug)]
pub(super) struct Move {
    kind: u8,
    a: u8,
    b: u8,
    c: u8,
}

pub(super) fn any() -> impl Strategy<Value = Move> {
    (0_u8..100, any_byte(), any_byte(), any_byte()).prop_map(|(kind, a, b, c)| Move { kind, a, b, c })
}

/// Mostly work on what is under way, so that long ways are gone to their end.
pub(super) fn diligent() -> impl Strategy<Value = Move> {
    prop_oneof![2 => any(), 3 => any().prop_map(|made| Move { kind: 0, ..made })]
}

fn any_byte() -> impl Strategy<Value = u8> {
    proptest::num::u8::ANY
}

const CLASSES: [FailureClass; 5] = [
    FailureClass::Retryable,
    FailureClass::Unreachable,
    FailureClass::RejectedByTarget,
    FailureClass::WrongCredential,
    FailureClass::Permanent,
];
const LIVENESS: [Liveness; 4] = [Liveness::Live, Liveness::Refused, Liveness::Absent, Liveness::Unknown];
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// One of `all`, whatever the number.
fn pick<T: Clone>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()].clone()
}

fn chosen<N: std::str::FromStr<Err: std::fmt::Debug>>(all: &[&str], number: u8) -> N {
    pick(all, number).parse().unwrap()
}

const CREDENTIALS: [&str; 5] = ["a", "b", "c", "a", "d"];
const SCHEDULES: [&str; 4] = ["sa", "sb", "sc", "sd"];
const SERIALS: [&str; 4] = ["a1", "a2", "a3", "a4"];
const CONSUMERS: [&str; 4] = ["edge", "core", "edge", "far"];

impl Move {
    /// The command, stamped; moves the clock on where that belongs to it.
    pub(super) fn command(&self, state: &State, now: &mut Time) -> Stamped {
        let actor = pick(&PEOPLE, self.c).to_owned();
        let command = match self.kind {
            // Every value is sealed under a key there was, mostly the active one.
            3 | 7 | 11 | 19 => self.keys(state),
            0..42 => self.work(state, now),
            42..50 => self.clock(state, now),
            50..58 => self.declare(),
            58..68 => self.rotate(state),
            68..75 => self.revoke(state),
            75..85 => self.feed(state),
            85..96 => self.break_glass(state),
            _ => self.access(state),
        };
        let keys = state.data_keys();
        let key = if self.b.is_multiple_of(8) {
            pick(&keys, self.c).id
        } else {
            state.data_key().map_or(0, |key| key.id)
        };
        let command = if matches!(command, Command::Reseal(_)) { command } else { keyed(command, key) };
        Stamped { at: *now, actor, command }
    }

    /// Drives what is owed: begins it, waits for it, or reports an outcome, now and then a wrong one.
    fn work(&self, state: &State, now: &mut Time) -> Command {
        let open: Vec<Job> = state.open_jobs().filter(|job| state.need(*job).is_some()).collect();
        if open.is_empty() {
            return TriggerSchedule { name: chosen(&SCHEDULES, self.a) }.into();
        }
        let job = pick(&open, self.a);
        let need = state.need(job).unwrap();
        let Some(attempt) = need.attempt else {
            if need.retry.not_before > *now && !self.b.is_multiple_of(8) {
                *now = need.retry.not_before;
            }
            let step = if self.b % 16 == 1 { Step::Verify } else { need.step };
            return begin(job, step).into();
        };
        let fence = if self.b % 16 == 2 { attempt.fence - 1 } else { attempt.fence };
        if self.b % 16 == 3 {
            *now = attempt.deadline;
            return Tick {}.into();
        }
        Finish { job, fence, outcome: self.outcome(state, job, attempt.step) }.into()
    }

    fn outcome(&self, state: &State, job: Job, step: Step) -> StepOutcome {
        let wait = Span::seconds(u64::from(self.a % 8));
        match self.c {
            0..24 => failed(pick(&CLASSES, self.a), wait),
            24..32 => unknown(),
            32..36 => still_live(),
            _ => match step {
                Step::Prepare => prepared_for(&user(state, job)),
                Step::Probe => probed(pick(&LIVENESS, self.a)),
                Step::ProveRefused if self.c.is_multiple_of(5) => still_live(),
                Step::Install
                | Step::Verify
                | Step::Publish
                | Step::Retire
                | Step::Sever
                | Step::ProveRefused
                | Step::Rollback
                | Step::Remove => StepOutcome::Done { note: String::new() },
            },
        }
    }

    fn clock(&self, state: &State, now: &mut Time) -> Command {
        *now = match self.a % 4 {
            0 => now.plus(Span::seconds(u64::from(self.b))),
            1 => now.plus(Span::hours(u64::from(self.b))),
            2 => state.next_due().unwrap_or(*now).max(*now),
            _ => Time(now.0.saturating_sub(u64::from(self.b))),
        };
        Tick {}.into()
    }

    fn declare(&self) -> Command {
        let pair = pick(&["orders", "billing", "fresh"], self.b);
        let place = pick(&["db", "cache", "spare"], self.b);
        match self.a % 16 {
            0 => PutIdentity { owner: pick(&["ann", ""], self.c).into(), ..identity(pair) }.into(),
            1 => RemoveIdentity { name: pair.parse().unwrap() }.into(),
            2 => PutTarget { admin: None, break_glass_roles: roles(self.c), ..target(place) }.into(),
            3 => RemoveTarget { name: place.parse().unwrap() }.into(),
            4 => {
                let kind = pick(&["file", "file", "other"], self.c).into();
                let name = chosen(&["files", "more"], self.b);
                PutStore { name, kind, params: BTreeMap::new(), access: Some(sealed(3)) }.into()
            }
            5 => RemoveStore { name: chosen(&["files", "more"], self.b) }.into(),
            6..=8 => self.put_credential().into(),
            9 => RemoveCredential { name: chosen(&CREDENTIALS, self.b) }.into(),
            10..=11 => self.put_schedule().into(),
            12 => RemoveSchedule { name: chosen(&SCHEDULES, self.b) }.into(),
            13 => PauseSchedule { name: chosen(&SCHEDULES, self.b), reason: "freeze".into() }.into(),
            14 => ResumeSchedule { name: chosen(&SCHEDULES, self.b) }.into(),
            _ => PutTarget { break_glass_roles: roles(0), ..target(place) }.into(),
        }
    }

    fn put_credential(&self) -> PutCredential {
        let (text, strategy, at) = pick(
            &[
                ("a", alternating(), "db"),
                ("b", single(), "cache"),
                ("c", overlapping(), "db"),
                ("d", single(), "spare"),
                ("d", alternating(), "db"),
            ],
            self.b,
        );
        let stores = if self.c.is_multiple_of(2) {
            vec![Placement { store: "files".parse().unwrap(), path: pick(&["x", "y"], self.b).into() }]
        } else {
            Vec::new()
        };
        let adopt = (self.c % 4 == 3).then(|| adopt(&strategy));
        let owner = if text == "c" { "billing" } else { "orders" };
        let (identity, target) = (owner.parse().unwrap(), at.parse().unwrap());
        PutCredential { identity, target, stores, adopt, ..credential(text, strategy) }
    }

    fn put_schedule(&self) -> PutSchedule {
        let mut put = schedule(pick(&SCHEDULES, self.b), pick(&CREDENTIALS, self.b / 4));
        put.misfire = pick(&[Misfire::RunOnce, Misfire::Skip], self.c);
        put.jitter = Span::minutes(u64::from(self.c));
        put.policy.on_overlap_end = pick(&[OverlapEnd::Retire, OverlapEnd::Hold, OverlapEnd::Abort], self.c);
        put.policy.max_attempts = u32::from(self.c % 4);
        put
    }

    fn rotate(&self, state: &State) -> Command {
        let ids: Vec<RotationId> = state.rotations().iter().map(|(id, _)| *id).collect();
        let id = if ids.is_empty() { RotationId(1) } else { pick(&ids, self.b) };
        match self.a % 11 {
            0..=3 => TriggerSchedule { name: chosen(&SCHEDULES, self.b) }.into(),
            4 | 5 => AbortRotation { id, reason: "wrong day".into() }.into(),
            _ => RetryRotation { id }.into(),
        }
    }

    fn revoke(&self, state: &State) -> Command {
        let credential = || chosen(&CREDENTIALS, self.b);
        let subject = match self.a % 8 {
            0 | 1 => Subject::Credential(credential()),
            2..=4 => {
                let newest = state.versions_of(&credential()).next_back().map_or(1, |row| row.number);
                Subject::Version(credential(), newest.saturating_sub(u32::from(self.c % 3)))
            }
            5 => Subject::Identity(chosen(&["orders", "billing", "nobody"], self.b)),
            6 => Subject::Grant(grant(state, self.b)),
            _ => {
                let last = state.revocations().iter().next_back().map_or(1, |(id, _)| id.0);
                let id = RevocationId(last.saturating_sub(u64::from(self.b % 3)));
                return LiftRevocation { id, reason: "all clear".into() }.into();
            }
        };
        let code =
            if self.c.is_multiple_of(4) { ReasonCode::Hold } else { pick(&ReasonCode::ALL, self.c / 4) };
        revoke(subject, code).into()
    }

    fn feed(&self, state: &State) -> Command {
        let who = || chosen(&CONSUMERS, self.b);
        let (first, last) = (u64::from(self.c % 8) + state.revision().saturating_sub(6), state.revision());
        match self.a % 11 {
            0 | 1 => {
                let credentials = [chosen(&CREDENTIALS, self.c)].into();
                let subscription = match self.c % 4 {
                    0 => Subscription { credentials, ..Subscription::default() },
                    1 => Subscription::default(),
                    _ => Subscription { all: true, ..Subscription::default() },
                };
                let put = consumer(pick(&CONSUMERS, self.b), self.c.is_multiple_of(2));
                PutConsumer { subscription, ..put }.into()
            }
            2 => RemoveConsumer { name: who() }.into(),
            3..=5 => Deliver { upto: [(who(), last + u64::from(self.c == 0))].into() }.into(),
            6..=8 => {
                let receipt = match self.c % 3 {
                    0 => Receipt::Received,
                    1 => Receipt::Enforced,
                    _ => Receipt::Failed { detail: "no".into() },
                };
                let ranges = vec![(first, if self.a.is_multiple_of(2) { first } else { last })];
                Acknowledge { answers: vec![Answer { consumer: who(), receipt, ranges }] }.into()
            }
            _ => WaiveReceipt { consumer: who(), revision: first, reason: "excused".into() }.into(),
        }
    }

    fn break_glass(&self, state: &State) -> Command {
        let (id, reason) = (grant(state, self.b), "why".to_owned());
        match self.a % 12 {
            0 => RequestGrant {
                target: chosen(&["db", "cache"], self.b),
                role: pick(&["reader", "reader", "reader", "owner"], self.b).into(),
                duration: Span::minutes(u64::from(self.b)),
                ticket: "INC-7".into(),
                reason,
            }
            .into(),
            1..=4 => ApproveGrant { id }.into(),
            5 => DenyGrant { id, reason }.into(),
            6 => EndGrant { id, reason }.into(),
            7..=9 => RevealGrant { id }.into(),
            _ => ReviewGrant { id, note: "as told".into() }.into(),
        }
    }

    /// Replaces keys, now and then in a way that must be refused.
    fn keys(&self, state: &State) -> Command {
        let keys = state.data_keys();
        let last = keys.last().map_or(1, |key| key.id);
        let retiring = state.retiring_data_key().map_or(last, |key| key.id);
        let root = state.active_root_key().map_or(OLD, |key| key.id);
        match self.a % 8 {
            0 => AddDataKey { root, ..added(last + u32::from(!self.b.is_multiple_of(8))) }.into(),
            1..=3 => {
                let to = state.data_key().map_or(last, |key| key.id);
                let mut reseal = resealed(state, retiring, to);
                reseal.values.truncate(usize::from(self.b % 16));
                if let Some(value) = reseal.values.first_mut().filter(|_| self.c.is_multiple_of(8)) {
                    value.was[0] ^= 1;
                }
                reseal.into()
            }
            4 | 5 => DestroyDataKey { id: if self.b.is_multiple_of(4) { last } else { retiring } }.into(),
            6 => {
                let (from, to) = (root, RootKeyId([self.b % 3 + 1; 8]));
                RewrapDataKeys { from, to, ..rewrapped(state, &[1]) }.into()
            }
            _ => {
                let id = state.leaving_root_key().map_or(OLD, |key| key.id);
                FinishRootKey {
                    id,
                    nodes: [NodeId(1 + u64::from(self.b.is_multiple_of(8)))].into(),
                    reason: "done".into(),
                }
                .into()
            }
        }
    }

    fn access(&self, state: &State) -> Command {
        let token = || chosen(&["root", "t1", "t2"], self.b);
        match self.a % 15 {
            0 => IssueToken {
                name: token(),
                principal: "bob".into(),
                role: pick(&Role::ALL, self.c),
                consumer: (self.c % 5 == 4).then(|| chosen(&CONSUMERS, self.b)),
                hash: [1; 32],
                expires: None,
            }
            .into(),
            1 => RevokeToken { name: token(), reason: "gone".into() }.into(),
            2 => AnnounceNode {
                id: NodeId(u64::from(self.b % 3)),
                client_address: format!("n:{}", self.c % 2),
                version: "0.1.0".into(),
            }
            .into(),
            3 => ReportReachable { nodes: (0..u64::from(self.b % 4)).map(NodeId).collect() }.into(),
            4 if self.c.is_multiple_of(2) => {
                let held = [OLD, NEW, RootKeyId([3; 8])];
                announced(u64::from(self.b % 3), &held[usize::from(self.c / 2 % 3)..]).into()
            }
            4 => InstallDataKey { id: 1, wrapped: vec![1; usize::from(self.c % 3)] }.into(),
            5 => {
                let (action, object) = ("/x".to_owned(), "y".to_owned());
                let (actor, code) = ("mallory".to_owned(), "unauthenticated".to_owned());
                RecordRefusals { refusals: vec![EdgeRefusal { actor, action, object, code, count: 2 }] }
                    .into()
            }
            6 if self.c.is_multiple_of(2) => {
                let at = Time(state.now().0.saturating_sub(u64::from(self.c)));
                let reason = pick(&["nightly", ""], self.b).into();
                BackupTaken { at, applied: 7, revision: state.revision(), ledger: 3, reason }.into()
            }
            6 => RecordBackup { reason: pick(&["nightly", ""], self.b).into() }.into(),
            7 => ConfirmRestore { reason: "looked at".into() }.into(),
            8..=10 => self.come_and_go(),
            11 => RecordCertificate {
                serial: chosen(&SERIALS, self.b),
                name: chosen(&["ci", "gate"], self.c),
                expires: Time(state.now().0.saturating_add(u64::from(self.c) << 22)),
            }
            .into(),
            12 => {
                let party = match self.b % 4 {
                    0 => Party::Node(NodeId(u64::from(self.c % 3))),
                    _ => Party::Certificate(chosen(&SERIALS, self.b)),
                };
                RevokeCertificate { party, code: pick(&ReasonCode::ALL, self.c), reason: "lost".into() }
                    .into()
            }
            13 => RecordCollection {
                node: NodeId(u64::from(self.b % 4)),
                reason: "r".repeat(usize::from(self.c % 2)),
            }
            .into(),
            _ => {
                RecordRead { credential: chosen(&CREDENTIALS, self.b), version: u32::from(self.c % 3) }.into()
            }
        }
    }

    fn come_and_go(&self) -> Command {
        let (token, reason) = (chosen(&["j1", "j2"], self.b), "why".to_owned());
        let (node, highest) = (NodeId(u64::from(self.b % 6)), NodeId(u64::from(self.c % 4)));
        match self.c % 6 {
            0 => {
                CreateJoinToken { name: token, hash: [2; 32], ttl: Span::minutes(u64::from(self.b)), reason }
                    .into()
            }
            1 => RevokeJoinToken { name: token, reason }.into(),
            2 => RemoveNode { node, reason, highest }.into(),
            3 => ChangeCluster { node, change: ClusterChange::Promote, reason }.into(),
            _ => AdmitNode {
                invitation: (!self.b.is_multiple_of(4)).then_some(Invitation { token, hash: [2; 32] }),
                storage: [self.b % 8; 16],
                peer_address: format!("n:{}", self.b % 2),
                learner: self.b.is_multiple_of(3),
                highest,
            }
            .into(),
        }
    }
}

fn roles(number: u8) -> Vec<String> {
    if number % 4 == 3 { Vec::new() } else { vec!["reader".into()] }
}

/// One of the newest grants.
fn grant(state: &State, number: u8) -> GrantId {
    let newest = state.grants().iter().next_back().map_or(0, |(id, _)| id.0);
    GrantId(newest.saturating_sub(u64::from(number % 3)))
}

/// The command with everything in it sealed under `key`; what it is that is sealed stays the same.
pub(super) fn keyed(command: Command, key: u32) -> Command {
    let anew = |sealed: &Sealed| under(key, sealed.as_bytes().last().copied().unwrap_or_default());
    let mut command = command;
    if let Command::PutTarget(put) = &mut command {
        put.admin = put.admin.as_ref().map(anew);
    }
    if let Command::PutStore(put) = &mut command {
        put.access = put.access.as_ref().map(anew);
    }
    if let Command::PutCredential(PutCredential { adopt: Some(adopt), .. }) = &mut command {
        adopt.sealed = anew(&adopt.sealed);
    }
    if let Command::Finish(Finish { outcome: StepOutcome::Prepared { sealed, .. }, .. }) = &mut command {
        *sealed = anew(sealed);
    }
    command
}

/// The user that the next candidate of `job` must have.
fn user(state: &State, job: Job) -> String {
    let Job::Rotation(id) = job else { return "bg_x".into() };
    let rotation = state.rotations().get(&id).unwrap();
    let row = state.credentials().get(&rotation.credential).unwrap();
    let before = rotation.from.and_then(|from| state.versions().get(&(row.name.clone(), from)));
    row.strategy.successor_of(before.map(|version| version.username.as_str())).to_owned()
}
