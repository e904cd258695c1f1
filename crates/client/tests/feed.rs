//! What a subscriber promises when the other side misbehaves, against a hand-made feed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{
    Client, Error, Options, ReceiptStage, RevocationSet, SubscribeOptions, Update,
    v1::{
        AcknowledgeRequest, AcknowledgeResponse, Event, EventKind, Heartbeat, Snapshot, VersionStanding,
        WatchRequest, WatchResponse,
        feed_service_server::{FeedService, FeedServiceServer},
        watch_response::Message,
    },
};
use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// What one connection brings, and how it ends.
struct Script {
    messages: Vec<Message>,
    end: End,
}

enum End {
    Close,
    Break,
    Stay,
    Refuse(Status),
}

/// A feed that plays scripts, one per connection, and notes what it was asked.
#[derive(Clone, Default)]
struct Feed {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    asked: Arc<Mutex<Vec<u64>>>,
    tokens: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<AcknowledgeRequest>>>,
}

impl Feed {
    fn playing(scripts: impl IntoIterator<Item = Script>) -> Self {
        let feed = Self::default();
        feed.scripts.lock().unwrap().extend(scripts);
        feed
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = FeedServiceServer::new(self.clone());
        let serving =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        address
    }
}

#[tonic::async_trait]
impl FeedService for Feed {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.tokens.lock().unwrap().extend(token);
        self.asked.lock().unwrap().push(request.get_ref().after_revision);
        let script = self.scripts.lock().unwrap().pop_front();
        let script = script.ok_or_else(|| Status::unauthenticated("the play is over"))?;
        let responses = script.messages.into_iter().map(|message| WatchResponse { message: Some(message) });
        let said = stream::iter(responses.map(Ok));
        Ok(Response::new(match script.end {
            End::Close => said.boxed(),
            End::Break => said.chain(stream::iter([Err(Status::unavailable("going down"))])).boxed(),
            End::Stay => said.chain(stream::pending()).boxed(),
            End::Refuse(status) => return Err(status),
        }))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        let request = request.into_inner();
        let enforced_up_to = request.ranges.iter().map(|range| range.last).max().unwrap_or_default();
        self.answers.lock().unwrap().push(request);
        Ok(Response::new(AcknowledgeResponse { enforced_up_to }))
    }
}

fn event(revision: u64, previous_revision: u64) -> Message {
    Message::Event(Event {
        revision,
        previous_revision,
        kind: EventKind::CredentialRevoked.into(),
        credential: "orders-db".into(),
        version: u32::try_from(revision).unwrap(),
        reason_code: "superseded".into(),
        ..Event::default()
    })
}

const fn beat(revision: u64) -> Message {
    Message::Heartbeat(Heartbeat { revision, at_ms: 1 })
}

fn play(messages: impl IntoIterator<Item = Message>, end: End) -> Script {
    Script { messages: messages.into_iter().collect(), end }
}

fn client(addresses: impl IntoIterator<Item = SocketAddr>) -> Client {
    let addresses = addresses.into_iter().map(|address| format!("http://{address}"));
    Client::connect(Options::new(addresses).token("let-me-in".into())).unwrap()
}

