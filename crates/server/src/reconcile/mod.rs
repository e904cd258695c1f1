//! Reconcilers: loops that compare what is true with what should be, and act. Each is woken by a change and by a
//! timer, carries no data in the wake-up, and looks at the state anew.

pub(crate) mod leader;
pub(crate) mod worker;

use std::time::Duration;

use cluster::Progress;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// Waits for a change or for `longest`. `false` says that it is time to stop.
async fn wake(
    changes: &mut watch::Receiver<Progress>,
    longest: Duration,
    shutdown: &CancellationToken,
) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = sleep(longest) => true,
        changed = changes.changed() => changed.is_ok(),
    }
}
