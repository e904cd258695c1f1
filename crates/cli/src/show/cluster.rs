//! The cluster: its nodes, and what needs attention.

use api::v1;
use model::time::{Span, Time};
use serde::Serialize;

use super::{Grant, Resource, Rotation};
use crate::output::{Cell, Output, Show, Tone, when, when::When};

/// The cluster as one node sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    node: u64,
    leader: Option<u64>,
    term: u64,
    last_log: u64,
    applied: u64,
    digest: String,
    clock_off_ms: Option<i64>,
    changing: bool,
    peer_certificate_expires: When,
    client_certificate_expires: When,
    last_backup: Option<LastBackup>,
    pub members: Vec<Member>,
}

/// The last backup that was handed out whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastBackup {
    at: When,
    by: String,
    applied: u64,
    revision: u64,
    ledger_entry: u64,
}

/// A node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    id: u64,
    client_address: String,
    peer_address: String,
    voter: bool,
    leader: bool,
    reachable: bool,
    version: String,
    storage: String,
    lag: Option<u64>,
    silent_ms: Option<u64>,
    awaited: bool,
    stays_learner: bool,
}

impl From<&v1::GetClusterResponse> for Cluster {
    fn from(it: &v1::GetClusterResponse) -> Self {
        let member = |it: &v1::Member| Member {
            id: it.id,
            client_address: it.client_address.clone(),
            peer_address: it.peer_address.clone(),
            voter: it.voter,
            leader: it.leader,
            reachable: it.reachable,
            version: it.version.clone(),
            storage: it.storage.clone(),
            lag: it.lag,
            silent_ms: it.silent_ms,
            awaited: it.awaited,
            stays_learner: it.stays_learner,
        };
        Self {
            node: it.node,
            leader: (it.leader > 0).then_some(it.leader),
            term: it.term,
            last_log: it.last_log,
            applied: it.applied,
            digest: it.digest.clone(),
            clock_off_ms: it.clock_off_ms,
            changing: it.changing,
            peer_certificate_expires: When(it.peer_certificate_expires_ms),
            client_certificate_expires: When(it.client_certificate_expires_ms),
            last_backup: it.last_backup.as_ref().map(|it| LastBackup {
                at: When(it.at_ms),
                by: it.by.clone(),
                applied: it.applied,
                revision: it.revision,
                ledger_entry: it.ledger_entry,
            }),
            members: it.members.iter().map(member).collect(),
        }
    }
}

impl Cluster {
    /// Whether there is a leader, every voter is reachable and the clock is right.
    pub fn is_healthy(&self) -> bool {
        self.clock_off_ms.is_none()
            && self.leader.is_some()
            && self.members.iter().all(|member| member.reachable || !member.voter)
    }

    /// The screen of `cluster status`.
    pub fn screen(&self, output: &Output) -> String {
        let mut text = format!(
            "leader   {}\nterm     {}\napplied  {} of {}, seen by node-{}\ndigest   {}\n",
            self.leader.map_or_else(|| "none".to_owned(), |id| format!("node-{id}")),
            self.term,
            self.applied,
            self.last_log,
            self.node,
            self.digest,
        );
        if let Some(off) = self.clock_off_ms {
            let direction = if off > 0 { "ahead" } else { "behind" };
            text.push_str(&format!(
                "clock    that of node-{} is {} {direction} and is not followed: set it right, or restart the node if it is\n",
                self.node,
                Span(off.unsigned_abs()),
            ));
        }
        if self.changing {
            text.push_str(
                "voters   a change is under way: a majority of the old and of the new ones must agree\n",
            );
        }
        let client = match self.client_certificate_expires.0 {
            0 => String::new(),
            end => format!(", client port {}", when::seconds(Time(end))),
        };
        let peer = when::seconds(Time(self.peer_certificate_expires.0));
        text.push_str(&format!("certs    of node-{} good until: peer port {peer}{client}\n", self.node));
        let backup = self.last_backup.as_ref().map_or_else(
            || "none yet: revolve cluster snapshot save FILE --reason …".to_owned(),
            |it| format!("{} by {}, up to entry {}", when::cell(it.at.0, output.now()), it.by, it.applied),
        );
        text.push_str(&format!("backup   {backup}\n"));
        text.push_str(&format!("\n{}", output.table(&self.members)));
        let next: Vec<String> = self.members.iter().filter_map(Member::next).collect();
        if !next.is_empty() {
            text.push_str(&format!("\n{}\n", next.join("\n")));
        }
        text
    }
}

