//! What the reconcilers need of whoever runs them: time and tasks, read and started here and nowhere else in the server.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use cluster::Cluster;
use futures::future::BoxFuture;
use model::time::{Span, Time};

/// Who runs the reconcilers: a node's runtime, or a simulation.
pub trait Runtime: Send + Sync + 'static {
    /// What time it is, as far as this node can tell. It may be corrected.
    fn now(&self) -> Time;

    /// How long this process has been running, by a clock that does not jump.
    fn uptime(&self) -> Duration;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Starts a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// How long it is until `at`; zero when it has passed.
    fn until(&self, at: Time) -> Duration {
        duration(at.since(self.now()))
    }
}

/// The runtime of a node: its time is the one that the cluster believes, not that of its wall clock.
pub(crate) struct Tokio(pub(crate) Cluster);

impl Runtime for Tokio {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(task));
    }
}

/// A model span as the runtime counts.
pub(crate) const fn duration(span: Span) -> Duration {
    Duration::from_millis(span.0)
}
