//! A cluster of one that agrees with itself at once, with the real model and a clock that steps, for tests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cluster::{Progress, SteerError};
use futures::future::BoxFuture;
use model::{
    State,
    command::{Adopt, Command, IssueToken, PutCredential, PutIdentity, PutTarget, Stamped},
    credential::Strategy,
    name::{CredentialName, NodeId},
    outcome::Outcome,
    sealed::associated,
    target::SecretPolicy,
    time::{Span, Time},
    token::Role,
};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::{
    admin,
    clock::Runtime,
    config::Config,
    consensus::{Consensus, Member, Standing, Unagreed},
    edge::{Edge, Limits},
    feed,
    keys::Keyring,
    port::ClientPort,
    token::Bearer,
};

/// Far enough in the future that the wall clock of a test run plays no part.
const START: Time = Time(4_000_000_000_000);
/// How far time moves with every command.
const STEP: Span = Span(10);

/// A cluster of one.
pub(crate) struct Alone {
    state: Mutex<State>,
    clock: AtomicU64,
    progress: watch::Sender<Progress>,
    proposed: Mutex<Vec<(String, Command)>>,
    leaderless: AtomicBool,
    stated: Mutex<Vec<model::ledger::LedgerEntry>>,
}

impl Alone {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            clock: AtomicU64::new(START.0),
            progress: watch::Sender::new(Progress::default()),
            proposed: Mutex::default(),
            leaderless: AtomicBool::new(false),
            stated: Mutex::default(),
        })
    }

    /// Applies a command as the leader would.
    pub(crate) fn apply(&self, actor: &str, command: Command) -> Outcome {
        let at = Time(self.clock.fetch_add(STEP.0, Ordering::SeqCst));
        self.proposed.lock().unwrap().push((actor.to_owned(), command.clone()));
        let outcome = {
            let mut state = self.state.lock().unwrap();
            let outcome = state.apply(&Stamped { at, actor: actor.to_owned(), command });
            state.drain_changes();
            self.stated.lock().unwrap().extend(state.drain_ledger());
            outcome
        };
        self.progress
            .send_modify(|progress| progress.applied = Some(progress.applied.unwrap_or_default() + 1));
        outcome
    }

    /// Everything proposed so far.
    pub(crate) fn proposed(&self) -> Vec<(String, Command)> {
        self.proposed.lock().unwrap().clone()
    }

    pub(crate) fn lose_leader(&self, lost: bool) {
        self.leaderless.store(lost, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self, span: Span) {
        self.clock.fetch_add(span.0, Ordering::SeqCst);
        self.progress.send_modify(|_| ());
    }

    fn check_leader(&self) -> Result<(), Unagreed> {
        if self.leaderless.load(Ordering::SeqCst) { Err(Unagreed::NoLeader) } else { Ok(()) }
    }
}

impl Consensus for Alone {
    fn propose(&self, actor: String, command: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>> {
        Box::pin(async move {
            self.check_leader()?;
            Ok(self.apply(&actor, command))
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>> {
        Box::pin(async move {
            self.check_leader()?;
            Ok(self.local())
        })
    }

    fn local(&self) -> Arc<State> {
        Arc::new(self.state.lock().unwrap().clone())
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn standing(&self) -> Standing {
        let leader = self.check_leader().is_ok().then_some(NodeId(1));
        let member =
            Member { id: NodeId(1), peer_address: "127.0.0.1:1".into(), voter: true, ..Member::default() };
        let digest = self.local().digest();
        Standing { node: NodeId(1), leader, members: vec![member], digest, ..Standing::default() }
    }

    fn transfer_leader(&self, to: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(async move {
            if to == NodeId(1) { Ok(()) } else { Err(SteerError::Refused(format!("`{to}` is no voter"))) }
        })
    }

    fn permit_rejoin(&self, node: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        Box::pin(async move { Err(SteerError::Refused(format!("`{node}` takes part already"))) })
    }

    fn ledger(
        &self,
        after: u64,
        _: usize,
    ) -> BoxFuture<'_, std::io::Result<Vec<model::ledger::LedgerEntry>>> {
        let stated = self.stated.lock().unwrap().clone();
        Box::pin(async move { Ok(stated.into_iter().filter(|entry| entry.sequence > after).collect()) })
    }

    fn now(&self) -> Time {
        Time(self.clock.load(Ordering::SeqCst))
    }
}

/// The one node leads; time passes when it is waited for.
#[derive(Clone)]
pub(crate) struct Leading(pub(crate) Arc<Alone>);

impl Consensus for Leading {
    fn propose(&self, actor: String, command: Command) -> BoxFuture<'_, Result<Outcome, Unagreed>> {
        self.0.propose(actor, command)
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Unagreed>> {
        self.0.read()
    }

    fn local(&self) -> Arc<State> {
        self.0.local()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.0.watch()
    }

    fn standing(&self) -> Standing {
        Standing { is_leader: true, ..self.0.standing() }
    }

    fn transfer_leader(&self, to: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        self.0.transfer_leader(to)
    }

    fn permit_rejoin(&self, node: NodeId) -> BoxFuture<'_, Result<(), SteerError>> {
        self.0.permit_rejoin(node)
    }

    fn ledger(
        &self,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<'_, std::io::Result<Vec<model::ledger::LedgerEntry>>> {
        self.0.ledger(after, bytes)
    }

    fn now(&self) -> Time {
        self.0.now()
    }
}

impl Runtime for Leading {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.pass(Span(u64::try_from(duration.as_millis()).unwrap()));
        Box::pin(tokio::task::yield_now())
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(task));
    }
}

fn configuration() -> Config {
    let text = "node = 1\ndata = \"d\"\n[listen]\nclient = \"127.0.0.1:1\"\npeer = \"127.0.0.1:2\"\n[peers]\n1 = \"127.0.0.1:2\"";
    toml::from_str(text).unwrap()
}

/// Both services of a node that is alone, with one token for each role.
pub(crate) struct Node {
    pub(crate) alone: Arc<Alone>,
    pub(crate) edge: Arc<Edge>,
    pub(crate) shutdown: CancellationToken,
    tokens: Mutex<BTreeMap<String, String>>,
}

impl Node {
    /// A node whose edge is running.
    pub(crate) fn start() -> Self {
        Self::start_with(Limits::default())
    }

