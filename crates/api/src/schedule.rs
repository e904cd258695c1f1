//! Schedules and their timing.

use model::{
    command::PutSchedule,
    refusal::Code,
    schedule::{Misfire, OverlapEnd, RotationPolicy, Schedule},
    time::{Span, Time},
    timing::{Fire, Timing},
};

use crate::{Malformed, malformed::word, or_zero, parse, v1};

const MISFIRES: [(&str, Misfire); 2] = [("run-once", Misfire::RunOnce), ("skip", Misfire::Skip)];
const OVERLAP_ENDS: [(&str, OverlapEnd); 3] =
    [("hold", OverlapEnd::Hold), ("retire", OverlapEnd::Retire), ("abort", OverlapEnd::Abort)];

/// Reads a declared schedule. An interval shorter than `floor`, or a cron that never fires after `now`, is refused.
///
/// # Errors
/// [`Malformed`], naming the field.
pub fn declared(wire: &v1::Schedule, floor: Span, now: Time) -> Result<PutSchedule, Malformed> {
    let wire_timing = wire.timing.as_ref().ok_or_else(|| Malformed::missing("timing"))?;
    Ok(PutSchedule {
        name: parse("name", &wire.name)?,
        credential: parse("credential", &wire.credential)?,
        timing: timing(wire_timing, floor, now).map_err(|error| error.within("timing"))?,
        jitter: Span(wire.jitter_ms),
        misfire: match wire.misfire.as_str() {
            "" => Misfire::RunOnce,
            text => word("misfire", text, &MISFIRES)?,
        },
        policy: policy(wire.policy.as_ref()).map_err(|error| error.within("policy"))?,
    })
}

/// Reads a timing: an interval or a cron expression, never both.
///
/// # Errors
/// [`Malformed`], naming the field.
pub fn timing(wire: &v1::Timing, floor: Span, now: Time) -> Result<Timing, Malformed> {
    let refused = |field: &str, error| Malformed::new(field, error).with_code(Code::InvalidTiming);
    match (wire.every_ms, wire.cron.as_str()) {
        (0, "") => Err(Malformed::new("every_ms", "give it, or `cron`").with_code(Code::InvalidTiming)),
        (0, _) if wire.phase_ms != 0 => {
            Err(Malformed::new("phase_ms", "goes with `every_ms`, not with `cron`")
                .with_code(Code::InvalidTiming))
        }
        (0, expression) => {
            let zone = if wire.time_zone.is_empty() { "UTC" } else { &wire.time_zone };
            Timing::cron(expression, zone, now).map_err(|error| refused("cron", error))
        }
        (every, "") if wire.time_zone.is_empty() => {
            Timing::every(Span(every), Span(wire.phase_ms), floor).map_err(|error| refused("every_ms", error))
        }
        (_, "") => Err(Malformed::new("time_zone", "goes with `cron`, not with `every_ms`")
            .with_code(Code::InvalidTiming)),
        (_, _) => {
            Err(Malformed::new("cron", "give it or `every_ms`, not both").with_code(Code::InvalidTiming))
        }
    }
}

impl From<&Schedule> for v1::Schedule {
    fn from(row: &Schedule) -> Self {
        Self {
            name: row.name.to_string(),
            credential: row.credential.to_string(),
            timing: Some((&row.timing).into()),
            jitter_ms: row.jitter.0,
            misfire: match row.misfire {
                Misfire::RunOnce => "run-once",
                Misfire::Skip => "skip",
            }
            .to_owned(),
            policy: Some((&row.policy).into()),
            paused_reason: row.paused.clone().unwrap_or_default(),
            paused: row.paused.is_some(),
            next_ms: or_zero(row.fires_at()),
            last_ms: or_zero(row.last),
        }
    }
}

impl From<&Timing> for v1::Timing {
    fn from(timing: &Timing) -> Self {
        match timing {
            Timing::Every { period, phase } => {
                Self { every_ms: period.0, phase_ms: phase.0, ..Self::default() }
            }
            Timing::Cron { expression, zone } => {
                Self { cron: expression.clone(), time_zone: zone.clone(), ..Self::default() }
            }
        }
    }
}

impl From<&RotationPolicy> for v1::RotationPolicy {
    fn from(policy: &RotationPolicy) -> Self {
        Self {
            overlap_max_ms: policy.overlap_max.0,
            on_overlap_end: match policy.on_overlap_end {
                OverlapEnd::Hold => "hold",
                OverlapEnd::Retire => "retire",
                OverlapEnd::Abort => "abort",
            }
            .to_owned(),
            ack_within_ms: policy.ack_within.0,
            max_attempts: policy.max_attempts,
            step_timeout_ms: policy.step_timeout.0,
        }
    }
}

impl From<&Fire> for v1::FireTime {
    fn from(fire: &Fire) -> Self {
        Self { at_ms: fire.at.0, local: fire.local.clone(), note: fire.note.unwrap_or_default().to_owned() }
    }
}

fn policy(wire: Option<&v1::RotationPolicy>) -> Result<RotationPolicy, Malformed> {
    let default = RotationPolicy::default();
    let Some(wire) = wire else { return Ok(default) };
    let span = |given: u64, default: Span| if given == 0 { default } else { Span(given) };
    Ok(RotationPolicy {
        overlap_max: span(wire.overlap_max_ms, default.overlap_max),
        on_overlap_end: match wire.on_overlap_end.as_str() {
            "" => default.on_overlap_end,
            text => word("on_overlap_end", text, &OVERLAP_ENDS)?,
        },
        ack_within: span(wire.ack_within_ms, default.ack_within),
        max_attempts: if wire.max_attempts == 0 { default.max_attempts } else { wire.max_attempts },
        step_timeout: span(wire.step_timeout_ms, default.step_timeout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Span = Span::minutes(1);
    const NOW: Time = Time(1_790_000_000_000);

    fn every(ms: u64) -> v1::Timing {
        v1::Timing { every_ms: ms, ..Default::default() }
    }

    fn cron(text: &str) -> v1::Timing {
        v1::Timing { cron: text.into(), ..Default::default() }
    }

    #[test]
    fn a_timing_is_an_interval_or_a_cron_expression() {
        assert!(timing(&every(3_600_000), FLOOR, NOW).is_ok());
        assert!(timing(&cron("0 9 * * 1"), FLOOR, NOW).is_ok());
        let both = v1::Timing { cron: "0 9 * * 1".into(), ..every(3_600_000) };
        let zoned = v1::Timing { time_zone: "UTC".into(), ..every(3_600_000) };
        let phased = v1::Timing { phase_ms: 5, ..cron("0 9 * * 1") };
        for bad in
            [v1::Timing::default(), both, zoned, phased, every(5), cron("0 0 31 2 *"), cron("whenever")]
        {
            let refusal = model::refusal::Refusal::from(timing(&bad, FLOOR, NOW).unwrap_err());
            assert_eq!(refusal.code, Code::InvalidTiming, "{refusal}");
        }
    }

    #[test]
    fn what_a_policy_leaves_out_takes_the_default() {
        assert_eq!(policy(None), Ok(RotationPolicy::default()));
        assert_eq!(policy(Some(&v1::RotationPolicy::default())), Ok(RotationPolicy::default()));
        let written = v1::RotationPolicy::from(&RotationPolicy::default());
        assert_eq!(policy(Some(&written)), Ok(RotationPolicy::default()));
    }
}
