//! Parties that follow the feed.

use std::sync::{Arc, Mutex, PoisonError};

use client::{Client, Error, ReceiptStage, SubscribeOptions, Subscriber, Update, v1};
use tokio::task::JoinHandle;

use super::{CREDENTIAL, Stage};

/// A consumer that follows the feed and says of every event that it is enforced. Dropping it silences it.
#[derive(Debug)]
pub struct Consumer {
    seen: Arc<Mutex<Vec<v1::Event>>>,
    task: JoinHandle<()>,
}

impl Stage {
    /// Registers a required consumer of the credential, and returns a client with its token. It says nothing yet.
    pub async fn consumer(&self, name: &str) -> Client {
        let subscription =
            v1::Subscription { credentials: vec![CREDENTIAL.into()], ..v1::Subscription::default() };
        let consumer = v1::Consumer {
            name: name.into(),
            owner: format!("team-{name}"),
            subscription: Some(subscription),
            required: true,
            ..v1::Consumer::default()
        };
        self.apply(vec![consumer.into()]).await;
        self.cluster.client(self.cluster.consumer_token(name).await)
    }
}

impl Consumer {
    /// Follows the feed from its beginning with the client of a registered consumer.
    pub fn follow(client: &Client) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let feed = client.subscribe(SubscribeOptions::default());
        let task = tokio::spawn(follow(feed, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// The events seen so far, in the order they came.
    ///
    /// # Panics
    ///
    /// When it has stopped following.
    pub fn seen(&self) -> Vec<v1::Event> {
        assert!(!self.task.is_finished(), "the consumer follows no more");
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut feed: Subscriber, seen: Arc<Mutex<Vec<v1::Event>>>) {
    loop {
        let update = feed.next().await.expect("the feed can be followed");
        if let Update::Event(event) = update {
            acknowledge(&feed, event.revision).await.expect("what was delivered may be acknowledged");
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }
}

/// Repeated while the cluster cannot tell whether it has taken it in: a repeat changes nothing.
async fn acknowledge(feed: &Subscriber, revision: u64) -> Result<(), Error> {
    loop {
        match feed.acknowledge(ReceiptStage::Enforced, [revision..=revision]).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            answer => return answer.map(drop),
        }
    }
}
