//! Accepts connections and lets them through once their handshake is done. Handshakes are bounded in number and in time,
//! so that who connects and says nothing keeps nobody out for long.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{Connections, Cut, Refusal, refusal};

/// Handshakes under way at a time.
const HANDSHAKES: usize = 256;
/// A connection that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long, and for how many reads, a refused connection is listened to.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_READS: usize = 64;
/// Connections that wait to be served.
const WAITING: usize = 64;
/// The wait after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A connection that was let in.
pub type Accepted = Cut<TlsStream<TcpStream>>;

/// Is told of everyone who was not let in.
pub type OnRefused = Arc<dyn Fn(SocketAddr, &Refusal) + Send + Sync>;

/// How connections are accepted.
pub struct Accepting {
    /// The port's end of TLS.
    pub config: Arc<ServerConfig>,
    /// Where open connections are kept.
    pub connections: Connections,
    /// Told of everyone who was not let in.
    pub refused: OnRefused,
    /// The end.
    pub shutdown: CancellationToken,
}

/// The connections that come in on `listener`, until the end.
#[must_use]
pub fn accept(listener: TcpListener, accepting: Accepting) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(run(listener, accepting, sender));
    ReceiverStream::new(receiver)
}

async fn run(listener: TcpListener, accepting: Accepting, sender: mpsc::Sender<io::Result<Accepted>>) {
    let Accepting { config, connections, refused, shutdown } = accepting;
    let acceptor = TlsAcceptor::from(config);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let permit = Arc::clone(&handshakes).acquire_owned().await.expect("it is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => return,
            () = sender.closed() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                let handshake = Handshake {
                    acceptor: acceptor.clone(),
                    connections: connections.clone(),
                    refused: Arc::clone(&refused),
                    permit,
                };
                tokio::spawn(handshake.shake(stream, from, sender.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

struct Handshake {
    acceptor: TlsAcceptor,
    connections: Connections,
    refused: OnRefused,
    permit: OwnedSemaphorePermit,
}

impl Handshake {
    async fn shake(self, stream: TcpStream, from: SocketAddr, sender: mpsc::Sender<io::Result<Accepted>>) {
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%from, %error, "the connection is gone already");
        }
        let handshake = self.acceptor.accept(stream).into_fallible();
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => {
                let party = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
                let kept = self.connections.keep(stream, party);
                drop(self.permit);
                // When nobody takes it the port is closing.
                drop(sender.send(Ok(kept)).await);
            }
            Ok(Err((error, stream))) => {
                match refusal(&error) {
                    Some(refusal) => (self.refused)(from, &refusal),
                    None => tracing::debug!(%from, %error, "a handshake was broken off"),
                }
                part(stream).await;
            }
            Err(_) => tracing::debug!(%from, "a handshake took too long"),
        }
    }
}

/// Closes a connection that was refused. The other side may be sending already, and would lose the alert that says why if
/// the connection were reset for that: what it sends is read, and thrown away.
async fn part(mut stream: TcpStream) {
    let mut rest = [0; 1_024];
    let parting = async {
        stream.shutdown().await?;
        for _ in 0..PARTING_READS {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // It is closed in any case.
    drop(tokio::time::timeout(PARTING, parting).await);
}
