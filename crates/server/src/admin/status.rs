//! One screen: what is overdue, failing, unacknowledged and live.

use std::{sync::Arc, time::Duration};

use api::v1;
use model::{
    State,
    attempt::{Job, Liveness},
    credential::VersionState,
    grant::{Grant, GrantStage},
    rotation::{Rotation, Stage},
    time::{Span, Time},
};

use crate::{denied::Denied, edge::Call};

/// Most entries of each list.
const ROWS: usize = 100;
/// A schedule is overdue when its rotation has not begun this long after its instant.
const OVERDUE_AFTER: Span = Span::seconds(10);
/// How long the cluster is asked before this node answers with what it knows itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers without a leader as well: it is then that the status is wanted most.
pub(super) async fn get(call: &Call, _: v1::GetStatusRequest) -> Result<v1::GetStatusResponse, Denied> {
    let read = tokio::time::timeout(PATIENCE, call.edge.fresh.read()).await;
    let state = match read {
        Ok(Ok(complete)) => complete.state,
        Ok(Err(_)) | Err(_) => call.edge.consensus.local(),
    };
    let now = call.now();
    call.caller.check_alive(&state, now)?;
    let standing = call.edge.consensus.standing();
    let voters = standing.members.iter().filter(|member| member.voter);
    let reachable = voters.clone().filter(|member| standing.reaches(&state, member.id));
    let (voters, reachable) = (number(voters.count()), number(reachable.count()));
    Ok(v1::GetStatusResponse {
        leader: standing.leader.map_or(0, |id| id.0),
        voters,
        reachable,
        ..summary(&state, now)
    })
}

fn summary(state: &Arc<State>, now: Time) -> v1::GetStatusResponse {
    let open: Vec<&Rotation> = state.open_jobs().filter_map(|job| rotation(state, job)).collect();
    let grants: Vec<&Grant> = state.open_jobs().filter_map(|job| grant(state, job)).collect();
    let shown = |row: &&Rotation| api::rotation::shown(state, row);
    let quarantined = |row: &&&Rotation| matches!(row.stage, Stage::Quarantined);
    let failing = |row: &&&Rotation| !matches!(row.stage, Stage::Quarantined) && row.retry.count > 0;
    let unacknowledged = state
        .consumers()
        .values()
        .filter(|consumer| state.outstanding_of(consumer).next().is_some())
        .map(|consumer| api::consumer::shown(state, consumer, now));
    v1::GetStatusResponse {
        revision: state.revision(),
        overdue_schedules: overdue_schedules(state, now),
        failing: open.iter().filter(failing).map(shown).take(ROWS).collect(),
        quarantined: open.iter().filter(quarantined).map(shown).take(ROWS).collect(),
        unacknowledged: unacknowledged.take(ROWS).collect(),
        live_grants: grants.iter().filter(|row| is_out(row)).take(ROWS).map(|row| (*row).into()).collect(),
        awaiting_review: grants
            .iter()
            .filter(|row| matches!(row.stage, GrantStage::AwaitingReview))
            .take(ROWS)
            .map(|row| (*row).into())
            .collect(),
        overdue_reviews: overdue_reviews(state, now),
        now_ms: now.0,
        identities: number(state.identities().len()),
        credentials: number(state.credentials().len()),
        schedules: number(state.schedules().len()),
        open_rotations: number(open.len()),
        observing: observing(state),
        lost_secrets: state.lost().values().take(ROWS).map(|row| row.credential.to_string()).collect(),
        ..Default::default()
    }
}

/// That nothing fires, and since when.
fn observing(state: &State) -> Option<v1::Restoration> {
    let row = state.restoration().get(&0).filter(|_| state.is_observing())?;
    Some(v1::Restoration {
        at_ms: row.at.0,
        by: row.by.clone(),
        backup_at_ms: row.backup_at.0,
        backup_entry: row.backup.sequence,
        ledger_entry: row.ledger.sequence,
        accepted_loss: row.accepted_loss.clone(),
        ..looks(state)
    })
}

/// What logging in has found so far.
fn looks(state: &State) -> v1::Restoration {
    let count = |found: &[Liveness]| {
        number(state.looks().values().filter(|look| found.contains(&look.found)).count())
    };
    let odd = state.looks().values().filter_map(|look| {
        let version = state.versions().get(&(look.credential.clone(), look.version))?;
        let is_odd = match look.found {
            Liveness::Live => version.state == VersionState::Revoked,
            Liveness::Refused | Liveness::Absent => version.state != VersionState::Revoked,
            Liveness::Unknown => true,
        };
        is_odd.then(|| v1::OddVersion {
            credential: look.credential.to_string(),
            version: look.version,
            state: version.state.as_str().to_owned(),
            look: Some(look.into()),
        })
    });
    v1::Restoration {
        to_look_at: number(state.looked_at()),
        log_in: count(&[Liveness::Live]),
        refused: count(&[Liveness::Refused, Liveness::Absent]),
        not_asked: count(&[Liveness::Unknown]),
        odd: odd.take(ROWS).collect(),
        ..Default::default()
    }
}

fn rotation(state: &State, job: Job) -> Option<&Rotation> {
    match job {
        Job::Rotation(id) => state.rotations().get(&id),
        Job::Grant(_) => None,
    }
}

fn grant(state: &State, job: Job) -> Option<&Grant> {
    match job {
        Job::Grant(id) => state.grants().get(&id),
        Job::Rotation(_) => None,
    }
}

/// Whether there is, or may be, a temporary user at the target.
pub(crate) const fn is_out(grant: &Grant) -> bool {
    match grant.stage {
        GrantStage::Prepare
        | GrantStage::Install
        | GrantStage::Uncertain
        | GrantStage::Active
        | GrantStage::Retire
        | GrantStage::Sever
        | GrantStage::ProveRefused
        | GrantStage::Remove => true,
        GrantStage::Requested
        | GrantStage::AwaitingReview
        | GrantStage::Reviewed
        | GrantStage::Denied
        | GrantStage::Lapsed => false,
    }
}

fn overdue_schedules(state: &State, now: Time) -> Vec<String> {
    let overdue = state.overdue_schedules(Time(now.0.saturating_sub(OVERDUE_AFTER.0)));
    overdue.take(ROWS).map(ToString::to_string).collect()
}

fn overdue_reviews(state: &State, now: Time) -> Vec<String> {
    state.reviews_due(now).take(ROWS).map(ToString::to_string).collect()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
