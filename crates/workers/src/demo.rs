//! The demo service: a small credential-checking TCP server, so that the whole product can be seen at work without
//! any other server. It speaks lines, keeps live sessions, and knows its users by digests alone.
//!
//! ```text
//! LOGIN <user> <password>         → OK | REFUSED             then, in the session:
//! PING                            → PONG
//! QUIT                            → BYE
//! ADD <user> <digest> [<until>]   → OK                       administrator: honour one more password
//! DROP <user> <digest>            → OK                       administrator: honour it no longer
//! CUT <user> <digest>             → CUT <n>                  administrator: end the sessions it opened
//! FORGET <user>                   → OK                       administrator: honour none of the user's passwords
//! ```
//! A digest is SHA-256 in hexadecimal, and passwords are random, so no salt is needed. `<until>` is an instant in
//! milliseconds since 1970, by the service's clock. Users may not contain spaces. It is for one machine: nothing is
//! encrypted.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use model::time::Time;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use zeroize::Zeroizing;

use crate::secret::Login;

/// Longest line, in bytes.
const LINE_BYTES: u64 = 1_024;
/// Most connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// Longest time from connection to login.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);

/// What a password is known by.
pub(crate) type Digest = [u8; 32];

/// The digest of a password.
pub(crate) fn digest(password: &str) -> Digest {
    Sha256::digest(password.as_bytes()).into()
}

/// A running demo service; it ends, with all its sessions, when this is dropped.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Service {
    /// Starts to serve on `listener`. `admin` is the one user that may change others.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener, admin: &Login) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            admin: (admin.username.clone(), digest(admin.password.expose())),
            state: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Honours `login` from now on, as if the administrator had asked: for a service whose state was lost.
    pub fn honour(&self, login: &Login) {
        let honoured = Honoured { digest: digest(login.password.expose()), until: None };
        self.shared.state().users.entry(login.username.clone()).or_default().push(honoured);
    }

    /// How many sessions `user` has open.
    #[must_use]
    pub fn sessions(&self, user: &str) -> usize {
        self.shared.state().sessions.values().filter(|session| session.user == user).count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The sessions are owned by the accepting task and end with it.
        self.accepting.abort();
    }
}

#[derive(Debug)]
struct Shared {
    admin: (String, Digest),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<String, Vec<Honoured>>,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
}

#[derive(Debug)]
struct Honoured {
    digest: Digest,
    until: Option<Time>,
}

#[derive(Debug)]
struct Session {
    user: String,
    digest: Digest,
    task: Option<AbortHandle>,
}

/// A session's place in the table; given up when the connection ends, however it ends.
struct Seat {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.state().sessions.remove(&self.id);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single call on a map: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_admin(&self, user: &str, given: &Digest) -> bool {
        user == self.admin.0 && equal(&self.admin.1, given)
    }

    fn honours(&self, user: &str, given: &Digest) -> bool {
        let now = now();
        let state = self.state();
        let honoured = state.users.get(user).map(Vec::as_slice).unwrap_or_default();
        honoured.iter().any(|one| equal(&one.digest, given) && one.until.is_none_or(|until| now < until))
    }

    /// Gives a session its place in the table.
    fn seat(self: &Arc<Self>, user: &str, given: Digest) -> Seat {
        let mut state = self.state();
        let id = state.next_session;
        state.next_session += 1;
        state.sessions.insert(id, Session { user: user.to_owned(), digest: given, task: None });
        Seat { shared: Arc::clone(self), id }
    }

    fn add(&self, user: &str, digest: Digest, until: Option<Time>) {
        let mut state = self.state();
        let honoured = state.users.entry(user.to_owned()).or_default();
        honoured.retain(|one| one.digest != digest);
        honoured.push(Honoured { digest, until });
    }

    fn drop_digest(&self, user: &str, digest: &Digest) {
        if let Some(honoured) = self.state().users.get_mut(user) {
            honoured.retain(|one| one.digest != *digest);
        }
    }

