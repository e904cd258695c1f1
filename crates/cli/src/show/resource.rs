//! Resources: the document as it can be applied, and what the cluster adds to it.

use api::v1::{self, resource::Kind as Wire};
use model::time::{Span, Time};
use serde::Serialize;

use super::some;
use crate::{
    output::{Cell, Show, Tone, when, when::When},
    resource::{API_VERSION, Kind, spec::Spec},
};

/// A resource.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    api_version: &'static str,
    kind: Kind,
    metadata: Metadata,
    spec: Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
}

/// What the cluster adds.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Status {
    Target {
        has_admin_password: bool,
    },
    Store {
        has_access: bool,
    },
    Credential {
        current_version: u32,
        rotation: Option<String>,
        versions: Vec<Version>,
    },
    Schedule {
        paused: bool,
        paused_reason: Option<String>,
        next: When,
        last: When,
    },
    Consumer {
        since_revision: u64,
        delivered_up_to: u64,
        received_up_to: u64,
        enforced_up_to: u64,
        outstanding: u64,
        oldest_outstanding: String,
        last_answer: When,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    number: u32,
    state: String,
    username: String,
    created: When,
    verified: When,
    revoked: When,
    refused: When,
    #[serde(skip_serializing_if = "Option::is_none")]
    look: Option<Look>,
}

/// What logging in with it has found while a restored cluster observes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    found: String,
    at: When,
    note: String,
}

impl Resource {
    /// The view of a resource; `None` for a kind of a later protocol.
    pub fn new(resource: &v1::Resource) -> Option<Self> {
        let wire = resource.kind.as_ref()?;
        let (kind, name, status) = match wire {
            Wire::Identity(it) => (Kind::Identity, &it.name, None),
            Wire::Target(it) => {
                let has_admin_password = it.has_admin_password;
                (Kind::Target, &it.name, Some(Status::Target { has_admin_password }))
            }
            Wire::Store(it) => (Kind::Store, &it.name, Some(Status::Store { has_access: it.has_access })),
            Wire::Credential(it) => (Kind::Credential, &it.name, Some(credential_status(it))),
            Wire::Schedule(it) => (Kind::Schedule, &it.name, Some(schedule_status(it))),
            Wire::Consumer(it) => (Kind::Consumer, &it.name, Some(consumer_status(it))),
        };
        let metadata = Metadata { name: name.clone() };
        Some(Self { api_version: API_VERSION, kind, metadata, spec: wire.into(), status })
    }

    /// Without what the cluster adds.
    pub fn declared(mut self) -> Self {
        self.status = None;
        self
    }
}

fn credential_status(it: &v1::Credential) -> Status {
    let version = |it: &v1::Version| Version {
        number: it.number,
        state: it.state.clone(),
        username: it.username.clone(),
        created: When(it.created_ms),
        verified: When(it.verified_ms),
        revoked: When(it.revoked_ms),
        refused: When(it.refused_ms),
        look: it.look.as_ref().map(|it| Look {
            found: it.found.clone(),
            at: When(it.at_ms),
            note: it.note.clone(),
        }),
    };
    Status::Credential {
        current_version: it.current_version,
        rotation: some(&it.rotation),
        versions: it.versions.iter().map(version).collect(),
    }
}

fn schedule_status(it: &v1::Schedule) -> Status {
    Status::Schedule {
        paused: it.paused,
        paused_reason: some(&it.paused_reason),
        next: When(it.next_ms),
        last: When(it.last_ms),
    }
}

fn consumer_status(it: &v1::Consumer) -> Status {
    Status::Consumer {
        since_revision: it.since_revision,
        delivered_up_to: it.delivered_up_to,
        received_up_to: it.received_up_to,
        enforced_up_to: it.enforced_up_to,
        outstanding: it.outstanding,
        oldest_outstanding: Span(it.oldest_outstanding_ms).to_string(),
        last_answer: When(it.last_answer_ms),
    }
}

impl Show for Resource {
    const HEADS: &'static [&'static str] = &["kind", "name", "about", "state", "when"];
    const DOCUMENTS: bool = true;

    fn name(&self) -> String {
        self.metadata.name.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let mut cells = vec![self.kind.noun().into(), self.name().into()];
        cells.extend(self.about());
        cells.push(self.when(now));
        cells
    }
}

impl Resource {
    /// What it is about, and how it stands.
    fn about(&self) -> [Cell; 2] {
        match (&self.spec, &self.status) {
            (Spec::Identity(it), _) => [
                format!("{} of {} in {}", it.workload, it.owner, it.environment).into(),
                it.purpose.clone().into(),
            ],
            (Spec::Target(it), Some(Status::Target { has_admin_password: false })) => {
                [it.provider.clone().into(), Cell::toned("no admin password", Tone::Warn)]
            }
            (Spec::Target(it), _) => [it.provider.clone().into(), Cell::from("ready")],
            (Spec::Store(it), _) => [it.kind.clone().into(), Cell::from("ready")],
            (Spec::Credential(it), Some(Status::Credential { current_version, rotation, .. })) => {
                let standing = match (rotation, current_version) {
                    (Some(rotation), _) => Cell::toned(format!("v{current_version}, {rotation}"), Tone::Warn),
                    (None, 0) => Cell::toned("no version yet", Tone::Warn),
                    (None, _) => Cell::toned(format!("v{current_version}"), Tone::Good),
                };
                [format!("{} at {}", it.identity, it.target).into(), standing]
            }
            (Spec::Credential(it), _) => [format!("{} at {}", it.identity, it.target).into(), Cell::from("")],
            (Spec::Schedule(it), status) => {
                let timing = &it.timing;
                let timing = match (&timing.every, &timing.cron) {
                    (Some(every), _) => format!("every {every}"),
                    (None, Some(cron)) => format!("{cron} {}", timing.time_zone.as_deref().unwrap_or("UTC")),
                    (None, None) => String::new(),
                };
                let standing = match status {
                    Some(Status::Schedule { paused: true, .. }) => Cell::toned("paused", Tone::Warn),
                    Some(_) | None => Cell::toned("running", Tone::Good),
                };
                [format!("{}: {timing}", it.credential).into(), standing]
            }
            (Spec::Consumer(it), Some(Status::Consumer { outstanding, oldest_outstanding, .. })) => {
                let standing = match outstanding {
                    0 => Cell::toned("settled", Tone::Good),
                    n => Cell::toned(format!("{n} outstanding, oldest {oldest_outstanding}"), Tone::Warn),
                };
                [format!("{}{}", it.owner, if it.required { ", required" } else { "" }).into(), standing]
            }
            (Spec::Consumer(it), _) => [it.owner.clone().into(), Cell::from("")],
        }
    }

    /// The instant that matters most: next review, next fire, last answer.
    fn when(&self, now: Time) -> Cell {
        let (at, what) = match (&self.spec, &self.status) {
            (Spec::Identity(it), _) => (it.review_by.unwrap_or_default().0, "review"),
            (_, Some(Status::Schedule { next, .. })) => (next.0, "next"),
            (_, Some(Status::Consumer { last_answer, .. })) => (last_answer.0, "answered"),
            (_, _) => (0, ""),
        };
        let tone = if what == "review" && at > 0 && at < now.0 { Tone::Bad } else { Tone::Plain };
        if at == 0 { "".into() } else { Cell::toned(format!("{what} {}", when::cell(at, now)), tone) }
    }
}
