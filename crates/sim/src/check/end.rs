//! What must hold when faults have ended and everything has had its time.

use std::sync::Arc;

use model::{State, audit, name::NodeId};

use super::{Book, Invariant, Verdict, broken, holds, target::wanted};
use crate::{hands::login, target::Holdings};

pub(super) fn check(book: &mut Book, states: &[(NodeId, Arc<State>)], holdings: &Holdings) -> Verdict {
    for (node, state) in states {
        holds(state.digest() == book.reference.digest(), Invariant::SameDigests, || {
            format!("{node} has another digest in the end")
        })?;
        if let Err(error) = audit::verify(state.audit().values(), state.audit_head()) {
            return broken(Invariant::AuditVerifies, format!("at {node}: {error}"));
        }
        for (actor, sequence) in &book.acks {
            let kept = state.audit().get(sequence).is_some_and(|record| record.actor == *actor);
            holds(kept, Invariant::AcknowledgedSurvive, || format!("{node} does not have {actor}"))?;
        }
    }
    target(&book.reference, holdings)
}

fn target(state: &State, holdings: &Holdings) -> Verdict {
    let wanted = wanted(state);
    for (user, secret) in &wanted {
        holds(holdings.honours(user, *secret), Invariant::TargetAgrees, || {
            format!("the active version of `{user}` does not log in")
        })?;
    }
    let honoured = holdings.users.iter().flat_map(|(user, secrets)| secrets.iter().map(move |s| (user, *s)));
    for (user, secret) in honoured {
        let known = wanted.iter().any(|(name, value)| name == user && *value == secret);
        holds(known, Invariant::TargetAgrees, || format!("`{user}` still logs in with {secret}"))?;
    }
    for credential in state.credentials().values() {
        let shown = holdings.published.get(&credential.name);
        let current = credential.current.and_then(|number| {
            let version = state.versions().get(&(credential.name.clone(), number))?;
            login(version).map(|(_, secret)| secret)
        });
        let fine = current.is_none() || shown.is_none() || shown.copied() == current;
        holds(fine, Invariant::TargetAgrees, || {
            format!("consumers of `{}` read {shown:?}", credential.name)
        })?;
    }
    Ok(())
}
