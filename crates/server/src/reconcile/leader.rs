//! What the leader alone does: puts the data key and the first token in place, says which nodes it hears, and
//! proposes a tick when something has fallen due.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use model::{
    State,
    command::{Command, InstallDataKey, IssueToken, ReportReachable, Tick},
    name::NodeId,
    token::Role,
};
use tokio_util::sync::CancellationToken;

use super::wake;
use crate::{clock, node::Shared};

/// Longest time between two looks, whatever happens: reachability changes without an entry in the log.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Who acts when nobody asked.
const ACTOR: &str = "system";

/// Runs until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut changes = shared.cluster.watch();
    loop {
        changes.borrow_and_update();
        let mut patience = LOOK_EVERY;
        if shared.cluster.status().is_leader {
            // What was proposed shows in the state only once it is applied, which wakes this loop again.
            for command in owed(&shared) {
                propose(&shared, command).await;
            }
            if let Some(due) = shared.cluster.local().next_due() {
                patience = patience.min(clock::until(due).max(Duration::from_millis(1)));
            }
        }
        if !wake(&mut changes, patience, &shutdown).await {
            return;
        }
    }
}

/// What should be proposed now.
fn owed(shared: &Shared) -> Vec<Command> {
    let state = shared.cluster.local();
    let mut commands = Vec::new();
    if state.data_key().is_none() {
        let (id, wrapped) = shared.keys.new_data_key();
        commands.push(InstallDataKey { id, wrapped }.into());
    }
    if state.tokens().is_empty() {
        commands.extend(shared.bootstrap.as_ref().map(first_token));
    }
    commands.extend(reachable(shared, &state));
    if state.next_due().is_some_and(|due| due <= clock::now()) {
        commands.push(Tick {}.into());
    }
    commands
}

fn first_token(token: &crate::node::BootstrapToken) -> Command {
    let (name, hash) = (token.name.clone(), token.hash);
    let principal = name.to_string();
    IssueToken { name, principal, role: Role::Admin, consumer: None, hash, expires: None }.into()
}

/// A report of the nodes this leader hears, when it differs from what the state says.
fn reachable(shared: &Shared, state: &State) -> Option<Command> {
    let status = shared.cluster.status();
    let heard = status.peers.iter().filter(|(_, peer)| peer.reachable).map(|(id, _)| *id);
    let nodes: BTreeSet<NodeId> = heard.chain([status.node]).collect();
    let differs = state.nodes().values().any(|node| node.reachable != nodes.contains(&node.id));
    differs.then(|| ReportReachable { nodes }.into())
}

async fn propose(shared: &Shared, command: Command) {
    let action = command.action();
    match shared.cluster.propose(ACTOR.to_owned(), command).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => {
            tracing::warn!(action, code = refusal.code.as_str(), %refusal, "refused to the leader")
        }
        Err(error) => tracing::debug!(action, %error, "not proposed, looked at again"),
    }
}
