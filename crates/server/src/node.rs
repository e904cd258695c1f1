//! One node: its cluster handle, its reconcilers and its client port, started and stopped as one.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use api::v1::join_service_server::JoinServiceServer;
use axum::middleware::from_fn;
pub use cluster::StartError;
use cluster::{Cluster, StateCheck};
use futures::{FutureExt as _, future::BoxFuture};
use model::{
    State,
    command::AnnounceNode,
    name::{NodeId, TokenName},
};
use tokio::{
    net::TcpListener,
    sync::{broadcast::error::RecvError, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    service::Routes,
    transport::server::{Router, TcpIncoming},
};
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::{
    admin,
    clock::Tokio,
    config::{Config, ConfigError},
    edge::{Edge, Facts, Limits},
    feed, gate, health, join,
    keys::{
        self, Keyring,
        files::{KeyFileError, KeyFiles},
    },
    port::ClientPort,
    reconcile::{self, NodeHands},
    token, trace,
};

/// What the peer port's keys are derived for.
const PEER_TLS: &str = "peer-tls";
/// How often an idle connection is asked whether it is alive, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most HTTP/2 streams of one connection, and most calls of one connection that are answered at once.
const STREAMS: u32 = 1_024;
const CALLS_PER_CONNECTION: usize = 256;
/// How long calls under way may take to end when the node stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait before a node tells the cluster again where it is.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(200);

/// What every part of a node may need.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) port: ClientPort,
}

impl Shared {
    /// In whose name this node's workers act.
    pub(crate) fn actor(&self) -> String {
        self.node.to_string()
    }

    /// Shows and believes certificates, on both ports, as it follows from the root keys that are good in `state`.
    pub(crate) fn follow_root_keys(&self, state: &State) -> Result<(), ServerError> {
        let keys = peer_keys(&self.keys.peer_root_keys(state));
        let keys: Vec<&[u8; 32]> = keys.iter().map(|key| &**key).collect();
        self.cluster.set_root_keys(&keys)?;
        Ok(self.port.set_root_keys(&self.keys.root_keys(state))?)
    }

    /// What its reconcilers work with.
    fn context(&self, bootstrap: Option<BootstrapToken>) -> reconcile::Context {
        reconcile::Context {
            node: self.node,
            consensus: Arc::new(self.cluster.clone()),
            hands: Arc::new(NodeHands { keys: Arc::clone(&self.keys), bootstrap }),
            runtime: Arc::new(Tokio(self.cluster.clone())),
            concurrent_steps: self.config.limits.concurrent_steps,
        }
    }
}

/// The first admin token, as far as it may be kept in memory: its name and the hash of its secret.
pub(crate) struct BootstrapToken {
    pub(crate) name: TokenName,
    pub(crate) hash: [u8; 32],
}

/// The sockets of a node, opened by the caller.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub client: TcpListener,
    /// For peers.
    pub peer: TcpListener,
}

impl Listeners {
    /// Opens both ports that the configuration names.
    ///
    /// # Errors
    /// [`ServerError::Listen`] when one is taken or not ours.
    pub async fn bind(config: &Config) -> Result<Self, ServerError> {
        let open = async |address| {
            TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
        };
        Ok(Self { client: open(config.listen.client).await?, peer: open(config.listen.peer).await? })
    }
}