impl Member {
    /// What to do about it, when something is.
    fn next(&self) -> Option<String> {
        let name = format!("node-{}", self.id);
        if self.awaited {
            Some(format!("{name} was let in and has not come: start it, or `revolve cluster remove {name}`"))
        } else if !self.reachable {
            let since = self.silent_ms.map_or_else(String::new, |ms| format!(" since {}", Span(ms)));
            Some(format!(
                "{name} does not answer{since}: start it again, or replace it with `revolve cluster remove {name}`, \
                 `revolve cluster invite` and `revolve cluster join`"
            ))
        } else if self.stays_learner && !self.voter {
            Some(format!("{name} does not vote until `revolve cluster promote {name}`"))
        } else {
            None
        }
    }
}

impl Show for Member {
    const HEADS: &'static [&'static str] = &["node", "role", "state", "lag", "client address", "version"];
    const WIDE: &'static [&'static str] = &["peer address", "storage"];

    fn name(&self) -> String {
        format!("node-{}", self.id)
    }

    fn cells(&self, _now: Time) -> Vec<Cell> {
        let role = match (self.leader, self.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) if self.awaited => "awaited",
            (false, false) => "learner",
        };
        let state = if self.awaited {
            Cell::toned("not come yet", Tone::Warn)
        } else if self.reachable {
            Cell::toned("reachable", Tone::Good)
        } else {
            Cell::toned("unreachable", Tone::Bad)
        };
        vec![
            self.name().into(),
            role.into(),
            state,
            self.lag.map_or_else(String::new, |lag| lag.to_string()).into(),
            self.client_address.clone().into(),
            self.version.clone().into(),
        ]
    }

    fn wide(&self, _now: Time) -> Vec<Cell> {
        vec![self.peer_address.clone().into(), self.storage.clone().into()]
    }
}

/// What needs attention.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    now: When,
    leader: Option<u64>,
    voters: u32,
    reachable: u32,
    revision: u64,
    identities: u32,
    credentials: u32,
    schedules: u32,
    open_rotations: u32,
    overdue_schedules: Vec<String>,
    failing: Vec<Rotation>,
    quarantined: Vec<Rotation>,
    unacknowledged: Vec<Resource>,
    live_grants: Vec<Grant>,
    awaiting_review: Vec<Grant>,
    overdue_reviews: Vec<String>,
    observing: Option<Observing>,
    lost_secrets: Vec<String>,
}

/// That the cluster was put back from a backup, and nothing fires yet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Observing {
    at: When,
    by: String,
    backup_at: When,
    backup_entry: u64,
    ledger_entry: u64,
    accepted_loss: Option<String>,
    to_look_at: u32,
    log_in: u32,
    refused: u32,
    not_asked: u32,
    odd: Vec<OddVersion>,
}

/// A version that is not found as it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OddVersion {
    credential: String,
    version: u32,
    state: String,
    found: String,
    at: When,
    note: String,
}

impl From<&v1::GetStatusResponse> for Status {
    fn from(it: &v1::GetStatusResponse) -> Self {
        let consumer = |it: &v1::Consumer| {
            Resource::new(&v1::Resource { kind: Some(v1::resource::Kind::Consumer(it.clone())) })
        };
        Self {
            now: When(it.now_ms),
            leader: (it.leader > 0).then_some(it.leader),
            voters: it.voters,
            reachable: it.reachable,
            revision: it.revision,
            identities: it.identities,
            credentials: it.credentials,
            schedules: it.schedules,
            open_rotations: it.open_rotations,
            overdue_schedules: it.overdue_schedules.clone(),
            failing: it.failing.iter().map(Into::into).collect(),
            quarantined: it.quarantined.iter().map(Into::into).collect(),
            unacknowledged: it.unacknowledged.iter().filter_map(consumer).collect(),
            live_grants: it.live_grants.iter().map(Into::into).collect(),
            awaiting_review: it.awaiting_review.iter().map(Into::into).collect(),
            overdue_reviews: it.overdue_reviews.clone(),
            observing: it.observing.as_ref().map(|it| Observing {
                at: When(it.at_ms),
                by: it.by.clone(),
                backup_at: When(it.backup_at_ms),
                backup_entry: it.backup_entry,
                ledger_entry: it.ledger_entry,
                accepted_loss: it.accepted_loss.clone(),
                to_look_at: it.to_look_at,
                log_in: it.log_in,
                refused: it.refused,
                not_asked: it.not_asked,
                odd: it.odd.iter().map(Into::into).collect(),
            }),
            lost_secrets: it.lost_secrets.clone(),
        }
    }
}

