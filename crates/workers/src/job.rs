//! Performing a task: which verbs a step asks of target and stores, in which order, and what the answer means.

use std::{collections::BTreeSet, time::Duration};

use model::{
    attempt::{Failure, FailureClass, Liveness, Probed, Step, StepOutcome},
    sealed::associated,
};
use rand::distr::{Alphanumeric, SampleString};
use tokio::time::timeout;

use crate::{
    bundle::Bundle,
    crash::crash_point,
    fault::{Effect, Fault},
    provider::{self, Ending, Overlap, Probe, Provider, TEMPORARY_PREFIX, Temporary},
    retry,
    secret::{Login, Password},
    store,
    task::{Grant, Held, Look, Rotation, Subject, Task},
};

/// Random characters in the name of a temporary user, so that two clusters at one target do not meet.
const NAME_SUFFIX: usize = 6;

/// Performs one step within `within`, and says what came of it. An `Install` cut off by the deadline is of unknown
/// outcome; every other step may simply be repeated.
pub async fn perform(task: &Task, within: Duration) -> StepOutcome {
    let outcome = timeout(within, act(task)).await.unwrap_or_else(|_| {
        let message = format!("not done within {} ms, given up on", within.as_millis());
        Err(Fault { effect: Effect::Unknown, ..Fault::retryable(message) })
    });
    outcome.unwrap_or_else(|fault| failed(task, fault))
}

/// Attempts to log in once within `within`, and changes nothing. Says what was found, and why in words for people.
pub async fn look(look: &Look, within: Duration) -> (Liveness, String) {
    let provider = match provider::connect(&look.target, look.admin.clone()) {
        Ok(provider) => provider,
        Err(fault) => return (Liveness::Unknown, fault.message),
    };
    match timeout(within, provider.probe(&look.login)).await {
        Ok(probe) => {
            let found = probe.liveness();
            match probe {
                Probe::Live => (found, String::new()),
                Probe::Admitted(why) | Probe::Refused(why) => (found, why),
                Probe::Unknown(fault) => (found, fault.message),
            }
        }
        Err(_) => (Liveness::Unknown, format!("no answer within {} ms", within.as_millis())),
    }
}

/// What a fault means for the step: only an install may have to be called unknown.
fn failed(task: &Task, fault: Fault) -> StepOutcome {
    match (task.step, fault.effect) {
        (Step::Install, Effect::Unknown) => StepOutcome::Unknown { message: fault.message },
        _ => StepOutcome::Failed {
            retry_after: retry::delay(task.failures, fault.class),
            failure: Failure { class: fault.class, message: fault.message },
        },
    }
}

async fn act(task: &Task) -> Result<StepOutcome, Fault> {
    match &task.subject {
        Subject::Rotation(rotation) => {
            crash_point!("{}.before", task.step.as_str());
            let outcome = rotate(task, rotation).await;
            crash_point!("{}.after", task.step.as_str());
            outcome
        }
        Subject::Grant(grant) => {
            crash_point!("grant.{}.before", task.step.as_str());
            let outcome = serve(task, grant).await;
            crash_point!("grant.{}.after", task.step.as_str());
            outcome
        }
    }
}

/// One step of a rotation.
async fn rotate(task: &Task, rotation: &Rotation) -> Result<StepOutcome, Fault> {
    if task.step == Step::Prepare {
        return prepare_version(task, rotation);
    }
    let provider = provider::connect(&task.target, task.admin.clone())?;
    let provider = provider.as_ref();
    match task.step {
        Step::Install => install(task, rotation, provider).await,
        Step::Probe => Ok(probe(task, rotation, provider).await),
        Step::Verify => provider.verify(&candidate(rotation)?.login).await.map(done),
        Step::Publish => publish(task, rotation).await,
        Step::Retire => retire(rotation, provider).await.map(done),
        Step::Sever => sever(rotation, provider).await.map(done),
        Step::ProveRefused => prove_refused(task, &logins(&rotation.retiring), provider).await,
        Step::Rollback => rollback(task, rotation, provider).await,
        Step::Prepare | Step::Remove => Err(no_such_step(task.step, "rotation")),
    }
}

