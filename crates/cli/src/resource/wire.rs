//! Between the `spec` of YAML and the messages of the wire.

use std::{collections::BTreeMap, path::Path};

use api::v1::{self, resource::Kind as Wire};
use secrecy::{ExposeSecret, SecretString};

use super::{
    scalar::{Instant, Span},
    secret::SecretRef,
    spec::{
        Consumer, Credential, Identity, Placement, RotationPolicy, Schedule, SecretPolicy, SharedException,
        Spec, Store, Subscription, Target, Timing,
    },
};
use crate::exit::Failure;

impl Spec {
    /// The message that declares `name` with this spec; secrets are read now, paths starting at `folder`.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub fn declare(self, name: String, folder: &Path) -> Result<v1::Resource, Failure> {
        let secret = |reference: &Option<SecretRef>| -> Result<String, Failure> {
            let found: Option<SecretString> = reference.as_ref().map(|it| it.read(folder)).transpose()?;
            Ok(found.map(|secret| secret.expose_secret().to_owned()).unwrap_or_default())
        };
        let kind = match self {
            Self::Identity(it) => Wire::Identity(v1::Identity {
                name,
                owner: it.owner,
                purpose: it.purpose,
                workload: it.workload,
                environment: it.environment,
                review_by_ms: it.review_by.unwrap_or_default().0,
            }),
            Self::Target(it) => Wire::Target(v1::Target {
                name,
                admin_password: secret(&it.admin_password)?,
                provider: it.provider,
                params: it.params.into_iter().collect(),
                secrets: it.secrets.map(|it| v1::SecretPolicy { length: it.length, alphabet: it.alphabet }),
                break_glass_roles: it.break_glass_roles,
                has_admin_password: false,
            }),
            Self::Store(it) => Wire::Store(v1::Store {
                name,
                access: access(&it, folder)?,
                kind: it.kind,
                params: it.params.into_iter().collect(),
                has_access: false,
            }),
            Self::Credential(it) => {
                let adopt_password = secret(&it.adopt_password)?;
                Wire::Credential(v1::Credential { adopt_password, ..it.declare(name) })
            }
            Self::Schedule(it) => Wire::Schedule(it.declare(name)),
            Self::Consumer(it) => Wire::Consumer(it.declare(name)),
        };
        Ok(v1::Resource { kind: Some(kind) })
    }
}

fn access(store: &Store, folder: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let read = store
        .access
        .iter()
        .map(|(key, reference)| Ok((key.clone(), reference.read(folder)?.expose_secret().to_owned())));
    read.collect()
}

impl Credential {
    fn declare(self, name: String) -> v1::Credential {
        v1::Credential {
            name,
            identity: self.identity,
            target: self.target,
            strategy: self.strategy,
            usernames: self.usernames,
            stores: self
                .stores
                .into_iter()
                .map(|it| v1::Placement { store: it.store, path: it.path })
                .collect(),
            workloads: self.workloads,
            shared: self.shared.map(|it| v1::SharedException {
                owner: it.owner,
                reason: it.reason,
                ends_ms: it.ends.0,
            }),
            ..v1::Credential::default()
        }
    }
}

impl Schedule {
    fn declare(self, name: String) -> v1::Schedule {
        v1::Schedule {
            name,
            credential: self.credential,
            timing: Some(self.timing.declare()),
            jitter_ms: ms(self.jitter),
            misfire: self.misfire.unwrap_or_default(),
            policy: self.policy.map(|it| v1::RotationPolicy {
                overlap_max_ms: ms(it.overlap_max),
                on_overlap_end: it.on_overlap_end.unwrap_or_default(),
                ack_within_ms: ms(it.ack_within),
                max_attempts: it.max_attempts.unwrap_or_default(),
                step_timeout_ms: ms(it.step_timeout),
            }),
            ..v1::Schedule::default()
        }
    }
}

