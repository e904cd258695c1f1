//! Clocks: the true one, and each node's own, which may be wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cluster::sim::time;
use futures::future::BoxFuture;
use model::time::Time;
use server::clock::Runtime;

/// When every world begins.
pub(crate) const START: Time = Time(1_800_000_000_000);

/// The true time.
pub(crate) fn truth() -> Time {
    Time(START.0 + u64::try_from(time::elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// How wrong a node's clock is, in milliseconds. It outlives the node's crashes. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Skew(Arc<AtomicI64>);

impl Skew {
    pub(crate) fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    /// What the node takes the time to be.
    pub(crate) fn now(&self) -> Time {
        Time(truth().0.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
}

/// The runtime of a simulated node's reconcilers.
pub(crate) struct Virtual(pub(crate) Skew);

impl Runtime for Virtual {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        time::elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(time::sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        time::spawn(task);
    }
}
