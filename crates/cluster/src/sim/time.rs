//! Virtual time and tasks of a simulation. Nothing here may be called outside [`run`].

use std::time::Duration;

use openraft::{AsyncRuntime as _, Instant as _};
use openraft_rt_sim::{SimInstant, SimRuntime};

/// Runs `world` to its end. The same seed and the same world take the same course.
pub fn run<T>(seed: u64, world: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(seed).block_on(world)
}

/// How long the simulation has run.
#[must_use]
pub fn elapsed() -> Duration {
    SimInstant::now().elapsed_since_start()
}

/// Waits.
pub async fn sleep(duration: Duration) {
    SimRuntime::sleep(duration).await;
}

/// Starts a task.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(SimRuntime::spawn(task));
}

/// Waits for `future`, but no longer than `longest`.
pub async fn within<T>(longest: Duration, future: impl Future<Output = T> + Send) -> Option<T> {
    SimRuntime::timeout(longest, future).await.ok()
}
