//! A disk in memory: what is written is volatile until it is flushed. A crash keeps it or loses it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{State, table::Record};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::types::SimTypes;
use crate::{
    log::MemoryLog,
    machine::{Position, RestoreError},
};

/// What a crash does to what was written and not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process alone ended: the page cache keeps everything.
    Nothing,
    /// The power failed: a prefix of the unflushed writes, drawn by chance, has reached the disk.
    Unflushed,
}

/// What the state's store holds.
#[derive(Clone, Default)]
pub(super) struct Kept {
    rows: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    position: Position,
    /// What was written and not flushed, oldest first.
    unflushed: Vec<Write>,
    pub(super) snapshot: Option<MemorySnapshot>,
}

/// A snapshot: always durable, as a file that was renamed into place.
#[derive(Clone, Debug)]
pub(crate) struct MemorySnapshot {
    pub(super) position: Position,
    pub(super) records: Arc<Vec<Record>>,
}

#[derive(Clone)]
enum Write {
    Batch(Vec<Record>, Position),
    /// Everything is replaced. The snapshot itself is durable before.
    Whole(MemorySnapshot),
}

impl Kept {
    pub(super) fn write(&mut self, records: Vec<Record>, position: Position) {
        self.unflushed.push(Write::Batch(records, position));
    }

    pub(super) fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    pub(super) fn flush(&mut self) {
        self.flush_first(self.unflushed.len());
    }

    fn flush_first(&mut self, count: usize) {
        for write in self.unflushed.drain(..count) {
            match write {
                Write::Batch(records, position) => {
                    for Record { table, key, value } in records {
                        match value {
                            Some(value) => drop(self.rows.insert((table, key), value)),
                            None => drop(self.rows.remove(&(table, key))),
                        }
                    }
                    self.position = position;
                }
                Write::Whole(MemorySnapshot { position, records }) => {
                    let rows = records.iter().cloned();
                    self.rows = rows.filter_map(|row| Some(((row.table, row.key), row.value?))).collect();
                    self.position = position;
                }
            }
        }
    }

    /// Replaces everything: at once with a snapshot, which a restart begins with, and some time later in the store.
    pub(super) fn replace(&mut self, snapshot: MemorySnapshot) {
        self.unflushed.push(Write::Whole(snapshot.clone()));
        self.snapshot = Some(snapshot);
    }

    /// The state as a restarted node reads it, checked as a node does.
    fn load(&mut self) -> Result<(State, Position), RestoreError> {
        self.flush();
        let records = self.rows.iter().map(|((table, key), value)| {
            Ok::<_, RestoreError>(Record { table: *table, key: key.clone(), value: Some(value.clone()) })
        });
        let state = State::load(records)?;
        if state.digest() == self.position.digest {
            Ok((state, self.position.clone()))
        } else {
            Err(RestoreError::Digest)
        }
    }
}

struct Parts {
    log: MemoryLog<SimTypes>,
    kept: Arc<Mutex<Kept>>,
    latency: (Duration, Duration),
    rng: SmallRng,
}

/// One node's disk. It outlives the node; clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Parts>>);

impl Disk {
    /// An empty disk. What it does by chance is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let parts = Parts {
            log: MemoryLog::default(),
            kept: Arc::default(),
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            rng: SmallRng::seed_from_u64(seed),
        };
        Self(Arc::new(Mutex::new(parts)))
    }

    /// How long a flush takes: between these two.
    pub fn be_slow(&self, least: Duration, most: Duration) {
        self.lock().latency = (least, most);
    }

    /// The node that used it has crashed: whatever that node still writes goes nowhere. Says how many writes to the
    /// log were lost.
    pub fn crash(&self, loss: Loss) -> usize {
        let mut parts = self.lock();
        let mut kept = lock(&parts.kept).clone();
        let held = parts.log.unflushed();
        let survive = match loss {
            Loss::Nothing => held,
            Loss::Unflushed => parts.rng.random_range(0..=held),
        };
        parts.log = parts.log.crash_keeping(survive);
        if loss == Loss::Unflushed {
            let survive = parts.rng.random_range(0..=kept.unflushed());
            kept.flush_first(survive);
            kept.unflushed.clear();
        }
        parts.kept = Arc::new(Mutex::new(kept));
        held - survive
    }

    pub(super) fn latency(&self) -> Duration {
        let mut parts = self.lock();
        let (least, most) = parts.latency;
        parts.rng.random_range(least..=most)
    }

    /// What a starting node finds.
    pub(super) fn open(&self) -> Result<Opened, RestoreError> {
        let parts = self.lock();
        let (state, position) = lock(&parts.kept).load()?;
        let snapshot = lock(&parts.kept).snapshot.as_ref().and_then(|snapshot| snapshot.position.applied());
        if let Some(applied) = position.applied().max(snapshot) {
            parts.log.agree_with(applied);
        }
        Ok(Opened { log: parts.log.clone(), kept: Arc::clone(&parts.kept), state, position })
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        lock(&self.0)
    }
}

pub(super) struct Opened {
    pub(super) log: MemoryLog<SimTypes>,
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) state: State,
    pub(super) position: Position,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
