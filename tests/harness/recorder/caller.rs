//! One client of one register.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Error, v1};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::Shared;
use crate::linear::{Effect, Operation, Value};

/// A node that did not answer is left alone for about this long, so that most calls go where they may succeed.
const AVOIDED: std::ops::Range<u64> = 200..1_500;
/// Of 100 calls, so many are writes, and so many removals; the rest reads.
const WRITES: u32 = 20;
const REMOVALS: u32 = 5;
/// Room for the values of one client.
const VALUES_EACH: Value = 1 << 32;

/// One client of one register: one call at a time, each to a node drawn at random.
pub(super) struct Caller {
    shared: Arc<Shared>,
    register: String,
    client: usize,
    random: StdRng,
    next_value: Value,
    avoided: BTreeMap<u64, Instant>,
}

impl Caller {
    pub(super) fn new(shared: &Arc<Shared>, register: &str, client: usize, random: StdRng) -> Self {
        let next_value = client as Value * VALUES_EACH;
        let (shared, register) = (Arc::clone(shared), register.to_owned());
        Self { shared, register, client, random, next_value, avoided: BTreeMap::new() }
    }

    /// Any call.
    pub(super) async fn call(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            draw if draw < WRITES => self.write().await,
            draw if draw < WRITES + REMOVALS => self.remove().await,
            _ => self.read().await,
        }
    }

    /// Writes a value that was never written before.
    pub(super) async fn write(&mut self) -> Operation {
        let value = self.next_value;
        self.next_value += 1;
        let request = v1::ApplyRequest { resources: vec![identity(&self.register, value)], dry_run: false };
        self.timed(|client| async move {
            match client.apply(request).await {
                Ok(_) => (Effect::Wrote(value), None),
                Err(error) if had_no_effect(&error) => (Effect::NotWritten(value), Some(error)),
                Err(error) => (Effect::MayHaveWritten(value), Some(error)),
            }
        })
        .await
    }

    pub(super) async fn read(&mut self) -> Operation {
        let request = v1::GetResourceRequest { kind: KIND, name: self.register.clone() };
        self.timed(|client| async move {
            match client.get_resource(request).await {
                Ok(answer) => (Effect::Read(Some(value(answer))), None),
                Err(error) if is_unknown_identity(&error) => (Effect::Read(None), None),
                Err(error) => (Effect::NotRead, Some(error)),
            }
        })
        .await
    }

    async fn remove(&mut self) -> Operation {
        let request = v1::RemoveResourceRequest { kind: KIND, name: self.register.clone() };
        self.timed(|client| async move {
            match client.remove_resource(request).await {
                Ok(_) => (Effect::Removed, None),
                Err(error) if is_unknown_identity(&error) => (Effect::FoundNothing, None),
                Err(error) if had_no_effect(&error) => (Effect::NotRemoved, Some(error)),
                Err(error) => (Effect::MayHaveRemoved, Some(error)),
            }
        })
        .await
    }

    async fn timed<F>(&mut self, call: impl FnOnce(Client) -> F) -> Operation
    where
        F: Future<Output = (Effect, Option<Error>)>,
    {
        let node = self.choose().await;
        let connections = &self.shared.nodes[&node];
        let connection = connections[self.random.random_range(0..connections.len())].clone();
        let start = self.shared.now();
        let (effect, error) = call(connection).await;
        let end = self.shared.now();
        self.shared.count(effect);
        if let Some(error) = error {
            *self.shared.reasons().entry(reason(&error)).or_default() += 1;
            let pause = Duration::from_millis(self.random.random_range(AVOIDED));
            self.avoided.insert(node, Instant::now() + pause);
        }
        Operation { client: self.client, node, start, end, effect }
    }

    /// A node that is not avoided; when all are, the one that is free first.
    async fn choose(&mut self) -> u64 {
        let now = Instant::now();
        self.avoided.retain(|_, until| *until > now);
        let nodes = self.shared.nodes.keys();
        let free: Vec<u64> = nodes.filter(|node| !self.avoided.contains_key(*node)).copied().collect();
        if !free.is_empty() {
            return free[self.random.random_range(0..free.len())];
        }
        let (node, until) =
            self.avoided.iter().min_by_key(|(_, until)| **until).expect("a cluster has nodes");
        let node = *node;
        tokio::time::sleep_until(*until).await;
        node
    }
}

const KIND: i32 = v1::ResourceKind::Identity as i32;

fn identity(name: &str, value: Value) -> v1::Resource {
    let identity = v1::Identity {
        name: name.to_owned(),
        owner: "team-registers".into(),
        purpose: value.to_string(),
        workload: "registers".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    };
    v1::Resource { kind: Some(v1::resource::Kind::Identity(identity)) }
}

fn value(answer: v1::GetResourceResponse) -> Value {
    match answer.resource.and_then(|resource| resource.kind) {
        Some(v1::resource::Kind::Identity(identity)) => {
            identity.purpose.parse().expect("a purpose that was written here")
        }
        other => panic!("asked for an identity, got {other:?}"),
    }
}

fn is_unknown_identity(error: &Error) -> bool {
    matches!(error, Error::Refused(refused) if refused.code == "unknown_identity")
}

/// What the client says of its errors, taken at its word.
fn had_no_effect(error: &Error) -> bool {
    match error {
        Error::Refused(_)
        | Error::Unauthenticated(_)
        | Error::PermissionDenied(_)
        | Error::NoLeader(_)
        | Error::Unreachable { .. }
        | Error::Certificate { .. }
        | Error::Options(_) => true,
        Error::Unknown { .. } | Error::Failed { .. } | Error::Gap { .. } => false,
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::Refused(refused)
        | Error::Unauthenticated(refused)
        | Error::PermissionDenied(refused)
        | Error::NoLeader(refused) => refused.code.clone(),
        Error::Unreachable { .. } => "unreachable".to_owned(),
        Error::Unknown { message } => message.clone(),
        Error::Failed { message } => format!("failed: {message}"),
        Error::Certificate { .. } | Error::Gap { .. } | Error::Options(_) => error.to_string(),
    }
}
