//! Certificates as an attacker, or a test, would make them: of the cluster's own authorities, whose root key lies in its
//! folder, or of others; and connections that show them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tls::{
    Authority, Clock, Connections, Facts, Issued, Kind, Leaf, Own, Revoked, Trust, client_config, facts,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use workers::RootKey;

/// Longest time for the other side to make up its mind.
const WITHIN: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The beginning of HTTP/2: the client's preface, and a SETTINGS frame without settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Both authorities of a cluster, or of an impostor.
#[derive(Debug)]
pub struct Authorities {
    peer: Authority,
    client: Authority,
}

impl Authorities {
    /// Those of the cluster in `folder`.
    ///
    /// # Panics
    ///
    /// When it has no root key.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self::under(&RootKey::read_from(&folder.join("root.key")).expect("the root key of the cluster"))
    }

    /// Those of someone who has made up a root key.
    #[must_use]
    pub fn false_ones() -> Self {
        Self::under(&RootKey::generate())
    }

    fn under(root: &RootKey) -> Self {
        let derive = |purpose, kind| Authority::derive(&root.derive(purpose), kind).expect("an authority");
        Self { peer: derive("peer-tls", Kind::Peer), client: derive("client-tls", Kind::Client) }
    }

    /// The authority of a port.
    #[must_use]
    pub const fn at(&self, kind: Kind) -> &Authority {
        match kind {
            Kind::Peer => &self.peer,
            Kind::Client => &self.client,
        }
    }

    /// A certificate of a node, as it would issue itself.
    #[must_use]
    pub fn node(&self, id: u64) -> Issued {
        self.issue(Kind::Peer, &format!("node-{id}.peer.revolve"), now)
    }

    /// A certificate of a client.
    #[must_use]
    pub fn client(&self, name: &str) -> Issued {
        self.issue(Kind::Client, name, now)
    }

    /// The same, issued at another time; each is good for a day.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn issue(&self, kind: Kind, name: &str, at: impl Fn() -> Duration + Send + Sync + 'static) -> Issued {
        let leaf =
            Leaf { name: name.into(), hosts: vec![name.into()], serves: true, calls: true, lifetime: DAY };
        self.at(kind).issue(&leaf, &Clock::new(at)).expect("a certificate")
    }

    /// Writes `ca.pem`, and a client's certificate as `NAME.pem` and `NAME.key`, into a folder.
    ///
    /// # Panics
    ///
    /// When they cannot be written.
    pub fn write_client(&self, name: &str, folder: &Path) {
        let own = self.client(name);
        let key = folder.join(format!("{name}.key"));
        fs::write(folder.join("ca.pem"), self.client.pem()).expect("a file of ours");
        fs::write(folder.join(format!("{name}.pem")), &own.pem).expect("a file of ours");
        fs::write(&key, own.key_pem.as_bytes()).expect("a file of ours");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    }

    /// Opens a connection that shows `own` to a port, where `name` must answer, and waits until it is clear whether it is
    /// taken: what the server's certificate says, or why not.
    ///
    /// # Errors
    /// Why it was not taken, by either side.
    ///
    /// # Panics
    ///
    /// When nothing is heard for long.
    pub async fn call(
        &self,
        kind: Kind,
        address: SocketAddr,
        name: &str,
        own: &Issued,
    ) -> Result<Facts, String> {
        tokio::time::timeout(WITHIN, self.try_call(kind, address, name, own))
            .await
            .expect("the connection is taken or refused")
    }

    /// Opens a connection as [`Authorities::call`] does, and keeps it open, saying nothing, until the other side ends it.
    ///
    /// # Panics
    ///
    /// When it is not taken.
    pub async fn hold(&self, kind: Kind, address: SocketAddr, name: &str, own: &Issued) {
        let mut stream = self.open(kind, address, name, own).await.expect("the connection is taken");
        let mut heard = [0; 1_024];
        // An error is an end as well.
        while stream.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
    }

    async fn try_call(
        &self,
        kind: Kind,
        address: SocketAddr,
        name: &str,
        own: &Issued,
    ) -> Result<Facts, String> {
        let stream = self.open(kind, address, name, own).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        facts(&certificate.expect("the certificate of the server")).map_err(|error| error.to_string())
    }

    async fn open(
        &self,
        kind: Kind,
        address: SocketAddr,
        name: &str,
        own: &Issued,
    ) -> Result<TlsStream<TcpStream>, String> {
        let told = |error: std::io::Error| error.to_string();
        let own = Own::new(own.certified().expect("a pair")).expect("a certificate");
        let trust =
            Trust::new(std::slice::from_ref(self.at(kind)), Revoked::default()).expect("an authority");
        let config =
            client_config(own, trust, &Clock::new(now), &[&TLS13], &["h2"]).expect("a configuration");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let stream = TcpStream::connect(address).await.map_err(told)?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(told)?;
        stream.write_all(HELLO).await.map_err(told)?;
        stream.flush().await.map_err(told)?;
        // Only now the server says what it thinks of the certificate.
        stream.read_u8().await.map_err(told)?;
        Ok(stream)
    }
}

/// Speaks plain text to a port, and gives what it answers.
///
/// # Panics
///
/// When nobody listens, or the connection stays open.
pub async fn speak_plainly(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a port that is listened on");
    stream.write_all(HELLO).await.expect("a connection");
    let mut answer = Vec::new();
    // A reset is an end as well.
    let read = tokio::time::timeout(WITHIN, stream.read_to_end(&mut answer)).await;
    drop(read.expect("the connection is closed"));
    answer
}

/// The time by the clock of this machine.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What opens connections to the peer port of `node` with a certificate of one's choice.
///
/// # Panics
///
/// When the certificate cannot be used.
#[must_use]
pub fn connector(authorities: &Authorities, node: u64, own: &Issued) -> tls::Connector {
    let own = Own::new(own.certified().expect("a pair")).expect("a certificate");
    let trust = Trust::new(std::slice::from_ref(authorities.at(Kind::Peer)), Revoked::default())
        .expect("an authority");
    let config = client_config(own, trust, &Clock::new(now), &[&TLS13], &["h2"]).expect("a configuration");
    let name = ServerName::try_from(format!("node-{node}.peer.revolve")).expect("a name");
    tls::Connector::new(Arc::new(config), name, Connections::default())
}
