//! The things that are measured, one file each.

pub mod disk;
pub mod failover;
pub mod loaded;
pub mod proof;
pub mod readers;
pub mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::servers::{NODES, Servers};

/// The columns of a table whose rows are figures of different kinds.
pub const FIGURES: [&str; 5] = ["figure", "revolve", "etcd", "ratio", "goal"];
/// Requests under way at one time while loading.
const LOADERS: usize = 128;
/// Numbers in one request while loading; etcd takes at most 128 writes in a transaction, and one number may be two.
const LOAD_BATCH: u64 = 64;

/// A ratio as it is shown; a dash where there is nothing to divide by.
pub fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { "-".to_owned() }
}

/// A row of [`FIGURES`], for figures of which `goal` says what is asked for and whether it is met.
pub fn figure(
    name: &str,
    [ours, theirs]: [f64; 2],
    decimals: usize,
    goal: Option<(&str, bool)>,
) -> Vec<String> {
    let goal = goal
        .map_or_else(String::new, |(goal, met)| format!("{goal}: {}", if met { "met" } else { "missed" }));
    vec![
        name.to_owned(),
        format!("{ours:.decimals$}"),
        format!("{theirs:.decimals$}"),
        ratio(ours, theirs),
        goal,
    ]
}

/// Sends the numbers below `count` in batches to all nodes, many at a time; returns the sum of what `send` returned.
pub async fn load<F, T>(servers: &Servers, count: u64, send: F) -> Result<u64>
where
    F: Fn(Connection, std::ops::Range<u64>) -> T + Clone + Send + 'static,
    T: Future<Output = Result<u64>> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for loader in 0..LOADERS {
        let (connection, next, send) =
            (servers.connect(loader % NODES).await?, Arc::clone(&next), send.clone());
        tasks.spawn(async move {
            let mut sum = 0;
            loop {
                let first = next.fetch_add(LOAD_BATCH, Ordering::Relaxed);
                if first >= count {
                    return anyhow::Ok(sum);
                }
                sum += send(connection.clone(), first..count.min(first + LOAD_BATCH)).await?;
            }
        });
    }
    let mut sum = 0;
    while let Some(ended) = tasks.join_next().await {
        sum += ended??;
    }
    Ok(sum)
}
