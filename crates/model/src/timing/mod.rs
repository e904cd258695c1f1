//! When a credential falls due: a fixed interval since the epoch, or crontab(5) in a named time zone.
//!
//! Everything here is a pure function of its arguments: two nodes, or one node before and after a restart,
//! get the same instants from the same words, provided that they carry the same [`ZONE_DATA`].
//!
//! A cron fire happens at **the first instant at which the wall clock of its zone shows the written time or a
//! later one**. All that follows at a clock change comes from this one sentence:
//!
//! - A time that the clock skips (02:30 when it jumps from 02:00 to 03:00, a whole day in Pacific/Apia in
//!   2011) fires once, at the first valid instant after the jump. Several skipped times, and a regular one at
//!   that very instant, are one fire.
//! - A time that the clock shows twice fires the first time only. Hence an hourly or `*/15` expression is
//!   silent for the repeated hour: it fires once per written time, not once per elapsed hour. Where the
//!   elapsed time is what matters, [`Timing::Every`] is the right choice.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::time::{Span, Time};

mod crontab;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod zone;

pub use chrono_tz::IANA_TZDB_VERSION as ZONE_DATA;
pub use crontab::{CRON_LENGTH_MAX, CronFault};

use crontab::{Crontab, quoted};
use zone::{Reading, Zone};

/// The shortest interval accepted in production: one minute, the resolution of cron.
pub const PERIOD_FLOOR: Span = Span::minutes(1);

/// The most fires that one [`Timing::preview`] answers.
pub const PREVIEW_MAX: usize = 1_000;

/// When a credential falls due.
///
/// Built by [`Timing::every`] and [`Timing::cron`], which refuse what makes no sense. A value that came into
/// being in another way and makes none never fires; it does not panic.
///
/// Persisted: the variants and their fields keep their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timing {
    /// At `phase`, `period + phase`, `2 * period + phase`, … after the Unix epoch.
    Every {
        /// From one fire to the next; never zero.
        period: Span,
        /// How far the fires stand after the whole multiples of `period`; shorter than `period`.
        phase: Span,
    },
    /// Whenever the wall clock of `zone` matches `expression`.
    Cron {
        /// Five fields of crontab(5) or a macro, as it was written, trimmed.
        expression: String,
        /// The name of a time zone in the IANA database, such as `Europe/Prague`.
        zone: String,
    },
}

/// One instant at which a [`Timing`] fires, as shown to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fire {
    /// The instant.
    pub at: Time,
    /// The wall clock at that instant, such as `2026-12-01 09:00:00 CET`; UTC for an interval.
    pub local: String,
    /// What the clock did to this fire, if it changed just there.
    pub note: Option<&'static str>,
}

/// Why a timing is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimingError {
    /// The interval is zero or shorter than the floor.
    #[error("interval `{period}` is too short: write `{floor}` or longer")]
    IntervalTooShort {
        /// As asked.
        period: Span,
        /// The shortest that would do.
        floor: Span,
    },
    /// The phase is as long as the interval or longer.
    #[error("phase `{phase}` is out of range: write less than the interval `{period}`")]
    PhaseOutOfRange {
        /// As asked.
        phase: Span,
        /// The interval it belongs to.
        period: Span,
    },
    /// The cron expression cannot be read.
    #[error("cron expression `{expression}` is refused: {fault}")]
    CronSyntax {
        /// As written, made safe to print and cut to a printable length.
        expression: String,
        /// What is wrong, and what to write instead.
        fault: CronFault,
    },
    /// The cron expression is well formed, but no day matches it any more.
    #[error(
        "cron expression `{expression}` never fires between `{after}` and the year 2100: \
         write a day that its months have, such as `0 0 28 2 *`"
    )]
    CronNeverFires {
        /// As written.
        expression: String,
        /// The instant after which a fire was sought.
        after: Time,
    },
    /// The zone is not in the IANA database.
    #[error("time zone `{zone}` is unknown: write a name of the IANA database, such as `{instead}`")]
    UnknownTimeZone {
        /// As written, made safe to print and cut to a printable length.
        zone: String,
        /// The name that was probably meant, or an example.
        instead: &'static str,
    },
}

impl TimingError {
    /// The stable code of this refusal, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::IntervalTooShort { .. } => "interval_too_short",
            Self::PhaseOutOfRange { .. } => "phase_out_of_range",
            Self::CronSyntax { .. } => "cron_syntax",
            Self::CronNeverFires { .. } => "cron_never_fires",
            Self::UnknownTimeZone { .. } => "unknown_time_zone",
        }
    }
}

impl Timing {
    /// Every `period`, at `phase` after its whole multiples since the Unix epoch. The fires do not drift and
    /// do not depend on when the schedule was made.
    ///
    /// # Errors
    ///
    /// [`TimingError::IntervalTooShort`] when `period` is zero or under `floor` (see [`PERIOD_FLOOR`]),
    /// [`TimingError::PhaseOutOfRange`] when `phase` is not shorter than `period`.
    pub fn every(period: Span, phase: Span, floor: Span) -> Result<Self, TimingError> {
        let floor = floor.max(Span(1));
        if period < floor {
            return Err(TimingError::IntervalTooShort { period, floor });
        }
        if phase >= period {
            return Err(TimingError::PhaseOutOfRange { phase, period });
        }
        Ok(Self::Every { period, phase })
    }

