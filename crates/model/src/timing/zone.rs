//! Between instants and the wall clock of a time zone.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

use super::TimingError;
use super::crontab::quoted;
use crate::time::Time;

/// 2101-01-02T00:00:00Z. Cron ends with the year 2100; past this instant no zone is still in it, and far past
/// it the calendar itself ends.
const HORIZON: Time = Time(4_134_067_200_000);

/// A zone of the IANA database.
#[derive(Clone, Copy)]
pub(super) struct Zone(Tz);

/// How often the wall clock shows a written time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Once,
    /// The clock jumped over it.
    Never,
    /// The clock went back and showed it again.
    Twice,
}

impl Reading {
    /// What a person is told of it.
    pub(super) const fn note(self) -> Option<&'static str> {
        match self {
            Self::Once => None,
            Self::Never => Some("clock goes forward: first valid instant"),
            Self::Twice => Some("clock goes back: first of the two"),
        }
    }
}

impl Zone {
    pub(super) const UTC: Self = Self(Tz::UTC);

    /// Case matters, as in the database; a name with the wrong case is refused with the right one.
    pub(super) fn parse(name: &str) -> Result<Self, TimingError> {
        let name = name.trim();
        name.parse().map(Self).map_err(|_| TimingError::UnknownTimeZone {
            zone: quoted(name),
            instead: TZ_VARIANTS
                .iter()
                .map(|zone| zone.name())
                .find(|known| known.eq_ignore_ascii_case(name))
                .unwrap_or("Europe/Prague"),
        })
    }

    pub(super) fn name(self) -> &'static str {
        self.0.name()
    }

    /// What the wall clock shows at `at`; None past the [`HORIZON`].
    pub(super) fn local(self, at: Time) -> Option<NaiveDateTime> {
        if at >= HORIZON {
            return None;
        }
        let utc = DateTime::from_timestamp_millis(i64::try_from(at.0).ok()?)?;
        Some(utc.with_timezone(&self.0).naive_local())
    }

    /// The first instant at which the wall clock shows `local` or later; None before the Unix epoch.
    pub(super) fn instant(self, local: NaiveDateTime) -> Option<(Time, Reading)> {
        let (utc, reading) = match self.0.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) => (local.checked_sub_offset(offset.fix())?, Reading::Once),
            MappedLocalTime::Ambiguous(first, _) => (local.checked_sub_offset(first.fix())?, Reading::Twice),
            MappedLocalTime::None => {
                let (gap, before) = GapInfo::new(&local, &self.0)?.begin?;
                (gap.checked_sub_offset(before.fix())?, Reading::Never)
            }
        };
        Some((Time(u64::try_from(utc.and_utc().timestamp_millis()).ok()?), reading))
    }

    /// The wall clock at `at` as people read it; the plain instant where the calendar of zones ends.
    pub(super) fn show(self, at: Time) -> String {
        let utc = i64::try_from(at.0).ok().and_then(DateTime::from_timestamp_millis);
        match utc.filter(|_| at < HORIZON) {
            Some(utc) => utc.with_timezone(&self.0).format("%Y-%m-%d %H:%M:%S%.f %Z").to_string(),
            None => at.to_string(),
        }
    }
}
