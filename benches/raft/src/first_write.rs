//! Waiting for the first write that is committed, as closely as can be told from outside.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::connection::Connection;
use crate::load;

/// How often a write is sent to each node: the answer is as exact as this.
const EVERY: Duration = Duration::from_millis(20);
/// A write that has no answer after this is given up; later ones are under way by then.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// How long it took from `start` until a write that was sent after this call was acknowledged. Writes are sent to all
/// of these nodes at a steady pace, without waiting for the answers: neither system gains by when it is asked.
pub async fn since(start: Instant, connections: &[Connection], within: Duration) -> Result<Duration> {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        tokio::select! {
            _ = pace.tick() => for connection in connections {
                attempts.spawn(attempt(connection.clone()));
            },
            Some(ended) = attempts.join_next() => match ended? {
                Ok(()) => return Ok(start.elapsed()),
                Err(error) => last = Some(error),
            },
        }
        if start.elapsed() > within {
            bail!("no write was committed within {within:?}; last: {last:?}");
        }
    }
}

async fn attempt(mut connection: Connection) -> Result<()> {
    let (key, _, payload) = load::record(1);
    tokio::time::timeout(GIVEN_UP_AFTER, connection.put(key, payload)).await?
}