impl Timing {
    fn declare(self) -> v1::Timing {
        v1::Timing {
            every_ms: ms(self.every),
            phase_ms: ms(self.phase),
            cron: self.cron.unwrap_or_default(),
            time_zone: self.time_zone.unwrap_or_default(),
        }
    }
}

impl Consumer {
    fn declare(self, name: String) -> v1::Consumer {
        let Subscription { all, credentials, targets } = self.subscription;
        v1::Consumer {
            name,
            owner: self.owner,
            subscription: Some(v1::Subscription { all, credentials, targets }),
            required: self.required,
            ..v1::Consumer::default()
        }
    }
}

impl From<&Wire> for Spec {
    fn from(kind: &Wire) -> Self {
        match kind {
            Wire::Identity(it) => Self::Identity(Identity {
                owner: it.owner.clone(),
                purpose: it.purpose.clone(),
                workload: it.workload.clone(),
                environment: it.environment.clone(),
                review_by: (it.review_by_ms > 0).then_some(Instant(it.review_by_ms)),
            }),
            Wire::Target(it) => Self::Target(Target {
                provider: it.provider.clone(),
                params: it.params.clone().into_iter().collect(),
                admin_password: None,
                secrets: it
                    .secrets
                    .as_ref()
                    .map(|it| SecretPolicy { length: it.length, alphabet: it.alphabet.clone() }),
                break_glass_roles: it.break_glass_roles.clone(),
            }),
            Wire::Store(it) => Self::Store(Store {
                kind: it.kind.clone(),
                params: it.params.clone().into_iter().collect(),
                access: BTreeMap::new(),
            }),
            Wire::Credential(it) => Self::Credential(it.into()),
            Wire::Schedule(it) => Self::Schedule(it.into()),
            Wire::Consumer(it) => Self::Consumer(it.into()),
        }
    }
}

impl From<&v1::Credential> for Credential {
    fn from(it: &v1::Credential) -> Self {
        let placed = |it: &v1::Placement| Placement { store: it.store.clone(), path: it.path.clone() };
        Self {
            identity: it.identity.clone(),
            target: it.target.clone(),
            strategy: it.strategy.clone(),
            usernames: it.usernames.clone(),
            stores: it.stores.iter().map(placed).collect(),
            workloads: it.workloads.clone(),
            shared: it.shared.as_ref().map(|it| SharedException {
                owner: it.owner.clone(),
                reason: it.reason.clone(),
                ends: Instant(it.ends_ms),
            }),
            adopt_password: None,
        }
    }
}

impl From<&v1::Schedule> for Schedule {
    fn from(it: &v1::Schedule) -> Self {
        let timing = it.timing.clone().unwrap_or_default();
        Self {
            credential: it.credential.clone(),
            timing: Timing {
                every: span(timing.every_ms),
                phase: span(timing.phase_ms),
                cron: text(&timing.cron),
                time_zone: text(&timing.time_zone),
            },
            jitter: span(it.jitter_ms),
            misfire: text(&it.misfire),
            policy: it.policy.as_ref().map(|it| RotationPolicy {
                overlap_max: span(it.overlap_max_ms),
                on_overlap_end: text(&it.on_overlap_end),
                ack_within: span(it.ack_within_ms),
                max_attempts: (it.max_attempts > 0).then_some(it.max_attempts),
                step_timeout: span(it.step_timeout_ms),
            }),
        }
    }
}

impl From<&v1::Consumer> for Consumer {
    fn from(it: &v1::Consumer) -> Self {
        let v1::Subscription { all, credentials, targets } = it.subscription.clone().unwrap_or_default();
        Self {
            owner: it.owner.clone(),
            subscription: Subscription { all, credentials, targets },
            required: it.required,
        }
    }
}

fn ms(span: Option<Span>) -> u64 {
    span.unwrap_or_default().0
}

fn span(ms: u64) -> Option<Span> {
    (ms > 0).then_some(Span(ms))
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
