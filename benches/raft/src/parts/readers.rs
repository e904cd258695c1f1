//! Thousands of readers at once, while others write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngExt as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::args::Args;
use crate::connection::Connection;
use crate::load::{OnFailure, WARM_UP, Writers};
use crate::servers::{NODES, Servers};
use crate::stats::{amount, percentile, sorted};

/// Clients that write meanwhile.
const WRITERS: usize = 16;
/// Connections that the readers share, spread over all nodes.
const CONNECTIONS: usize = 100;
/// A reader that is turned away asks again after up to so many milliseconds.
const AGAIN_MS: std::ops::Range<u64> = 10..100;
/// Longest time until all have their answer.
const WITHIN: Duration = Duration::from_secs(120);

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Readers {
    /// Until the last of them had its answer.
    pub seconds: f64,
    /// Of one reader, tries that were turned away included.
    pub p50_ms: f64,
    /// The same for the slowest hundredth.
    pub p99_ms: f64,
    /// Tries that were turned away, or failed.
    pub turned_away: u64,
    /// Writes each second before.
    pub writes_before: f64,
    /// Writes each second meanwhile.
    pub writes_meanwhile: f64,
    /// Writes that failed meanwhile, and were tried again.
    pub writes_failed: u64,
}

/// Lets all of them read once.
pub async fn run(args: &Args, servers: &mut Servers) -> Result<Readers> {
    let leader = servers.leader().await?;
    let writers = servers.connect_many(leader, WRITERS).await?;
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS.min(args.readers) {
        let mut connection = servers.connect(number % NODES).await?;
        connection.look().await?;
        connections.push(connection);
    }
    let mut writers = Writers::start(writers, args.keys, OnFailure::Again);
    writers.reach(1).await?;
    let (start, written) = (Instant::now(), writers.written());
    tokio::time::sleep(WARM_UP).await;
    let writes_before = rate(start, writers.written() - written);
    let (start, written) = (Instant::now(), writers.written());
    let mut tasks = JoinSet::new();
    for connection in (0..args.readers).map(|reader| &connections[reader % connections.len()]) {
        tasks.spawn(read(connection.clone()));
    }
    let mut latencies = Vec::with_capacity(args.readers);
    let mut turned_away = 0;
    while let Some(ended) = tasks.join_next().await {
        let (latency, tries) = ended??;
        latencies.push(latency.as_secs_f64() * 1_000.0);
        turned_away += tries;
    }
    let seconds = start.elapsed().as_secs_f64();
    let writes_meanwhile = rate(start, writers.written() - written);
    let writes_failed = writers.failed();
    writers.end().await?;
    let latencies = sorted(latencies);
    let (p50_ms, p99_ms) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
    Ok(Readers { seconds, p50_ms, p99_ms, turned_away, writes_before, writes_meanwhile, writes_failed })
}

async fn read(mut connection: Connection) -> Result<(Duration, u64)> {
    let (start, mut turned_away) = (Instant::now(), 0);
    loop {
        match connection.look().await {
            Ok(()) => return Ok((start.elapsed(), turned_away)),
            Err(error) if start.elapsed() > WITHIN => return Err(error).context("a reader has no answer"),
            Err(_) => turned_away += 1,
        }
        let pause = rand::rng().random_range(AGAIN_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn rate(start: Instant, written: u64) -> f64 {
    amount(written) / start.elapsed().as_secs_f64()
}
