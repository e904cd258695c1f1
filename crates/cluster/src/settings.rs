//! What a node must be told: who it is, who the others are, where its data lies, and how patient to be.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use model::{State, name::NodeId};

use crate::error::StartError;

/// Entries after which a snapshot is made.
const SNAPSHOT_EVERY: u64 = 10_000;
/// Entries kept behind a snapshot, for followers that lag a little.
const KEPT_ENTRIES: u64 = 2_000;
/// Bytes kept behind a snapshot, whatever the number of entries.
const KEPT_BYTES: u64 = 8 * 1024 * 1024;
/// A follower that lags by more is sent a snapshot. Must exceed [`SNAPSHOT_EVERY`].
const LAG_ENTRIES: u64 = 20_000;
/// Entries purged at a time.
const PURGE_ENTRIES: u64 = 512;
/// Entries in one append to a follower; their bytes are bounded by the log.
const APPEND_ENTRIES: u64 = 300;
/// How long a certificate of a node is good.
pub(crate) const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest time for a snapshot to be sent and installed.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Every node of the cluster with its peer address, `host:port`; this one included.
    pub peers: BTreeMap<NodeId, String>,
    /// The folder of this node's log, state and snapshots. No two nodes may share it.
    pub data: PathBuf,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// How much log is kept.
    pub retention: Retention,
    /// How a node comes back whose storage is not the one the cluster knows.
    pub rejoin: Rejoin,
    /// What the stored state must pass before this node takes part in anything.
    pub check: StateCheck,
    /// Longest time a proposal or a linearizable read may take, waiting for a leader included.
    pub timeout: Duration,
    /// How long a certificate of this node is good; it is renewed when a third of that is left.
    pub certificate_lifetime: Duration,
}

/// A question to the stored state: whether this node can be of use with it, and if not, why and what to do.
#[derive(Clone)]
pub struct StateCheck(Arc<Check>);

type Check = dyn Fn(&State) -> Result<(), String> + Send + Sync;

impl StateCheck {
    /// A check.
    pub fn new(check: impl Fn(&State) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    pub(crate) fn pass(&self, state: &State) -> Result<(), StartError> {
        (self.0)(state).map_err(StartError::Unfit)
    }
}

impl std::fmt::Debug for StateCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateCheck")
    }
}

/// Heartbeats and elections. All nodes of a cluster should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader is heard.
    pub heartbeat: Duration,
    /// Shortest time that a follower waits when the lease of its leader is over, before it stands for election.
    pub election_min: Duration,
    /// Longest such time, and the lease of a leader: a lost one is replaced after its lease and such a time.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For a local network and a disk that syncs within 60 ms: a lost leader is replaced after 1 to 1.2 s of silence.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(600),
        }
    }
}

/// How much log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A snapshot is made after this many entries.
    pub snapshot_every: u64,
    /// This many entries are kept behind it.
    pub kept_entries: u64,
    /// No more than about this many bytes of entries are kept behind it. Once nothing is written, it is made when there are
    /// as many, or as many as the last one takes if that is more; while writes go on, when there are four times as many, or
    /// twice what the last one takes.
    pub kept_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { snapshot_every: SNAPSHOT_EVERY, kept_entries: KEPT_ENTRIES, kept_bytes: KEPT_BYTES }
    }
}

/// How a node comes back whose disk was wiped, put back or damaged beyond reading. Either way it does so as a learner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rejoin {
    /// By itself, as soon as the others are enough without it.
    #[default]
    Automatic,
    /// When an operator says so.
    Manual,
}

impl Settings {
    /// Settings with the usual timing.
    #[must_use]
    pub fn new(node: NodeId, peers: BTreeMap<NodeId, String>, data: PathBuf) -> Self {
        Self {
            node,
            peers,
            data,
            timing: Timing::default(),
            retention: Retention::default(),
            rejoin: Rejoin::default(),
            check: StateCheck::new(|_| Ok(())),
            timeout: Duration::from_secs(5),
            certificate_lifetime: CERTIFICATE_LIFETIME,
        }
    }

    pub(crate) fn raft_config(&self) -> Result<openraft::Config, StartError> {
        let Timing { heartbeat, election_min, election_max } = self.timing;
        if !self.peers.contains_key(&self.node) {
            return Err(StartError::Settings(format!("`{}` is not among the peers", self.node)));
        }
        if heartbeat.is_zero() || election_min < heartbeat * 2 || election_max <= election_min {
            return Err(StartError::Settings(format!(
                "timing must obey 0 < 2 * heartbeat ({heartbeat:?}) <= election_min ({election_min:?}) < election_max \
                 ({election_max:?})",
            )));
        }
        openraft::Config {
            cluster_name: "revolve".into(),
            heartbeat_interval: millis(heartbeat),
            election_timeout_min: millis(election_min),
            election_timeout_max: millis(election_max),
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.retention.snapshot_every),
            max_in_snapshot_log_to_keep: self.retention.kept_entries,
            purge_batch_size: PURGE_ENTRIES.min(self.retention.snapshot_every),
            replication_lag_threshold: LAG_ENTRIES.max(self.retention.snapshot_every.saturating_mul(2)),
            max_payload_entries: APPEND_ENTRIES,
            install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
            backoff: steady(heartbeat),
            ..openraft::Config::default()
        }
        .validate()
        .map_err(|error| StartError::Settings(error.to_string()))
    }
}

/// A peer that is away is sent entries as often as heartbeats. With pauses that grow, as they do by default, one that is
/// back would be heard and yet not be sent anything for up to a second, and no write be committed that needs it.
fn steady(heartbeat: Duration) -> String {
    // Openraft goes on as the last three do.
    vec![format!("{}ms", millis(heartbeat)); 3].join(" ")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(NodeId(1), BTreeMap::from([(NodeId(1), "127.0.0.1:1".into())]), PathBuf::from("x"))
    }

    #[test]
    fn a_peer_that_is_away_is_called_at_the_pace_of_heartbeats() {
        let mut settings = settings();
        settings.timing.heartbeat = Duration::from_millis(70);
        assert_eq!(settings.raft_config().unwrap().backoff, "70ms 70ms 70ms");
    }

    #[test]
    fn impossible_timing_is_refused() {
        assert!(settings().raft_config().is_ok());
        let mut wrong = settings();
        wrong.timing.election_min = wrong.timing.heartbeat;
        assert!(matches!(wrong.raft_config(), Err(StartError::Settings(_))));
        let mut wrong = settings();
        wrong.timing.election_max = wrong.timing.election_min;
        assert!(matches!(wrong.raft_config(), Err(StartError::Settings(_))));
    }

    #[test]
    fn a_node_must_be_among_its_peers() {
        let mut wrong = settings();
        wrong.node = NodeId(2);
        assert!(matches!(wrong.raft_config(), Err(StartError::Settings(_))));
    }
}
