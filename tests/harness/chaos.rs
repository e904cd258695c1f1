//! A cluster under load and faults, and whether it kept its promises: no acknowledged write is lost, no linearizable
//! read is stale.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{Client, Options};

use crate::cluster::QUICK;
use crate::linear::Verdict;
use crate::nemesis::{Fault, Nemesis};
use crate::network::Wiring;
use crate::recorder::{Load, Recorder, Recording};
use crate::{Cluster, Setup, eventually};

/// How long the clients of one connection wait for an answer. The longest wait lets a node say itself that it has no
/// leader, which is a promise that the call had no effect; the others go elsewhere sooner, and see what they left.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(1_500),
    Duration::from_millis(2_000),
    Duration::from_millis(2_500),
    Duration::from_millis(7_500),
];
/// Answers by which progress is judged, and how long so many may take after a fault, on a busy machine.
const PROGRESS: usize = 200;
const PROGRESS_WITHIN: Duration = Duration::from_secs(120);
/// What the nodes log.
const LOG: &str = "info";

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides calls and faults.
    pub seed: u64,
    /// What lies between the nodes.
    pub wiring: Wiring,
    /// Operations that must have been answered before it ends.
    pub operations: usize,
    /// How long it goes on at least.
    pub lasts: Duration,
    /// How long a fault lasts, in milliseconds.
    pub fault_ms: RangeInclusive<u64>,
    /// Operations answered between two faults.
    pub between_faults: usize,
    /// Registers in use at a time.
    pub registers: usize,
    /// Clients of each.
    pub clients: usize,
    /// Calls to one register.
    pub calls: usize,
}

impl Plan {
    /// The plan that is part of the ordinary tests.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            wiring: Wiring::cuttable(),
            operations: 50_000,
            lasts: Duration::ZERO,
            fault_ms: 1_000..=2_500,
            between_faults: 6_000,
            registers: 16,
            clients: 12,
            calls: 400,
        }
    }

    /// A plan of at least this length, with faults up to ten seconds long.
    #[must_use]
    pub fn long(seed: u64, lasts: Duration) -> Self {
        Self { lasts, fault_ms: 1_000..=10_000, ..Self::short(seed) }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed of its plan.
    pub seed: u64,
    /// What lay between the nodes.
    pub wiring: Wiring,
    /// How long it took.
    pub took: Duration,
    /// Faults injected, by kind.
    pub faults: BTreeMap<Fault, usize>,
    /// What the nemesis did, and when.
    pub log: Vec<String>,
    /// Nodes whose process ended by itself, though no fault called for it.
    pub ended: Vec<u64>,
    /// What the clients saw.
    pub recording: Recording,
}

/// Runs a plan against a cluster of three.
///
/// # Panics
///
/// When the cluster does not come to work again after a fault.
pub async fn run(plan: Plan) -> Report {
    let environment = vec![("REVOLVE_LOG".to_owned(), LOG.to_owned())];
    let setup = Setup { wiring: plan.wiring, timing: QUICK, environment, ..Setup::default() };
    let mut cluster = Cluster::start_with(setup).await;
    let started = Instant::now();
    let connections = cluster.ids().into_iter().map(|id| (id, connections(&cluster, id))).collect();
    let load = Load { seed: plan.seed, registers: plan.registers, clients: plan.clients, calls: plan.calls };
    let recorder = Recorder::start(connections, load);
    let mut nemesis = Nemesis::new(plan.seed, plan.fault_ms);
    let mut ended = Vec::new();
    loop {
        at_work(&recorder, plan.between_faults).await;
        nemesis.note(format!("  {}", recorder.counts()));
        let struck_by_all = nemesis.injected().len() == Fault::ALL.len();
        let enough = recorder.counts().answered >= plan.operations && started.elapsed() >= plan.lasts;
        if struck_by_all && enough {
            break;
        }
        nemesis.strike(&mut cluster).await;
        for id in cluster.reap() {
            ended.push(id);
            cluster.start_node(id);
        }
    }
    let recording = recorder.finish().await;
    ended.extend(cluster.reap());
    Report {
        seed: plan.seed,
        wiring: plan.wiring,
        took: started.elapsed(),
        faults: nemesis.injected().clone(),
        log: nemesis.log().to_vec(),
        ended,
        recording,
    }
}

fn connections(cluster: &Cluster, id: u64) -> Vec<Client> {
    let connection = |timeout| {
        let options = Options { timeout, ..cluster.options_of(id) };
        Client::connect(options).expect("an address of ours")
    };
    PATIENCE.into_iter().map(connection).collect()
}

/// Waits until this many more operations have been answered.
async fn at_work(recorder: &Recorder, operations: usize) {
    let before = recorder.counts().answered;
    for more in (0..=operations).step_by(PROGRESS) {
        eventually(format!("{PROGRESS} more answers"), PROGRESS_WITHIN, async || {
            let now = recorder.counts();
            if now.answered >= before + more { Ok(()) } else { Err(now) }
        })
        .await;
    }
}

impl Report {
    /// Whether every promise was kept, for certain.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.recording.findings.is_empty() && self.ended.is_empty()
    }

    /// In one word.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let findings = &self.recording.findings;
        if findings.iter().any(|finding| finding.verdict != Verdict::Unknown) {
            "NOT linearizable"
        } else if findings.is_empty() {
            "linearizable"
        } else {
            "unknown"
        }
    }

    /// Writes what the nemesis did and the history of each register that was found wrong into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_findings(&self, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        fs::create_dir_all(folder)?;
        let mut written = vec![folder.join("faults.txt")];
        fs::write(&written[0], self.log.join("\n") + "\n")?;
        for finding in &self.recording.findings {
            let path = folder.join(format!("{}.txt", finding.register));
            fs::write(&path, finding.to_string())?;
            written.push(path);
        }
        Ok(written)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recording { counts, reasons, registers, findings } = &self.recording;
        writeln!(f, "seed {}, {:?}, {:.1} s", self.seed, self.wiring, self.took.as_secs_f64())?;
        let faults: Vec<_> = self.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        writeln!(f, "operations: {counts}; {registers} registers")?;
        for (reason, count) in reasons {
            writeln!(f, "  {count:>7}  {reason}")?;
        }
        for id in &self.ended {
            writeln!(f, "node {id} ended by itself")?;
        }
        for finding in findings {
            writeln!(f, "{}: {:?}", finding.register, finding.verdict)?;
        }
        write!(f, "verdict: {}", self.verdict())
    }
}
