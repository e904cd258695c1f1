//! Spans on the way of a proposal: `propose` is what its caller waits for; `entry` is the log entry that carries it, a child
//! of the first proposal in it and following from the others; inside it `append` lasts until the entry is durable here,
//! `commit` until it is so at a majority, and `apply` until there is an outcome. They cost nothing while nobody listens.

use openraft::{
    errors::{ClientWriteError, Fatal, RaftError},
    impls::ProgressResponder,
    raft::ClientWriteResponse,
};
use tracing::{Span, debug_span};

use crate::{
    batch::Batch,
    raft::{Payload, Raft, Types},
};

/// The target of all spans. They are there when a log filter names it: `revolve::trace=debug`.
pub const TARGET: &str = "revolve::trace";

tokio::task_local! {
    /// The trace that what is proposed now belongs to, as W3C's `traceparent` writes it. It goes to the leader along with
    /// a proposal.
    pub static ORIGIN: String;
}

/// The trace of the task that asks, if it has one.
pub(crate) fn origin() -> String {
    ORIGIN.try_with(Clone::clone).unwrap_or_default()
}

/// The span of a proposal that waits for its outcome.
pub(crate) fn propose(command: &'static str, forwarded: bool, origin: &str) -> Span {
    debug_span!(target: TARGET, "propose", command, forwarded, origin)
}

/// A span that ends inside of the one that it belongs to, so that a log can tell what it stands in.
pub(crate) struct Stage {
    parent: Span,
    span: Option<Span>,
}

impl Stage {
    fn new(parent: &Span, span: Span) -> Self {
        Self { parent: parent.clone(), span: Some(span) }
    }

    /// The span itself.
    pub(crate) fn span(&self) -> Span {
        self.span.clone().unwrap_or_else(Span::none)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let span = self.span.take();
        self.parent.in_scope(|| drop(span));
    }
}

/// The span of the entry that carries these proposals.
pub(crate) fn entry<'a>(proposals: impl ExactSizeIterator<Item = &'a Span>) -> Stage {
    let commands = proposals.len();
    let mut proposals = proposals.filter(|span| !span.is_disabled());
    let Some(first) = proposals.next() else { return Stage::new(&Span::none(), Span::none()) };
    let entry = debug_span!(target: TARGET, parent: first, "entry", commands);
    for other in proposals {
        entry.follows_from(other);
    }
    Stage::new(first, entry)
}

/// The span of the way to the leader and back.
pub(crate) fn forward(proposal: &Span, leader: u64) -> Stage {
    if proposal.is_disabled() {
        return Stage::new(proposal, Span::none());
    }
    Stage::new(proposal, debug_span!(target: TARGET, parent: proposal, "forward", leader))
}

/// The span of making an entry durable, when it is traced.
pub(crate) fn append(payload: &Payload, index: u64) -> Option<Stage> {
    match payload {
        Payload::Normal(batch) if !batch.span().is_disabled() => {
            let span = debug_span!(target: TARGET, parent: batch.span(), "append", index);
            Some(Stage::new(batch.span(), span))
        }
        Payload::Normal(_) | Payload::Blank | Payload::Membership(_) => None,
    }
}

/// Commits a batch and waits until it is applied.
pub(crate) async fn write(
    raft: &Raft,
    batch: Batch,
) -> Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>> {
    let entry = batch.span().clone();
    if entry.is_disabled() {
        return raft.client_write(batch).await;
    }
    let (responder, committed, completed) = ProgressResponder::new();
    let commit = Stage::new(&entry, debug_span!(target: TARGET, parent: &entry, "commit"));
    raft.client_write_ff(batch, Some(responder)).await.map_err(RaftError::Fatal)?;
    // Without an answer it was not committed; what is completed says why.
    let is_committed = committed.await.is_ok();
    drop(commit);
    let apply =
        is_committed.then(|| Stage::new(&entry, debug_span!(target: TARGET, parent: &entry, "apply")));
    let result = completed.await.map_err(|_| RaftError::Fatal(Fatal::Stopped))?;
    drop(apply);
    result.map_err(RaftError::APIError)
}