/// One step of a grant.
async fn serve(task: &Task, grant: &Grant) -> Result<StepOutcome, Fault> {
    if task.step == Step::Prepare {
        return prepare_grant(task, grant);
    }
    let Some(login) = &grant.login else {
        return match task.step {
            Step::Retire | Step::Sever | Step::ProveRefused | Step::Remove => {
                Ok(done("it ended before a temporary user was made"))
            }
            Step::Prepare | Step::Install | Step::Probe | Step::Verify | Step::Publish | Step::Rollback => {
                Err(Fault::permanent("there is no temporary user"))
            }
        };
    };
    let provider = provider::connect(&task.target, task.admin.clone())?;
    let provider = provider.as_ref();
    let ending = Ending { login, survivor: None, opened_before: None };
    match task.step {
        Step::Install => {
            let temporary =
                Temporary { login: login.clone(), role: grant.role.clone(), valid_until: grant.valid_until };
            let note = provider.install_temporary(&temporary).await?;
            crash_point!("grant.install.done");
            provider.verify(login).await.map_err(lasting)?;
            Ok(done(note))
        }
        Step::Probe => Ok(StepOutcome::Probed(Probed {
            candidate: provider.probe(login).await.liveness(),
            current: Liveness::Absent,
            retry_after: retry::delay(task.failures, FailureClass::Unreachable),
        })),
        Step::Verify => provider.verify(login).await.map(done),
        Step::Retire => provider.retire(&ending).await.map(done),
        Step::Sever => provider.sever(&ending).await.map(cut).map(done),
        Step::ProveRefused => prove_refused(task, &[login], provider).await,
        Step::Remove => provider.remove(&login.username, &grant.role).await.map(done),
        Step::Prepare | Step::Publish | Step::Rollback => Err(no_such_step(task.step, "grant")),
    }
}

fn prepare_version(task: &Task, rotation: &Rotation) -> Result<StepOutcome, Fault> {
    let before = rotation.current.as_ref().map(|held| held.login.username.as_str());
    let username = rotation.strategy.successor_of(before).to_owned();
    let place = associated::version(&rotation.credential, rotation.next_version);
    prepare(task, username, &place)
}

fn prepare_grant(task: &Task, grant: &Grant) -> Result<StepOutcome, Fault> {
    let suffix = Alphanumeric.sample_string(&mut rand::rng(), NAME_SUFFIX).to_lowercase();
    prepare(task, format!("{TEMPORARY_PREFIX}{}_{suffix}", grant.id.0), &associated::grant(grant.id))
}

fn prepare(task: &Task, username: String, place: &[u8]) -> Result<StepOutcome, Fault> {
    let password = Password::generate(&task.target.secrets);
    let sealed = task.data_key.seal(password.as_secret(), place);
    let sealed = sealed.map_err(|error| Fault::permanent(error.to_string()))?;
    Ok(StepOutcome::Prepared { username, sealed })
}

/// Stores first: whatever the target may honour can be read by someone.
async fn install(task: &Task, rotation: &Rotation, provider: &dyn Provider) -> Result<StepOutcome, Fault> {
    let held = candidate(rotation)?;
    provider.preflight(&rotation.strategy).await.map_err(harmless)?;
    let bundle = bundle(task, rotation, held)?;
    for placed in &rotation.placements {
        let staged = store::connect(&placed.store, placed.access.as_ref()).await;
        let staged = match staged {
            Ok(store) => store.stage(&placed.path, &bundle).await,
            Err(fault) => Err(fault),
        };
        // A value that is staged and not installed does no harm, so the outcome is not in doubt.
        staged.map_err(|fault| harmless(at_store(fault, placed.store.name.as_str(), &placed.path)))?;
    }
    crash_point!("install.staged");
    provider.install(&held.login).await.map(done)
}

async fn probe(task: &Task, rotation: &Rotation, provider: &dyn Provider) -> StepOutcome {
    let mut seen = [Liveness::Absent; 2];
    for (seen, held) in seen.iter_mut().zip([&rotation.candidate, &rotation.current]) {
        if let Some(held) = held {
            *seen = provider.probe(&held.login).await.liveness();
        }
    }
    let [candidate, current] = seen;
    let retry_after = retry::delay(task.failures, FailureClass::Unreachable);
    StepOutcome::Probed(Probed { candidate, current, retry_after })
}

async fn publish(task: &Task, rotation: &Rotation) -> Result<StepOutcome, Fault> {
    let bundle = bundle(task, rotation, candidate(rotation)?)?;
    for placed in &rotation.placements {
        let within = |fault| at_store(fault, placed.store.name.as_str(), &placed.path);
        let store = store::connect(&placed.store, placed.access.as_ref()).await.map_err(within)?;
        // Staged again: a store may have been added, or the target have moved, since the install.
        store.stage(&placed.path, &bundle).await.map_err(within)?;
        crash_point!("publish.staged");
        store.promote(&placed.path, &bundle).await.map_err(within)?;
    }
    Ok(done(match rotation.placements.len() {
        0 => "no stores beside `builtin`".to_owned(),
        1 => "1 store flipped".to_owned(),
        many => format!("{many} stores flipped"),
    }))
}

async fn retire(rotation: &Rotation, provider: &dyn Provider) -> Result<String, Fault> {
    let mut notes = Vec::new();
    for held in &rotation.retiring {
        notes.push(provider.retire(&ending(rotation, held)).await?);
    }
    Ok(joined(notes))
}

async fn sever(rotation: &Rotation, provider: &dyn Provider) -> Result<String, Fault> {
    let mut count = 0;
    for held in &rotation.retiring {
        count += provider.sever(&ending(rotation, held)).await?;
    }
    Ok(cut(count))
}

