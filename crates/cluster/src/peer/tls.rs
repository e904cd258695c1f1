//! Who may speak on the peer port. Every node derives the same certificate authority from the root key and issues
//! itself a certificate that it renews, so whoever holds the root key is admitted, unless it was revoked.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{State, name::NodeId, time::Time};
use rustls::{ClientConfig, ServerConfig, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName};
use tls::{
    Accepted, Accepting, Authority, Clock, Connections, Connector, Kind, Leaf, Own, Refusal, Throttle,
    TlsError, Trust, accept, client_config, server_config,
};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{error::StartError, machine::View, status::RefusedPeer};

/// The one protocol of the peer port.
const PROTOCOL: &str = "h2";
/// What follows the name of a node in its certificate.
const HOST_SUFFIX: &str = ".peer.revolve";
/// Longest wait before it is looked again whether the certificate is to be renewed: the time that is believed may change.
const LOOK: Duration = Duration::from_secs(30);
/// The wait after a renewal failed.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// Refusals that may wait to be told.
const REFUSALS: usize = 64;

/// The certificates of this node, and what it checks those of others against. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct PeerTls(Arc<Inner>);

struct Inner {
    node: NodeId,
    lifetime: Duration,
    clock: Clock,
    issuer: Mutex<Authority>,
    own: Own,
    trust: Trust,
    connections: Connections,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    refused: broadcast::Sender<RefusedPeer>,
    told: Throttle,
}

impl PeerTls {
    /// Derives the authorities from the root keys, and issues a certificate of the first to `node`; it is good for
    /// `lifetime`. Those of the other root keys are believed as well.
    pub(crate) fn new(
        node: NodeId,
        root_keys: &[&[u8; 32]],
        lifetime: Duration,
        clock: Clock,
    ) -> Result<Self, StartError> {
        Self::try_new(node, root_keys, lifetime, clock).map_err(|error| StartError::Keys(error.into()))
    }

    fn try_new(
        node: NodeId,
        root_keys: &[&[u8; 32]],
        lifetime: Duration,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let mut authorities = derive(root_keys)?;
        let connections = Connections::default();
        let trust = Trust::new(&authorities, connections.revoked().clone())?;
        let issuer = authorities.swap_remove(0);
        let own = Own::new(issuer.issue(&leaf(node, lifetime), &clock)?.certified()?)?;
        // TLS 1.3 alone: there is no older node to speak to.
        let server = server_config(own.clone(), Some(trust.clone()), &clock, &[&TLS13], &[PROTOCOL])?;
        let client = client_config(own.clone(), trust.clone(), &clock, &[&TLS13], &[PROTOCOL])?;
        Ok(Self(Arc::new(Inner {
            node,
            lifetime,
            clock,
            issuer: Mutex::new(issuer),
            own,
            trust,
            connections,
            client: Arc::new(client),
            server: Arc::new(server),
            refused: broadcast::Sender::new(REFUSALS),
            told: Throttle::default(),
        })))
    }

    /// Believes the authorities of these root keys from now on, and shows a certificate of the first. Connections that are
    /// open stay.
    pub(crate) fn set_root_keys(&self, root_keys: &[&[u8; 32]]) -> Result<(), TlsError> {
        let mut authorities = derive(root_keys)?;
        self.0.trust.replace(&authorities)?;
        *self.issuer() = authorities.swap_remove(0);
        self.renew()
    }

    /// Shows a new certificate from now on.
    fn renew(&self) -> Result<(), TlsError> {
        let issued = self.issuer().issue(&leaf(self.0.node, self.0.lifetime), &self.0.clock)?;
        self.0.own.replace(issued.certified()?)
    }

    /// When the certificate of this node ends.
    pub(crate) fn expires(&self) -> Time {
        Time(u64::try_from(self.0.own.facts().not_after.as_millis()).unwrap_or(u64::MAX))
    }

