//! What must hold between the state before a command and the state after it.

use model::{
    State,
    attempt::{Attempt, Job},
    audit::AuditRecord,
    command::{Command, Stamped},
    credential::{Version, VersionState},
    grant::GrantStage,
    outcome::Outcome,
    rotation::{Cause, Stage},
};

use super::{Book, Invariant, Verdict, broken, holds};
use crate::hands::login;

pub(super) fn check(
    book: &mut Book,
    before: &State,
    after: &State,
    stamped: &Stamped,
    outcome: &Outcome,
) -> Verdict {
    holds(before.now() <= after.now(), Invariant::TimeNeverBack, || {
        format!("from {} to {}", before.now(), after.now())
    })?;
    audit_grows(before, after)?;
    if outcome.is_err() {
        return Ok(());
    }
    revisions(before, after)?;
    cursors(before, after)?;
    attempts(before, after)?;
    if let Command::Finish(finish) = &stamped.command {
        let fits = fences(before, finish.job).contains(&Some(finish.fence));
        holds(fits, Invariant::StaleOutcomesRefused, || {
            format!(
                "{} of {} was taken in place of {:?}",
                finish.fence,
                finish.job,
                fences(before, finish.job)
            )
        })?;
    }
    rotations(book, before, after)?;
    versions(book, before, after, &stamped.command)?;
    grants(before, after, &stamped.command)?;
    let due = after.next_due().filter(|due| *due <= after.now());
    let ticked = matches!(stamped.command, Command::Tick(_));
    holds(!ticked || due.is_none(), Invariant::TicksLeaveNothing, || format!("{due:?} is due still"))
}

/// New records follow the old ones, each bound to the one before.
fn audit_grows(before: &State, after: &State) -> Verdict {
    let mut last = before.audit_head();
    for record in after.audit().range(last.sequence + 1..).map(|(_, record): (_, &AuditRecord)| record) {
        let bound = record.sequence == last.sequence + 1
            && record.previous == last.hash
            && record.expected_hash() == record.hash;
        holds(bound, Invariant::AuditVerifies, || format!("record {} is not bound", record.sequence))?;
        last.sequence = record.sequence;
        last.hash = record.hash;
    }
    holds(last == after.audit_head(), Invariant::AuditVerifies, || "the head is another record".to_owned())
}

fn revisions(before: &State, after: &State) -> Verdict {
    let new = after.events().range(before.revision() + 1..).map(|(revision, _)| *revision);
    holds(new.eq(before.revision() + 1..=after.revision()), Invariant::DenseRevisions, || {
        format!("after {} up to {}", before.revision(), after.revision())
    })
}

fn cursors(before: &State, after: &State) -> Verdict {
    for (name, old) in before.consumers().iter() {
        let Some(new) = after.consumers().get(name) else { continue };
        let forward = old.delivered <= new.delivered
            && old.received.cursor() <= new.received.cursor()
            && old.enforced.cursor() <= new.enforced.cursor();
        let within = new.delivered <= after.revision() && new.enforced.cursor() <= after.revision();
        holds(forward && within, Invariant::CursorsNeverBack, || {
            format!("`{name}` went from {old:?} to {new:?}")
        })?;
    }
    Ok(())
}

/// Old and new attempts of every job that is open.
fn attempts(before: &State, after: &State) -> Verdict {
    for job in after.open_jobs() {
        let (old, new) = (attempt(before, job), attempt(after, job));
        let Some(new) = new.filter(|new| Some(*new) != old) else { continue };
        holds(old.is_none(), Invariant::OneAttempt, || format!("{job} has {old:?} and gets {new:?}"))?;
    }
    Ok(())
}

fn attempt(state: &State, job: Job) -> Option<&Attempt> {
    match job {
        Job::Rotation(id) => state.rotations().get(&id)?.attempt.as_ref(),
        Job::Grant(id) => state.grants().get(&id)?.attempt.as_ref(),
    }
}

/// The attempt in flight, and the one that was called off.
fn fences(state: &State, job: Job) -> [Option<u64>; 2] {
    let in_flight = attempt(state, job).map(|attempt| attempt.fence);
    let called_off = match job {
        Job::Rotation(id) => state.rotations().get(&id).and_then(|row| row.retry.called_off),
        Job::Grant(id) => state.grants().get(&id).and_then(|row| row.retry.called_off),
    };
    [in_flight, called_off]
}

