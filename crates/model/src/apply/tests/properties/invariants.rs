//! What must hold after every command, whatever it was.

use crate::{
    State,
    attempt::Job,
    command::{Command, Stamped},
    credential::{Credential, Version, VersionState},
    grant::{Grant, GrantStage},
    key::{DataKeyState, RootKeyState},
    membership::Membership,
    outcome::Outcome,
    rotation::{Order, Rotation, Stage},
};

/// Holds the state before and after one command against all promises.
pub(super) fn check(before: &State, after: &State, stamped: &Stamped, outcome: &Outcome) {
    check_refusal(before, after, stamped, outcome);
    check_feed(before, after);
    check_versions(before, after, &stamped.command);
    check_rotations(before, after);
    check_grants(before, after);
    check_keys(before, after, &stamped.command);
    check_nodes(before, after);
    check_certificates(before, after);
    for credential in after.credentials().values() {
        check_credential(after, credential);
    }
    if matches!(stamped.command, Command::Tick(_)) {
        let due = after.next_due();
        assert!(
            due.is_none_or(|due| due > after.now()),
            "still due at {due:?} after a tick at {}",
            after.now()
        );
    }
    assert!(before.now() <= after.now() && before.facts.fence <= after.facts.fence);
}

/// Who holds what, what is open and what is due: the same as if it were made anew from the tables.
pub(super) fn check_index(state: &State) {
    state.assert_derived();
}

fn check_refusal(before: &State, after: &State, stamped: &Stamped, outcome: &Outcome) {
    let Err(refusal) = outcome else { return };
    assert_eq!(before.content_digest(), after.content_digest(), "{refusal:?} changed something");
    let mut facts = after.facts.clone();
    (facts.now, facts.audit) = (before.facts.now, before.facts.audit);
    assert_eq!(facts, before.facts, "{refusal:?} changed the counters");
    let record = after.audit().values().next_back().unwrap();
    assert_eq!(record.sequence, before.audit_head().sequence + 1);
    assert_eq!(record.refused.as_deref(), Some(refusal.code.as_str()));
    assert_eq!((&record.actor, record.action.as_str()), (&stamped.actor, stamped.command.action()));
    assert!(!refusal.message.is_empty());
}

/// Everything sealed stays sealed under a key that is still there, and sealing anew changes nothing else.
fn check_keys(before: &State, after: &State, command: &Command) {
    let keys = after.data_keys();
    let living: Vec<u32> = keys.iter().filter(|key| !key.wrapped.is_empty()).map(|key| key.id).collect();
    for (place, sealed) in after.sealed_after(None) {
        let key = sealed.key().expect("the moves seal under numbered keys");
        assert!(living.contains(&key), "{place} is sealed under {key}, and there are {keys:?}");
    }
    let counted: u64 = living.iter().map(|key| after.sealed_under(*key)).sum();
    assert_eq!(counted, after.sealed_after(None).count() as u64, "every value is counted once");
    let in_state = |state| keys.iter().filter(|key| key.state == state).count();
    assert_eq!(in_state(DataKeyState::Active), 1, "{keys:?}");
    assert!(in_state(DataKeyState::Retiring) <= 1, "{keys:?}");
    for old in before.data_keys() {
        let new = keys.iter().find(|key| key.id == old.id).expect("numbers of keys are never forgotten");
        assert!(old.state <= new.state, "{old:?} became {new:?}");
    }
    for (id, old) in before.root_keys().iter() {
        let new = after.root_keys().get(id).map_or(RootKeyState::Held, |row| row.state);
        assert!(old.state <= new, "root key {id} went from {:?} to {new:?}", old.state);
    }
    if let Command::Reseal(_) = command {
        let contents = |state: &State| -> Vec<_> {
            state.sealed_after(None).map(|(place, sealed)| (place, sealed.as_bytes()[5..].to_vec())).collect()
        };
        assert_eq!(contents(before), contents(after), "sealing anew changed what is sealed");
    }
}

