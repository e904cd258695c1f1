//! The configuration of one node: a TOML file, checked whole before anything is opened.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{name::NodeId, time::Span, timing};
use serde::Deserialize;

const SECONDS_PER_HOUR: f64 = 3_600.0;
/// Shortest and longest life of a certificate.
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(2)..=Duration::from_secs(10 * 365 * 24 * 3_600);

/// The configuration of one node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's number; unique in the cluster and never reused. `REVOLVE_NODE` takes its place. 0, or left out, for one
    /// that the cluster gives, see [`Config::join`].
    #[serde(default)]
    pub node: u64,
    /// The folder of this node's log and state. `REVOLVE_DATA` takes its place.
    pub data: PathBuf,
    /// The file with the root key, mode 0600; the same key on every node. `REVOLVE_ROOT_KEY` takes its place.
    pub root_key_file: Option<PathBuf>,
    /// The file with the root key that is to take the place of this node's; `root_key_file` with `.next` behind it when
    /// absent. It need not be there. `REVOLVE_NEXT_ROOT_KEY` takes its place.
    pub next_root_key_file: Option<PathBuf>,
    /// The file with the first admin token, made by `revolve server init`; read until the cluster has a token, and may be
    /// removed or empty from then on.
    pub bootstrap_token_file: Option<PathBuf>,
    /// Where clients and peers are listened for.
    pub listen: Listen,
    /// Every node's peer address, `host:port`, by its number; this node's too.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// How new nodes come in: this one where it has no number, and others through this one.
    #[serde(default)]
    pub join: Join,
    /// A certificate of one's own for the client port, instead of the one that the node issues itself.
    pub tls: Option<Tls>,
    /// The certificates that the node issues itself.
    #[serde(default)]
    pub certificates: Certificates,
    /// How a node comes back whose data folder was wiped, put back or damaged.
    #[serde(default)]
    pub rejoin: Rejoin,
    /// Heartbeats and elections.
    #[serde(default)]
    pub timing: Timing,
    /// Bounds that may be changed.
    #[serde(default)]
    pub limits: Limits,
}

/// Where clients and peers are listened for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The client port.
    pub client: SocketAddr,
    /// The peer port; mutual TLS always.
    pub peer: SocketAddr,
    /// Where others reach the client port, `host:port`; the listening address when absent. `REVOLVE_ADVERTISE` takes its
    /// place.
    pub advertise: Option<String>,
    /// Who must show a certificate on the client port.
    #[serde(default)]
    pub client_tls: ClientTls,
    /// Where others reach the peer port, `host:port`, for a node that joins by itself; the listening address when absent.
    /// `REVOLVE_ADVERTISE_PEER` takes its place.
    pub advertise_peer: Option<String>,
}

/// How new nodes come in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// Client ports of the cluster, `host:port`: a node without a number asks them for one when it is first started.
    pub servers: Vec<String>,
    /// The file with the join token that it asks with; without one the root key alone must do.
    pub token_file: Option<PathBuf>,
    /// The authority of client ports with certificates of their own, PEM; otherwise it follows from the root key.
    pub ca_file: Option<PathBuf>,
    /// What lets a new node in that asks this one.
    pub admit: Admit,
}

/// What lets a new node in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Admit {
    /// A join token and the root key.
    #[default]
    Token,
    /// The root key alone, for orchestrators that start nodes by themselves.
    RootKey,
}

/// Who must show a certificate on the client port. A token is needed in any case.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientTls {
    /// The server and the client.
    #[default]
    Mutual,
    /// The server.
    Server,
    /// Nobody: plain text, on a loopback address alone.
    Off,
}

/// The certificates that a node issues itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// How long they are good, in hours, of which there may be parts; they are renewed when a third is left.
    pub lifetime_hours: f64,
    /// Names and addresses beside its own that clients call this node by.
    pub names: Vec<String>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self { lifetime_hours: 720.0, names: Vec::new() }
    }
}

impl Certificates {
    /// How long they are good.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::try_from_secs_f64(self.lifetime_hours * SECONDS_PER_HOUR).unwrap_or_default()
    }
}

