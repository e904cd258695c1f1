//! The client port's TLS: the certificate that it shows, whose certificates it wants, and what it issues to clients.

use std::{
    borrow::Borrow,
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{State, name::NodeId, time::Time};
use rustls::{
    ServerConfig,
    version::{TLS12, TLS13},
};
use tls::{
    Accepted, Accepting, Authority, Clock, Connections, Files, Kind, Leaf, Own, Throttle, TlsError, Trust,
    accept, server_config,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use workers::RootKey;

use crate::{
    config::{ClientTls, Config},
    consensus::Consensus,
    edge::Edge,
    gate::ANONYMOUS,
};

/// What the client port's authority is derived for.
const CLIENT_TLS: &str = "client-tls";
/// What the port speaks: gRPC, and what browsers and scrapers ask.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];
/// Longest wait before it is looked again whether the certificate is to be renewed.
const LOOK: Duration = Duration::from_secs(30);
/// The wait after a renewal failed.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// How often files are looked at.
const FILES_LOOK: Duration = Duration::from_secs(1);

/// The client port's end of TLS. Clones are the same one.
#[derive(Clone)]
pub struct ClientPort(Arc<Inner>);

struct Inner {
    leaf: Leaf,
    clock: Clock,
    authorities: Mutex<Vec<Authority>>,
    own: Own,
    files: Option<Files>,
    trust: Trust,
    connections: Connections,
    /// `None` where the port speaks plain text.
    config: Option<Arc<ServerConfig>>,
    told: Throttle,
}

impl ClientPort {
    /// The port of a node. It issues under the first root key, and believes certificates issued under any of them.
    ///
    /// # Errors
    /// [`TlsError`] when files cannot be used, or no root key is given.
    pub fn new<R: Borrow<RootKey>>(config: &Config, roots: &[R], clock: Clock) -> Result<Self, TlsError> {
        let authorities = derive(roots)?;
        let leaf = Leaf {
            name: host_name(NodeId(config.node)),
            hosts: names(config),
            serves: true,
            calls: false,
            lifetime: config.certificates.lifetime(),
        };
        let files = config
            .tls
            .as_ref()
            .map(|tls| Files { certificate: tls.cert_file.clone(), key: tls.key_file.clone() });
        let shown = match &files {
            Some(files) => files.load()?,
            None => issuer(&authorities)?.issue(&leaf, &clock)?.certified()?,
        };
        let own = Own::new(shown)?;
        let connections = Connections::default();
        let trust = Trust::new(&authorities, connections.revoked().clone())?;
        let set_up = |clients| server_config(own.clone(), clients, &clock, &[&TLS13, &TLS12], &PROTOCOLS);
        let config = match config.listen.client_tls {
            ClientTls::Mutual => Some(set_up(Some(trust.clone()))?),
            ClientTls::Server => Some(set_up(None)?),
            ClientTls::Off => None,
        };
        let config = config.map(Arc::new);
        let authorities = Mutex::new(authorities);
        let told = Throttle::default();
        Ok(Self(Arc::new(Inner { leaf, clock, authorities, own, files, trust, connections, config, told })))
    }

    /// Issues under the first of these root keys from now on, and believes certificates issued under any of them. Open
    /// connections stay.
    ///
    /// # Errors
    /// [`TlsError`]; when no key is given nothing has changed.
    pub fn set_root_keys<R: Borrow<RootKey>>(&self, roots: &[R]) -> Result<(), TlsError> {
        let authorities = derive(roots)?;
        self.0.trust.replace(&authorities)?;
        *self.authorities() = authorities;
        if self.0.files.is_none() { self.renew() } else { Ok(()) }
    }

    /// The certificates of the authorities that are believed, as text: what clients check servers against.
    #[must_use]
    pub fn authorities_pem(&self) -> String {
        self.authorities().iter().map(Authority::pem).collect()
    }

    /// What a new node is to recognise the authority by that issues; none where the port speaks plain text.
    #[must_use]
    pub fn authority_fingerprint(&self) -> Option<[u8; 32]> {
        self.0.config.as_ref()?;
        self.authorities().first().map(Authority::fingerprint)
    }

    /// Issues a certificate to a client, for the key of its request.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when the request is not signed by its own key.
    pub fn sign(
        &self,
        request: &str,
        name: &str,
        serial: &[u8],
        lifetime: Duration,
    ) -> Result<String, TlsError> {
        let leaf = Leaf { name: name.to_owned(), hosts: Vec::new(), serves: false, calls: true, lifetime };
        issuer(&self.authorities())?.sign(request, &leaf, serial, &self.0.clock)
    }

    /// When the certificate that is shown ends; `None` where the port speaks plain text.
    #[must_use]
    pub fn expires(&self) -> Option<Time> {
        let end = Time(u64::try_from(self.0.own.facts().not_after.as_millis()).unwrap_or(u64::MAX));
        self.0.config.as_ref().map(|_| end)
    }

    /// The connections that come in; `None` where the port speaks plain text, and the listener is given back.
    pub(crate) fn incoming(
        &self,
        listener: TcpListener,
        edge: Arc<Edge>,
        shutdown: CancellationToken,
    ) -> Result<ReceiverStream<std::io::Result<Accepted>>, TcpListener> {
        let Some(config) = &self.0.config else { return Err(listener) };
        let port = self.clone();
        let accepting = Accepting {
            config: Arc::clone(config),
            connections: self.0.connections.clone(),
            refused: Arc::new(move |from: SocketAddr, refusal| {
                if port.0.told.is_news(Some(from.ip()), refusal.code) {
                    tracing::warn!(from = %from.ip(), code = refusal.code, "refused on the client port: {}", refusal.message);
                    edge.refusals.note(
                        ANONYMOUS,
                        "client.connect",
                        &format!("address/{}", from.ip()),
                        refusal.code,
                    );
                }
            }),
            shutdown,
        };
        Ok(accept(listener, accepting))
    }

    /// Keeps the certificate fresh until `shutdown`: renews it, or shows files that were written anew.
    pub(crate) async fn keep_fresh(self, shutdown: CancellationToken) {
        match self.0.files.clone() {
            Some(files) => self.keep_loaded(files, shutdown).await,
            None => self.keep_renewed(shutdown).await,
        }
    }

    async fn keep_renewed(self, shutdown: CancellationToken) {
        loop {
            let wait = self.0.own.renew_in(self.0.clock.now());
            let wait = if wait.is_zero() {
                match self.renew() {
                    Ok(()) => {
                        tracing::info!(
                            serial = self.0.own.facts().serial,
                            "the certificate of the client port was renewed"
                        );
                        Duration::ZERO
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "the certificate of the client port cannot be renewed");
                        RENEW_AGAIN
                    }
                }
            } else {
                wait.min(LOOK)
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn keep_loaded(self, files: Files, shutdown: CancellationToken) {
        let mut seen = files.stamp().ok();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(FILES_LOOK) => {}
            }
            let stamp = files.stamp().ok();
            if stamp == seen || stamp.is_none() {
                continue;
            }
            seen = stamp;
            match files.load().and_then(|pair| self.0.own.replace(pair)) {
                Ok(()) => {
                    tracing::info!(
                        serial = self.0.own.facts().serial,
                        "the certificate of the client port was loaded anew"
                    );
                }
                // They may be half written: they are looked at again when they change.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "the new certificate files cannot be used; those before are shown on"
                    );
                }
            }
        }
    }

    fn renew(&self) -> Result<(), TlsError> {
        let issued = issuer(&self.authorities())?.issue(&self.0.leaf, &self.0.clock)?;
        self.0.own.replace(issued.certified()?)
    }

    /// Shuts out whose certificates `state` says are revoked, and cuts their connections.
    pub(crate) fn heed(&self, state: &State) {
        let serials: BTreeSet<String> = state.revoked_serials().map(ToString::to_string).collect();
        let cut = self.0.connections.revoke(serials, BTreeSet::new());
        if cut > 0 {
            tracing::warn!(connections = cut, "connections with a revoked certificate were cut");
        }
    }

    /// Does so whenever the state says something new, and cuts who is there with a certificate that is over, until
    /// `shutdown`.
    pub(crate) async fn keep_heeding(self, consensus: Arc<dyn Consensus>, shutdown: CancellationToken) {
        let mark = || consensus.local().certificates().digest();
        let heed = || self.heed(&consensus.local());
        self.0.connections.keep_good(&self.0.clock, consensus.watch(), mark, heed, shutdown).await;
    }

    fn authorities(&self) -> MutexGuard<'_, Vec<Authority>> {
        self.0.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authority of the client port under a root key.
pub(crate) fn authority(root: &workers::RootKey) -> Result<Authority, TlsError> {
    Authority::derive(&root.derive(CLIENT_TLS), Kind::Client)
}

fn derive<R: Borrow<RootKey>>(roots: &[R]) -> Result<Vec<Authority>, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    roots.iter().map(|root| authority(root.borrow())).collect()
}