impl Status {
    /// Whether there is a leader.
    pub const fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    /// Whether someone should look.
    pub fn needs_attention(&self) -> bool {
        self.reachable < self.voters
            || !self.overdue_schedules.is_empty()
            || !self.failing.is_empty()
            || !self.quarantined.is_empty()
            || !self.unacknowledged.is_empty()
            || !self.awaiting_review.is_empty()
            || !self.overdue_reviews.is_empty()
            || self.observing.is_some()
            || !self.lost_secrets.is_empty()
    }

    /// The one screen of `status`.
    pub fn screen(&self, output: &Output) -> String {
        let leader = self.leader.map_or_else(|| "NONE".to_owned(), |id| format!("node-{id}"));
        let mut text = format!(
            "cluster     leader {leader}, {} of {} voters reachable, feed at revision {}\n\
             holds       {} identities, {} credentials, {} schedules, {} open rotations\n\
             as of       {}\n",
            self.reachable,
            self.voters,
            self.revision,
            self.identities,
            self.credentials,
            self.schedules,
            self.open_rotations,
            when::seconds(Time(self.now.0)),
        );
        if let Some(observing) = &self.observing {
            text.push_str(&observing.text());
        }
        names(&mut text, "secret not in the backup, rotate", &self.lost_secrets);
        names(&mut text, "overdue schedules", &self.overdue_schedules);
        table(&mut text, output, "failing", &self.failing);
        table(&mut text, output, "quarantined", &self.quarantined);
        table(&mut text, output, "unacknowledged", &self.unacknowledged);
        table(&mut text, output, "live grants", &self.live_grants);
        table(&mut text, output, "awaiting review", &self.awaiting_review);
        names(&mut text, "overdue reviews", &self.overdue_reviews);
        if !self.needs_attention() {
            text.push_str("\nnothing needs attention\n");
        }
        text
    }
}

impl Observing {
    fn text(&self) -> String {
        let loss = self
            .accepted_loss
            .as_ref()
            .map(|reason| format!("\nLOSS ACCEPTED: {reason}"))
            .unwrap_or_default();
        let entries = match (self.backup_entry.saturating_add(1), self.ledger_entry) {
            (first, last) if first > last => "no ledger entry carried out".to_owned(),
            (first, last) if first == last => format!("ledger entry {first} carried out"),
            (first, last) => format!("ledger entries {first} to {last} carried out"),
        };
        format!(
            "\nOBSERVING: put back at {} from a backup of {}, {entries}. NOTHING FIRES.{loss}\n\
             {}next: look at it, then: revolve cluster snapshot confirm --reason …\n",
            when::seconds(Time(self.at.0)),
            when::seconds(Time(self.backup_at.0)),
            self.found(),
        )
    }

    /// What logging in with what is held has found.
    fn found(&self) -> String {
        let asked = self.log_in + self.refused + self.not_asked;
        let left = match self.to_look_at.saturating_sub(asked) {
            0 => String::new(),
            left => format!(", {left} still to be tried"),
        };
        let mut text = format!(
            "logins    {} of {} versions log in, {} are refused, {} could not be asked{left}\n",
            self.log_in, self.to_look_at, self.refused, self.not_asked
        );
        for odd in &self.odd {
            text.push_str(&format!("  {}\n", odd.line()));
        }
        text
    }
}

impl From<&v1::OddVersion> for OddVersion {
    fn from(it: &v1::OddVersion) -> Self {
        let look = it.look.clone().unwrap_or_default();
        Self {
            credential: it.credential.clone(),
            version: it.version,
            state: it.state.clone(),
            found: look.found,
            at: When(look.at_ms),
            note: look.note,
        }
    }
}

impl OddVersion {
    /// What is odd about it.
    fn line(&self) -> String {
        let what = match self.found.as_str() {
            "live" => "is over and still LOGS IN; it is ended once confirmed",
            "unknown" => "could not be asked",
            _ => "is in use and REFUSED",
        };
        let why = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
        format!("{}@{} ({}) {what}{why}", self.credential, self.version, self.state)
    }
}

fn names(text: &mut String, head: &str, names: &[String]) {
    if !names.is_empty() {
        text.push_str(&format!("\n{head}: {}\n", names.join(", ")));
    }
}

fn table<T: Show>(text: &mut String, output: &Output, head: &str, items: &[T]) {
    if !items.is_empty() {
        text.push_str(&format!("\n{head} ({})\n{}", items.len(), output.table(items)));
    }
}