/// A certificate of one's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// How a node comes back whose data folder was wiped, put back or damaged; always as a learner first.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Rejoin {
    /// By itself.
    #[default]
    Automatic,
    /// When it is started with `--rejoin`.
    Manual,
}

impl From<Rejoin> for cluster::Rejoin {
    fn from(rejoin: Rejoin) -> Self {
        match rejoin {
            Rejoin::Automatic => Self::Automatic,
            Rejoin::Manual => Self::Manual,
        }
    }
}

/// Heartbeats and elections, in milliseconds; equal on all nodes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// How often the leader is heard.
    pub heartbeat_ms: u64,
    /// Shortest silence after which a follower stands for election.
    pub election_min_ms: u64,
    /// Longest such silence.
    pub election_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        let usual = cluster::Timing::default();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            heartbeat_ms: ms(usual.heartbeat),
            election_min_ms: ms(usual.election_min),
            election_max_ms: ms(usual.election_max),
        }
    }
}

impl From<Timing> for cluster::Timing {
    fn from(timing: Timing) -> Self {
        Self {
            heartbeat: Duration::from_millis(timing.heartbeat_ms),
            election_min: Duration::from_millis(timing.election_min_ms),
            election_max: Duration::from_millis(timing.election_max_ms),
        }
    }
}

/// Bounds that may be changed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Shortest interval of a schedule, in milliseconds.
    pub schedule_floor_ms: u64,
    /// Most steps this node's workers perform at once.
    pub concurrent_steps: usize,
    /// A snapshot is made after this many log entries, and the log before it is given up.
    pub snapshot_every_entries: u64,
    /// This many entries are kept nevertheless, for a node that was away for a short time.
    pub kept_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let usual = cluster::Retention::default();
        Self {
            schedule_floor_ms: timing::PERIOD_FLOOR.0,
            concurrent_steps: 64,
            snapshot_every_entries: usual.snapshot_every,
            kept_entries: usual.kept_entries,
        }
    }
}

impl From<Limits> for cluster::Retention {
    fn from(limits: Limits) -> Self {
        Self {
            snapshot_every: limits.snapshot_every_entries,
            kept_entries: limits.kept_entries,
            ..Self::default()
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML of the right shape.
    #[error("`{path}` is not a configuration: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A variable cannot stand for the setting.
    #[error("`{variable}` is not {wanted}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A peer's number is not a number.
    #[error("`{0}` under `peers` is not a node number such as `1`")]
    PeerNumber(String),
    /// Neither the file nor the cluster says which node this is.
    #[error(
        "the node has no number: set `node` (or REVOLVE_NODE) and list it under `peers`, or leave both out and name the \
         cluster under `join.servers`"
    )]
    NoNumber,
    /// This node is not in the list.
    #[error("node {0} is not listed under `peers`")]
    NotAPeer(u64),
    /// Plaintext would leave the machine.
    #[error(
        "the client port listens on {0}, which others can reach: leave `listen.client_tls = \"off\"` away"
    )]
    PlaintextBeyondLoopback(SocketAddr),
    /// A certificate for a port that shows none.
    #[error(
        "`tls` names a certificate, but `listen.client_tls = \"off\"` shows none: leave one of them away"
    )]
    UnusedCertificate,
    /// Certificates that would be over at once, or never.
    #[error("`certificates.lifetime_hours` is {0}: give at least 2 seconds (0.0006) and at most 10 years")]
    Lifetime(f64),
    /// There is no root key.
    #[error("no root key: set `root_key_file`, or REVOLVE_ROOT_KEY; `revolve server init` makes one")]
    NoRootKey,
}