/// Why a node does not run, or runs no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The root key cannot be used.
    #[error(transparent)]
    RootKey(#[from] KeyFileError),
    /// The root keys of this node do not open what the cluster seals.
    #[error("this node refuses to run: {0}")]
    Unfit(String),
    /// The file with the first token cannot be used.
    #[error("cannot use the bootstrap token file `{path}`: {problem}")]
    BootstrapToken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        problem: String,
    },
    /// A port cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate of the client port cannot be made or used.
    #[error("the client port has no certificate")]
    Tls(#[from] tls::TlsError),
    /// The client port failed.
    #[error("the client port failed")]
    Serve(#[source] tonic::transport::Error),
    /// The cluster has not let this node in.
    #[error("this node has no number, and was given none: {0}")]
    Join(String),
    /// The cluster could not be started.
    #[error("the node cannot join its cluster")]
    Cluster(#[source] cluster::StartError),
    /// The node must not go on.
    #[error("stopped to protect what is stored: {0}")]
    Fatal(String),
}

impl ServerError {
    /// Whether the node was able to run, and would not.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }
}

impl From<cluster::StartError> for ServerError {
    fn from(error: cluster::StartError) -> Self {
        if let cluster::StartError::Unfit(why) = error {
            return Self::Unfit(why);
        }
        Self::Cluster(error)
    }
}

/// A running node.
pub struct Server {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Why this node must end, once its keys turn out to be no use.
    unfit: watch::Receiver<Option<String>>,
    port: tokio::task::JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Starts a node on the listeners given. It runs until [`Server::stop`] or until `shutdown` is cancelled.
    ///
    /// # Errors
    /// When keys, files or the stored log cannot be used.
    // Boxed, so that it is compiled here, and not into every program and test that starts a node.
    pub fn start(
        config: Config,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<Self, ServerError>> {
        Box::pin(Self::begin(config, listeners, shutdown))
    }

    async fn begin(
        config: Config,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> Result<Self, ServerError> {
        config.check()?;
        let mut files = KeyFiles::of(&config);
        let roots = files.read()?;
        let own = roots.first().ok_or(ConfigError::NoRootKey)?;
        let config = join::number(config, own, &shutdown).await?;
        let keys = Arc::new(Keyring::new(roots));
        let bootstrap = config.bootstrap_token_file.as_ref().map(bootstrap_token).transpose()?.flatten();
        let mut settings =
            cluster::Settings::new(NodeId(config.node), config.peer_addresses()?, config.data.clone());
        settings.timing = config.timing.into();
        settings.retention = config.limits.into();
        settings.rejoin = config.rejoin.into();
        settings.certificate_lifetime = config.certificates.lifetime();
        let opening = Arc::clone(&keys);
        settings.check =
            StateCheck::new(move |state| opening.check(state).map_err(|error| keys::watch::told(&error)));
        let roots = keys.root_keys(&State::default());
        // Not under `shutdown`: what the services and workers still have to commit is committed before this ends.
        let peer_keys = peer_keys(&roots);
        let peer_keys: Vec<&[u8; 32]> = peer_keys.iter().map(|key| &**key).collect();
        let cluster = Cluster::start(settings, listeners.peer, &peer_keys, CancellationToken::new()).await?;
        let time = cluster.clone();
        let clock = tls::Clock::new(move || Duration::from_millis(time.now().0));
        let port = ClientPort::new(&config, &roots, clock)?;
        port.heed(&cluster.local());

        let node = NodeId(config.node);
        let shared = Arc::new(Shared { node, config, cluster, keys, port: port.clone() });
        let tasks = TaskTracker::new();
        let context = shared.context(bootstrap);
        tasks.spawn(reconcile::leader::run(context.clone(), shutdown.clone()));
        tasks.spawn(reconcile::keys::run(context.clone(), shutdown.clone()));
        tasks.spawn(reconcile::look::run(context.clone(), shutdown.clone()));
        tasks.spawn(reconcile::worker::run(context, shutdown.clone()));
        let (telling, unfit) = watch::channel(None);
        tasks.spawn(keys::watch::run(Arc::clone(&shared), files, telling, shutdown.clone()));
        tasks.spawn(announce(Arc::clone(&shared), shutdown.clone()));
        let limits = Limits { period_floor: shared.config.schedule_floor(), ..Limits::default() };
        let consensus = Arc::new(shared.cluster.clone());
        tasks.spawn(port.clone().keep_fresh(shutdown.clone()));
        tasks.spawn(port.clone().keep_heeding(consensus.clone(), shutdown.clone()));
        let edge = Edge::new(consensus, Arc::clone(&shared.keys), port, limits, shutdown.clone());
        let (cluster, settings) = (shared.cluster.clone(), shared.config.shown());
        edge.facts.get_or_init(|| Facts { cluster, settings });
        tasks.spawn(audit_peers(shared.cluster.clone(), Arc::clone(&edge), shutdown.clone()));
        let running = Arc::clone(&edge);
        tasks.spawn(async move { running.run().await });
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        tasks.spawn(health::report(shared.cluster.clone(), reporter, shutdown.clone()));
        let joins = join::Service::mount(Arc::clone(&edge), shared.config.join.admit);
        let router = router(routes(&edge, joins, shared.cluster.clone(), grpc_health));
        let port = tokio::spawn(serve(router, listeners.client, edge, shutdown.clone()));
        tasks.close();
        Ok(Self { shared, shutdown, tasks, unfit, port })
    }

    /// The node's cluster handle, to watch and to ask.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// Waits until the node must end: because it was asked to, or because it cannot go on.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(()),
            Ok(why) = self.unfit.wait_for(Option::is_some) => Err(ServerError::Unfit(why.clone().unwrap_or_default())),
            reason = self.shared.cluster.fatal() => Err(ServerError::Fatal(reason)),
            done = &mut self.port => done.unwrap_or_else(|panic| Err(ServerError::Fatal(panic.to_string()))),
        }
    }

    /// Ends the node: calls and steps under way first, then the lead is handed over, then the cluster handle.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some work was still under way when the node stopped; it will be probed");
        }
        self.shared.cluster.step_down().await;
        self.port.abort();
        self.shared.cluster.stop().await;
    }
}

