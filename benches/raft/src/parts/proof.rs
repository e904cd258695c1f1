//! Proof from the outside: that every acknowledged write was in a file of the log, and that file synced, on a majority
//! of nodes, before the client had its answer. Taken from the system calls that strace saw.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::args::Args;
use crate::load::{OnFailure, Writers, Written};
use crate::progress::Progress;
use crate::report::Section;
use crate::servers::{NODES, Servers};
use crate::trace::{self, Call};

/// Clients of the two steps: alone, where each write needs a sync of its own, and many, that share one.
const CLIENTS: [usize; 2] = [1, 64];
/// Writes of a step, for each client.
const WRITES_EACH: u64 = 200;
/// Nodes that must have a write before it may be acknowledged.
const MAJORITY: usize = NODES / 2 + 1;
/// Longest wait for strace to have attached to a node.
const ATTACHED_WITHIN: Duration = Duration::from_secs(30);
/// Longest text of one call: no entry of the log is longer.
const TEXT_BYTES: &str = "1048576";
const CALLS: &str = "trace=write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,sync_file_range,msync";

/// What one step has shown.
#[derive(Debug, Serialize)]
struct Proven {
    clients: usize,
    acknowledged: usize,
    /// Acknowledged writes that were synced on a majority before.
    covered: usize,
    /// Syncs of each node.
    fdatasync: Vec<usize>,
    fsync: Vec<usize>,
    sync_file_range: Vec<usize>,
}

const HEADER: [&str; 6] = [
    "clients",
    "acknowledged",
    "covered",
    "fdatasync per node",
    "fsync per node",
    "sync_file_range per node",
];

/// Traces both steps.
pub async fn run(args: &Args, servers: &mut Servers, progress: &Progress) -> Result<Section> {
    let mut section = Section::new("Proof of durability from system calls", &HEADER);
    section.notes.push(format!(
        "Revolve's three nodes under `strace -f -ttt -T`. A write is covered when, on at least {MAJORITY} nodes, its \
         payload was written to a file under `log/` and an fdatasync or fsync of that file began after this and ended \
         before the client had the acknowledgement. With one client, writes cannot share a sync: the second busiest \
         node must have made at least as many as were acknowledged."
    ));
    let mut steps = Vec::new();
    for clients in CLIENTS {
        let proven = step(args, servers, clients).await?;
        progress.tell(&format!("{clients} clients under strace: {proven:?}"));
        check(&proven)?;
        section.rows.push(vec![
            clients.to_string(),
            proven.acknowledged.to_string(),
            proven.covered.to_string(),
            format!("{:?}", proven.fdatasync),
            format!("{:?}", proven.fsync),
            format!("{:?}", proven.sync_file_range),
        ]);
        steps.push(proven);
    }
    section.data = serde_json::to_value(steps)?;
    Ok(section)
}

/// A write without cover is not a slow figure but a broken promise.
fn check(proven: &Proven) -> Result<()> {
    let Proven { clients, acknowledged, covered, fdatasync, fsync, .. } = proven;
    ensure!(covered == acknowledged, "{clients} clients: {covered} of {acknowledged} writes are covered");
    let mut syncs: Vec<_> = fdatasync.iter().zip(fsync).map(|(data, all)| data + all).collect();
    syncs.sort_unstable();
    let majority = syncs[NODES - MAJORITY];
    ensure!(*clients > 1 || majority >= *acknowledged, "{acknowledged} writes, but {syncs:?} syncs");
    Ok(())
}

async fn step(args: &Args, servers: &mut Servers, clients: usize) -> Result<Proven> {
    let leader = servers.leader().await?;
    let connections = servers.connect_many(leader, clients).await?;
    let traces: Vec<_> = (0..NODES)
        .map(|node| Trace::attach(servers.pid(node)?, args.folder.join(format!("trace-{clients}-{node}"))))
        .collect::<Result<_>>()?;
    for trace in &traces {
        trace.attached().await?;
    }
    let mut writers = Writers::start(connections, args.keys, OnFailure::End);
    writers.reach(WRITES_EACH * u64::try_from(clients)?).await?;
    let writes = writers.end().await?;
    let texts = traces.into_iter().map(Trace::end).collect::<Result<Vec<_>>>()?;
    let traced: Vec<_> = texts.iter().map(|text| trace::calls(text)).collect();
    let logs: Vec<_> = (0..NODES).map(|node| servers.data(node).join("log")).collect();
    let covers: Vec<_> = traced.iter().zip(&logs).map(|(calls, log)| covered(calls, log)).collect();
    let named = |name: &str| traced.iter().map(|calls| calls_named(calls, name)).collect();
    Ok(Proven {
        clients,
        acknowledged: writes.len(),
        covered: writes.iter().filter(|write| is_covered(write, &covers)).count(),
        fdatasync: named("fdatasync"),
        fsync: named("fsync"),
        sync_file_range: named("sync_file_range"),
    })
}

