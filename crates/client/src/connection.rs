//! Connections to all addresses of a cluster, and calls that move on when one does not answer.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::ExposeSecret;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    Error, Options, OptionsError, ReceiptStage,
    subscriber::{SubscribeOptions, Subscriber},
    v1::{
        AcknowledgeRequest, RevisionRange, WatchRequest, WatchResponse,
        feed_service_client::FeedServiceClient,
    },
};

/// Largest message accepted; a snapshot for one consumer is the largest there is.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A client of a cluster. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    nodes: Vec<Node>,
    /// The address that answered last.
    preferred: AtomicUsize,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

struct Node {
    address: String,
    channel: Channel,
}

/// Whether a call may be sent again when nobody knows whether it arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing, or a repeat changes nothing more.
    Idempotent,
    /// A repeat could act twice.
    Once,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.inner.nodes.iter().map(|node| &node.address).collect();
        f.debug_struct("Client").field("addresses", &addresses).finish_non_exhaustive()
    }
}

impl Client {
    /// Sets up a client. Connections are made when the first call needs them and again when they are lost.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Options`] when an address, the CA certificate or the token cannot be used.
    pub fn connect(options: Options) -> Result<Self, Error> {
        let endpoints = options.endpoints()?;
        let nodes = endpoints
            .into_iter()
            .zip(&options.addresses)
            .map(|(endpoint, address)| Node { address: address.clone(), channel: endpoint.connect_lazy() })
            .collect();
        let authorization = options.token.as_ref().map(bearer).transpose()?;
        let inner = Inner { nodes, preferred: AtomicUsize::new(0), authorization, timeout: options.timeout };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Follows the feed from `options.after` on.
    #[must_use]
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        Subscriber::new(self.clone(), options)
    }

    /// Answers for events of the token's consumer. OK means committed by a quorum; a repeat changes nothing.
    /// Returns the revision up to which everything owed is enforced.
    ///
    /// # Errors
    /// [`Error::Refused`] when a range is reversed, was never delivered, or belongs to someone else.
    pub async fn acknowledge(
        &self,
        stage: ReceiptStage,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
        detail: &str,
    ) -> Result<u64, Error> {
        let ranges =
            ranges.into_iter().map(|range| RevisionRange { first: *range.start(), last: *range.end() });
        let request =
            AcknowledgeRequest { stage: stage.into(), ranges: ranges.collect(), detail: detail.to_owned() };
        let answer = self
            .call(Effect::Idempotent, request, |channel, request| async move {
                FeedServiceClient::new(channel).acknowledge(request).await
            })
            .await?;
        Ok(answer.enforced_up_to)
    }

    /// Sends `message`, to each address in turn while it is certain that it had no effect (or may be repeated).
    pub(crate) async fn call<M, R, F, T>(&self, effect: Effect, message: M, send: F) -> Result<R, Error>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> T,
        T: Future<Output = Result<Response<R>, Status>>,
    {
        let start = self.inner.preferred.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        let mut last = None;
        for step in 0..self.inner.nodes.len() {
            let index = (start + step) % self.inner.nodes.len();
            let node = &self.inner.nodes[index];
            let error = match self.call_one(node, message.clone(), &send).await {
                Ok(answer) => {
                    self.inner.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Error::Unreachable { tried: causes }) => {
                    tried.extend(causes);
                    continue;
                }
                Err(error) => error,
            };
            let again = error.had_no_effect() || (error.is_transient() && effect == Effect::Idempotent);
            if !again {
                return Err(error);
            }
            last = Some(error);
        }
        Err(last.unwrap_or(Error::Unreachable { tried }))
    }

    async fn call_one<M, R, F, T>(&self, node: &Node, message: M, send: &F) -> Result<R, Error>
    where
        F: Fn(Channel, Request<M>) -> T,
        T: Future<Output = Result<Response<R>, Status>>,
    {
        let timeout = self.inner.timeout;
        let request = self.request(message);
        match tokio::time::timeout(timeout, send(node.channel.clone(), request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error::from_status(&node.address, &status)),
            Err(_) => Err(Error::Unknown { message: format!("no answer within {timeout:?}") }),
        }
    }

    /// Opens a stream of the feed at one address: the `attempt`-th after the preferred one.
    pub(crate) async fn watch(
        &self,
        message: WatchRequest,
        attempt: usize,
    ) -> Result<tonic::Streaming<WatchResponse>, Error> {
        let start = self.inner.preferred.load(Ordering::Relaxed);
        let index = start.wrapping_add(attempt) % self.inner.nodes.len();
        let node = &self.inner.nodes[index];
        let stream = FeedServiceClient::new(node.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .watch(self.request(message))
            .await
            .map_err(|status| Error::from_status(&node.address, &status))?;
        self.inner.preferred.store(index, Ordering::Relaxed);
        Ok(stream.into_inner())
    }

    /// The first address, its connection, and the longest wait for an answer.
    pub(crate) fn first_node(&self) -> (&str, Channel, Duration) {
        let node = &self.inner.nodes[0];
        (&node.address, node.channel.clone(), self.inner.timeout)
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.inner.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

fn bearer(token: &secrecy::SecretString) -> Result<MetadataValue<Ascii>, OptionsError> {
    let header = format!("Bearer {}", token.expose_secret().trim());
    let mut value: MetadataValue<Ascii> = header.parse().map_err(|_| OptionsError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}
