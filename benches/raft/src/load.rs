//! Clients that write in a loop, each on a connection of its own, and what was measured of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use rand::RngExt as _;
use tokio::task::JoinSet;

use crate::connection::{Connection, PAYLOAD_BYTES};
use crate::stats::{count, percentile, sorted};

/// How long clients write before they are measured.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// Pause of a client whose write failed, where it goes on.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Numbers every write of this process, so that no two payloads are equal.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// One acknowledged write.
#[derive(Clone, Debug)]
pub struct Written {
    /// What stands at the beginning of its payload, and nowhere else.
    pub marker: String,
    /// When it was sent.
    pub sent: Instant,
    /// When it was acknowledged.
    pub acknowledged: Instant,
    /// The same by the clock that traces are stamped with.
    pub acknowledged_at: SystemTime,
}

/// The writes of a period.
#[derive(Clone, Debug)]
pub struct Measured {
    /// All that were acknowledged in it.
    pub writes: Vec<Written>,
    /// How long it was.
    pub seconds: f64,
}

impl Measured {
    /// Writes each second.
    pub fn per_second(&self) -> f64 {
        count(self.writes.len()) / self.seconds
    }

    /// The latency that this share of the writes kept, in milliseconds.
    pub fn latencies_ms(&self, shares: [f64; 2]) -> [f64; 2] {
        let latency = |write: &Written| (write.acknowledged - write.sent).as_secs_f64() * 1_000.0;
        let latencies = sorted(self.writes.iter().map(latency));
        shares.map(|share| percentile(&latencies, share))
    }
}

/// What a client does when a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends, and with it the measurement.
    End,
    /// It writes again after a short pause, as a client that is turned away would.
    Again,
}

/// Clients that write until they are told to end.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<Result<Vec<Written>>>,
    ended: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
}

impl Writers {
    /// Starts one client per connection; they write to `keys` records, or to a new one each time when that is 0.
    pub fn start(connections: Vec<Connection>, keys: u64, on_failure: OnFailure) -> Self {
        let (ended, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        for connection in connections {
            tasks.spawn(write_on(connection, keys, on_failure, Arc::clone(&ended), Arc::clone(&counts)));
        }
        Self { tasks, ended, counts }
    }

    /// How many writes were acknowledged so far.
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }

    /// How many failed so far.
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Waits until `count` writes were acknowledged.
    pub async fn reach(&mut self, count: u64) -> Result<()> {
        while self.written() < count {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                bail!("a client stopped writing");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Ends all clients once their last write is answered, and returns what was acknowledged.
    pub async fn end(mut self) -> Result<Vec<Written>> {
        self.ended.store(true, Ordering::Relaxed);
        let mut writes = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            writes.extend(ended??);
        }
        Ok(writes)
    }
}

/// Writes on these connections, and measures after the warm-up. `mark` is called at both ends of the measured time.
pub async fn measure<T>(
    connections: Vec<Connection>,
    keys: u64,
    lasting: Duration,
    mark: impl Fn() -> Result<T>,
) -> Result<(Measured, T, T)> {
    let clients = connections.len();
    let mut writers = Writers::start(connections, keys, OnFailure::End);
    writers.reach(clients.try_into()?).await?;
    tokio::time::sleep(WARM_UP).await;
    let (start, before) = (Instant::now(), mark()?);
    tokio::time::sleep(lasting).await;
    let (end, after) = (Instant::now(), mark()?);
    let mut writes = writers.end().await?;
    writes.retain(|write| write.acknowledged >= start && write.acknowledged < end);
    if writes.is_empty() {
        bail!("nothing was written");
    }
    Ok((Measured { writes, seconds: (end - start).as_secs_f64() }, before, after))
}

async fn write_on(
    mut connection: Connection,
    keys: u64,
    on_failure: OnFailure,
    ended: Arc<AtomicBool>,
    counts: Arc<Counts>,
) -> Result<Vec<Written>> {
    let mut writes = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let (key, marker, payload) = record(keys);
        let sent = Instant::now();
        if let Err(error) = connection.put(key, payload).await {
            if on_failure == OnFailure::End {
                return Err(error);
            }
            counts.failed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        }
        let (acknowledged, acknowledged_at) = (Instant::now(), SystemTime::now());
        writes.push(Written { marker, sent, acknowledged, acknowledged_at });
        counts.written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(writes)
}

/// A key, a marker, and a payload that begins with it.
pub fn record(keys: u64) -> (String, String, String) {
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let key =
        if keys == 0 { format!("n-{number}") } else { format!("k-{}", rand::rng().random_range(0..keys)) };
    let marker = format!("write-{number:012}.");
    let payload = payload(&marker);
    (key, marker, payload)
}

/// A payload of the agreed length that begins with `start` and does not compress to nothing.
pub fn payload(start: &str) -> String {
    let mut payload = String::with_capacity(PAYLOAD_BYTES + 16);
    payload.push_str(start);
    let mut rng = rand::rng();
    while payload.len() < PAYLOAD_BYTES {
        write!(payload, "{:016x}", rng.random::<u64>()).expect("writing to a text cannot fail");
    }
    payload.truncate(PAYLOAD_BYTES);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length_and_are_never_equal() {
        let (_, marker, first) = record(10);
        let (_, _, second) = record(10);
        assert!(first.starts_with(&marker));
        assert_eq!((first.len(), second.len()), (PAYLOAD_BYTES, PAYLOAD_BYTES));
        assert_ne!(first, second);
    }
}