fn calls_named(calls: &[Call<'_>], name: &str) -> usize {
    calls.iter().filter(|call| call.name == name).count()
}

fn is_covered(write: &Written, covers: &[BTreeMap<&str, f64>]) -> bool {
    let acknowledged = write.acknowledged_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = |cover: &&BTreeMap<&str, f64>| {
        cover.get(write.marker.as_str()).is_some_and(|synced| *synced <= acknowledged)
    };
    covers.iter().filter(before).count() >= MAJORITY
}

/// When each marker was on disk at the earliest: the end of the first sync of its file that began after it was written.
fn covered<'a>(calls: &[Call<'a>], log: &Path) -> BTreeMap<&'a str, f64> {
    let mut syncs = BTreeMap::<&str, Vec<&Call>>::new();
    let in_log = |call: &&Call| Path::new(call.path).starts_with(log);
    for call in calls.iter().filter(in_log).filter(|call| ["fdatasync", "fsync"].contains(&call.name)) {
        syncs.entry(call.path).or_default().push(call);
    }
    let mut covered = BTreeMap::<&str, f64>::new();
    for call in calls.iter().filter(in_log).filter(|call| call.name.contains("write")) {
        let after = syncs.get(call.path).into_iter().flatten().filter(|sync| sync.start >= call.end);
        let Some(synced) = after.map(|sync| sync.end).min_by(f64::total_cmp) else { continue };
        for marker in markers(call.text) {
            let earliest = covered.entry(marker).or_insert(synced);
            *earliest = earliest.min(synced);
        }
    }
    covered
}

/// Every `write-….` in a text.
fn markers(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("write-").filter_map(|(at, _)| {
        let length = text[at..].find('.')? + 1;
        Some(&text[at..at + length])
    })
}

/// A node that is being traced.
#[derive(Debug)]
struct Trace {
    strace: Child,
    output: PathBuf,
}

impl Trace {
    fn attach(pid: u32, output: PathBuf) -> Result<Self> {
        let told = File::create(output.with_extension("told"))?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-ttt", "-T", "-y", "-s", TEXT_BYTES, "-e", CALLS, "-o"]).arg(&output);
        strace.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(told);
        let strace = strace.spawn().context("cannot start `strace`")?;
        Ok(Self { strace, output })
    }

    /// Waits until strace says that it holds the process with all its threads.
    async fn attached(&self) -> Result<()> {
        let deadline = Instant::now() + ATTACHED_WITHIN;
        loop {
            let told = fs::read_to_string(self.output.with_extension("told"))?;
            if told.contains("attached") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "strace does not attach: {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets go of the node, which runs on, and returns what was seen.
    fn end(mut self) -> Result<String> {
        // strace detaches on an interrupt; killed, it would do so too, but leave its output unwritten.
        kill(Pid::from_raw(self.strace.id().try_into()?), Signal::SIGINT)?;
        self.strace.wait()?;
        let trace = fs::read(&self.output)?;
        Ok(String::from_utf8_lossy(&trace).into_owned())
    }
}

impl Drop for Trace {
    /// A run that fails must not leave strace behind.
    #[expect(clippy::print_stderr, reason = "there is no one to return it to")]
    fn drop(&mut self) {
        let ended = match self.strace.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.strace.kill().and_then(|()| self.strace.wait().map(drop)),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            eprintln!("strace could not be ended: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>(name: &'a str, path: &'a str, text: &'a str, start: f64, end: f64) -> Call<'a> {
        Call { name, path, text, start, end }
    }

    #[test]
    fn a_sync_covers_what_was_written_to_its_file_before_it_began() {
        let calls = [
            call("write", "/n/log/1", "..write-1.x..write-2.y", 1.0, 1.1),
            call("fdatasync", "/n/log/1", "", 1.05, 1.5),
            call("fdatasync", "/n/log/2", "", 1.2, 1.3),
            call("fdatasync", "/n/log/1", "", 1.2, 2.0),
            call("write", "/n/log/1", "write-3.z", 3.0, 3.1),
            call("write", "/n/state/db", "write-4.z", 1.0, 1.1),
            call("fdatasync", "/n/state/db", "", 1.2, 1.3),
        ];
        let covered = covered(&calls, Path::new("/n/log"));
        assert_eq!(covered, BTreeMap::from([("write-1.", 2.0), ("write-2.", 2.0)]));
    }
}
