//! Golden encodings: what is persisted keeps its numbers. A change here is a change of format.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Serialize;

use super::machine::{
    START, adopt, alternating, begin, consumer, credential, failed, identity, prepared_for, probed, revoke,
    schedule, sealed, still_live, target, unknown,
};
use super::{
    Machine,
    keys::{NEW, OLD, added, announced, under},
    name,
};
use crate::{
    attempt::{FailureClass, Job, Liveness, Step, StepOutcome},
    audit::AuditRecord,
    certificate::{Certificate, Party, RevokedNode},
    command::*,
    consumer::Consumer,
    credential::{Credential, Placement, SharedException, Strategy, Version, VersionState},
    event::{About, Event, EventKind, ReasonCode, Revocation, Subject},
    grant::{Grant, GrantEnd, GrantStage},
    identity::Identity,
    key::{DataKey, DataKeyState, RootKey, RootKeyState},
    ledger::{LastBackup, LedgerHead, Look, Lost, Restoration},
    membership::{JoinToken, Membership},
    name::{GrantId, NodeId, RevocationId, RotationId},
    node::Node,
    outcome::Applied,
    refusal::{Code, Refusal},
    rotation::{Cause, Order, Rotation, Stage},
    schedule::{Misfire, OverlapEnd, Schedule},
    sealed::Place,
    state::Meta,
    store::Store,
    table::Row,
    target::{Alphabet, Target},
    time::{Span, Time},
    timing::Timing,
    token::{Role, Token},
};

#[test]
fn tables_keep_their_numbers() {
    let tags = [
        Meta::TAG,
        Identity::TAG,
        Target::TAG,
        Store::TAG,
        Credential::TAG,
        Version::TAG,
        Schedule::TAG,
        Rotation::TAG,
        Event::TAG,
        Revocation::TAG,
        Consumer::TAG,
        Grant::TAG,
        Token::TAG,
        Node::TAG,
        AuditRecord::TAG,
        Certificate::TAG,
        RevokedNode::TAG,
        Membership::TAG,
        JoinToken::TAG,
        LedgerHead::TAG,
        Restoration::TAG,
        Lost::TAG,
        DataKey::TAG,
        RootKey::TAG,
        LastBackup::TAG,
        Look::TAG,
    ];
    assert_eq!(
        tags,
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]
    );
}

/// Asserts that postcard writes the values as 0, 1, 2 … in this order.
fn assert_numbered<T: Serialize>(values: &[T]) {
    for (number, value) in values.iter().enumerate() {
        let bytes = postcard::to_stdvec(value).unwrap();
        assert_eq!(usize::from(bytes[0]), number, "of {}", std::any::type_name::<T>());
    }
}

#[test]
fn plain_enums_keep_their_numbers() {
    use Stage as S;
    assert_numbered(&[
        S::Prepare,
        S::Install,
        S::Uncertain,
        S::Verify,
        S::Publish,
        S::Drain,
        S::Retire,
        S::Sever,
    ]);
    let stages = [S::ProveRefused, S::Rollback, S::Quarantined, S::Settled, S::Aborted];
    assert_eq!(stages.map(|stage| stage as u8), [8, 9, 10, 11, 12]);
    assert_eq!([S::Prepare, S::Drain].map(|stage| stage as u8), [0, 5], "also the bits of `Passed`");
    use GrantStage as G;
    assert_numbered(&[G::Requested, G::Prepare, G::Install, G::Uncertain, G::Active, G::Retire, G::Sever]);
    let stages = [G::ProveRefused, G::Remove, G::AwaitingReview, G::Reviewed, G::Denied, G::Lapsed];
    assert_eq!(stages.map(|stage| stage as u8), [7, 8, 9, 10, 11, 12]);
    use Step as T;
    assert_numbered(&[T::Prepare, T::Install, T::Probe, T::Verify, T::Publish, T::Retire, T::Sever]);
    assert_eq!([T::ProveRefused, T::Rollback, T::Remove].map(|step| step as u8), [7, 8, 9]);
    use VersionState as V;
    assert_numbered(&[V::Prepared, V::Active, V::Tainted, V::Revoked, V::Destroyed]);
    use EventKind as E;
    assert_numbered(&[
        E::CredentialRotated,
        E::CredentialRevoked,
        E::CredentialRestored,
        E::HoldLifted,
        E::GrantEnded,
    ]);
    use FailureClass as F;
    assert_numbered(&[F::Retryable, F::RejectedByTarget, F::WrongCredential, F::Unreachable, F::Permanent]);
    assert_numbered(&[Liveness::Live, Liveness::Refused, Liveness::Absent, Liveness::Unknown]);
    assert_numbered(&[Order::OverlapFirst, Order::RevokeFirst, Order::RevokeOnly]);
    assert_numbered(&[Misfire::RunOnce, Misfire::Skip]);
    assert_numbered(&[OverlapEnd::Retire, OverlapEnd::Hold, OverlapEnd::Abort]);
    assert_numbered(&[Alphabet::Alphanumeric, Alphabet::UrlSafe, Alphabet::Symbols]);
    assert_numbered(&[Role::Admin, Role::Operator, Role::Approver, Role::Auditor, Role::Consumer]);
    assert_numbered(&ReasonCode::ALL);
    assert_numbered(&[DataKeyState::Active, DataKeyState::Retiring, DataKeyState::Destroyed]);
    use RootKeyState as K;
    assert_numbered(&[K::Held, K::Active, K::Leaving, K::Retired]);
    use ReasonCode as R;
    let first = [R::Unspecified, R::KeyCompromise, R::AffiliationChanged, R::Superseded];
    let last = [R::CessationOfOperation, R::Hold, R::PrivilegeWithdrawn, R::BreakGlassEnded];
    assert_eq!(R::ALL, [first, last].concat()[..]);
}