fn rotations(book: &mut Book, before: &State, after: &State) -> Verdict {
    for (id, old) in before.rotations().iter() {
        let new = after.rotations().get(id);
        let fine = if old.stage.is_terminal() { new.is_none_or(|new| new == old) } else { new.is_some() };
        holds(fine, Invariant::EndsAreFinal, || format!("{old:?} became {new:?}"))?;
    }
    for (id, new) in after.rotations().iter() {
        let Some(old) = before.rotations().get(id) else {
            if let Cause::Due { schedule, at } = &new.cause {
                let first = book.fired.insert((schedule.clone(), *at));
                holds(first, Invariant::OneEffectPerInstant, || format!("`{schedule}` at {at} again"))?;
            }
            let others = after
                .rotations()
                .values()
                .filter(|row| row.credential == new.credential && !row.stage.is_terminal());
            let count = others.count();
            holds(count <= 1, Invariant::OneRotation, || format!("`{}` has {count}", new.credential))?;
            continue;
        };
        if let Some(was) = old.to.filter(|was| new.to != Some(*was)) {
            let was = after.versions().get(&(new.credential.clone(), was));
            holds(was.is_none_or(|was| !was.state.is_live()), Invariant::OneCandidate, || {
                format!("{id} lets go of {was:?}")
            })?;
        }
    }
    Ok(())
}

fn versions(book: &mut Book, before: &State, after: &State, command: &Command) -> Verdict {
    for (key, old) in before.versions().iter() {
        let Some(new) = after.versions().get(key) else {
            return broken(Invariant::RevokedStayDead, format!("{key:?} was forgotten"));
        };
        if old.state == new.state {
            continue;
        }
        let legal = match old.state {
            VersionState::Prepared => true,
            VersionState::Active | VersionState::Tainted => new.state != VersionState::Prepared,
            VersionState::Revoked => new.state > VersionState::Revoked,
            VersionState::Destroyed => false,
        };
        holds(legal, Invariant::RevokedStayDead, || format!("{key:?}: {:?} to {:?}", old.state, new.state))?;
        if old.state.is_live() && !new.state.is_live() {
            death(before, new, command)?;
        }
        if new.state == VersionState::Destroyed {
            book.destroyed.extend(login(old));
        }
    }
    Ok(())
}

fn death(before: &State, version: &Version, command: &Command) -> Verdict {
    if matches!(command, Command::Revoke(_)) {
        return Ok(());
    }
    let rotation = if let Command::Finish(finish) = command
        && let Job::Rotation(id) = finish.job
    {
        before.rotations().get(&id)
    } else {
        None
    };
    let excused = rotation.is_some_and(|rotation| {
        if rotation.stage == Stage::Rollback {
            return rotation.to == Some(version.number);
        }
        let successor = rotation.to.and_then(|to| before.versions().get(&(rotation.credential.clone(), to)));
        rotation.retiring.contains(&version.number)
            && successor.is_some_and(|row| row.verified.is_some() && row.state == VersionState::Active)
    });
    holds(excused, Invariant::RetiredAfterVerified, || {
        format!("{}@{} died by {}", version.credential, version.number, command.action())
    })
}

fn grants(before: &State, after: &State, command: &Command) -> Verdict {
    for (id, new) in after.grants().iter() {
        let over = new.expires.is_some_and(|end| end <= after.now());
        // Between its end and the tick that says so it permits nothing, which is asked of the row itself.
        let ticked = matches!(command, Command::Tick(_)) && new.stage <= GrantStage::Active;
        let lives = over && (ticked || new.is_live(after.now()));
        let old = before.grants().get(id);
        let back = old.is_some_and(|old| old.ended.is_some()) && new.stage <= GrantStage::Active;
        let changed = old.is_some_and(|old| old.stage.is_terminal() && old != new);
        holds(!lives && !back, Invariant::GrantsEnd, || format!("{id} is {:?} after its end", new.stage))?;
        holds(!changed, Invariant::EndsAreFinal, || format!("{id} was over and has changed"))?;
    }
    Ok(())
}