fn check_nodes(before: &State, after: &State) {
    for (id, row) in after.memberships().iter() {
        match before.memberships().get(id) {
            Some(old) => {
                assert!(old.removal.is_none() || old.removal == row.removal, "`{id}` is no longer removed");
                let storage = |row: &Membership| row.admission.as_ref().map(|admission| admission.storage);
                assert_eq!(storage(old), storage(row), "`{id}` was given to another");
            }
            None if row.removal.is_none() => {
                let known = before.nodes().iter().map(|(id, _)| id);
                let mut known = known.chain(before.memberships().iter().map(|(id, _)| id));
                assert!(known.all(|other| other < id), "`{id}` is not above all that were known");
            }
            None => {}
        }
        assert!(row.removal.is_none() || !after.nodes().contains(id), "`{id}` was removed and is a node");
    }
    assert!(before.memberships().iter().all(|(id, _)| after.memberships().contains(id)));
}

fn check_feed(before: &State, after: &State) {
    let revisions = after.events().iter().map(|(revision, _)| *revision);
    assert!(revisions.eq(after.history_starts_after() + 1..=after.revision()), "revisions are not dense");
    assert!(before.revision() <= after.revision());
    for (name, old) in before.consumers().iter() {
        let Some(new) = after.consumers().get(name) else { continue };
        assert!(old.since <= new.since && old.delivered <= new.delivered, "a cursor of `{name}` went back");
        assert!(old.received.cursor() <= new.received.cursor());
        assert!(old.enforced.cursor() <= new.enforced.cursor());
        assert!(new.delivered <= after.revision() && new.enforced.cursor() <= after.revision());
        for receipts in [&new.received, &new.enforced] {
            let ranges = receipts.ranges();
            assert!(ranges.iter().all(|(from, to)| from <= to && *from > receipts.cursor() + 1));
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "ranges touch: {ranges:?}");
        }
    }
}

fn check_versions(before: &State, after: &State, command: &Command) {
    for (key, old) in before.versions().iter() {
        let new = after.versions().get(key).expect("versions are never forgotten");
        let legal = match old.state {
            VersionState::Prepared => true,
            VersionState::Active | VersionState::Tainted => new.state != VersionState::Prepared,
            VersionState::Revoked => new.state >= VersionState::Revoked,
            VersionState::Destroyed => new.state == VersionState::Destroyed,
        };
        assert!(legal, "{key:?} went from {:?} to {:?}", old.state, new.state);
        if old.state.is_live() && !new.state.is_live() {
            check_death(before, new, command);
        }
    }
    for version in after.versions().values() {
        assert_eq!(version.sealed.is_none(), version.state == VersionState::Destroyed);
        assert!(version.state.is_live() == version.revoked.is_none());
    }
}

/// Without an explicit revocation a version dies only when its successor was verified, or as a candidate taken back.
fn check_death(before: &State, version: &Version, command: &Command) {
    let Command::Finish(finish) = command else {
        assert!(matches!(command, Command::Revoke(_)), "{command:?} killed {version:?}");
        return;
    };
    let Job::Rotation(id) = finish.job else { panic!("a grant killed {version:?}") };
    let rotation = before.rotations().get(&id).unwrap();
    if rotation.stage == Stage::Rollback {
        assert_eq!(rotation.to, Some(version.number), "only the candidate dies on the way back");
        return;
    }
    assert!(rotation.retiring.contains(&version.number));
    let successor = rotation.to.expect("a successor");
    let successor = before.versions().get(&(rotation.credential.clone(), successor)).unwrap();
    assert!(successor.verified.is_some() && successor.state == VersionState::Active, "{rotation:?}");
}

fn check_rotations(before: &State, after: &State) {
    for (id, old) in before.rotations().iter() {
        if old.stage.is_terminal() {
            assert!(after.rotations().get(id).is_none_or(|new| new == old), "{id} had ended");
        } else {
            assert!(after.rotations().contains(id), "{id} was under way");
        }
    }
    for (id, new) in after.rotations().iter() {
        let old = before.rotations().get(id);
        check_attempt(before, old.and_then(|row| row.attempt.as_ref()), new.attempt.as_ref());
        if let Some(attempt) = &new.attempt {
            assert_eq!(Some(attempt.step), new.stage.step());
        }
        // One candidate for one run: another one only after the first was revoked.
        if let Some(was) = old.and_then(|row| row.to)
            && new.to != Some(was)
        {
            let was = after.versions().get(&(new.credential.clone(), was)).unwrap();
            assert!(!was.state.is_live(), "a second candidate while {was:?}");
        }
    }
}

