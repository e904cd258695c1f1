//! What every world begins with: one target, a few credentials of each strategy with short schedules, two consumers.

use std::collections::BTreeMap;

use model::{
    command::{Adopt, Command, PutConsumer, PutCredential, PutIdentity, PutSchedule, PutTarget},
    consumer::Subscription,
    credential::Strategy,
    name::{CredentialName, TargetName},
    schedule::{Misfire, OverlapEnd, RotationPolicy},
    target::SecretPolicy,
    time::{Span, Time},
    timing::Timing,
};

use crate::{
    chance::Chance,
    hands::seal,
    target::{Secret, Target},
};

/// The role that grants are for.
pub(crate) const ROLE: &str = "reader";
/// The names of the consumers; rotations wait for the first.
pub(crate) const CONSUMERS: [&str; 2] = ["edge", "archive"];
/// Credentials that are there from the beginning.
const CREDENTIALS: u64 = 3;
/// Secrets of adopted versions begin here, far above any fence.
const ADOPTED: Secret = 1_000_000;

/// The commands that declare it all, in order.
pub(crate) fn commands(chance: &mut Chance) -> Vec<Command> {
    let mut commands: Vec<Command> = vec![
        PutIdentity {
            name: parsed("orders"),
            owner: "payments".into(),
            purpose: "takes orders".into(),
            workload: "api".into(),
            environment: "test".into(),
            review_by: Time::MAX,
        }
        .into(),
        PutTarget {
            name: target_name(),
            provider: "postgres".into(),
            params: BTreeMap::from([("host".to_owned(), "db".to_owned())]),
            admin: Some(seal(1)),
            secrets: SecretPolicy::default(),
            break_glass_roles: vec![ROLE.into()],
        }
        .into(),
    ];
    for number in 0..CREDENTIALS {
        commands.push(credential(number, adopted(number)).into());
        commands.push(schedule(number, chance).into());
    }
    for (place, name) in CONSUMERS.iter().enumerate() {
        let subscription = Subscription { all: true, ..Subscription::default() };
        let (name, owner, required) = (parsed(name), "edge team".into(), place == 0);
        commands.push(PutConsumer { name, owner, subscription, required }.into());
    }
    commands
}

/// The target as it is found: it honours what will be adopted.
pub(crate) fn prepare(target: &Target) {
    for number in 0..CREDENTIALS {
        if let Some(adopt) = adopted(number) {
            target.found_with(&adopt.username, ADOPTED + number);
        }
    }
}

pub(crate) fn target_name() -> TargetName {
    parsed("db")
}

pub(crate) fn credential_name(number: u64) -> CredentialName {
    parsed(&format!("credential-{number}"))
}

pub(crate) fn credential(number: u64, adopt: Option<Adopt>) -> PutCredential {
    PutCredential {
        name: credential_name(number),
        identity: parsed("orders"),
        target: target_name(),
        strategy: strategy(number),
        stores: Vec::new(),
        workloads: Vec::new(),
        shared: None,
        adopt,
    }
}

pub(crate) fn schedule(number: u64, chance: &mut Chance) -> PutSchedule {
    let period = Span::seconds(chance.number(10..=40));
    let ends = [OverlapEnd::Retire, OverlapEnd::Hold, OverlapEnd::Abort];
    PutSchedule {
        name: parsed(&format!("schedule-{number}")),
        credential: credential_name(number),
        timing: Timing::Every { period, phase: Span(chance.number(0..=5_000)) },
        jitter: Span(chance.number(0..=1_000)),
        misfire: if chance.permille(300) { Misfire::Skip } else { Misfire::RunOnce },
        policy: RotationPolicy {
            overlap_max: Span::seconds(chance.number(2..=20)),
            on_overlap_end: chance.one_of(&ends).copied().unwrap_or(OverlapEnd::Retire),
            ack_within: Span::seconds(10),
            max_attempts: u32::try_from(chance.number(2..=8)).unwrap_or(8),
            step_timeout: Span::seconds(chance.number(2..=6)),
        },
    }
}

fn strategy(number: u64) -> Strategy {
    let user = |suffix: &str| format!("user_{number}{suffix}");
    match number % 3 {
        0 => Strategy::AlternatingUsers { usernames: [user("_a"), user("_b")] },
        1 => Strategy::SingleUser { username: user("") },
        _ => Strategy::Overlapping { username: user("") },
    }
}

/// The first credentials have a secret in use; the last of them has none yet.
fn adopted(number: u64) -> Option<Adopt> {
    let username = strategy(number).successor_of(None).to_owned();
    (number + 1 < CREDENTIALS).then(|| Adopt { username, version: 1, sealed: seal(ADOPTED + number) })
}

fn parsed<N: std::str::FromStr>(text: &str) -> N
where
    N::Err: std::fmt::Debug,
{
    text.parse().expect("the names of a world are valid")
}
