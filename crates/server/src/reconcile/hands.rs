//! What a real node can do: make keys and the first token, and perform steps at real targets and stores.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use model::{
    State, Work,
    attempt::{Failure, FailureClass, Liveness, StepOutcome},
    command::{Command, IssueToken},
    name::CredentialName,
    sealed::{Place, Sealed},
    time::Span,
    token::Role,
};

use super::Hands;
use crate::{
    keys::Keyring,
    node::BootstrapToken,
    task::{self, TaskError},
};

/// Why the first data key is made.
const FOUNDING: &str = "the cluster is formed";

pub(crate) struct NodeHands {
    pub(crate) keys: Arc<Keyring>,
    pub(crate) bootstrap: Option<BootstrapToken>,
}

impl Hands for NodeHands {
    fn founding(&self, state: &State) -> Vec<Command> {
        let mut commands = Vec::new();
        if state.data_key().is_none() {
            match self.keys.new_data_key(state, FOUNDING.to_owned()) {
                Ok(added) => commands.push(added.into()),
                Err(error) => tracing::error!(%error, "the cluster cannot be given its data key"),
            }
        }
        if state.tokens().is_empty() {
            commands.extend(self.bootstrap.as_ref().map(first_token));
        }
        commands
    }

    fn reseal(&self, state: &State, place: &Place, sealed: &Sealed) -> Option<Sealed> {
        let resealed = self.keys.reseal(state, place, sealed);
        // It stays under its old key, which then stays as well.
        resealed.inspect_err(|error| tracing::error!(%place, %error, "not sealed anew")).ok()
    }

    fn look<'a>(
        &'a self,
        state: &'a State,
        credential: &'a CredentialName,
        version: u32,
        within: Duration,
    ) -> BoxFuture<'a, (Liveness, String)> {
        Box::pin(async move {
            match task::look(state, &self.keys, credential, version) {
                Ok(look) => workers::look(&look, within).await,
                Err(error) => (Liveness::Unknown, chain(&error)),
            }
        })
    }

    fn perform<'a>(
        &'a self,
        state: &'a State,
        work: &'a Work,
        fence: u64,
        within: Duration,
    ) -> BoxFuture<'a, StepOutcome> {
        Box::pin(async move {
            tracing::debug!(job = %work.job, step = work.step.as_str(), fence, "performing");
            match task::build(state, &self.keys, work) {
                Ok(task) => workers::perform(&task, within).await,
                Err(error) => unbuilt(&error),
            }
        })
    }
}

fn first_token(token: &BootstrapToken) -> Command {
    let (name, hash) = (token.name.clone(), token.hash);
    let principal = name.to_string();
    IssueToken { name, principal, role: Role::Admin, consumer: None, hash, expires: None }.into()
}

fn unbuilt(error: &TaskError) -> StepOutcome {
    let class = if error.is_of_this_node() { FailureClass::Retryable } else { FailureClass::Permanent };
    let failure = Failure { class, message: chain(error) };
    StepOutcome::Failed { failure, retry_after: Span::seconds(1) }
}

fn chain(error: &TaskError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