/// Follows until an error, and gives the revisions of the events handed out.
async fn follow(client: &Client, after: u64) -> (Vec<u64>, client::Progress, Error) {
    let mut feed = client.subscribe(SubscribeOptions { after, ..SubscribeOptions::default() });
    let progress = feed.progress();
    let mut events = Vec::new();
    let watching = async {
        loop {
            match feed.next().await {
                Ok(Update::Event(event)) => events.push(event.revision),
                Ok(Update::Snapshot(_) | Update::CaughtUp { .. }) => {}
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, watching).await.expect("the play ends");
    (events, progress, error)
}

#[tokio::test]
async fn after_a_lost_connection_it_goes_on_where_it_was() {
    let feed = Feed::playing([
        play([event(1, 0), event(2, 1)], End::Break),
        play([], End::Close),
        play([event(3, 2), beat(5)], End::Close),
        play([event(6, 3)], End::Close),
    ]);
    let (events, progress, error) = follow(&client([feed.listen().await]), 0).await;
    assert_eq!(events, [1, 2, 3, 6]);
    assert_eq!(feed.asked(), [0, 2, 2, 5, 6], "a heartbeat counts as far as it says");
    assert!(matches!(error, Error::Unauthenticated(_)), "only what cannot be mended ends it: {error}");
    assert_eq!((progress.gaps(), progress.position()), (0, 6));
    assert!(feed.tokens.lock().unwrap().iter().all(|token| token == "Bearer let-me-in"));
}

#[tokio::test]
async fn what_was_seen_already_is_dropped() {
    let feed = Feed::playing([
        play([event(1, 0), event(2, 1), event(1, 0), event(2, 1)], End::Close),
        play([event(2, 1), event(4, 2), beat(3)], End::Close),
    ]);
    let (events, progress, _) = follow(&client([feed.listen().await]), 0).await;
    assert_eq!(events, [1, 2, 4]);
    assert_eq!((progress.duplicates(), progress.gaps()), (3, 0));
}

#[tokio::test]
async fn a_gap_is_asked_for_again_before_anything_behind_it_is_handed_out() {
    let feed = Feed::playing([
        play([event(1, 0), event(3, 2)], End::Stay),
        play([event(2, 1), event(3, 2)], End::Close),
    ]);
    let (events, progress, _) = follow(&client([feed.listen().await]), 0).await;
    assert_eq!(events, [1, 2, 3]);
    assert_eq!((feed.asked(), progress.gaps()), (vec![0, 1, 3], 1));
}

#[tokio::test]
async fn a_gap_that_stays_is_an_error() {
    let feed = Feed::playing([play([event(1, 0), event(5, 4)], End::Stay), play([event(5, 4)], End::Stay)]);
    let (events, _, error) = follow(&client([feed.listen().await]), 0).await;
    assert_eq!(events, [1]);
    assert!(matches!(error, Error::Gap { revision: 5, previous: 4, held: 1 }), "{error}");
}

#[tokio::test]
async fn a_consumer_behind_the_kept_history_starts_from_the_snapshot() {
    let versions =
        vec![VersionStanding { credential: "orders-db".into(), version: 41, state: "active".into() }];
    let snapshot = Message::Snapshot(Snapshot { revision: 40, versions });
    let feed = Feed::playing([play([snapshot, event(42, 39), beat(43)], End::Stay)]);
    let mut updates = client([feed.listen().await]).subscribe(SubscribeOptions::default());
    let mut set = RevocationSet::new();
    while set.complete_up_to() < 43 {
        set.observe(&tokio::time::timeout(PATIENCE, updates.next()).await.unwrap().unwrap());
    }
    assert!(!set.is_revoked("orders-db", 41));
    assert!(set.is_revoked("orders-db", 42), "revoked by the event after it");
    assert!(set.is_revoked("orders-db", 7), "not listed");
    assert!(updates.progress().staleness() < PATIENCE);
}

#[tokio::test]
async fn another_address_takes_over_from_a_dead_one() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let feed = Feed::playing([play([event(1, 0)], End::Close), play([event(2, 1)], End::Close)]);
    let client = client([dead, feed.listen().await]);
    let (events, _, _) = follow(&client, 0).await;
    assert_eq!(events, [1, 2]);
    let upto = client.acknowledge(ReceiptStage::Enforced, [1..=2], "").await.unwrap();
    assert_eq!(upto, 2);
    assert_eq!(feed.answers.lock().unwrap()[0].stage(), ReceiptStage::Enforced);
}

#[tokio::test]
async fn with_no_address_alive_a_call_says_so_and_patience_ends() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client([dead]);
    let error = client.acknowledge(ReceiptStage::Received, [1..=1], "").await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { tried } if tried.len() == 1), "{error:?}");
    let options = SubscribeOptions { patience: Some(Duration::from_millis(300)), ..Default::default() };
    let error = tokio::time::timeout(PATIENCE, client.subscribe(options).next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_ends_it_at_once() {
    let refused = End::Refuse(Status::permission_denied("not yours"));
    let feed = Feed::playing([play([], refused)]);
    let (_, _, error) = follow(&client([feed.listen().await]), 0).await;
    assert!(matches!(error, Error::PermissionDenied(_)), "{error}");
    assert_eq!(feed.asked().len(), 1);
}
