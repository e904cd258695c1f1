//! Declaring resources, and saying what declaring them would change.
//!
//! Everything of a request is read, checked and sealed before the first command is proposed: a file with an error in
//! it changes nothing. Then the commands are proposed one by one, in the order in which the kinds refer to each other.

mod plan;

use std::sync::Arc;

use api::v1;
use model::{State, command::Stamped, outcome::Applied, time::Time};

use super::{resource, schedule};
use crate::{denied::Denied, edge::Call};
use plan::{Planned, plan};

pub(super) async fn apply(call: &Call, request: v1::ApplyRequest) -> Result<v1::ApplyResponse, Denied> {
    let (before, planned) = prepare(call, request.resources, request.dry_run).await?;
    let (after, applied) = if request.dry_run {
        rehearse(call, &before, &planned)?
    } else {
        let applied = commit(call, &planned).await?;
        (call.known(), applied)
    };
    let now = call.now();
    let changes =
        planned.iter().zip(applied).map(|(planned, applied)| change(planned, &applied, &before, &after, now));
    Ok(v1::ApplyResponse { changes: changes.collect::<Result<_, _>>()? })
}

/// What this node knows is enough to read a request by: the model looks at every command again when it is committed.
/// Only what is refused, or not going to be committed, is looked at with a state that is surely complete.
async fn prepare(
    call: &Call,
    resources: Vec<v1::Resource>,
    dry_run: bool,
) -> Result<(Arc<State>, Vec<Planned>), Denied> {
    let known = call.known();
    if !dry_run && let Ok(planned) = plan(call, &known, resources.clone()) {
        return Ok((known, planned));
    }
    let complete = call.read().await?;
    let planned = plan(call, &complete, resources)?;
    Ok((complete, planned))
}

async fn commit(call: &Call, planned: &[Planned]) -> Result<Vec<Applied>, Denied> {
    let mut applied = Vec::with_capacity(planned.len());
    for one in planned {
        call.about(one.kind.as_str(), &one.name);
        let proposed = call.propose(one.command.clone()).await;
        let first = applied.is_empty();
        applied.push(proposed.map_err(|denied| if first { denied } else { denied.after_a_commit() })?);
    }
    Ok(applied)
}

/// Applies the commands to a copy of the state: the same code, the same refusals, and nothing is changed.
fn rehearse(call: &Call, before: &State, planned: &[Planned]) -> Result<(Arc<State>, Vec<Applied>), Denied> {
    let (mut state, at) = (before.clone(), call.now());
    let mut applied = Vec::with_capacity(planned.len());
    for one in planned {
        let actor = call.caller.principal.clone();
        call.about(one.kind.as_str(), &one.name);
        applied
            .push(state.apply(&Stamped { at, actor, command: one.command.clone() }).map_err(Denied::Edge)?);
    }
    Ok((Arc::new(state), applied))
}

fn change(
    planned: &Planned,
    applied: &Applied,
    before: &State,
    after: &State,
    now: Time,
) -> Result<v1::ResourceChange, Denied> {
    let (kind, name) = (planned.kind, planned.name.as_str());
    let old = resource::shown(before, kind, name, now)?;
    let new = resource::shown(after, kind, name, now)?;
    let action = match (applied, &old) {
        (Applied::Unchanged, _) => v1::ChangeAction::Unchanged,
        (_, None) => v1::ChangeAction::Created,
        (_, Some(_)) => v1::ChangeAction::Changed,
    };
    Ok(v1::ResourceChange {
        kind: v1::ResourceKind::from(kind).into(),
        name: planned.name.clone(),
        action: action.into(),
        before: old,
        after: new,
        next: planned.timing.as_ref().map(|timing| schedule::next_fires(timing, now)).unwrap_or_default(),
        secret_changed: planned.secret_changed,
    })
}
