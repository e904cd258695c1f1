//! What must hold when something is done at the target.

use model::{
    State,
    attempt::{Job, Step},
    credential::VersionState,
};

use super::{Book, Invariant, Verdict, broken, holds};
use crate::{
    hands::{login, unseal},
    target::{Holdings, Secret, Verb},
};

pub(super) fn check(book: &Book, job: Job, fence: u64, verb: &Verb, holdings: &Holdings) -> Verdict {
    let Some((begun, step)) = book.begun.get(&fence) else {
        return broken(Invariant::IntentBeforeEffect, format!("{verb:?} under {fence}, which nobody has"));
    };
    holds(*begun == job && may(*step, verb), Invariant::IntentBeforeEffect, || {
        format!("{verb:?} for {job} under {fence}, which is `{}` of {begun}", step.as_str())
    })?;
    something_logs_in(&book.reference, holdings, verb)?;
    let risen = book.destroyed.iter().find(|(user, secret)| holdings.honours(user, *secret));
    holds(risen.is_none(), Invariant::DestroyedIsRefused, || format!("{risen:?} logs in after {verb:?}"))?;
    let cut = |login: &&(String, Secret)| !holdings.sessions.contains_key(*login);
    holds(book.destroyed.iter().all(|login| cut(&login)), Invariant::SessionsAreCut, || {
        format!("a session of a version that was proven refused goes on after {verb:?}")
    })?;
    if let Verb::Publish { credential, secret } = verb {
        let verified = book.reference.versions_of(credential).any(|version| {
            version.sealed.as_ref().and_then(unseal) == Some(*secret)
                && (version.verified.is_some() || version.number == 1)
        });
        holds(verified, Invariant::PublishedWasVerified, || format!("{credential} shows {secret}"))?;
    }
    Ok(())
}

/// Whether a step may ask this of the target.
fn may(step: Step, verb: &Verb) -> bool {
    match verb {
        Verb::Probe { .. } => {
            matches!(step, Step::Probe | Step::Verify | Step::ProveRefused | Step::Rollback | Step::Install)
        }
        Verb::Install { .. } => matches!(step, Step::Install | Step::Rollback),
        Verb::Retire { .. } => matches!(step, Step::Retire | Step::Rollback),
        Verb::Sever { .. } => matches!(step, Step::Sever | Step::Rollback),
        Verb::InstallTemporary { .. } => step == Step::Install,
        Verb::Remove { .. } => step == Step::Remove,
        Verb::Publish { .. } => matches!(step, Step::Publish | Step::Rollback),
    }
}

/// While a credential has a current version, one that lives must log in.
pub(super) fn something_logs_in(state: &State, holdings: &Holdings, verb: &Verb) -> Verdict {
    for credential in state.credentials().values().filter(|row| row.current.is_some()) {
        let alive = state
            .versions_of(&credential.name)
            .filter(|version| version.state.is_live())
            .filter_map(login)
            .any(|(user, secret)| holdings.honours(&user, secret));
        holds(alive, Invariant::SomethingLogsIn, || {
            format!("no version of `{}` logs in after {verb:?}", credential.name)
        })?;
    }
    Ok(())
}

/// The secrets of versions that holders should use, with their users.
pub(super) fn wanted(state: &State) -> Vec<(String, Secret)> {
    let current = state.versions().values().filter(|version| version.state == VersionState::Active);
    current.filter_map(login).collect()
}
