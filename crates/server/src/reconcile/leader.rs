//! What the leader alone does: puts the data key and the first token in place, says which nodes it hears, and
//! proposes a tick when something has fallen due.

use std::{collections::BTreeSet, time::Duration};

use model::{
    State,
    command::{Command, ReportReachable, Tick},
    name::NodeId,
};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::consensus::Standing;

/// Longest time between two looks, whatever happens: reachability changes without an entry in the log.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Who acts when nobody asked.
const ACTOR: &str = "system";

/// Runs until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut changes = context.consensus.watch();
    loop {
        changes.borrow_and_update();
        let mut patience = LOOK_EVERY;
        let standing = context.consensus.standing();
        if standing.is_leader {
            // What was proposed shows in the state only once it is applied, which wakes this loop again.
            for command in owed(&context, &standing) {
                propose(&context, command).await;
            }
            if let Some(due) = context.consensus.local().next_due() {
                patience = patience.min(context.runtime.until(due).max(Duration::from_millis(1)));
            }
        }
        if !context.wake(&mut changes, patience, &shutdown).await {
            return;
        }
    }
}

/// What should be proposed now.
fn owed(context: &Context, standing: &Standing) -> Vec<Command> {
    let state = context.consensus.local();
    let mut commands = context.hands.founding(&state);
    commands.extend(reachable(standing, &state));
    if state.next_due().is_some_and(|due| due <= context.runtime.now()) {
        commands.push(Tick {}.into());
    }
    commands
}

/// A report of the nodes this leader hears, when it differs from what the state says.
fn reachable(standing: &Standing, state: &State) -> Option<Command> {
    let nodes: BTreeSet<NodeId> = standing.heard.iter().copied().chain([standing.node]).collect();
    let differs = state.nodes().values().any(|node| node.reachable != nodes.contains(&node.id));
    differs.then(|| ReportReachable { nodes }.into())
}

async fn propose(context: &Context, command: Command) {
    let action = command.action();
    match context.consensus.propose(ACTOR.to_owned(), command).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => {
            tracing::warn!(action, code = refusal.code.as_str(), %refusal, "refused to the leader")
        }
        Err(error) => tracing::debug!(action, %error, "not proposed, looked at again"),
    }
}
