//! Streams: each is one task that fills a short channel. It ends when the reader goes or is too slow, when the token
//! stops working, and when the node goes down.

use std::{future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use model::State;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::{
    clock,
    denied::Denied,
    edge::{Call, StreamPermit},
};

/// Messages that wait for the reader.
const BUFFER: usize = 32;
/// Least time between two looks at whether the token still works.
const LIFETIME_LOOK: Duration = Duration::from_millis(200);

/// The messages of one stream.
pub(crate) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Where a stream's task puts its messages.
pub(crate) struct Sender<M> {
    messages: mpsc::Sender<M>,
    timeout: Duration,
    _permit: StreamPermit,
}

/// Why a stream ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The reader has gone.
    Gone,
    /// It has all it asked for.
    Done,
    /// The reader is told why.
    Denied(Denied),
}

impl From<Denied> for End {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// Opens a stream that `fill` fills in a task of its own. Whatever the reader has not taken when it ends is followed
/// by the reason.
pub(crate) fn open<M, F, T>(call: Call, fill: F) -> Result<Response<Messages<M>>, Status>
where
    M: Send + 'static,
    F: FnOnce(Arc<Call>, Arc<Sender<M>>) -> T,
    T: Future<Output = End> + Send + 'static,
{
    let permit = call.edge.stream_permit(&call.caller.token).map_err(|denied| call.status(&denied))?;
    let (messages, receiver) = mpsc::channel(BUFFER);
    let (ended, end) = oneshot::channel();
    let call = Arc::new(call.without_permit());
    let timeout = call.edge.limits.send_timeout;
    let sender = Arc::new(Sender { messages, timeout, _permit: permit });
    let filling = fill(Arc::clone(&call), Arc::clone(&sender));
    tokio::spawn(async move {
        let end = tokio::select! {
            end = filling => end,
            () = sender.messages.closed() => End::Gone,
            () = call.edge.shutdown.cancelled() => End::Denied(Denied::ShuttingDown),
            denied = lifetime(&call) => End::Denied(denied),
        };
        if let End::Denied(denied) = end {
            // Nobody hears it when the reader has gone as well.
            let _ = ended.send(call.status(&denied));
        }
    });
    let reason = stream::once(end).filter_map(|status| future::ready(status.ok().map(Err)));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok).chain(reason))))
}

impl<M> Sender<M> {
    /// Hands one message over; a reader that does not take it in time is cut off.
    pub(crate) async fn send(&self, message: M) -> Result<(), End> {
        match tokio::time::timeout(self.timeout, self.messages.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Denied(Denied::TooSlow)),
        }
    }
}

/// Waits until the caller's token does not work any more.
async fn lifetime(call: &Call) -> Denied {
    let mut progress = call.edge.consensus.watch();
    loop {
        progress.borrow_and_update();
        let local = call.edge.consensus.local();
        if let Err(denied) = alive(call, &local) {
            return denied;
        }
        let expiry = async {
            match call.caller.expires {
                Some(at) => tokio::time::sleep(clock::duration(at.since(call.now()))).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            changed = progress.changed() => if changed.is_err() {
                return Denied::ShuttingDown;
            },
            () = expiry => {}
        }
        tokio::time::sleep(LIFETIME_LOOK).await;
    }
}

/// A token that this node has not heard of yet was found through the leader: it is alive, and cannot be dead here.
fn alive(call: &Call, local: &State) -> Result<(), Denied> {
    if local.tokens().contains(&call.caller.token) {
        call.caller.check_alive(local, call.now())
    } else {
        Ok(())
    }
}