#[test]
fn enums_with_content_keep_their_numbers() {
    let user = || "u".to_owned();
    assert_numbered(&[
        Strategy::SingleUser { username: user() },
        Strategy::AlternatingUsers { usernames: [user(), user()] },
        Strategy::Overlapping { username: user() },
    ]);
    assert_numbered(&[Job::Rotation(RotationId(1)), Job::Grant(GrantId(1))]);
    assert_numbered(&[Party::Certificate("ab".parse().unwrap()), Party::Node(NodeId(1))]);
    assert_numbered(&[
        prepared_for("u"),
        StepOutcome::Done { note: user() },
        failed(FailureClass::Retryable, Span(1)),
        unknown(),
        probed(Liveness::Live),
        still_live(),
    ]);
    assert_numbered(&[
        Cause::Due { schedule: name("s"), at: Time(1) },
        Cause::Triggered { schedule: name("s") },
        Cause::Revoked,
    ]);
    assert_numbered(&[
        Subject::Credential(name("c")),
        Subject::Version(name("c"), 1),
        Subject::Identity(name("i")),
        Subject::Grant(GrantId(1)),
    ]);
    assert_numbered(&[
        Place::Target(name("t")),
        Place::Store(name("s")),
        Place::Version(name("c"), 1),
        Place::Grant(GrantId(1)),
    ]);
    assert_numbered(&[About::Version { credential: name("c"), version: 1 }, About::Grant(GrantId(1))]);
    assert_numbered(&[
        GrantEnd::Expired,
        GrantEnd::Ended { by: user() },
        GrantEnd::Revoked,
        GrantEnd::ActivationFailed,
    ]);
    assert_numbered(&[Receipt::Received, Receipt::Enforced, Receipt::Failed { detail: user() }]);
    assert_numbered(&[
        Timing::Every { period: Span(1), phase: Span(0) },
        Timing::Cron { expression: user(), zone: user() },
    ]);
    assert_numbered(&[
        Applied::Changed,
        Applied::Unchanged,
        Applied::Started(RotationId(1)),
        Applied::Begun { fence: 1 },
        Applied::Revoked { id: RevocationId(1), revisions: vec![1] },
        Applied::Requested(GrantId(1)),
        Applied::Answered { refused: vec![(0, Refusal::new(Code::TextRequired, "x"))] },
        Applied::Admitted(NodeId(1)),
    ]);
}

#[test]
fn refusal_codes_keep_their_numbers_between_nodes() {
    assert_numbered(Code::ALL);
    let texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    insta::assert_snapshot!("refusal-codes", texts.join("\n"));
}

/// One of each command.
fn commands() -> Vec<Command> {
    [declarations(), deeds(), key_commands()].concat()
}

fn declarations() -> Vec<Command> {
    let reason = || "why".to_owned();
    let place = Placement { store: name("files"), path: "p/q".into() };
    let shared = SharedException { owner: "ann".into(), reason: reason(), ends: Time(9) };
    let put = PutCredential {
        stores: vec![place],
        workloads: vec!["w".into()],
        shared: Some(shared),
        adopt: Some(adopt(&alternating())),
        ..credential("orders-db", alternating())
    };
    let access = Some(sealed(4));
    vec![
        Tick {}.into(),
        identity("orders").into(),
        RemoveIdentity { name: name("orders") }.into(),
        target("db").into(),
        RemoveTarget { name: name("db") }.into(),
        PutStore {
            name: name("files"),
            kind: "file".into(),
            params: [("k".into(), "v".into())].into(),
            access,
        }
        .into(),
        RemoveStore { name: name("files") }.into(),
        put.into(),
        RemoveCredential { name: name("orders-db") }.into(),
        schedule("nightly", "orders-db").into(),
        RemoveSchedule { name: name("nightly") }.into(),
        PauseSchedule { name: name("nightly"), reason: reason() }.into(),
        ResumeSchedule { name: name("nightly") }.into(),
        TriggerSchedule { name: name("nightly") }.into(),
    ]
}

