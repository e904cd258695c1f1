//! The `spec` of every kind, as it is written in YAML and shown again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    scalar::{Instant, Span},
    secret::SecretRef,
};

/// The spec of one resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spec {
    /// Of an identity.
    Identity(Identity),
    /// Of a target.
    Target(Target),
    /// Of a store.
    Store(Store),
    /// Of a credential.
    Credential(Credential),
    /// Of a schedule.
    Schedule(Schedule),
    /// Of a consumer.
    Consumer(Consumer),
}

/// A named non-human principal. What must be there, the cluster decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Identity {
    pub owner: String,
    pub purpose: String,
    pub workload: String,
    pub environment: String,
    pub review_by: Option<Instant>,
}

/// A system that honours credentials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    pub provider: String,
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    pub admin_password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretPolicy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub break_glass_roles: Vec<String>,
}

/// How secrets are generated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SecretPolicy {
    pub length: u32,
    pub alphabet: String,
}

/// Where consumers read values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Store {
    pub kind: String,
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    pub access: BTreeMap<String, SecretRef>,
}

/// What an identity authenticates with at a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Credential {
    pub identity: String,
    pub target: String,
    #[serde(default = "single_user")]
    pub strategy: String,
    #[serde(default)]
    pub usernames: Vec<String>,
    #[serde(default)]
    pub stores: Vec<Placement>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedException>,
    #[serde(default, skip_serializing)]
    pub adopt_password: Option<SecretRef>,
}

/// Where a credential is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Placement {
    pub store: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Why several workloads share a credential, and until when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SharedException {
    pub owner: String,
    pub reason: String,
    pub ends: Instant,
}

/// When a credential must rotate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Schedule {
    pub credential: String,
    pub timing: Timing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RotationPolicy>,
}

/// Due instants: `every` with `phase`, or `cron` with `timeZone`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Timing {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// How rotations run; what is left out takes the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RotationPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_max: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_overlap_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_within: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_timeout: Option<Span>,
}

/// A party that must act on events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Consumer {
    pub owner: String,
    #[serde(default)]
    pub subscription: Subscription,
    #[serde(default = "yes")]
    pub required: bool,
}

/// Which events are for a consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Subscription {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

fn single_user() -> String {
    "single-user".to_owned()
}

const fn yes() -> bool {
    true
}