    pub(crate) fn start_with(limits: Limits) -> Self {
        let alone = Alone::new();
        let root = workers::RootKey::generate();
        let clock = tls::Clock::new(|| std::time::Duration::from_millis(START.0));
        let port = ClientPort::new(&configuration(), &[&root], clock).unwrap();
        let keys = Arc::new(Keyring::new(vec![root]));
        let added = keys.new_data_key(&alone.local(), "test".to_owned()).unwrap();
        alone.apply("node-1", added.into()).unwrap();
        let shutdown = CancellationToken::new();
        let edge = Edge::new(Arc::clone(&alone) as Arc<dyn Consensus>, keys, port, limits, shutdown.clone());
        let running = Arc::clone(&edge);
        tokio::spawn(async move { running.run().await });
        let node = Self { alone, edge, shutdown, tokens: Mutex::default() };
        for role in [Role::Admin, Role::Operator, Role::Approver, Role::Auditor] {
            node.issue(role.as_str(), role, None, None);
        }
        node
    }

    /// Issues a token and keeps it under its name; its principal is the name.
    pub(crate) fn issue(&self, name: &str, role: Role, consumer: Option<&str>, expires: Option<Time>) {
        let bearer = Bearer::generate(name.parse().unwrap());
        let command = IssueToken {
            name: bearer.name().clone(),
            principal: name.to_owned(),
            role,
            consumer: consumer.map(|consumer| consumer.parse().unwrap()),
            hash: bearer.hash(),
            expires,
        };
        self.alone.apply("test", command.into()).unwrap();
        self.tokens.lock().unwrap().insert(name.to_owned(), bearer.to_text().expose_secret().to_owned());
    }

    /// A request with the token of that name.
    pub(crate) fn request<M>(&self, token: &str, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let text = format!("Bearer {}", self.tokens.lock().unwrap()[token]);
        request.metadata_mut().insert("authorization", text.parse().unwrap());
        request
    }

    pub(crate) fn admin(&self) -> admin::Service {
        admin::Service::new(Arc::clone(&self.edge))
    }

    pub(crate) fn feed(&self) -> feed::Service {
        feed::Service::new(Arc::clone(&self.edge))
    }
}

/// Declares credentials with an adopted first version, all of one identity at one target `db`.
pub(crate) fn declare(alone: &Alone, keys: &Keyring, names: impl IntoIterator<Item = String>) {
    let put = |command: Command| drop(alone.apply("test", command).unwrap());
    put(PutIdentity {
        name: "orders".parse().unwrap(),
        owner: "team-orders".into(),
        purpose: "reads orders".into(),
        workload: "orders-api".into(),
        environment: "test".into(),
        review_by: Time(5_000_000_000_000),
    }
    .into());
    put(PutTarget {
        name: "db".parse().unwrap(),
        provider: "postgres".into(),
        params: [("host".to_owned(), "localhost".to_owned())].into(),
        admin: None,
        secrets: SecretPolicy::default(),
        break_glass_roles: Vec::new(),
    }
    .into());
    for username in names {
        let name: CredentialName = username.parse().unwrap();
        let sealed = keys.seal(&alone.local(), &"adopted".into(), &associated::version(&name, 1)).unwrap();
        put(PutCredential {
            name,
            identity: "orders".parse().unwrap(),
            target: "db".parse().unwrap(),
            strategy: Strategy::SingleUser { username: username.clone() },
            stores: vec![],
            workloads: vec![],
            shared: None,
            adopt: Some(Adopt { username, version: 1, sealed }),
        }
        .into());
    }
}
