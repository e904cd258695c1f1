//! A TCP proxy inside the test, between a client and a server, that can break the network at a chosen moment.

mod commit;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use commit::Commit;

const BUFFER_BYTES: usize = 16 * 1024;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    Refuse,
    Blackhole,
    HoldRequests,
    HoldReplies,
}

impl Mode {
    /// This direction held as well.
    fn and_holds(self, other: Self) -> Self {
        match self {
            Self::Pass | Self::Refuse => other,
            Self::Blackhole | Self::HoldRequests | Self::HoldReplies if self == other => self,
            Self::Blackhole | Self::HoldRequests | Self::HoldReplies => Self::Blackhole,
        }
    }

    /// Whether it keeps back what `way` carries.
    fn holds(self, way: Way) -> bool {
        match self {
            Self::Pass | Self::Refuse => false,
            Self::Blackhole => true,
            Self::HoldRequests => way != Way::Replies,
            Self::HoldReplies => way != Way::Requests,
        }
    }
}

/// What goes one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A connection being made, which takes packets in both directions.
    Connect,
    Requests,
    Replies,
}

/// Which part of the server's answer the client never gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// PostgreSQL's answer that says the transaction with the request in it has committed: of a single statement
    /// its own answer, inside a transaction the answer to COMMIT. Answers before it pass, and so does everything
    /// when the transaction fails or is rolled back. Needs a connection without TLS, and a client that waits for
    /// the answer to one request before it sends the next.
    Committed,
    /// Everything, until the server has sent this many bytes of it.
    Bytes(usize),
}

/// A proxy on a loopback port. Dropping it cuts all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: AbortHandle,
}

impl Proxy {
    /// Starts a proxy before `server`; it passes everything.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on the loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            server,
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            trap: Mutex::new(None),
            lost: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let acceptor = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, acceptor }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Proxy::address`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Forwards everything again, also what waited in a black hole.
    pub fn pass(&self) {
        self.shared.mode.send_replace(Mode::Pass);
    }

    /// Closes every new connection at once; open ones go on.
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refuse);
    }

    /// Takes connections and bytes, and moves none of them in either direction, as a network partition does. What
    /// was sent meanwhile arrives after [`Proxy::pass`].
    pub fn blackhole(&self) {
        self.shared.mode.send_replace(Mode::Blackhole);
    }

    /// Moves no more bytes from clients to the server, and makes no new connections, which takes packets both ways;
    /// bytes from the server go on, unless they are held too. What was sent meanwhile arrives after [`Proxy::pass`].
    pub fn hold_requests(&self) {
        self.shared.mode.send_modify(|mode| *mode = mode.and_holds(Mode::HoldRequests));
    }

    /// The other direction of [`Proxy::hold_requests`].
    pub fn hold_replies(&self) {
        self.shared.mode.send_modify(|mode| *mode = mode.and_holds(Mode::HoldReplies));
    }

    /// Cuts every open connection, on both sides; new ones are treated as before.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Sets a trap, once: the next request from a client with `pattern` in its bytes reaches the server and is
    /// executed, `reply` never reaches the client, and then both sides are cut. A trap that is set already is
    /// replaced.
    ///
    /// # Panics
    ///
    /// When `pattern` is empty.
    pub fn lose_reply(&self, pattern: impl AsRef<[u8]>, reply: Reply) {
        let pattern = pattern.as_ref().to_vec();
        assert!(!pattern.is_empty(), "an empty pattern is in every request");
        *self.shared.trap() = Some(Trap { pattern, reply });
    }

    /// How many replies have been lost so far: how often a trap has cut a connection.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// How many connections have been accepted so far, refused ones included.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut_all();
    }
}

#[derive(Debug)]
struct Trap {
    pattern: Vec<u8>,
    reply: Reply,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Counts up; every connection ends when it changes.
    cuts: watch::Sender<u64>,
    trap: Mutex<Option<Trap>>,
    lost: AtomicUsize,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `way` is open.
    async fn passable(&self, way: Way) {
        let mut mode = self.mode.subscribe();
        // The sender lives in `self`, so the wait can only end well.
        drop(mode.wait_for(|mode| !mode.holds(way)).await);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if *shared.mode.borrow() != Mode::Refuse {
            let cuts = shared.cuts.subscribe();
            tokio::spawn(carry(client, shared.clone(), cuts));
        }
    }
}

/// One connection, until either side has closed it or it is cut.
async fn carry(client: TcpStream, shared: Arc<Shared>, mut cuts: watch::Receiver<u64>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    tokio::select! {
        _cut = cuts.changed() => {}
        _ended = converse(client, &shared) => {}
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn converse(client: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.passable(Way::Connect).await;
    let server = TcpStream::connect(shared.server).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let sprung = Mutex::new(None);
    tokio::try_join!(
        requests(from_client, to_server, shared, &sprung),
        replies(from_server, to_client, shared, &sprung)
    )?;
    Ok(())
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    sprung: &Mutex<Option<Loss>>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut earlier = Vec::new();
    loop {
        let count = client.read(&mut buffer).await?;
        shared.passable(Way::Requests).await;
        if count == 0 {
            return server.shutdown().await;
        }
        // Before the request goes on, so that its answer cannot slip through.
        let loss = spring(&mut shared.trap(), &mut earlier, &buffer[..count]);
        if loss.is_some() {
            *sprung.lock().unwrap_or_else(PoisonError::into_inner) = loss;
        }
        server.write_all(&buffer[..count]).await?;
    }
}

/// Takes the trap when its pattern ends in `sent`. It may have begun in an earlier read: `earlier` keeps what was
/// sent since the trap was set, as far as a pattern can reach back, and nothing from before.
fn spring(trap: &mut Option<Trap>, earlier: &mut Vec<u8>, sent: &[u8]) -> Option<Loss> {
    let Some(Trap { pattern, reply }) = trap else {
        earlier.clear();
        return None;
    };
    earlier.extend_from_slice(sent);
    if memmem::find(earlier, pattern).is_none() {
        earlier.drain(..earlier.len().saturating_sub(pattern.len() - 1));
        return None;
    }
    let reply = *reply;
    *trap = None;
    earlier.clear();
    Some(match reply {
        Reply::Committed => Loss::Commit(Commit::default()),
        Reply::Bytes(left) => Loss::Bytes { left },
    })
}

async fn replies(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    sprung: &Mutex<Option<Loss>>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = server.read(&mut buffer).await?;
        shared.passable(Way::Replies).await;
        if count == 0 {
            return client.shutdown().await;
        }
        let verdict = match &mut *sprung.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(loss) => loss.take(&buffer[..count]),
            None => Verdict::Forward(buffer[..count].to_vec()),
        };
        match verdict {
            Verdict::Forward(bytes) => client.write_all(&bytes).await?,
            Verdict::Cut => {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

/// A sprung trap, deciding over the server's answer as it comes in.
#[derive(Debug)]
enum Loss {
    Commit(Commit),
    Bytes { left: usize },
}

/// What becomes of bytes from the server.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Forward(Vec<u8>),
    Cut,
}

impl Loss {
    fn take(&mut self, bytes: &[u8]) -> Verdict {
        match self {
            Self::Commit(commit) => commit.take(bytes),
            Self::Bytes { left } => {
                *left = left.saturating_sub(bytes.len());
                if *left == 0 { Verdict::Cut } else { Verdict::Forward(Vec::new()) }
            }
        }
    }
}