/// Logs in with each and must be refused by all.
async fn prove_refused(
    task: &Task,
    logins: &[&Login],
    provider: &dyn Provider,
) -> Result<StepOutcome, Fault> {
    let mut notes = Vec::new();
    for login in logins {
        let live = match provider.probe(login).await {
            Probe::Refused(why) => {
                notes.push(format!("`{}`: {why}", login.username));
                continue;
            }
            Probe::Unknown(fault) => return Err(fault),
            Probe::Live => format!("`{}` still logs in", login.username),
            Probe::Admitted(why) => format!("the password of `{}` is still accepted: {why}", login.username),
        };
        let retry_after = retry::delay(task.failures, FailureClass::Retryable);
        return Ok(StepOutcome::StillLive { message: live, retry_after });
    }
    Ok(done(joined(notes)))
}

/// The target first, then the stores, then the candidate's end: what consumers are sent back to must work.
async fn rollback(task: &Task, rotation: &Rotation, provider: &dyn Provider) -> Result<StepOutcome, Fault> {
    let current = rotation.current.as_ref();
    let Some(candidate) = &rotation.candidate else { return Ok(done("nothing had been prepared")) };
    if let Some(current) = current {
        if matches!(provider.probe(&current.login).await, Probe::Refused(_)) {
            provider.install(&current.login).await?;
        }
        provider.verify(&current.login).await?;
    }
    crash_point!("rollback.target");
    restore(task, rotation, candidate).await?;
    let ending =
        Ending { login: &candidate.login, survivor: current.map(|held| &held.login), opened_before: None };
    let mut notes = vec![provider.retire(&ending).await?];
    if tells_sessions_apart(task, candidate, current) {
        notes.push(cut(provider.sever(&ending).await?));
    }
    match provider.probe(&candidate.login).await {
        Probe::Refused(_) => {}
        Probe::Live | Probe::Admitted(_) => {
            return Err(Fault::retryable(format!("`{}` still logs in", candidate.login.username)));
        }
        Probe::Unknown(fault) => return Err(fault),
    }
    notes.push(match current {
        Some(held) => format!("version {} logs in", held.number),
        None => "there was no version before".to_owned(),
    });
    Ok(done(joined(notes)))
}

async fn restore(task: &Task, rotation: &Rotation, candidate: &Held) -> Result<(), Fault> {
    let back = rotation.current.as_ref().map(|held| bundle(task, rotation, held)).transpose()?;
    let bundle = bundle(task, rotation, candidate)?;
    for placed in &rotation.placements {
        let within = |fault| at_store(fault, placed.store.name.as_str(), &placed.path);
        let store = store::connect(&placed.store, placed.access.as_ref()).await.map_err(within)?;
        store.restore(&placed.path, &bundle, back.as_ref()).await.map_err(within)?;
    }
    Ok(())
}

/// Whether cutting the candidate's sessions spares those of the version that is wanted back.
fn tells_sessions_apart(task: &Task, candidate: &Held, current: Option<&Held>) -> bool {
    let many = provider::capabilities(&task.target.provider).is_some_and(|can| can.overlap == Overlap::Many);
    many || current.is_none_or(|current| current.login.username != candidate.login.username)
}

fn candidate(rotation: &Rotation) -> Result<&Held, Fault> {
    rotation.candidate.as_ref().ok_or_else(|| Fault::permanent("there is no candidate"))
}

fn bundle(task: &Task, rotation: &Rotation, held: &Held) -> Result<Bundle, Fault> {
    Bundle::new(&rotation.credential, held.number, &task.target, &held.login)
        .map_err(|error| Fault::permanent(format!("target `{}`: {error}", task.target.name)))
}

fn ending<'a>(rotation: &'a Rotation, held: &'a Held) -> Ending<'a> {
    Ending {
        login: &held.login,
        survivor: rotation.survivor.as_ref().map(|held| &held.login),
        opened_before: rotation.installed_by,
    }
}

fn logins(held: &[Held]) -> Vec<&Login> {
    held.iter().map(|held| &held.login).collect()
}

fn done(note: impl Into<String>) -> StepOutcome {
    StepOutcome::Done { note: note.into() }
}

fn cut(count: u64) -> String {
    match count {
        1 => "1 session cut".to_owned(),
        count => format!("{count} sessions cut"),
    }
}

/// Each note once, in their order of first appearance.
fn joined(notes: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    let notes: Vec<_> = notes.into_iter().filter(|note| seen.insert(note.clone())).collect();
    notes.join("; ")
}

/// A failure before the target was asked for anything that lasts.
fn harmless(mut fault: Fault) -> Fault {
    fault.effect = Effect::None;
    fault
}

/// A failure after the target was made to honour the login: where another look may help, a probe has to tell.
fn lasting(mut fault: Fault) -> Fault {
    if matches!(fault.class, FailureClass::Retryable | FailureClass::Unreachable) {
        fault.effect = Effect::Unknown;
    }
    fault
}

fn at_store(fault: Fault, store: &str, path: &str) -> Fault {
    fault.within(&format!("store `{store}`, secret `{path}`"))
}

fn no_such_step(step: Step, subject: &str) -> Fault {
    Fault::permanent(format!("a {subject} has no step `{}`", step.as_str()))
}
