//! The open connections of one port, each with the certificate of the other side, so that those of a revoked party are
//! cut at once, and every other when its certificate is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, watch},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{Clock, Revoked, facts};

/// Longest wait before it is looked again whose certificate is over: the time that is believed may change.
const LOOK: Duration = Duration::from_secs(30);
/// The pause between two looks at who is revoked: where changes follow each other, one look is enough for many.
const HEED_AFTER: Duration = Duration::from_millis(20);
/// A certificate is good until the end of its last second.
const SECOND: Duration = Duration::from_secs(1);

/// The open connections of a port. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    revoked: Revoked,
    open: Mutex<Open>,
    /// Says that a connection has come whose end was not waited for.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    parties: BTreeMap<u64, Party>,
    /// Until when it is waited to look again, since the Unix epoch.
    look: Option<Duration>,
}

/// The other side of a connection.
#[derive(Debug)]
struct Party {
    certificate: CertificateDer<'static>,
    /// The last second in which the certificate is good, since the Unix epoch.
    not_after: Duration,
    end: CancellationToken,
}

impl Connections {
    /// What is revoked at this port.
    #[must_use]
    pub fn revoked(&self) -> &Revoked {
        &self.0.revoked
    }

    /// From now on these are revoked, and no others: serials in hexadecimal, and host names whose every certificate is.
    /// Connections of the revoked are cut; how many is returned.
    pub fn revoke(&self, serials: BTreeSet<String>, hosts: BTreeSet<String>) -> usize {
        self.0.revoked.set(serials, hosts);
        let open = self.open();
        let cut = open.parties.values().filter(|party| self.0.revoked.covers(&party.certificate));
        cut.map(|party| party.end.cancel()).count()
    }

    /// Keeps the open connections to those whose certificates are good, until `shutdown`. `heed` takes over who is
    /// revoked: at first, and whenever `changes` has woken and `mark` is another one. By `clock` it is told whose
    /// certificate is over.
    pub async fn keep_good<T, Mark: PartialEq>(
        &self,
        clock: &Clock,
        changes: watch::Receiver<T>,
        mark: impl Fn() -> Mark,
        heed: impl Fn(),
        shutdown: CancellationToken,
    ) {
        let ending = async {
            tokio::join!(heed_changes(changes, mark, heed), self.cut_when_over(clock));
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = ending => {}
        }
    }

    /// Cuts each connection when its certificate is over. It never ends.
    async fn cut_when_over(&self, clock: &Clock) {
        loop {
            let now = clock.now();
            let (cut, wait) = self.cut_over(now);
            if cut > 0 {
                tracing::info!(connections = cut, "connections whose certificate is over were cut");
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.sooner.notified() => {}
            }
        }
    }

    /// Cuts the connections whose certificate is over, and says how many and when to look again.
    fn cut_over(&self, now: Duration) -> (usize, Duration) {
        let mut open = self.open();
        let over = open.parties.values().filter(|party| party.is_over(now) && !party.end.is_cancelled());
        let cut = over.map(|party| party.end.cancel()).count();
        let good = open.parties.values().filter(|party| !party.is_over(now));
        let next = good.map(|party| party.not_after.saturating_add(SECOND)).min();
        let wait = next.map_or(LOOK, |next| next.saturating_sub(now).min(LOOK));
        open.look = Some(now.saturating_add(wait));
        (cut, wait)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().parties.len()
    }

    /// Keeps a connection whose other side has shown `certificate`, until it is dropped.
    pub(crate) fn keep<S>(&self, stream: S, certificate: Option<CertificateDer<'static>>) -> Cut<S> {
        let end = CancellationToken::new();
        let entry = certificate.map(|certificate| {
            let mut open = self.open();
            open.last += 1;
            let number = open.last;
            // What cannot be read counts as revoked below.
            let not_after = facts(&certificate).map(|facts| facts.not_after).unwrap_or_default();
            let party = Party { certificate: certificate.clone(), not_after, end: end.clone() };
            open.parties.insert(number, party);
            if open.look.is_some_and(|look| not_after.saturating_add(SECOND) < look) {
                self.0.sooner.notify_one();
            }
            drop(open);
            // It may have been revoked since the handshake: whoever revokes from now on sees it among the open ones.
            if self.0.revoked.covers(&certificate) {
                end.cancel();
            }
            Entry { number, connections: self.clone() }
        });
        Cut { stream, ended: Box::pin(end.cancelled_owned()), _entry: entry }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Party {
    fn is_over(&self, now: Duration) -> bool {
        now >= self.not_after.saturating_add(SECOND)
    }
}

/// Heeds what `changes` tells of, until nobody tells any more; from then on it only waits.
async fn heed_changes<T, Mark: PartialEq>(
    mut changes: watch::Receiver<T>,
    mark: impl Fn() -> Mark,
    heed: impl Fn(),
) {
    let mut heeded = None;
    loop {
        changes.borrow_and_update();
        let seen = Some(mark());
        if heeded != seen {
            heed();
            heeded = seen;
        }
        tokio::time::sleep(HEED_AFTER).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

struct Entry {
    number: u64,
    connections: Connections,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open().parties.remove(&self.number);
    }
}

/// A connection that can be cut.
pub struct Cut<S> {
    stream: S,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Option<Entry>,
}

impl<S> Cut<S> {
    /// An error once it was cut; the task is woken when it is.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the certificate of the other side is revoked or over",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_ended(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cut<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_ended(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_ended(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Connected> Connected for Cut<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