    /// Whenever the wall clock of `zone` matches `expression`: the five fields of crontab(5), `minute hour
    /// day-of-month month day-of-week`, or one of `@yearly @annually @monthly @weekly @daily @midnight
    /// @hourly`.
    ///
    /// Fields take `*`, numbers, three-letter names, lists, ranges and steps (`*/15`, `1-30/5`). Sunday is 0
    /// and 7. A range may wrap (`22-2`, `FRI-MON`). When the day of month and the day of week are both
    /// restricted, a day that matches either will do; a field that begins with `*` counts as unrestricted
    /// even if it has a step (`*/2`), and then both must match. This is what Vixie cron does (`entry.c`,
    /// `find_jobs` in `cron.c`), rather than what its manual page says.
    ///
    /// # Errors
    ///
    /// [`TimingError::CronSyntax`], [`TimingError::UnknownTimeZone`], and [`TimingError::CronNeverFires`]
    /// when nothing matches after `now` (`0 0 31 2 *`).
    pub fn cron(expression: &str, zone: &str, now: Time) -> Result<Self, TimingError> {
        let expression = expression.trim();
        let crontab = Crontab::parse(expression)
            .map_err(|fault| TimingError::CronSyntax { expression: quoted(expression), fault })?;
        let zone = Zone::parse(zone)?;
        let name = zone.name().to_owned();
        if (Calendar { crontab, zone }).next_after(now).is_none() {
            return Err(TimingError::CronNeverFires { expression: expression.to_owned(), after: now });
        }
        Ok(Self::Cron { expression: expression.to_owned(), zone: name })
    }

    /// The first fire strictly after `after`, whatever was asked before: going on from a persisted fire and
    /// going through them one by one give the same instants. None when there is none, for cron at the latest
    /// past the year 2100.
    #[must_use]
    pub fn next_after(&self, after: Time) -> Option<Time> {
        match self {
            Self::Every { period, phase } => next_multiple(*period, *phase, after),
            Self::Cron { expression, zone } => Some(Calendar::parse(expression, zone)?.next_after(after)?.0),
        }
    }

    /// The first `count` fires strictly after `after`, at most [`PREVIEW_MAX`], each with its wall clock and
    /// with a note where a clock change moved it.
    #[must_use]
    pub fn preview(&self, after: Time, count: usize) -> Vec<Fire> {
        let mut after = after;
        let mut fires = Vec::new();
        let calendar = match self {
            Self::Every { .. } => None,
            Self::Cron { expression, zone } => Calendar::parse(expression, zone),
        };
        while fires.len() < count.min(PREVIEW_MAX) {
            let next = match self {
                Self::Every { period, phase } => {
                    next_multiple(*period, *phase, after).map(|at| (at, Reading::Once))
                }
                Self::Cron { .. } => calendar.as_ref().and_then(|calendar| calendar.next_after(after)),
            };
            let Some((at, reading)) = next else { break };
            let zone = calendar.as_ref().map_or(Zone::UTC, |calendar| calendar.zone);
            fires.push(Fire { at, local: zone.show(at), note: reading.note() });
            after = at;
        }
        fires
    }
}

/// How much later than its fires the schedule `id` acts, from zero to `max`, both included.
///
/// It depends on the id alone (the first eight bytes of SHA-256 over `revolve/jitter/` and the id, scaled to
/// the range), so that schedules with the same expression spread out, while each keeps its own order and
/// distance between fires, on every node.
#[must_use]
pub fn jitter(id: &str, max: Span) -> Span {
    let hash = Sha256::new().chain_update("revolve/jitter/").chain_update(id).finalize();
    let point = hash.iter().take(8).fold(0_u64, |point, byte| (point << 8) | u64::from(*byte));
    let scaled = (u128::from(point) * (u128::from(max.0) + 1)) >> 64;
    Span(u64::try_from(scaled).unwrap_or(max.0).min(max.0))
}

/// The first `k * period + phase` after `after`.
fn next_multiple(period: Span, phase: Span, after: Time) -> Option<Time> {
    let Some(elapsed) = after.0.checked_sub(phase.0) else { return Some(Time(phase.0)) };
    let multiple = elapsed.checked_div(period.0)?.checked_add(1)?;
    Some(Time(multiple.checked_mul(period.0)?.checked_add(phase.0)?))
}

/// A crontab and the clock it is read against.
struct Calendar {
    crontab: Crontab,
    zone: Zone,
}

impl Calendar {
    /// None for words that [`Timing::cron`] would have refused.
    fn parse(expression: &str, zone: &str) -> Option<Self> {
        Some(Self { crontab: Crontab::parse(expression).ok()?, zone: Zone::parse(zone).ok()? })
    }

    /// The first fire after `after`, and how its written time was read.
    ///
    /// The clock reads `local` at `after`, so whatever was written up to `local` has fired. What is written
    /// later may have fired too, if the clock went back shortly before `after`: those are skipped, at most as
    /// many as there are minutes in the longest repetition.
    fn next_after(&self, after: Time) -> Option<(Time, Reading)> {
        const REPEATED_MINUTES_MAX: usize = 24 * 60;
        let local = self.zone.local(after)?;
        self.crontab
            .after(local)
            .take(REPEATED_MINUTES_MAX + 1)
            .filter_map(|written| self.zone.instant(written))
            .find(|(at, _)| *at > after)
    }
}
