//! Both ends against each other, in one process and over loopback.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::ClientCertVerifier as _,
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    Accepting, Authority, Clock, Connections, Files, Issued, Kind, Leaf, Own, Refusal, Revoked, Trust,
    accept, facts, server_config,
};

const NOW: u64 = 1_800_000_000;
const LIFETIME: Duration = Duration::from_secs(3_600);
const WITHIN: Duration = Duration::from_secs(60);

fn clock() -> (Arc<AtomicU64>, Clock) {
    let seconds = Arc::new(AtomicU64::new(NOW));
    let read = Arc::clone(&seconds);
    (seconds, Clock::new(move || Duration::from_secs(read.load(Ordering::SeqCst))))
}

fn authority(root: u8) -> Authority {
    Authority::derive(&[root; 32], Kind::Peer).unwrap()
}

fn leaf(host: &str) -> Leaf {
    Leaf { name: host.into(), hosts: vec![host.into()], serves: true, calls: true, lifetime: LIFETIME }
}

fn issue(root: u8, host: &str) -> Issued {
    authority(root).issue(&leaf(host), &clock().1).unwrap()
}

fn refused(trust: &Trust, certificate: &CertificateDer<'_>, at: u64) -> Option<String> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    trust.verify_client_cert(certificate, &[], at).err().map(|error| format!("{error:?}"))
}

#[test]
fn only_who_has_a_certificate_of_an_authority_whose_time_it_is_is_believed() {
    let connections = Connections::default();
    let trust = Trust::new(&[authority(1)], connections.revoked().clone()).unwrap();
    let certificate = issue(1, "a").certificate;
    assert_eq!(refused(&trust, &certificate, NOW), None);
    for (given, at, why) in [
        (&certificate, NOW + 3_601, "Expired"),
        (&certificate, NOW - 301, "NotValidYet"),
        (&issue(2, "a").certificate, NOW, "BadSignature"),
    ] {
        let found = refused(&trust, given, at).unwrap();
        assert!(found.contains(why), "{found}");
    }
    let server_only = authority(1).issue(&Leaf { calls: false, ..leaf("a") }, &clock().1).unwrap();
    assert!(refused(&trust, &server_only.certificate, NOW).unwrap().contains("InvalidPurpose"));
    let other_port =
        Authority::derive(&[1; 32], Kind::Client).unwrap().issue(&leaf("a"), &clock().1).unwrap();
    assert!(refused(&trust, &other_port.certificate, NOW).unwrap().contains("UnknownIssuer"));
}

#[test]
fn who_is_revoked_by_serial_or_by_name_is_not_believed() {
    let connections = Connections::default();
    let trust = Trust::new(&[authority(1)], connections.revoked().clone()).unwrap();
    let (one, other) = (issue(1, "a").certificate, issue(1, "a").certificate);
    connections.revoke([facts(&one).unwrap().serial].into(), BTreeSet::new());
    assert!(refused(&trust, &one, NOW).unwrap().contains("Revoked"));
    assert_eq!(refused(&trust, &other, NOW), None);
    connections.revoke(BTreeSet::new(), ["a".to_owned()].into());
    assert!(refused(&trust, &other, NOW).unwrap().contains("Revoked"));
    assert_eq!(refused(&trust, &issue(1, "b").certificate, NOW), None);
    assert!(
        connections.revoked().covers(&CertificateDer::from(b"no certificate".to_vec())),
        "in doubt, it is"
    );
}

#[test]
fn while_root_keys_change_the_certificates_of_both_are_believed() {
    let trust = Trust::new(&[authority(1)], Revoked::default()).unwrap();
    let (old, new) = (issue(1, "a").certificate, issue(2, "a").certificate);
    trust.replace(&[authority(2), authority(1)]).unwrap();
    assert_eq!((refused(&trust, &old, NOW), refused(&trust, &new, NOW)), (None, None));
    trust.replace(&[authority(2)]).unwrap();
    assert!(refused(&trust, &old, NOW).is_some() && refused(&trust, &new, NOW).is_none());
    assert!(trust.replace(&[]).is_err());
    assert_eq!(refused(&trust, &new, NOW), None, "nothing was changed");
}

