//! What a run is asked to do, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Writes sent to the leader.
    Write,
    /// Writes sent to a follower.
    Follower,
    /// That every acknowledged write was synced on a majority, from a trace of system calls.
    Proof,
    /// The gap in writing after `kill -9` of the leader.
    Failover,
    /// Restarting a node and the whole cluster with many records.
    Restart,
    /// Resident memory with many records.
    Memory,
    /// Bytes on disk after overwriting every record.
    Disk,
    /// Bringing an empty node up to the others.
    Rejoin,
    /// Thousands of readers while writing.
    Readers,
}

/// Measures Revolve and etcd side by side.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask bench raft")]
pub struct Args {
    /// Measure these alone, such as `write,failover`; everything when left out.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub only: Vec<Part>,
    /// A short run of everything, for a first look; publishes nothing.
    #[arg(long)]
    pub quick: bool,
    /// Runs of each system per write step, in turn.
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Measured seconds of one run.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Concurrent clients of each write step.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    pub clients: Vec<usize>,
    /// Different records that the write steps overwrite, taken at random; 0 makes each write a new record.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// How often the leader is killed.
    #[arg(long)]
    pub kills: Option<usize>,
    /// Records loaded for restart, memory, rejoin and readers: half of them credentials, half their schedules.
    #[arg(long)]
    pub records: Option<u64>,
    /// Records that are overwritten three times for the bytes on disk.
    #[arg(long)]
    pub overwritten: Option<u64>,
    /// Readers at the same time.
    #[arg(long, default_value_t = 10_000)]
    pub readers: usize,
    /// Heartbeat of both systems.
    #[arg(long, default_value_t = 100)]
    pub heartbeat_ms: u64,
    /// Shortest silence of the leader after which a follower of either system stands for election. At etcd it is the
    /// election timeout, at Revolve the lease of the leader and the shortest wait after it, three to two.
    #[arg(long, default_value_t = 1_000)]
    pub silence_ms: u64,
    /// The `revolve` binary.
    #[arg(long)]
    pub revolve: PathBuf,
    /// The `etcd` binary.
    #[arg(long)]
    pub etcd: PathBuf,
    /// Where data folders, traces and logs are kept while running; decides which disk is measured.
    #[arg(long)]
    pub folder: PathBuf,
    /// The page whose marked part a complete run replaces.
    #[arg(long)]
    pub page: Option<PathBuf>,
}

impl Args {
    /// Whether `part` is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether the run measures all there is, so that its figures may be published.
    pub const fn is_complete(&self) -> bool {
        self.only.is_empty() && !self.quick
    }

    /// Runs of each system per step.
    pub fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// How long one run is measured.
    pub fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 3 } else { 8 }))
    }

    /// How often the leader is killed.
    pub fn kills(&self) -> usize {
        self.kills.unwrap_or(if self.quick { 2 } else { 30 })
    }

    /// Records loaded.
    pub fn records(&self) -> u64 {
        self.records.unwrap_or(if self.quick { 10_000 } else { 1_000_000 })
    }

    /// Records overwritten.
    pub fn overwritten(&self) -> u64 {
        self.overwritten.unwrap_or(if self.quick { 5_000 } else { 100_000 })
    }
}