fn deeds() -> Vec<Command> {
    let reason = || "why".to_owned();
    let (id, grant) = (RotationId(7), GrantId(3));
    let refusal = EdgeRefusal {
        actor: "eve".into(),
        action: "a".into(),
        object: "o".into(),
        code: "c".into(),
        count: 2,
    };
    let answer = Answer { consumer: name("edge"), receipt: Receipt::Enforced, ranges: vec![(1, 3), (5, 5)] };
    vec![
        begin(Job::Rotation(id), Step::Install).into(),
        Finish { job: Job::Grant(grant), fence: 300, outcome: prepared_for("u") }.into(),
        AbortRotation { id, reason: reason() }.into(),
        RetryRotation { id }.into(),
        revoke(Subject::Version(name("orders-db"), 2), ReasonCode::KeyCompromise).into(),
        LiftRevocation { id: RevocationId(5), reason: reason() }.into(),
        consumer("edge", true).into(),
        RemoveConsumer { name: name("edge") }.into(),
        Deliver { upto: [(name("edge"), 6)].into() }.into(),
        Acknowledge { answers: vec![answer] }.into(),
        WaiveReceipt { consumer: name("edge"), revision: 6, reason: reason() }.into(),
        RequestGrant {
            target: name("db"),
            role: "reader".into(),
            duration: Span::minutes(45),
            ticket: "T".into(),
            reason: reason(),
        }
        .into(),
        ApproveGrant { id: grant }.into(),
        DenyGrant { id: grant, reason: reason() }.into(),
        EndGrant { id: grant, reason: reason() }.into(),
        RevealGrant { id: grant }.into(),
        ReviewGrant { id: grant, note: "n".into() }.into(),
        token().into(),
        RevokeToken { name: name("root"), reason: reason() }.into(),
        AnnounceNode { id: NodeId(2), client_address: "h:1".into(), version: "0.1.0".into() }.into(),
        ReportReachable { nodes: [NodeId(1), NodeId(2)].into() }.into(),
        InstallDataKey { id: 1, wrapped: vec![1, 2, 3] }.into(),
        RecordRefusals { refusals: vec![refusal] }.into(),
        RecordRead { credential: name("orders-db"), version: 2 }.into(),
        ChangeCluster { node: NodeId(2), change: ClusterChange::Rejoin, reason: reason() }.into(),
        Restored {
            backup_at: Time(2),
            backup: LedgerHead { sequence: 1, hash: [1; 32] },
            ledger: LedgerHead { sequence: 2, hash: [2; 32] },
            accepted_loss: Some(reason()),
        }
        .into(),
        ConfirmRestore { reason: reason() }.into(),
        RecordBackup { reason: reason() }.into(),
        taken(7).into(),
        RecordLooks { looks: vec![looked(Liveness::Unknown)] }.into(),
        admission().into(),
        RemoveNode { node: NodeId(2), reason: reason(), highest: NodeId(4) }.into(),
        join_token().into(),
        RevokeJoinToken { name: name("invited"), reason: reason() }.into(),
        certificate().into(),
        without(Party::Node(NodeId(2))).into(),
        RecordCollection { node: NodeId(2), reason: reason() }.into(),
    ]
}

fn key_commands() -> Vec<Command> {
    let value = Resealed { place: Place::Version(name("orders-db"), 2), was: [9; 32], sealed: under(2, 5) };
    let (nodes, reason) = ([NodeId(1), NodeId(2)].into(), "why".to_owned());
    vec![
        added(1).into(),
        Reseal { from: 1, values: vec![value] }.into(),
        DestroyDataKey { id: 1 }.into(),
        RewrapDataKeys { from: OLD, to: NEW, keys: vec![(2, vec![1, 2])], nodes, reason }.into(),
        announced(2, &[OLD, NEW]).into(),
        FinishRootKey { id: OLD, nodes: [NodeId(1)].into(), reason: "why".into() }.into(),
    ]
}

fn taken(applied: u64) -> BackupTaken {
    BackupTaken { at: Time(START.0 + 5), applied, revision: 3, ledger: 2, reason: "nightly".into() }
}

fn looked(found: Liveness) -> Looked {
    Looked { credential: name("orders-db"), version: 1, found, note: "connection refused".into() }
}

