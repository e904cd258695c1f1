//! The checks: one small function each, and the table that lists them. A new one is a function and a line.

mod restored;

use std::collections::{BTreeMap, BTreeSet};

use model::time::Span;

use restored::{backup, logins, lost_secrets, observing};

use super::{Examination, Finding, Severity};

/// A follower this many entries behind cannot take over soon.
const LAG_ENTRIES: u64 = 10_000;
/// A certificate that has less left than this was not renewed when it should have been; as the alert has it.
const CERTIFICATE_LEFT: Span = Span::days(3);
/// Names shown of a longer list.
const SHOWN: usize = 5;

type Check = fn(&Examination) -> Vec<Found>;

/// Every check by its name, which is stable.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("nodes", nodes),
    ("leader", leader),
    ("quorum", quorum),
    ("learners", learners),
    ("lag", lag),
    ("readiness", readiness),
    ("disk", disk),
    ("clock", clock),
    ("digest", digest),
    ("versions", versions),
    ("certificates", certificates),
    ("root-key", root_key),
    ("backup", backup),
    ("observing", observing),
    ("logins", logins),
    ("lost-secrets", lost_secrets),
    ("overdue-schedules", overdue_schedules),
    ("quarantined-rotations", quarantined),
    ("failing-rotations", failing),
    ("overdue-receipts", overdue_receipts),
    ("grants", grants),
    ("grant-reviews", grant_reviews),
    ("identity-reviews", identity_reviews),
];

/// A finding without the name of its check.
pub(super) struct Found {
    severity: Severity,
    what: String,
    why: &'static str,
    next: String,
}

impl Found {
    pub(super) fn of(self, check: &'static str) -> Finding {
        let Self { severity, what, why, next } = self;
        Finding { severity, check, what, why, next }
    }
}

fn found(severity: Severity, what: impl Into<String>, why: &'static str, next: impl Into<String>) -> Found {
    Found { severity, what: what.into(), why, next: next.into() }
}

fn nodes(seen: &Examination) -> Vec<Found> {
    let silent = seen.nodes.iter().filter_map(|node| Some((&node.address, node.answer.as_ref().err()?)));
    silent
        .map(|(address, error)| {
            found(
                Severity::Warning,
                format!("`{address}` does not answer: {error}"),
                "one fault less can be borne while a node is away",
                "start the node again, and look at the end of its log: `revolve health --live` on its machine",
            )
        })
        .collect()
}

fn leader(seen: &Examination) -> Vec<Found> {
    let leaders: BTreeSet<u64> = seen.answers().map(|answer| answer.leader).collect();
    let known = leaders.iter().filter(|leader| **leader != 0).count();
    match (seen.answers().count(), known) {
        (0, _) => vec![found(
            Severity::Critical,
            "no node answers",
            "nothing can be rotated, revoked or read",
            "check --addr or REVOLVE_ADDR, and whether the nodes run",
        )],
        (_, 0) => vec![found(
            Severity::Critical,
            "no node knows a leader",
            "nothing is rotated or revoked until there is one, and grants end at the target alone",
            "bring a majority of the voters back; the findings on nodes and readiness say which are away",
        )],
        (_, 1) if !leaders.contains(&0) => Vec::new(),
        _ => vec![found(
            Severity::Warning,
            format!(
                "the nodes do not agree on who leads: {}",
                list(leaders.iter().map(|id| node_or_none(*id)))
            ),
            "an election is under way, or a node is cut off from the others",
            "look again in a few seconds; if it stays so, check the peer ports between the nodes",
        )],
    }
}

fn quorum(seen: &Examination) -> Vec<Found> {
    let voters: Vec<_> = seen.members().iter().filter(|member| member.voter).collect();
    let up = voters.iter().filter(|member| seen.is_up(member)).count();
    let away = voters.iter().filter(|member| !seen.is_up(member)).map(|member| node(member.id));
    let away = list(away);
    if voters.is_empty() || up == voters.len() {
        return Vec::new();
    }
    let (majority, count) = (voters.len() / 2 + 1, voters.len());
    if up < majority {
        return vec![found(
            Severity::Critical,
            format!("{up} of {count} voters are up, and {majority} are needed; away: {away}"),
            "nothing can be committed",
            "bring one of them back; do not remove or wipe the others",
        )];
    }
    let severity = if up == majority { Severity::Critical } else { Severity::Warning };
    vec![found(
        severity,
        format!("{up} of {count} voters are up; away: {away}"),
        if up == majority { "the next fault stops the cluster" } else { "fewer faults can be borne" },
        format!("start {away} again, or replace it when it does not come back"),
    )]
}

fn learners(seen: &Examination) -> Vec<Found> {
    let learners = seen.members().iter().filter(|member| !member.voter);
    learners
        .map(|member| {
            found(
                Severity::Notice,
                format!("{} is a learner: it receives everything and does not vote", node(member.id)),
                "it does not count for the quorum",
                "nothing while it catches up; afterwards it votes by itself, or its log says why not",
            )
        })
        .collect()
}

