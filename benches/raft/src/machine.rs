//! Where a run takes place: figures are worth nothing without it.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::connection::PAYLOAD_BYTES;
use crate::stats::amount;

/// How long the disk is asked to sync as fast as it can.
const SYNCING: Duration = Duration::from_secs(1);

/// A machine, as far as the figures depend on it.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// Their name.
    pub processor: String,
    /// Memory, in GiB.
    pub memory_gib: f64,
    /// The kernel's version.
    pub kernel: String,
    /// Payloads that one process appends to a bare file and syncs, each second.
    pub bare_syncs_per_second: f64,
}

impl Machine {
    /// This machine, and the disk that `folder` lies on.
    pub fn here(folder: &Path) -> Result<Self> {
        let line = |path: &str, start: &str| -> Result<String> {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
            Ok(line.trim_matches([' ', '\t', ':']).to_owned())
        };
        let memory_kib: u64 = line("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: line("/proc/cpuinfo", "model name")?,
            memory_gib: amount(memory_kib) / 1_048_576.0,
            kernel: line("/proc/sys/kernel/osrelease", "")?,
            bare_syncs_per_second: bare_syncs(folder)?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores ({}), {:.0} GiB, Linux {}; a bare file takes {:.0} appends with fdatasync each second",
            self.cores, self.processor, self.memory_gib, self.kernel, self.bare_syncs_per_second
        )
    }
}

fn bare_syncs(folder: &Path) -> Result<f64> {
    let path = folder.join("bare-syncs");
    let mut file = File::create(&path)?;
    let (start, mut synced) = (Instant::now(), 0);
    while start.elapsed() < SYNCING {
        file.write_all(&[b'x'; PAYLOAD_BYTES])?;
        file.sync_data()?;
        synced += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(amount(synced) / seconds)
}