impl Config {
    /// Reads and checks a configuration. Relative paths in it are taken from the folder it lies in. What differs from
    /// node to node may come from the environment, so that all nodes can share one file.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_in(path, |variable| std::env::var(variable).ok())
    }

    /// The same, with the values that `environment` has for variables.
    fn load_in(path: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { path: path.into(), message: error.to_string() })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let paths = [
            Some(&mut config.data),
            config.root_key_file.as_mut(),
            config.next_root_key_file.as_mut(),
            config.bootstrap_token_file.as_mut(),
        ];
        let join = [config.join.token_file.as_mut(), config.join.ca_file.as_mut()];
        let tls = config.tls.iter_mut().flat_map(|tls| [&mut tls.cert_file, &mut tls.key_file]);
        for path in paths.into_iter().chain(join).flatten().chain(tls) {
            *path = folder.join(&path);
        }
        config.overlay(environment)?;
        config.check()?;
        Ok(config)
    }

    /// The environment stands above the file.
    fn overlay(&mut self, environment: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        if let Some(number) = environment("REVOLVE_NODE") {
            let wanted = "a node number such as `1`";
            self.node =
                number.parse().map_err(|_| ConfigError::Variable { variable: "REVOLVE_NODE", wanted })?;
            // It came after those that formed the cluster: it is given a number, whatever its ordinal is.
            if !self.join.servers.is_empty() && !self.peers.contains_key(&self.node.to_string()) {
                (self.node, self.peers) = (0, BTreeMap::new());
            }
        }
        if let Some(folder) = environment("REVOLVE_DATA") {
            self.data = PathBuf::from(folder);
            if !self.data.is_absolute() {
                let wanted = "an absolute path";
                return Err(ConfigError::Variable { variable: "REVOLVE_DATA", wanted });
            }
        }
        if let Some(address) = environment("REVOLVE_ADVERTISE") {
            self.listen.advertise = Some(address);
        }
        if let Some(address) = environment("REVOLVE_ADVERTISE_PEER") {
            self.listen.advertise_peer = Some(address);
        }
        Ok(())
    }

    /// Checks what the shape of the file cannot say.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let peers = self.peer_addresses()?;
        if self.node == 0 && (!peers.is_empty() || self.join.servers.is_empty()) {
            return Err(ConfigError::NoNumber);
        }
        if self.node > 0 && !peers.contains_key(&NodeId(self.node)) {
            return Err(ConfigError::NotAPeer(self.node));
        }
        if self.listen.client_tls == ClientTls::Off {
            if !self.listen.client.ip().is_loopback() {
                return Err(ConfigError::PlaintextBeyondLoopback(self.listen.client));
            }
            if self.tls.is_some() {
                return Err(ConfigError::UnusedCertificate);
            }
        }
        if !LIFETIMES.contains(&self.certificates.lifetime()) {
            return Err(ConfigError::Lifetime(self.certificates.lifetime_hours));
        }
        Ok(())
    }

    /// The peers by node id.
    ///
    /// # Errors
    /// When one is not listed under a number.
    pub fn peer_addresses(&self) -> Result<BTreeMap<NodeId, String>, ConfigError> {
        self.peers
            .iter()
            .map(|(number, address)| {
                let id = number.parse().map_err(|_| ConfigError::PeerNumber(number.clone()))?;
                Ok((NodeId(id), address.clone()))
            })
            .collect()
    }

    /// What of it may be shown to others: each entry is named here, and what is not named is not shown. Of files with keys
    /// and tokens it says whether they are set.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        let Self { node, data, root_key_file, bootstrap_token_file, listen, peers, tls, .. } = self;
        let (rejoin, timing, limits) = (self.rejoin, self.timing, self.limits);
        serde_json::json!({
            "node": node,
            "data": data,
            "rootKeyFile": root_key_file.is_some(),
            "bootstrapTokenFile": bootstrap_token_file.is_some(),
            "listen": { "client": listen.client, "peer": listen.peer, "advertise": listen.advertise },
            "peers": peers,
            "tls": tls.is_some(),
            "rejoin": if rejoin == Rejoin::Automatic { "automatic" } else { "manual" },
            "timing": {
                "heartbeatMs": timing.heartbeat_ms,
                "electionMinMs": timing.election_min_ms,
                "electionMaxMs": timing.election_max_ms,
            },
            "limits": {
                "scheduleFloorMs": limits.schedule_floor_ms,
                "concurrentSteps": limits.concurrent_steps,
                "snapshotEveryEntries": limits.snapshot_every_entries,
                "keptEntries": limits.kept_entries,
            },
        })
    }

    /// The shortest interval a schedule may have.
    #[must_use]
    pub const fn schedule_floor(&self) -> Span {
        Span(self.limits.schedule_floor_ms)
    }
}

#[cfg(test)]
mod tests;