    fn cut(&self, user: &str, digest: &Digest) -> usize {
        let mut state = self.state();
        let cut = state.sessions.extract_if(.., |_, one| one.user == user && one.digest == *digest);
        cut.filter_map(|(_, session)| session.task).map(|task| task.abort()).count()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A connection that breaks ends like one that is closed.
            drop(serve(stream, shared).await);
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let Ok(first) = tokio::time::timeout(LOGIN_WITHIN, line(&mut read)).await else { return Ok(()) };
    let Some(first) = first? else { return Ok(()) };
    let mut words = first.splitn(3, ' ');
    let (Some("LOGIN"), Some(user), Some(password)) = (words.next(), words.next(), words.next()) else {
        return say(&mut write, "ERROR log in first").await;
    };
    let given = digest(password);
    if shared.is_admin(user, &given) {
        say(&mut write, "OK").await?;
        return administer(&mut read, &mut write, &shared).await;
    }
    // Seated first, then checked: a password that is dropped and cut in between is either refused or cut.
    let seat = shared.seat(user, given);
    if !shared.honours(user, &given) {
        return say(&mut write, "REFUSED").await;
    }
    converse(read, write, seat).await
}

/// Runs a session in a task that can be aborted by its seat.
async fn converse(
    mut read: BufReader<tokio::net::tcp::OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    seat: Seat,
) -> io::Result<()> {
    let (shared, id) = (Arc::clone(&seat.shared), seat.id);
    let mut task = JoinSet::new();
    let handle = task.spawn(async move {
        let _seat = seat;
        say(&mut write, "OK").await?;
        while let Some(line) = line(&mut read).await? {
            match line.as_str() {
                "PING" => say(&mut write, "PONG").await?,
                "QUIT" => return say(&mut write, "BYE").await,
                _ => say(&mut write, "ERROR unknown command").await?,
            }
        }
        Ok(())
    });
    match shared.state().sessions.get_mut(&id) {
        Some(session) => session.task = Some(handle),
        // Cut before it could be reached.
        None => handle.abort(),
    }
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Ok(()),
    }
}

async fn administer(
    read: &mut (impl AsyncBufRead + Unpin),
    write: &mut OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(line) = line(read).await? {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["ADD", user, hex] => {
                parse(hex).map(|digest| shared.add(user, digest, None)).map(|()| "OK".into())
            }
            ["ADD", user, hex, until] => parse(hex)
                .zip(until.parse().ok())
                .map(|(digest, until)| shared.add(user, digest, Some(Time(until))))
                .map(|()| "OK".into()),
            ["DROP", user, hex] => {
                parse(hex).map(|digest| shared.drop_digest(user, &digest)).map(|()| "OK".into())
            }
            ["CUT", user, hex] => parse(hex).map(|digest| format!("CUT {}", shared.cut(user, &digest))),
            ["FORGET", user] => {
                shared.state().users.remove(user);
                Some("OK".into())
            }
            ["QUIT"] => return say(write, "BYE").await,
            _ => None,
        };
        say(write, &answer.unwrap_or_else(|| "ERROR unknown command".to_owned())).await?;
    }
    Ok(())
}

/// The next line without its end, or `None` at the end; a longer one than allowed ends the connection.
pub(crate) async fn line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Zeroizing<String>>> {
    let capacity = usize::try_from(LINE_BYTES).expect("a small number");
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    read.take(LINE_BYTES).read_line(&mut text).await?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.pop() != Some('\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line was cut short or is too long"));
    }
    Ok(Some(text))
}

async fn say(write: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    write.write_all(format!("{text}\n").as_bytes()).await
}

fn parse(hex: &str) -> Option<Digest> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut digest = Digest::default();
    if !rest.is_empty() || pairs.len() != digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn equal(one: &Digest, other: &Digest) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