#[test]
fn a_certificate_is_renewed_when_a_third_is_left_or_its_time_is_not_now() {
    let own = Own::new(issue(1, "a").certified().unwrap()).unwrap();
    let at = Duration::from_secs;
    assert_eq!(own.renew_in(at(NOW)), at(2_300), "of 3,900 s, which begin 300 s back");
    assert_eq!(own.renew_in(at(NOW + 2_300)), Duration::ZERO);
    assert_eq!(own.renew_in(at(NOW - 301)), Duration::ZERO);
    let before = own.facts().serial;
    own.replace(issue(1, "a").certified().unwrap()).unwrap();
    assert_ne!(own.facts().serial, before);
}

#[test]
fn files_are_used_when_certificate_and_key_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
    assert!(files.load().is_err() && files.stamp().is_err());
    let (one, other) = (issue(1, "a"), issue(1, "a"));
    std::fs::write(&files.certificate, &one.pem).unwrap();
    std::fs::write(&files.key, other.key_pem.as_bytes()).unwrap();
    assert!(files.load().is_err());
    let before = files.stamp().unwrap();
    std::fs::write(&files.key, one.key_pem.as_bytes()).unwrap();
    files.load().unwrap();
    assert_ne!(files.stamp().unwrap(), before);
    std::fs::write(&files.key, "no key").unwrap();
    let problem = files.load().unwrap_err().to_string();
    assert!(problem.contains("no private key"), "{problem}");
}

/// A port that gives back one byte for one byte.
struct Port {
    address: SocketAddr,
    connections: Connections,
    refused: Arc<Mutex<Vec<Refusal>>>,
    clock: Arc<AtomicU64>,
    _end: tokio_util::sync::DropGuard,
}

