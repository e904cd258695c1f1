//! The feed: how consumers learn what changed, and how they answer.

mod batch;
mod snapshot;
mod view;
mod watch;

use std::{sync::Arc, time::Duration};

use api::{Malformed, v1};
use model::{caps, command::Answer, name::ConsumerName, refusal::Code, token::Role};
use tonic::{Request, Response, Status};
use v1::feed_service_server::{FeedService, FeedServiceServer};

use crate::{
    denied::Denied,
    edge::{Call, Edge},
    gate::{Action, Caller},
    stream::{self, Messages},
};

pub(crate) use batch::Batches;
use view::View;

/// Largest request: an acknowledgement with as many ranges as are allowed.
const REQUEST_BYTES: usize = 256 << 10;
/// Largest message: a snapshot of every credential.
const MESSAGE_BYTES: usize = 16 << 20;
/// Time between heartbeats when nothing is said, and its bounds.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// The feed service of one node.
pub struct Service {
    edge: Arc<Edge>,
}

impl Service {
    pub(crate) const fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }

    /// The service, to be mounted.
    #[must_use]
    pub fn mount(edge: Arc<Edge>) -> FeedServiceServer<Self> {
        FeedServiceServer::new(Self::new(edge))
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl FeedService for Service {
    type WatchStream = Messages<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let action =
            |caller: &Caller| if is_own(caller, &request) { Action::Follow } else { Action::Observe };
        let call = self.edge.admit_as(&metadata, Action::Follow, action).await?;
        let view = view_of(&call.caller, &request).map_err(|denied| call.status(&denied))?;
        let heartbeat = match request.heartbeat_ms {
            0 => HEARTBEAT,
            ms => Duration::from_millis(ms).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX),
        };
        stream::open(call, |call, sender| {
            watch::follow(call, view, request.after_revision, heartbeat, sender)
        })
    }

    async fn acknowledge(
        &self,
        request: Request<v1::AcknowledgeRequest>,
    ) -> Result<Response<v1::AcknowledgeResponse>, Status> {
        let call = self.edge.admit(request.metadata(), Action::Acknowledge).await?;
        call.answer(acknowledge(&call, request.into_inner()).await)
    }
}

/// Takes in an answer of the token's own consumer: no request can name another.
async fn acknowledge(
    call: &Call,
    request: v1::AcknowledgeRequest,
) -> Result<v1::AcknowledgeResponse, Denied> {
    let consumer = own_consumer(&call.caller)?;
    call.about("consumer", consumer.as_str());
    if request.ranges.len() > caps::ACK_RANGES {
        let problem = format!("holds {}, at most {}", request.ranges.len(), caps::ACK_RANGES);
        return Err(Malformed::new("ranges", problem).with_code(Code::TooLong).into());
    }
    if request.detail.len() > caps::TEXT_BYTES {
        let problem = format!("has {} bytes, at most {}", request.detail.len(), caps::TEXT_BYTES);
        return Err(Malformed::new("detail", problem).with_code(Code::TooLong).into());
    }
    let answer = Answer {
        consumer,
        receipt: api::consumer::receipt(request.stage, request.detail)?,
        ranges: request.ranges.iter().map(|range| (range.first, range.last)).collect(),
    };
    let enforced_up_to = call.edge.batches.answer(answer).await?;
    Ok(v1::AcknowledgeResponse { enforced_up_to })
}

fn is_own(caller: &Caller, request: &v1::WatchRequest) -> bool {
    let named = || caller.consumer.as_ref().is_some_and(|own| own.as_str() == request.consumer);
    matches!(caller.role, Role::Consumer) && !request.all && (request.consumer.is_empty() || named())
}

fn view_of(caller: &Caller, request: &v1::WatchRequest) -> Result<View, Denied> {
    if is_own(caller, request) {
        return Ok(View::Own(own_consumer(caller)?));
    }
    match (request.consumer.as_str(), request.all) {
        ("", true) => Ok(View::Whole),
        ("", false) => Err(Malformed::new("consumer", "say whose stream, or `all`").into()),
        (name, false) => Ok(View::Observed(api::parse("consumer", name)?)),
        (_, true) => Err(Malformed::new("all", "goes without `consumer`").into()),
    }
}

fn own_consumer(caller: &Caller) -> Result<ConsumerName, Denied> {
    let unbound = || Denied::edge(Code::ConsumerBinding, "the token speaks for no consumer");
    caller.consumer.clone().ok_or_else(unbound)
}

#[cfg(test)]
mod tests;