fn issuer(authorities: &[Authority]) -> Result<&Authority, TlsError> {
    authorities.first().ok_or(TlsError::NoAuthority)
}

/// The name that the certificate of a node carries on its client port, beside its addresses.
pub(crate) fn host_name(node: NodeId) -> String {
    format!("{node}.client.revolve")
}

/// The names and addresses that clients may call this node by.
fn names(config: &Config) -> Vec<String> {
    let mut names = BTreeSet::from([host_name(NodeId(config.node))]);
    let ip = config.listen.client.ip();
    if !ip.is_unspecified() {
        names.insert(ip.to_string());
    }
    // A new node may know the name alone by which the nodes know each other.
    let told = [&config.listen.advertise, &config.listen.advertise_peer].into_iter().flatten();
    let told = told.chain(config.peers.get(&config.node.to_string()));
    let hosts = told.filter_map(|address| address.rsplit_once(':'));
    names.extend(hosts.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()));
    let is_near = |name: &String| name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if names.iter().any(is_near) {
        names.insert("localhost".to_owned());
    }
    names.extend(config.certificates.names.iter().cloned());
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use workers::RootKey;

    use super::*;

    fn config(more: &str) -> Config {
        let text = format!(
            "node = 1\ndata = \"d\"\n[listen]\nclient = \"127.0.0.1:7800\"\npeer = \"127.0.0.1:7801\"\n\
             advertise = \"db.example.org:7800\"\n[peers]\n1 = \"127.0.0.1:7801\"\n{more}"
        );
        toml::from_str(&text).unwrap()
    }

    fn clock() -> Clock {
        Clock::new(|| Duration::from_secs(1_800_000_000))
    }

    #[test]
    fn a_node_is_called_by_all_its_names() {
        let named = names(&config("[certificates]\nnames = [\"lb.example.org\"]"));
        let expected =
            ["127.0.0.1", "db.example.org", "lb.example.org", "localhost", "node-1.client.revolve"];
        assert_eq!(named, expected);
    }

    #[test]
    fn another_root_key_is_shown_at_once_and_both_are_handed_out() {
        let (old, new) = (RootKey::generate(), RootKey::generate());
        let port = ClientPort::new(&config(""), &[&old], clock()).unwrap();
        let before = port.0.own.facts().serial;
        port.set_root_keys(&[&new, &old]).unwrap();
        assert_ne!(port.0.own.facts().serial, before);
        assert_eq!(port.authorities_pem().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(port.set_root_keys::<RootKey>(&[]).is_err());
    }
}