fn lag(seen: &Examination) -> Vec<Found> {
    let lagging = seen.members().iter().filter(|member| member.lag.is_some_and(|lag| lag > LAG_ENTRIES));
    lagging
        .map(|member| {
            found(
                Severity::Warning,
                format!("{} lacks {} entries", node(member.id), member.lag.unwrap_or_default()),
                "it cannot take over the lead, and what it holds is old",
                "look again: if it grows, the disk or the network of that node is too slow",
            )
        })
        .collect()
}

fn readiness(seen: &Examination) -> Vec<Found> {
    let unready =
        seen.answers().flat_map(|answer| answer.unready.iter().map(move |reason| (answer.node, reason)));
    unready
        .map(|(id, reason)| {
            found(
                Severity::Warning,
                format!("{} is not ready: {reason}", node(id)),
                "load balancers should send it no calls, and it may not count for the quorum",
                format!(
                    "look at its log; if it waits for a person: `revolve cluster rejoin {} --reason …`",
                    node(id)
                ),
            )
        })
        .collect()
}

fn disk(seen: &Examination) -> Vec<Found> {
    let full = seen.answers().filter(|answer| answer.disk_full);
    full.map(|answer| {
        found(
            Severity::Critical,
            format!("the disk of {} is full", node(answer.node)),
            "it takes no more writes; a leader hands over, and with a majority like this everything is refused",
            "make room on that disk: the node goes on by itself",
        )
    })
    .collect()
}

fn clock(seen: &Examination) -> Vec<Found> {
    let off = seen.answers().filter_map(|answer| Some((answer.node, answer.clock_off_ms?)));
    off.map(|(id, off)| {
        let direction = if off > 0 { "ahead" } else { "behind" };
        found(
            Severity::Warning,
            format!(
                "the wall clock of {} is {} {direction}, and is not followed",
                node(id),
                Span(off.unsigned_abs())
            ),
            "the node does not keep the lead; if most clocks are off, schedules run by the time of before",
            "set the clock of that machine right; if it is right, restart the nodes one by one",
        )
    })
    .collect()
}

/// Only states at the same entry can be compared. The nodes do so themselves all the time.
fn digest(seen: &Examination) -> Vec<Found> {
    let mut by_entry: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for answer in seen.answers() {
        by_entry.entry(answer.applied).or_default().insert(&answer.digest);
    }
    let differing = by_entry.into_iter().filter(|(_, digests)| digests.len() > 1);
    differing
        .map(|(entry, _)| {
            let nodes = seen.answers().filter(|answer| answer.applied == entry).map(|answer| node(answer.node));
            found(
                Severity::Critical,
                format!("the states of {} differ at entry {entry}", list(nodes)),
                "a damaged state must not spread; the minority stops by itself and begins anew from the others",
                "run `revolve debug bundle --out FILE` before anything is started again, and report it",
            )
        })
        .collect()
}

fn versions(seen: &Examination) -> Vec<Found> {
    let versions: BTreeSet<&str> =
        seen.members().iter().map(|member| member.version.as_str()).filter(|it| !it.is_empty()).collect();
    if versions.len() < 2 {
        return Vec::new();
    }
    vec![found(
        Severity::Warning,
        format!("the nodes run different versions: {}", list(versions.iter())),
        "what only the newer one knows is refused until all of them know it",
        "finish the upgrade, one node after the other",
    )]
}

/// A node renews its certificates by itself; 0 is that of a port that shows none.
fn certificates(seen: &Examination) -> Vec<Found> {
    let Some(status) = &seen.status else { return Vec::new() };
    let ends = seen.answers().flat_map(|answer| {
        let ends =
            [("peer", answer.peer_certificate_expires_ms), ("client", answer.client_certificate_expires_ms)];
        ends.map(|(port, end)| (answer.node, port, end))
    });
    let near = ends.filter(|(_, _, end)| *end > 0 && *end < status.now_ms.saturating_add(CERTIFICATE_LEFT.0));
    near.map(|(id, port, end)| {
        let left = Span(end.saturating_sub(status.now_ms));
        found(
            Severity::Warning,
            format!("the certificate of the {port} port of {} ends in {left}", node(id)),
            "when it has ended nobody connects to that port any more",
            "its log says why it is not renewed; files under `[tls]` are renewed by whoever made them",
        )
    })
    .collect()
}

