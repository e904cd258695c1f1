//! Reconcilers: loops that compare what is true with what should be, and act. Each is woken by a change and by a
//! timer, carries no data in the wake-up, and looks at the state anew.

mod hands;
pub mod keys;
pub mod leader;
pub mod look;
pub mod worker;

use std::{sync::Arc, time::Duration};

use cluster::Progress;
use futures::future::BoxFuture;
use model::{
    State, Work,
    attempt::{Liveness, StepOutcome},
    command::Command,
    name::{CredentialName, NodeId},
    sealed::{Place, Sealed},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use hands::NodeHands;

use crate::{clock::Runtime, consensus::Consensus};

/// The pause of a reconciler between two looks.
const REST: Duration = Duration::from_millis(5);

/// What a node can do beside agreeing with others.
pub trait Hands: Send + Sync + 'static {
    /// What a new cluster must be given before anything else, as far as `state` lacks it.
    fn founding(&self, state: &State) -> Vec<Command>;

    /// What rests at `place`, sealed anew under the active data key; `None` when it cannot be.
    fn reseal(&self, _state: &State, _place: &Place, _sealed: &Sealed) -> Option<Sealed> {
        None
    }

    /// Attempts to log in with a version once, within `within`, and changes nothing at its target. Says what was found, and
    /// why in words for people.
    fn look<'a>(
        &'a self,
        _state: &'a State,
        _credential: &'a CredentialName,
        _version: u32,
        _within: Duration,
    ) -> BoxFuture<'a, (Liveness, String)> {
        Box::pin(async { (Liveness::Unknown, "this node cannot log in anywhere".to_owned()) })
    }

    /// Performs an owed step within `within`, and says what came of it. `fence` is the number that its committed intent
    /// was given; `state` includes that intent.
    fn perform<'a>(
        &'a self,
        state: &'a State,
        work: &'a Work,
        fence: u64,
        within: Duration,
    ) -> BoxFuture<'a, StepOutcome>;
}

/// What the reconcilers of one node work with.
#[derive(Clone)]
pub struct Context {
    /// The node.
    pub node: NodeId,
    /// Its part in the cluster.
    pub consensus: Arc<dyn Consensus>,
    /// What it can do.
    pub hands: Arc<dyn Hands>,
    /// Who runs it.
    pub runtime: Arc<dyn Runtime>,
    /// Most steps under way at one time.
    pub concurrent_steps: usize,
}

impl Context {
    /// In whose name this node's workers act.
    fn actor(&self) -> String {
        self.node.to_string()
    }

    /// Waits for a change or for `longest`, but for a change never less than [`REST`]: where entries follow each other,
    /// one look is enough for many. `false` says that it is time to stop.
    async fn wake(
        &self,
        changes: &mut watch::Receiver<Progress>,
        longest: Duration,
        shutdown: &CancellationToken,
    ) -> bool {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            changed = self.rested(changes) => changed.is_ok(),
            () = self.runtime.sleep(longest) => true,
        }
    }

    async fn rested(&self, changes: &mut watch::Receiver<Progress>) -> Result<(), watch::error::RecvError> {
        self.runtime.sleep(REST).await;
        changes.changed().await
    }
}