fn check_attempt(
    before: &State,
    old: Option<&crate::attempt::Attempt>,
    new: Option<&crate::attempt::Attempt>,
) {
    let Some(new) = new.filter(|new| Some(*new) != old) else { return };
    assert!(old.is_none(), "two attempts at once");
    assert!(new.fence > before.facts.fence, "fences grow");
}

fn check_grants(before: &State, after: &State) {
    for (id, old) in before.grants().iter() {
        let Some(new) = after.grants().get(id) else {
            assert!(old.stage.is_terminal());
            continue;
        };
        if old.stage.is_terminal() {
            assert_eq!(old, new, "{id} was over");
        }
        if old.ended.is_some() {
            assert!(new.stage > GrantStage::Active, "{id} came back to life");
        }
        check_attempt(before, old.attempt.as_ref(), new.attempt.as_ref());
    }
    for grant in after.grants().values() {
        check_grant(after, grant);
    }
}

/// What was revoked stays so, until its time was over long ago.
fn check_certificates(before: &State, after: &State) {
    for serial in before.revoked_serials() {
        let row = before.certificates().get(serial).expect("a row of the same table");
        let is_over = row.expires.is_some_and(|end| end < after.now());
        assert!(is_over || after.revoked_serials().any(|other| other == serial), "{serial} is good again");
    }
    assert!(before.revoked_nodes().iter().all(|(node, row)| after.revoked_nodes().get(node) == Some(row)));
}

fn check_grant(state: &State, grant: &Grant) {
    let over = grant.expires.is_some_and(|end| end <= state.now());
    assert!(!(over && grant.is_live(state.now())), "{} lives past its end", grant.id);
    if grant.stage == GrantStage::Active {
        assert!(
            grant.sealed.is_some() && grant.decided.as_ref().is_some_and(|(by, _)| *by != grant.requester)
        );
    }
    if let Some(review) = &grant.review {
        assert_ne!(review.by, grant.requester);
    }
    if matches!(grant.stage, GrantStage::Remove | GrantStage::AwaitingReview | GrantStage::Reviewed) {
        assert!(grant.sealed.is_none() && grant.refused.is_some() && grant.ended_revision.is_some());
    }
}

fn check_credential(state: &State, credential: &Credential) {
    let name = &credential.name;
    let open: Vec<&Rotation> = state
        .rotations()
        .values()
        .filter(|row| row.credential == *name && !row.stage.is_terminal())
        .collect();
    assert!(open.len() <= 1, "two rotations of `{name}` at once");
    assert_eq!(credential.rotation, open.first().map(|row| row.id));

    let live: Vec<&Version> = state.versions_of(name).filter(|version| version.state.is_live()).collect();
    let active: Vec<u32> =
        live.iter().filter(|row| row.state == VersionState::Active).map(|row| row.number).collect();
    assert_eq!(active, credential.current.into_iter().collect::<Vec<_>>(), "of `{name}`");
    let Some(rotation) = open.first() else {
        assert_eq!(live.len(), active.len(), "nobody looks after a live version of `{name}`");
        return;
    };
    let forlorn = live.iter().find(|version| {
        let number = version.number;
        rotation.from != Some(number) && rotation.to != Some(number) && credential.current != Some(number)
    });
    assert!(forlorn.is_none(), "nobody looks after {forlorn:?}: {rotation:?}");
    if rotation.order == Order::OverlapFirst
        && let Some(from) = rotation.from
    {
        check_something_logs_in(state, rotation, from);
    }
}

/// While versions overlap, the old one is honoured until the new one is verified.
fn check_something_logs_in(state: &State, rotation: &Rotation, from: u32) {
    let version = |number| state.versions().get(&(rotation.credential.clone(), number)).unwrap();
    let successor = rotation.to.map(version).filter(|version| version.verified.is_some());
    let lives = |version: &Version| version.state.is_live();
    assert!(lives(version(from)) || successor.is_some_and(lives), "nothing logs in during {rotation:?}");
}