/// While there are two root keys that count, each node must get hold of the newer one.
fn root_key(seen: &Examination) -> Vec<Found> {
    let Some(keys) = &seen.keys else { return Vec::new() };
    let live: Vec<_> = keys.root_keys.iter().filter(|key| key.state != "retired").collect();
    if live.len() < 2 {
        return Vec::new();
    }
    let newer = live.into_iter().filter(|key| key.state == "held" || key.state == "active");
    newer
        .filter_map(|key| {
            let lacking = keys.nodes.iter().filter(|id| !key.holders.contains(id)).map(|id| node(*id));
            let lacking = list(lacking);
            (!lacking.is_empty()).then(|| {
                found(
                    Severity::Warning,
                    format!("the root key is being replaced, and {lacking} lacks {}", key.id),
                    "the replacement cannot go on; with the former key alone a node stops when it ends",
                    "bring the file to each of them as its `next_root_key_file`; `revolve key status` shows who has it",
                )
            })
        })
        .collect()
}

fn overdue_schedules(seen: &Examination) -> Vec<Found> {
    let overdue =
        seen.status.iter().map(|status| &status.overdue_schedules).filter(|names| !names.is_empty());
    overdue
        .map(|names| {
            found(
                Severity::Warning,
                format!("{} schedules are overdue: {}", names.len(), list(names.iter())),
                "a credential lives longer than was declared",
                format!("see why: `revolve schedule get {}`, and `revolve rotation list`", names[0]),
            )
        })
        .collect()
}

fn quarantined(seen: &Examination) -> Vec<Found> {
    let quarantined = seen.status.iter().flat_map(|status| &status.quarantined);
    quarantined
        .take(SHOWN)
        .map(|rotation| {
            found(
                Severity::Critical,
                format!(
                    "{} of `{}` waits for a person: {}",
                    rotation.id, rotation.credential, rotation.failure_class
                ),
                "it does not get better by itself; the old version stays in use",
                format!(
                    "`revolve rotation get {0}`, mend the cause, then `revolve rotation retry {0}`",
                    rotation.id
                ),
            )
        })
        .collect()
}

fn failing(seen: &Examination) -> Vec<Found> {
    let failing = seen.status.iter().flat_map(|status| &status.failing);
    failing
        .take(SHOWN)
        .map(|rotation| {
            found(
                Severity::Warning,
                format!(
                    "{} of `{}` has failed {} times in `{}`: {}",
                    rotation.id,
                    rotation.credential,
                    rotation.failed_attempts,
                    rotation.stage,
                    rotation.failure_class
                ),
                "it is tried again, and is given up for a person to decide when it goes on",
                format!("`revolve rotation get {}`", rotation.id),
            )
        })
        .collect()
}

fn overdue_receipts(seen: &Examination) -> Vec<Found> {
    let late =
        seen.status.iter().flat_map(|status| &status.unacknowledged).filter(|consumer| consumer.overdue > 0);
    late.take(SHOWN)
        .map(|consumer| {
            found(
                if consumer.required { Severity::Critical } else { Severity::Warning },
                format!(
                    "consumer `{}` has not answered {} events in time, the oldest for {}",
                    consumer.name,
                    consumer.overdue,
                    Span(consumer.oldest_outstanding_ms)
                ),
                "it may still honour what was revoked",
                format!("ask `{}`; to go on without it: `revolve consumer waive --help`", consumer.owner),
            )
        })
        .collect()
}

fn grants(seen: &Examination) -> Vec<Found> {
    let live = seen.status.iter().flat_map(|status| &status.live_grants);
    live.take(SHOWN)
        .map(|grant| {
            found(
                Severity::Notice,
                format!(
                    "{} gives `{}` the role `{}` on `{}`",
                    grant.id, grant.requester, grant.role, grant.target
                ),
                "break-glass access is open; it ends by itself",
                format!("`revolve breakglass get {}`", grant.id),
            )
        })
        .collect()
}

fn grant_reviews(seen: &Examination) -> Vec<Found> {
    let waiting = seen.status.iter().flat_map(|status| &status.awaiting_review);
    waiting
        .take(SHOWN)
        .map(|grant| {
            found(
                Severity::Warning,
                format!("{} of `{}` has ended and nobody has reviewed it", grant.id, grant.requester),
                "what was done under it is not looked at",
                format!("someone else than `{}`: `revolve breakglass review {}`", grant.requester, grant.id),
            )
        })
        .collect()
}

fn identity_reviews(seen: &Examination) -> Vec<Found> {
    let overdue = seen.status.iter().map(|status| &status.overdue_reviews).filter(|names| !names.is_empty());
    overdue
        .map(|names| {
            found(
                Severity::Warning,
                format!("{} reviews are overdue: {}", names.len(), list(names.iter())),
                "nobody has said that these identities and exceptions are still needed",
                "ask the owners, then declare a later date with `revolve apply -f`, or remove them",
            )
        })
        .collect()
}

fn node(id: u64) -> String {
    format!("node-{id}")
}

fn node_or_none(id: u64) -> String {
    if id == 0 { "none".to_owned() } else { node(id) }
}

/// The first few, and how many more there are.
fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = items.map(|item| item.to_string()).collect();
    let mut text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        text.push_str(&format!(" and {} more", all.len() - SHOWN));
    }
    text
}
