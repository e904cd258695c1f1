//! The open connections of one port, each with the certificate of the other side, so that those of a revoked party are
//! cut at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::Revoked;

/// The open connections of a port. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    revoked: Revoked,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    parties: BTreeMap<u64, (CertificateDer<'static>, CancellationToken)>,
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
        let cut = open.parties.values().filter(|(certificate, _)| self.0.revoked.covers(certificate));
        cut.map(|(_, end)| end.cancel()).count()
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
            open.parties.insert(number, (certificate.clone(), end.clone()));
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
                "the certificate of the other side is revoked",
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