/// The services of the client port.
fn routes(
    edge: &Arc<Edge>,
    joins: JoinServiceServer<join::Service>,
    cluster: Cluster,
    health: HealthServer<impl Health>,
) -> Routes {
    let grpc = Routes::new(admin::Service::mount(Arc::clone(edge)))
        .add_service(feed::Service::mount(Arc::clone(edge)))
        .add_service(joins)
        .add_service(health);
    let http = health::routes(cluster, Arc::clone(edge));
    Routes::from(grpc.into_axum_router().merge(http).layer(from_fn(trace::carry)))
}

/// The client port.
fn router(routes: Routes) -> Router {
    let mut server = tonic::transport::Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(Some(STREAMS))
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION);
    server.add_routes(routes)
}

/// Serves until `shutdown`, then for as long as it is polite: an idle connection would hold it open for ever.
async fn serve(
    router: Router,
    listener: TcpListener,
    edge: Arc<Edge>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let ended = shutdown.clone();
    let ended = async move { ended.cancelled().await };
    let port = edge.port.clone();
    let serving = match port.incoming(listener, edge, shutdown.clone()) {
        Ok(incoming) => router.serve_with_incoming_shutdown(incoming, ended).boxed(),
        Err(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, ended).boxed()
        }
    };
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        done = serving => done.map_err(ServerError::Serve),
        () = patience => Ok(()),
    }
}

/// Who is not let in on the peer port stands in the audit log as well.
async fn audit_peers(cluster: Cluster, edge: Arc<Edge>, shutdown: CancellationToken) {
    let mut refusals = cluster.refusals();
    loop {
        let refused = tokio::select! {
            refused = refusals.recv() => refused,
            () = shutdown.cancelled() => return,
        };
        match refused {
            Ok(refused) => {
                let object = refused.address.map_or_else(String::new, |address| format!("address/{address}"));
                edge.refusals.note(gate::ANONYMOUS, "peer.connect", &object, refused.code);
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "refusals on the peer port are not audited")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells the cluster where this node is, until it knows.
async fn announce(shared: Arc<Shared>, shutdown: CancellationToken) {
    let listen = &shared.config.listen;
    let command = AnnounceNode {
        id: shared.node,
        client_address: listen.advertise.clone().unwrap_or_else(|| listen.client.to_string()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    while !shutdown.is_cancelled() {
        match shared.cluster.propose(shared.actor(), command.clone().into()).await {
            Ok(Ok(_)) => return,
            Ok(Err(refusal)) => {
                return tracing::warn!(%refusal, "the cluster does not take this node's address");
            }
            Err(error) => tracing::debug!(%error, "not announced yet"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(ANNOUNCE_AGAIN) => {}
        }
    }
}

/// What the authorities of the peer port are derived from, one for each root key.
fn peer_keys(roots: &[Arc<workers::RootKey>]) -> Vec<zeroize::Zeroizing<[u8; 32]>> {
    roots.iter().map(|root| root.derive(PEER_TLS)).collect()
}

/// The root key of a node with this configuration; not the one that is to take its place.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn root_key(config: &Config) -> Result<workers::RootKey, ServerError> {
    Ok(KeyFiles::of(config).read()?.into_iter().next().ok_or(ConfigError::NoRootKey)?)
}

/// Reads the first token and keeps its hash alone. Once the cluster has a token the file is better removed, and its
/// absence must not keep the node from starting.
fn bootstrap_token(path: &PathBuf) -> Result<Option<BootstrapToken>, ServerError> {
    let unusable = |problem: String| ServerError::BootstrapToken { path: path.clone(), problem };
    let text = zeroize::Zeroizing::new(match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| unusable(error.to_string()))?,
    });
    if text.trim().is_empty() {
        tracing::info!(path = %path.display(), "no bootstrap token: only a cluster that has no token yet needs one");
        return Ok(None);
    }
    let bearer = token::Bearer::parse(text.trim()).map_err(|error| unusable(error.to_string()))?;
    Ok(Some(BootstrapToken { name: bearer.name().clone(), hash: bearer.hash() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_token_that_was_removed_is_none_and_one_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        assert!(bootstrap_token(&path).unwrap().is_none());
        fs::write(&path, "\n").unwrap();
        assert!(bootstrap_token(&path).unwrap().is_none());
        fs::write(&path, "no token").unwrap();
        assert!(matches!(bootstrap_token(&path), Err(ServerError::BootstrapToken { .. })));
    }
}
