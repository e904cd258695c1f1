//! Opens connections to a server that must have a certain name.

use std::{io, pin::Pin, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Connections, Cut};

/// Opens connections; a `tower` service, as tonic wants one.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
    connections: Connections,
}

impl Connector {
    /// Connections to whoever has a certificate for `name`.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>, connections: Connections) -> Self {
        Self { connector: config.into(), name, connections }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Cut<TlsStream<TcpStream>>>> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(self.name, stream).await?;
        let party = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        Ok(TokioIo::new(self.connections.keep(stream, party)))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Cut<TlsStream<TcpStream>>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
