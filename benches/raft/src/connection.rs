//! One client's connection to one node, and the few calls that are measured, the same for both systems.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use client::v1::{self, resource::Kind};
use etcd_client::{ConnectOptions, Txn, TxnOp};
use prost::Message;
use secrecy::SecretString;

/// Bytes of payload in one record.
pub const PAYLOAD_BYTES: usize = 256;
/// Longest wait for an answer; far above anything that a healthy cluster takes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Everything loaded is due after about this time, so that no rotation starts while measuring.
const PERIOD: Duration = Duration::from_secs(365 * 24 * 3_600);
const IDENTITY: &str = "bench-owner";
const TARGET: &str = "bench-target";

/// A connection to one node.
#[derive(Clone)]
pub enum Connection {
    /// To a node of Revolve.
    Revolve(client::Client),
    /// To a node of etcd.
    Etcd(Box<etcd_client::Client>),
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it leads.
    pub leads: bool,
    /// Whether it knows a leader.
    pub led: bool,
    /// The last entry that it has applied.
    pub applied: u64,
}

impl Connection {
    /// Prepares a connection to a node of Revolve; it is made by the first call.
    pub fn revolve(address: &str, token: &SecretString) -> Result<Self> {
        let mut options = client::Options::new([address]).token(token.clone());
        options.timeout = TIMEOUT;
        Ok(Self::Revolve(client::Client::connect(options)?))
    }

    /// Prepares a connection to a node of etcd; it is made by the first call.
    pub async fn etcd(address: &str) -> Result<Self> {
        let options = ConnectOptions::new().with_timeout(TIMEOUT);
        Ok(Self::Etcd(Box::new(etcd_client::Client::connect([address], Some(options)).await?)))
    }

    /// Writes one record, committed by a quorum when this returns.
    pub async fn put(&mut self, key: String, payload: String) -> Result<()> {
        match self {
            Self::Revolve(client) => {
                let request = v1::ApplyRequest { resources: vec![identity(key, payload)], dry_run: false };
                client.apply(request).await?;
            }
            Self::Etcd(client) => {
                client.put(key, payload, None).await?;
            }
        }
        Ok(())
    }

    /// Writes many records with as few calls as the system allows; returns the bytes of data they hold.
    pub async fn put_many(&mut self, records: Vec<(String, String)>) -> Result<u64> {
        match self {
            Self::Revolve(client) => {
                let resources: Vec<_> =
                    records.into_iter().map(|(key, payload)| identity(key, payload)).collect();
                apply(client, resources).await
            }
            Self::Etcd(client) => {
                let bytes = records.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
                let puts =
                    records.into_iter().map(|(key, value)| TxnOp::put(key, value, None)).collect::<Vec<_>>();
                client.txn(Txn::new().and_then(puts)).await?;
                Ok(bytes.try_into()?)
            }
        }
    }

    /// Makes ready for [`Self::load_pairs`].
    pub async fn prepare_pairs(&mut self) -> Result<()> {
        if let Self::Revolve(client) = self {
            let params = [("host", "127.0.0.1"), ("port", "1")];
            let target = v1::Target {
                name: TARGET.into(),
                provider: "demo".into(),
                params: params.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                admin_password: "unused".into(),
                ..Default::default()
            };
            let target = v1::Resource { kind: Some(Kind::Target(target)) };
            apply(client, vec![identity(IDENTITY.into(), "owns what is loaded".into()), target]).await?;
        }
        Ok(())
    }

    /// Loads pairs of records with these numbers: a credential and its schedule here, two keys at etcd. Returns
    /// the bytes of data they hold.
    pub async fn load_pairs(&mut self, numbers: std::ops::Range<u64>) -> Result<u64> {
        match self {
            Self::Revolve(client) => {
                let phase_ms = phase_ms()?;
                apply(client, numbers.flat_map(|number| scheduled(number, phase_ms)).collect()).await
            }
            Self::Etcd(_) => {
                let names = numbers.flat_map(|number| [format!("c-{number}"), format!("s-{number}")]);
                self.put_many(names.map(|name| (name, "x".repeat(PAYLOAD_BYTES))).collect()).await
            }
        }
    }

    /// Asks for the status; at etcd, which has none, for one key, read linearizably as well.
    pub async fn look(&mut self) -> Result<()> {
        match self {
            Self::Revolve(client) => {
                client.get_status(v1::GetStatusRequest {}).await?;
            }
            Self::Etcd(client) => {
                client.get("c-0", None).await?;
            }
        }
        Ok(())
    }

    /// Where the node stands.
    pub async fn standing(&mut self) -> Result<Standing> {
        match self {
            Self::Revolve(client) => {
                let answer = client.get_cluster(v1::GetClusterRequest {}).await?;
                let led = answer.leader != 0;
                Ok(Standing { leads: led && answer.leader == answer.node, led, applied: answer.applied })
            }
            Self::Etcd(client) => {
                let answer = client.status().await?;
                let own = answer.header().context("etcd leaves its header out")?.member_id();
                let led = answer.leader() != 0;
                Ok(Standing { leads: answer.leader() == own, led, applied: answer.raft_applied_index() })
            }
        }
    }
}

async fn apply(client: &client::Client, resources: Vec<v1::Resource>) -> Result<u64> {
    let bytes: usize = resources.iter().map(Message::encoded_len).sum();
    client.apply(v1::ApplyRequest { resources, dry_run: false }).await?;
    Ok(bytes.try_into()?)
}

fn identity(name: String, purpose: String) -> v1::Resource {
    let identity = v1::Identity {
        name,
        owner: "bench".into(),
        purpose,
        workload: "bench".into(),
        environment: "bench".into(),
        review_by_ms: 4_102_444_800_000,
    };
    v1::Resource { kind: Some(Kind::Identity(identity)) }
}

fn scheduled(number: u64, phase_ms: u64) -> [v1::Resource; 2] {
    let credential = v1::Credential {
        name: format!("c-{number}"),
        identity: IDENTITY.into(),
        target: TARGET.into(),
        strategy: "overlapping".into(),
        usernames: vec![format!("user_{number}")],
        ..Default::default()
    };
    let schedule = v1::Schedule {
        name: format!("s-{number}"),
        credential: format!("c-{number}"),
        timing: Some(v1::Timing { every_ms: millis(PERIOD), phase_ms, ..Default::default() }),
        ..Default::default()
    };
    [Kind::Credential(credential), Kind::Schedule(schedule)].map(|kind| v1::Resource { kind: Some(kind) })
}

/// An interval fires at multiples of itself since 1970: this phase puts the next fire almost a whole period ahead.
fn phase_ms() -> Result<u64> {
    let now = millis(SystemTime::now().duration_since(UNIX_EPOCH)?);
    Ok((now % millis(PERIOD)).saturating_sub(1))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("centuries fit into 64 bits of milliseconds")
}
