//! The wall clock, and what else the reconcilers need of whoever runs them: time and tasks, read and started here and
//! nowhere else in the server.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use model::time::{Span, Time};

/// Who runs the reconcilers: a node's runtime, or a simulation.
pub trait Runtime: Send + Sync + 'static {
    /// The wall clock, as the model counts time. It may jump.
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

/// The runtime of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

impl Runtime for Tokio {
    fn now(&self) -> Time {
        now()
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

/// Now, as the model counts time.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long it is until `at`; zero when it has passed.
pub(crate) fn until(at: Time) -> Duration {
    Tokio.until(at)
}

/// A model span as the runtime counts.
pub(crate) const fn duration(span: Span) -> Duration {
    Duration::from_millis(span.0)
}