    /// Renews the certificate when a third of its time is left, until `shutdown`.
    pub(crate) async fn keep_renewed(self, shutdown: CancellationToken) {
        loop {
            let wait = self.0.own.renew_in(self.0.clock.now());
            let wait = if wait.is_zero() {
                self.renew().map_or_else(
                    |error| {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, expires = %self.expires(), "the peer certificate cannot be renewed");
                        RENEW_AGAIN
                    },
                    |()| {
                        tracing::info!(expires = %self.expires(), "the peer certificate was renewed");
                        Duration::ZERO
                    },
                )
            } else {
                wait.min(LOOK)
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Shuts out the nodes that `state` says are revoked, and cuts their connections.
    pub(crate) fn heed(&self, state: &State) {
        let hosts: BTreeSet<String> =
            state.revoked_nodes().iter().map(|(node, _)| host_name(*node)).collect();
        let cut = self.0.connections.revoke(BTreeSet::new(), hosts);
        if cut > 0 {
            tracing::warn!(connections = cut, "connections of a revoked node were cut");
        }
        if state.revoked_nodes().contains(&self.0.node) {
            tracing::error!(
                "the certificates of this node are revoked: the others do not let it in any more"
            );
        }
    }

    /// Does so whenever the state says something new, and cuts who is there with a certificate that is over, until
    /// `shutdown`.
    pub(crate) async fn keep_heeding(self, view: Arc<View>, shutdown: CancellationToken) {
        let mark = || view.state().revoked_nodes().digest();
        let heed = || self.heed(&view.state());
        let changes = view.progress().subscribe();
        self.0.connections.keep_good(&self.0.clock, changes, mark, heed, shutdown).await;
    }

    /// The age at which a connection is closed in good order: calls under way are answered, and new ones go over another
    /// that shows the certificates of then. A certificate is renewed when a third of its time is left, so that none that
    /// a connection was made with is over by then, and what is cut at its end is a stream of Raft, which begins anew.
    pub(crate) fn connection_age(&self) -> Duration {
        self.0.lifetime / 4
    }

    /// The connections that come in, each from a node.
    pub(crate) fn incoming(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> ReceiverStream<std::io::Result<Accepted>> {
        let told = self.clone();
        let accepting = Accepting {
            config: Arc::clone(&self.0.server),
            connections: self.0.connections.clone(),
            refused: Arc::new(move |from, refusal| told.refuse(Some(from), refusal)),
            shutdown,
        };
        accept(listener, accepting)
    }

    /// Connections to `node`, made when first used: whoever answers must be that node.
    pub(crate) fn connect_lazy(&self, endpoint: &Endpoint, node: NodeId) -> Result<Channel, StartError> {
        let name = ServerName::try_from(host_name(node)).map_err(|error| StartError::Keys(error.into()))?;
        let connector = Connector::new(Arc::clone(&self.0.client), name, self.0.connections.clone());
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    /// Who was not let in on the peer port, from now on.
    pub(crate) fn refusals(&self) -> broadcast::Receiver<RefusedPeer> {
        self.0.refused.subscribe()
    }

    /// Whether the certificates that a connection came with are those of `node`. That the authority has signed them was
    /// checked when the connection was made. Who speaks for another is refused.
    pub(crate) fn speaks_for(&self, certificates: Option<&[CertificateDer<'static>]>, node: NodeId) -> bool {
        if belongs_to(certificates, node) {
            return true;
        }
        let message = format!("a message in the name of `{node}` came with the certificate of another");
        self.refuse(None, &Refusal { code: "tls_wrong_name", message });
        false
    }

    /// The node whose certificate a connection came with.
    pub(crate) fn caller(&self, certificates: Option<&[CertificateDer<'static>]>) -> Option<NodeId> {
        let facts = tls::facts(certificates?.first()?).ok()?;
        facts.hosts.iter().find_map(|host| host.strip_suffix(HOST_SUFFIX)?.parse().ok())
    }

    /// Notes that who was let in by its certificate is not let do what it asked for.
    pub(crate) fn refuse(&self, from: Option<SocketAddr>, refusal: &Refusal) {
        let address = from.map(|from| from.ip());
        if !self.0.told.is_news(address, refusal.code) {
            return;
        }
        tracing::warn!(?address, code = refusal.code, "refused on the peer port: {}", refusal.message);
        // Nobody may listen.
        let _ = self.0.refused.send(RefusedPeer { address, code: refusal.code });
    }

    fn issuer(&self) -> MutexGuard<'_, Authority> {
        self.0.issuer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn derive(root_keys: &[&[u8; 32]]) -> Result<Vec<Authority>, TlsError> {
    if root_keys.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    root_keys.iter().map(|key| Authority::derive(key, Kind::Peer)).collect()
}

fn leaf(node: NodeId, lifetime: Duration) -> Leaf {
    let name = host_name(node);
    Leaf { hosts: vec![name.clone()], name, serves: true, calls: true, lifetime }
}

fn belongs_to(certificates: Option<&[CertificateDer<'static>]>, node: NodeId) -> bool {
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return false };
    let Ok(leaf) = webpki::EndEntityCert::try_from(leaf) else { return false };
    ServerName::try_from(host_name(node))
        .is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
}

fn host_name(node: NodeId) -> String {
    format!("{node}{HOST_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_belongs_to_one_node() {
        let tls = PeerTls::new(NodeId(1), &[&[3; 32]], Duration::from_secs(60), clock()).unwrap();
        let issued = tls.issuer().issue(&leaf(NodeId(1), Duration::from_secs(60)), &clock()).unwrap();
        let presented = [issued.certificate];
        assert!(tls.speaks_for(Some(&presented), NodeId(1)));
        assert_eq!(tls.caller(Some(&presented)), Some(NodeId(1)));
        assert_eq!((tls.caller(Some(&[])), tls.caller(None)), (None, None));
        let mut refused = tls.refusals();
        assert!(!tls.speaks_for(Some(&presented), NodeId(11)) && !tls.speaks_for(None, NodeId(1)));
        assert_eq!(refused.try_recv().unwrap().code, "tls_wrong_name");
    }

    #[test]
    fn another_root_key_gives_another_certificate_at_once() {
        let tls = PeerTls::new(NodeId(1), &[&[3; 32]], Duration::from_secs(60), clock()).unwrap();
        let before = tls.0.own.facts().serial;
        tls.set_root_keys(&[&[4; 32], &[3; 32]]).unwrap();
        assert_ne!(tls.0.own.facts().serial, before);
        assert!(tls.set_root_keys(&[]).is_err());
    }

    fn clock() -> Clock {
        Clock::new(|| Duration::from_secs(1_800_000_000))
    }
}
