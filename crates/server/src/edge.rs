//! What every call goes through: the gate, the limits of this node, and the way a refusal is told and audited.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use cluster::Cluster;
use model::{
    State,
    command::Command,
    name::TokenName,
    outcome::Applied,
    time::{Span, Time},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, metadata::MetadataMap};

use crate::{
    consensus::Consensus,
    denied::Denied,
    feed::Batches,
    fresh::{Complete, Fresh},
    gate::{Action, Caller, Gate, Rejected},
    keys::Keyring,
    port::ClientPort,
    refusals::Refusals,
    trace,
};

/// What this node takes on at a time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Shortest interval of a schedule.
    pub period_floor: Span,
    /// Calls that only look answered at the same time, and as many others: a crowd of readers keeps no writer out.
    /// Streams are not counted.
    pub calls: usize,
    /// Calls of either kind that may wait until others are answered.
    pub waiting: usize,
    /// How long they may wait.
    pub wait: Duration,
    /// Streams open at the same time.
    pub streams: usize,
    /// Streams open at the same time with one token.
    pub streams_per_token: usize,
    /// Longest wait for the reader of a stream to take the next message; then the stream is cut.
    pub send_timeout: Duration,
    /// How long deliveries and answers of many consumers are gathered for one log entry.
    pub feed_linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            period_floor: model::timing::PERIOD_FLOOR,
            calls: 256,
            waiting: 16_384,
            wait: Duration::from_secs(5),
            streams: 8_192,
            streams_per_token: 64,
            send_timeout: Duration::from_secs(10),
            feed_linger: Duration::from_millis(2),
        }
    }
}

/// What a node knows of itself beside the state.
pub(crate) struct Facts {
    pub(crate) cluster: Cluster,
    /// Its settings, as far as they may be shown.
    pub(crate) settings: serde_json::Value,
}

/// What the services share.
pub struct Edge {
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) port: ClientPort,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    pub(crate) fresh: Arc<Fresh>,
    pub(crate) refusals: Refusals,
    pub(crate) batches: Batches,
    /// What the node knows of itself beside the state; not there where the edge has no node.
    pub(crate) facts: OnceLock<Facts>,
    gate: Gate,
    looks: Room,
    changes: Room,
    streams: Arc<Semaphore>,
    streams_by_token: Arc<Mutex<BTreeMap<TokenName, usize>>>,
}

impl Edge {
    /// The edge of one node. [`Edge::run`] must run beside the services.
    #[must_use]
    pub fn new(
        consensus: Arc<dyn Consensus>,
        keys: Arc<Keyring>,
        port: ClientPort,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let fresh = Arc::new(Fresh::new(Arc::clone(&consensus)));
        Arc::new(Self {
            gate: Gate::new(Arc::clone(&consensus), Arc::clone(&fresh)),
            batches: Batches::new(Arc::clone(&consensus), Arc::clone(&fresh), &limits),
            refusals: Refusals::default(),
            facts: OnceLock::new(),
            looks: Room::new(&limits),
            changes: Room::new(&limits),
            streams: Arc::new(Semaphore::new(limits.streams)),
            streams_by_token: Arc::default(),
            consensus,
            keys,
            port,
            limits,
            shutdown,
            fresh,
        })
    }

    /// Works for all calls together: commits deliveries, answers and refusals. Ends some time after the shutdown
    /// token, when what was taken in has been tried.
    pub async fn run(&self) {
        tokio::join!(
            self.refusals.run(Arc::clone(&self.consensus), self.shutdown.clone()),
            self.batches.run(&self.shutdown),
        );
    }

    /// Lets a call in, or says why not.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        metadata: &MetadataMap,
        action: Action,
    ) -> Result<Call, Status> {
        self.admit_as(metadata, action, |_| action).await
    }

    /// Lets a call in whose action depends on who calls; `presumed` stands in the audit log while that is unknown.
    pub(crate) async fn admit_as(
        self: &Arc<Self>,
        metadata: &MetadataMap,
        presumed: Action,
        action: impl FnOnce(&Caller) -> Action,
    ) -> Result<Call, Status> {
        if self.shutdown.is_cancelled() {
            return Err(Denied::ShuttingDown.told(&trace::request_id(metadata)));
        }
        let request = trace::request_id(metadata);
        let caller = match self.gate.authenticate(metadata).await {
            Ok(caller) => caller,
            Err(Rejected { actor, denied }) => {
                return Err(self.status(&request, &actor, presumed, "", &denied));
            }
        };
        trace::note_actor(&caller.principal);
        let action = action(&caller);
        let room = if action == Action::Look { &self.looks } else { &self.changes };
        let permit = room.enter().await.map_err(|denied| denied.told(&request))?;
        let (edge, object) = (Arc::clone(self), Mutex::default());
        let call = Call { edge, request, caller, action, object, _permit: Some(permit) };
        match call.caller.check_allowed(action) {
            Ok(()) => Ok(call),
            Err(denied) => Err(call.status(&denied)),
        }
    }

    /// Leave to open one stream more with this token; it is given back when dropped.
    pub(crate) fn stream_permit(&self, token: &TokenName) -> Result<StreamPermit, Denied> {
        let whole = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Denied::Busy("streams"))?;
        let mut by_token = self.streams_by_token.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_token.entry(token.clone()).or_default();
        if *open >= self.limits.streams_per_token {
            return Err(Denied::Busy("streams with this token"));
        }
        *open += 1;
        Ok(StreamPermit { token: token.clone(), by_token: Arc::clone(&self.streams_by_token), _whole: whole })
    }

    /// What is under way.
    pub(crate) fn load(&self) -> Load {
        Load {
            looks: self.looks.inside(),
            changes: self.changes.inside(),
            waiting: self.looks.outside() + self.changes.outside(),
            streams: self.open_streams(),
        }
    }

    /// Streams open now.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams_by_token.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// The status that tells the caller; a refusal is audited.
    pub(crate) fn status(
        &self,
        request: &str,
        actor: &str,
        action: Action,
        object: &str,
        denied: &Denied,
    ) -> Status {
        match denied {
            Denied::Edge(refusal) => {
                let (action, code) = (action.as_str(), refusal.code.as_str());
                // A flood of refused calls does not become one of lines: alike ones are told of once in a while.
                if self.refusals.note(actor, action, object, code) {
                    tracing::info!(request, actor, action, object, code, "refused");
                }
            }
            Denied::Keys(_) | Denied::Internal(_) => {
                tracing::error!(request, actor, action = action.as_str(), object, "call failed: {denied}");
            }
            Denied::Model(_)
            | Denied::Unagreed(_)
            | Denied::Busy(_)
            | Denied::TooSlow
            | Denied::ShuttingDown => {}
        }
        denied.told(request)
    }
}

