//! What a real node can do: make keys and the first token, and perform steps at real targets and stores.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use model::{
    State, Work,
    attempt::{Failure, FailureClass, StepOutcome},
    command::{Command, InstallDataKey, IssueToken},
    time::Span,
    token::Role,
};

use super::Hands;
use crate::{
    keys::Keyring,
    node::BootstrapToken,
    task::{self, TaskError},
};

pub(crate) struct NodeHands {
    pub(crate) keys: Arc<Keyring>,
    pub(crate) bootstrap: Option<BootstrapToken>,
}

impl Hands for NodeHands {
    fn founding(&self, state: &State) -> Vec<Command> {
        let mut commands = Vec::new();
        if state.data_key().is_none() {
            let (id, wrapped) = self.keys.new_data_key();
            commands.push(InstallDataKey { id, wrapped }.into());
        }
        if state.tokens().is_empty() {
            commands.extend(self.bootstrap.as_ref().map(first_token));
        }
        commands
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
    let failure = Failure { class: FailureClass::Permanent, message: chain(error) };
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
