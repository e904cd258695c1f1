//! The end of a node that must not go on: a failed fsync, a command it does not know, a panic of Raft's core.

use tokio::sync::watch;

/// What to do when a disk has failed.
pub(crate) const DISK: &str = "nothing after that is believed; see to the disk, then start this node again: what it \
                               acknowledged the others hold too, and what it lacks they give back to it";

/// Set once; whoever runs the node exits on it.
#[derive(Debug)]
pub(crate) struct Fatal(watch::Sender<Option<String>>);

impl Fatal {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Says that the node must stop, and why. The first reason stays.
    pub(crate) fn raise(&self, reason: String) {
        self.0.send_if_modified(|held| {
            let first = held.is_none();
            if first {
                tracing::error!(reason, "this node must stop");
                *held = Some(reason);
            }
            first
        });
    }

    /// The reason, when there is one.
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Waits for the reason.
    pub(crate) async fn raised(&self) -> String {
        let mut watch = self.0.subscribe();
        match watch.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender is in `self`.
            Err(_) => String::new(),
        }
    }
}
