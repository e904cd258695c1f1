//! Telling followers how far the log is committed. The next entry says so as well: while entries follow each other, a
//! message for each commit would be half of the messages between nodes. So it waits a moment for an entry, unless the
//! follower itself has something that waits for the commit.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use model::name::NodeId;
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::raft::Types;

/// How long a commit waits for an entry.
const WAIT: Duration = Duration::from_millis(2);
/// A follower that asked this node for something within this time is taken to wait for commits.
const ASKED_WITHIN: Duration = Duration::from_millis(100);

/// Which followers lately proposed or read through this node: their callers wait until they have applied an entry.
#[derive(Default)]
pub(super) struct Askers(Mutex<BTreeMap<NodeId, Instant>>);

impl Askers {
    pub(super) fn note(&self, node: NodeId) {
        self.asked().insert(node, Instant::now());
    }

    pub(super) fn waits(&self, node: NodeId) -> bool {
        self.asked().get(&node).is_some_and(|asked| asked.elapsed() < ASKED_WITHIN)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests but for those without an entry that another follows within [`WAIT`]: that one says what they say. While
/// `at_once` holds, all of them.
pub(super) fn with_entries<Requests>(
    requests: Requests,
    at_once: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static
where
    Requests: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    stream::unfold((requests.fuse(), at_once), async |(mut requests, at_once)| {
        let mut request = requests.next().await?;
        let deadline = Instant::now() + WAIT;
        while request.entries.is_empty()
            && !at_once()
            && let Ok(Some(next)) = timeout_at(deadline, requests.next()).await
        {
            request = next;
        }
        Some((request, (requests, at_once)))
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use openraft::entry::RaftPayload as _;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::raft::{Payload, Vote, entry, log_id};

    fn request(last: u64, committed: u64, entries: u64) -> AppendEntriesRequest<Types> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, last)),
            entries: (1..=entries).map(|more| entry(log_id(1, last + more), Payload::Blank)).collect(),
            leader_commit: Some(log_id(1, committed)),
        }
    }

    fn brief(request: &AppendEntriesRequest<Types>) -> (u64, usize) {
        assert!(request.entries.iter().all(|entry| entry.payload.get_membership().is_none()));
        (request.leader_commit.unwrap().index, request.entries.len())
    }

    #[tokio::test]
    async fn a_commit_travels_with_the_entry_that_follows() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut sent = Box::pin(with_entries(UnboundedReceiverStream::new(receiver), || false));
        sender.send(request(0, 0, 1)).unwrap();
        assert_eq!(brief(&sent.next().now_or_never().flatten().unwrap()), (0, 1), "an entry never waits");
        sender.send(request(1, 1, 0)).unwrap();
        assert!(sent.next().now_or_never().is_none());
        sender.send(request(1, 1, 2)).unwrap();
        assert_eq!(brief(&sent.next().now_or_never().flatten().unwrap()), (1, 2));

        // When none follows it goes by itself, and several commits are one.
        sender.send(request(3, 2, 0)).unwrap();
        assert!(sent.next().now_or_never().is_none());
        sender.send(request(3, 3, 0)).unwrap();
        let begun = Instant::now();
        assert_eq!(brief(&sent.next().await.unwrap()), (3, 0));
        assert!(begun.elapsed() >= WAIT);

        // Nor is it lost at the end.
        sender.send(request(3, 3, 0)).unwrap();
        drop(sender);
        assert_eq!(brief(&sent.next().now_or_never().flatten().unwrap()), (3, 0));
        assert!(sent.next().await.is_none());
    }

    #[tokio::test]
    async fn a_follower_that_waits_is_told_at_once() {
        let askers = std::sync::Arc::new(Askers::default());
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = std::sync::Arc::clone(&askers);
        let mut sent =
            Box::pin(with_entries(UnboundedReceiverStream::new(receiver), move || waiting.waits(NodeId(2))));
        askers.note(NodeId(3));
        sender.send(request(1, 1, 0)).unwrap();
        assert!(sent.next().now_or_never().is_none(), "another asked");
        assert!(sent.next().await.is_some());
        askers.note(NodeId(2));
        sender.send(request(1, 1, 0)).unwrap();
        assert!(sent.next().now_or_never().flatten().is_some());
        askers.asked().insert(NodeId(2), Instant::now() - ASKED_WITHIN);
        sender.send(request(1, 1, 0)).unwrap();
        assert!(sent.next().now_or_never().is_none(), "that was a while ago");
    }
}