impl Port {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::default();
        let (clock, time) = clock();
        let own = Own::new(issue(1, "server").certified().unwrap()).unwrap();
        let trust = Trust::new(&[authority(1)], connections.revoked().clone()).unwrap();
        let config = Arc::new(server_config(own, Some(trust), &time, &[&TLS13], &["h2"]).unwrap());
        let refused = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&refused);
        let shutdown = CancellationToken::new();
        let accepting = Accepting {
            config,
            connections: connections.clone(),
            refused: Arc::new(move |_, refusal| noted.lock().unwrap().push(refusal.clone())),
            shutdown: shutdown.clone(),
        };
        let mut incoming = accept(listener, accepting);
        tokio::spawn(async move {
            while let Some(Ok(mut connection)) = incoming.next().await {
                tokio::spawn(async move {
                    while let Ok(byte) = connection.read_u8().await {
                        if connection.write_u8(byte).await.is_err() || connection.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections, refused, clock, _end: shutdown.drop_guard() }
    }

    /// Connects with a certificate, or without one.
    async fn call(&self, own: Option<Issued>) -> Option<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(authority(1).certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(clock().1));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match own {
            Some(issued) => {
                let own = Own::new(issued.certified().unwrap()).unwrap();
                builder.with_client_cert_resolver(Arc::new(own))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = config;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("server").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        echoes(&mut stream).await.then_some(stream)
    }

    /// Waits until someone was refused for this.
    async fn refused_for(&self, code: &str) {
        let wait = async {
            while !self.refused.lock().unwrap().iter().any(|refusal| refusal.code == code) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN, wait)
            .await
            .unwrap_or_else(|_| panic!("{code}: {:?}", self.refused.lock().unwrap()));
    }
}

async fn echoes(stream: &mut TlsStream<TcpStream>) -> bool {
    let exchange = async {
        stream.write_u8(7).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    tokio::time::timeout(WITHIN, exchange).await.is_ok_and(|byte| byte.is_ok())
}

#[tokio::test]
async fn a_port_lets_in_whom_it_believes_and_tells_why_others_stay_out() {
    let port = Port::open().await;
    assert!(port.call(Some(issue(1, "a"))).await.is_some());
    assert!(port.call(None).await.is_none());
    port.refused_for("tls_no_certificate").await;
    assert!(port.call(Some(issue(2, "a"))).await.is_none());
    port.refused_for("tls_unknown_authority").await;
    let mut plain = TcpStream::connect(port.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An error ends it as well.
    drop(plain.read_to_end(&mut answer).await);
    assert!(answer.is_empty() || answer[0] == 21, "at most an alert: {answer:?}");
    port.refused_for("tls_plaintext").await;
    port.clock.store(NOW + 3_601, Ordering::SeqCst);
    assert!(port.call(Some(issue(1, "a"))).await.is_none());
    port.refused_for("tls_expired").await;
}

#[tokio::test]
async fn connections_of_who_is_revoked_are_cut_and_no_others() {
    let port = Port::open().await;
    let (mut good, mut bad) =
        (port.call(Some(issue(1, "a"))).await.unwrap(), port.call(Some(issue(1, "b"))).await.unwrap());
    assert_eq!(port.connections.count(), 2);
    assert_eq!(port.connections.revoke(BTreeSet::new(), ["b".to_owned()].into()), 1);
    let gone = tokio::time::timeout(WITHIN, bad.read_u8()).await.expect("it is cut");
    assert!(gone.is_err());
    assert!(echoes(&mut good).await);
    assert!(port.call(Some(issue(1, "b"))).await.is_none());
    port.refused_for("tls_revoked").await;
}

#[tokio::test]
async fn connections_are_cut_when_their_certificate_is_over_and_no_others() {
    let port = Port::open().await;
    let brief = |host| {
        let leaf = Leaf { lifetime: Duration::from_secs(1), ..leaf(host) };
        authority(1).issue(&leaf, &clock().1).unwrap()
    };
    let seconds = Arc::clone(&port.clock);
    let time = Clock::new(move || Duration::from_secs(seconds.load(Ordering::SeqCst)));
    let (heard, shutdown) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let (changes, connections) = (watch::Sender::new(0), port.connections.clone());
    let (receiver, end, heeds, source) =
        (changes.subscribe(), shutdown.clone(), Arc::clone(&heard), changes.clone());
    let keeping = tokio::spawn(async move {
        let heed = || {
            heeds.fetch_add(1, Ordering::SeqCst);
        };
        connections.keep_good(&time, receiver, || *source.borrow() / 10, heed, end).await;
    });

    let mut good = port.call(Some(issue(1, "a"))).await.unwrap();
    let mut over = port.call(Some(brief("b"))).await.unwrap();
    port.clock.store(NOW + 1, Ordering::SeqCst);
    assert!(echoes(&mut over).await, "in its last second it is good");
    port.clock.store(NOW + 2, Ordering::SeqCst);
    let gone = tokio::time::timeout(WITHIN, over.read_u8()).await.expect("it is cut");
    assert!(gone.is_err());
    assert!(echoes(&mut good).await);
    assert!(port.call(Some(brief("b"))).await.is_none());
    port.refused_for("tls_expired").await;

    // Beside that, what is revoked is heeded when it is another, and not whenever something happens.
    for (said, heeded) in [(1, 1), (10, 2), (11, 2), (20, 3)] {
        changes.send_replace(said);
        let wait = async {
            while heard.load(Ordering::SeqCst) < heeded {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN, wait).await.unwrap();
        assert_eq!(heard.load(Ordering::SeqCst), heeded);
    }
    shutdown.cancel();
    tokio::time::timeout(WITHIN, keeping).await.expect("it ends").unwrap();
}