/// How much is under way at the edge of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Calls that only look.
    pub(crate) looks: usize,
    /// All other calls.
    pub(crate) changes: usize,
    /// Calls that wait until others are answered.
    pub(crate) waiting: usize,
    /// Streams.
    pub(crate) streams: usize,
}

/// Where calls of one kind are answered, and wait to be.
struct Room {
    calls: Arc<Semaphore>,
    waiting: Semaphore,
    /// How many calls, and how many that wait, there is room for.
    size: (usize, usize),
    wait: Duration,
}

impl Room {
    fn new(limits: &Limits) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(limits.calls)),
            waiting: Semaphore::new(limits.waiting),
            size: (limits.calls, limits.waiting),
            wait: limits.wait,
        }
    }

    /// Calls that are being answered.
    fn inside(&self) -> usize {
        self.size.0.saturating_sub(self.calls.available_permits())
    }

    /// Calls that wait.
    fn outside(&self) -> usize {
        self.size.1.saturating_sub(self.waiting.available_permits())
    }

    /// Leave to answer one call; it is given back when dropped.
    async fn enter(&self) -> Result<OwnedSemaphorePermit, Denied> {
        if let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || Denied::Busy("calls");
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.calls).acquire_owned()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// One call that was let in.
pub(crate) struct Call {
    pub(crate) edge: Arc<Edge>,
    /// The id by which the caller and the log speak of it.
    request: String,
    pub(crate) caller: Caller,
    action: Action,
    object: Mutex<String>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// The same call, not counted among those under way: a stream has a limit of its own.
    pub(crate) fn without_permit(self) -> Self {
        Self { _permit: None, ..self }
    }

    /// Notes what the call is about, for the audit log in case that it is refused.
    pub(crate) fn about(&self, kind: &str, name: &str) {
        let object = format!("{kind}/{name}");
        trace::note_object(&object);
        *self.object.lock().unwrap_or_else(PoisonError::into_inner) = object;
    }

    /// The time by which lifetimes are judged.
    pub(crate) fn now(&self) -> Time {
        self.edge.consensus.now()
    }

    /// A state with everything committed before the call, in which the caller's token still works.
    pub(crate) async fn read(&self) -> Result<Arc<State>, Denied> {
        let Complete { state, .. } = self.edge.fresh.read().await?;
        self.caller.check_alive(&state, self.now())?;
        Ok(state)
    }

    /// The state as this node has it: what this call has committed is in it, what others did may not be yet.
    pub(crate) fn known(&self) -> Arc<State> {
        self.edge.consensus.local()
    }

    /// Commits a command in the caller's name.
    pub(crate) async fn propose(&self, command: impl Into<Command>) -> Result<Applied, Denied> {
        let outcome = self.edge.consensus.propose(self.caller.principal.clone(), command.into()).await?;
        outcome.map_err(Denied::Model)
    }

    /// The answer of the call; a refusal is audited.
    pub(crate) fn answer<T>(&self, result: Result<T, Denied>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|denied| self.status(&denied))
    }

    /// The status that tells the caller; a refusal is audited.
    pub(crate) fn status(&self, denied: &Denied) -> Status {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        self.edge.status(&self.request, &self.caller.principal, self.action, &object, denied)
    }
}

/// Leave for one stream.
pub(crate) struct StreamPermit {
    token: TokenName,
    by_token: Arc<Mutex<BTreeMap<TokenName, usize>>>,
    _whole: OwnedSemaphorePermit,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut by_token = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_token.get_mut(&self.token) {
            *open -= 1;
            if *open == 0 {
                by_token.remove(&self.token);
            }
        }
    }
}