fn join_token() -> CreateJoinToken {
    CreateJoinToken { name: name("invited"), hash: [9; 32], ttl: Span::hours(1), reason: "why".into() }
}

fn admission() -> AdmitNode {
    AdmitNode {
        invitation: Some(Invitation { token: name("invited"), hash: [9; 32] }),
        storage: [5; 16],
        peer_address: "n:2".into(),
        learner: true,
        highest: NodeId(3),
    }
}

fn certificate() -> RecordCertificate {
    RecordCertificate { serial: "4f0c6a".parse().unwrap(), name: name("ci"), expires: Time(START.0 + 9) }
}

fn without(party: Party) -> RevokeCertificate {
    RevokeCertificate { party, code: ReasonCode::KeyCompromise, reason: "why".into() }
}

fn token() -> IssueToken {
    IssueToken {
        name: name("root"),
        principal: "alice".into(),
        role: Role::Admin,
        consumer: None,
        hash: [7; 32],
        expires: Some(Time(START.0 + 1)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn commands_keep_their_numbers_their_fields_and_their_order() {
    let mut text = String::new();
    let mut tags = BTreeSet::new();
    for command in commands() {
        assert!(tags.insert(command.tag()), "{} is used twice", command.tag());
        writeln!(text, "{} {}", command.tag(), command.action()).unwrap();
        let stamped = Stamped { at: Time(1), actor: "ann".into(), command };
        let bytes = stamped.encode();
        assert_eq!(Stamped::decode(&bytes), Ok(stamped));
        writeln!(text, "  {}", hex(&bytes)).unwrap();
    }
    insta::assert_snapshot!("commands", text);
}

/// Every row of a state that holds each kind of it: fields and their order, digest and hash chain included.
#[test]
fn rows_keep_their_fields_and_their_order() {
    let mut machine = Machine::alternating();
    let access = Some(sealed(4));
    machine.ok(PutStore { name: name("files"), kind: "file".into(), params: [].into(), access });
    machine.ok(consumer("edge", true));
    machine.ok(token());
    machine.ok(InstallDataKey { id: 1, wrapped: vec![1, 2, 3] });
    machine.ok(AnnounceNode { id: NodeId(2), client_address: "h:1".into(), version: "0.1.0".into() });
    machine.ok(join_token());
    machine.ok(admission());
    machine.ok(RemoveNode { node: NodeId(3), reason: "why".into(), highest: NodeId(3) });
    machine.ok(revoke(Subject::Version(name("orders-db"), 1), ReasonCode::Hold));
    machine.ok(certificate());
    machine.ok(without(Party::Certificate("4f0c6a".parse().unwrap())));
    machine.ok(without(Party::Node(NodeId(2))));
    let rotation = machine.trigger();
    machine.perform(rotation, &[Step::Prepare]);
    machine.attempt(Job::Rotation(rotation), Step::Install, failed(FailureClass::Retryable, Span(5)));
    let (role, ticket, reason) = ("reader".to_owned(), "T".to_owned(), "why".to_owned());
    machine.ok(RequestGrant { target: name("db"), role, duration: Span::minutes(45), ticket, reason });
    machine.ok_by("bob", ApproveGrant { id: GrantId(1) });
    machine.begin(Job::Grant(GrantId(1)), Step::Prepare);
    machine.ok(added(2));
    machine.ok(announced(2, &[OLD, NEW]));
    let lost = Lost { credential: name("orders-db"), version: 2, since: Time(3) };
    machine.state.lost.put(lost.credential.clone(), lost);
    let accepted_loss = Some("why".to_owned());
    let (backup, ledger) = (LedgerHead::default(), LedgerHead { sequence: 2, hash: [2; 32] });
    machine.ok(Restored { backup_at: Time(2), backup, ledger, accepted_loss });
    machine.ok(ConfirmRestore { reason: "seen".into() });
    machine.ok(taken(7));
    let look = Look {
        credential: name("orders-db"),
        version: 1,
        at: Time(4),
        found: Liveness::Refused,
        note: "no such user".into(),
    };
    machine.state.looks.put((look.credential.clone(), 1), look);
    let mut text = String::new();
    let mut kinds = BTreeSet::new();
    for record in machine.state.records() {
        kinds.insert(record.table);
        let value = record.value.as_deref().unwrap_or_default();
        writeln!(text, "{} {}\n  {}", record.table, hex(&record.key), hex(value)).unwrap();
    }
    assert_eq!(kinds.len(), 26, "a row of each table");
    writeln!(text, "digest {}", machine.state.digest()).unwrap();
    insta::assert_snapshot!("rows", text);
}
