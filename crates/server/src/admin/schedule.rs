//! Schedules: steering and previewing them.

use api::{Malformed, v1};
use model::{
    command::{PauseSchedule, ResumeSchedule, TriggerSchedule},
    outcome::Applied,
    refusal::Code,
    time::Time,
    timing::Timing,
};

use crate::{denied::Denied, edge::Call};

/// Fire times shown when nothing is said.
const PREVIEW: u32 = 5;
/// Most fire times shown.
const PREVIEW_MAX: u32 = 100;

pub(super) async fn pause(
    call: &Call,
    request: v1::PauseScheduleRequest,
) -> Result<v1::PauseScheduleResponse, Denied> {
    call.about("schedule", &request.name);
    let name = api::parse("name", &request.name)?;
    call.propose(PauseSchedule { name, reason: request.reason }).await?;
    Ok(v1::PauseScheduleResponse {})
}

pub(super) async fn resume(
    call: &Call,
    request: v1::ResumeScheduleRequest,
) -> Result<v1::ResumeScheduleResponse, Denied> {
    call.about("schedule", &request.name);
    call.propose(ResumeSchedule { name: api::parse("name", &request.name)? }).await?;
    Ok(v1::ResumeScheduleResponse {})
}

pub(super) async fn trigger(
    call: &Call,
    request: v1::TriggerScheduleRequest,
) -> Result<v1::TriggerScheduleResponse, Denied> {
    call.about("schedule", &request.name);
    let applied = call.propose(TriggerSchedule { name: api::parse("name", &request.name)? }).await?;
    let Applied::Started(id) = applied else { return Err(Denied::unexpected(&applied)) };
    Ok(v1::TriggerScheduleResponse { rotation: id.to_string() })
}

#[allow(clippy::unused_async, reason = "all calls have one shape")]
pub(super) async fn preview(
    call: &Call,
    request: v1::PreviewScheduleRequest,
) -> Result<v1::PreviewScheduleResponse, Denied> {
    if request.count > PREVIEW_MAX {
        let error = Malformed::new("count", format!("is over {PREVIEW_MAX}")).with_code(Code::OutOfRange);
        return Err(error.into());
    }
    let wire = request.timing.ok_or_else(|| Malformed::missing("timing"))?;
    let after = if request.after_ms == 0 { call.now() } else { Time(request.after_ms) };
    let timing = api::schedule::timing(&wire, call.edge.limits.period_floor, call.now())
        .map_err(|error| error.within("timing"))?;
    let count = if request.count == 0 { PREVIEW } else { request.count };
    Ok(v1::PreviewScheduleResponse { next: fires(&timing, after, count) })
}

/// The first `count` fire times after `after`.
pub(super) fn fires(timing: &Timing, after: Time, count: u32) -> Vec<v1::FireTime> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    timing.preview(after, count).iter().map(v1::FireTime::from).collect()
}

/// The fire times shown with a declared schedule.
pub(super) fn next_fires(timing: &Timing, now: Time) -> Vec<v1::FireTime> {
    fires(timing, now, PREVIEW)
}
