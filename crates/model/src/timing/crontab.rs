//! The five fields of crontab(5), read here and evaluated by the `cron` crate over the bare wall clock.
//!
//! The crate knows other fields (seconds first, Sunday is 1, no wrapping ranges, both day fields must match),
//! so each field is expanded to the set of its values and handed over as plain numbers; its own zone handling
//! loses and doubles fires at clock changes, so it is given the wall clock as if that were UTC.

use std::collections::BTreeSet;
use std::iter;
use std::str::FromStr;

use chrono::NaiveDateTime;
use cron::Schedule;
use thiserror::Error;

/// The longest cron expression, in bytes.
pub const CRON_LENGTH_MAX: usize = 256;

/// The most characters of a refused text that an error repeats.
const QUOTE_MAX: usize = 64;

const LAYOUT: &str = "`minute hour day-of-month month day-of-week`, such as `0 9 * * 1`";

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What is wrong with a cron expression, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CronFault {
    /// Longer than [`CRON_LENGTH_MAX`].
    #[error("it is {length} bytes long: write at most {CRON_LENGTH_MAX}")]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// `@reboot` names no time.
    #[error("`@reboot` names no time: write {LAYOUT}, or `@daily`")]
    Reboot,
    /// A word after `@` that is not a macro.
    #[error(
        "`{word}` is not known: write `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or \
         `@hourly`, or an interval instead of cron"
    )]
    UnknownMacro {
        /// As written.
        word: String,
    },
    /// Fewer than five fields, or more than seven.
    #[error("it has {count} fields instead of five: write {LAYOUT}")]
    FieldCount {
        /// How many there are.
        count: usize,
    },
    /// Six or seven fields, as in dialects with seconds and years.
    #[error("it has {count} fields, and seconds and years are not accepted: write {}", five_fields(.five))]
    Seconds {
        /// How many there are.
        count: usize,
        /// The five fields without the first one and the year, if they make sense.
        five: Option<String>,
    },
    /// A question mark, as in Quartz.
    #[error("`?` in the {field} is not accepted: write `*`")]
    QuestionMark {
        /// Which field.
        field: &'static str,
    },
    /// `L`, `W` or `#`, as in Quartz.
    #[error(
        "`{text}` in the {field} is not accepted, `L`, `W` and `#` have no meaning here: write plain days, such as \
         `1,15` or `28-31`"
    )]
    Extension {
        /// Which field.
        field: &'static str,
        /// The part that is wrong.
        text: String,
    },
    /// A step that is zero, longer than the field, or no number.
    #[error("`{text}` in the {field} has no usable step: write a step from 1 to {most}, such as `*/2`")]
    Step {
        /// Which field.
        field: &'static str,
        /// The part that is wrong.
        text: String,
        /// The longest step of this field.
        most: u32,
    },
    /// A step after a single value, which dialects read in different ways.
    #[error("`{text}` in the {field} steps from a single value: write a range, such as `{instead}`")]
    StepWithoutRange {
        /// Which field.
        field: &'static str,
        /// The part that is wrong.
        text: String,
        /// The same from that value to the end of the field.
        instead: String,
    },
    /// A value that the field does not have.
    #[error("`{text}` is not a valid {field}: write {choice}")]
    Value {
        /// Which field.
        field: &'static str,
        /// The part that is wrong.
        text: String,
        /// The values that the field has.
        choice: &'static str,
    },
    /// The evaluator does not take what was read; a defect of this program.
    #[error("it cannot be evaluated ({reason}): write {LAYOUT}")]
    Evaluator {
        /// As the evaluator put it.
        reason: String,
    },
}

fn five_fields(five: &Option<String>) -> String {
    five.as_ref().map_or_else(
        || LAYOUT.to_owned(),
        |five| format!("`minute hour day-of-month month day-of-week`, here `{five}`"),
    )
}

/// `text` made safe to print on a terminal and cut to a printable length.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

/// A cron expression ready to be evaluated: a time matches if any of the schedules does.
pub(super) struct Crontab(Vec<Schedule>);

impl Crontab {
    pub(super) fn parse(text: &str) -> Result<Self, CronFault> {
        let text = text.trim();
        if text.len() > CRON_LENGTH_MAX {
            return Err(CronFault::TooLong { length: text.len() });
        }
        if text.starts_with('@') {
            return Self::parse_fields(expand(text)?);
        }
        Self::parse_fields(text)
    }

    fn parse_fields(text: &str) -> Result<Self, CronFault> {
        let fields: Vec<&str> = text.split([' ', '\t']).filter(|field| !field.is_empty()).collect();
        let [minute, hour, day_of_month, month, day_of_week] = fields[..] else {
            return Err(miscounted(&fields));
        };
        let minute = MINUTE.plain(minute)?;
        let hour = HOUR.plain(hour)?;
        let either = !day_of_month.starts_with('*') && !day_of_week.starts_with('*');
        let day_of_month = DAY_OF_MONTH.plain(day_of_month)?;
        let month = MONTH.plain(month)?;
        let day_of_week = DAY_OF_WEEK.plain(day_of_week)?;

        let days = if either {
            vec![(day_of_month.as_str(), "*"), ("*", day_of_week.as_str())]
        } else {
            vec![(day_of_month.as_str(), day_of_week.as_str())]
        };
        let schedules = days.into_iter().map(|(day_of_month, day_of_week)| {
            let schedule = format!("0 {minute} {hour} {day_of_month} {month} {day_of_week}");
            Schedule::from_str(&schedule).map_err(|error| CronFault::Evaluator { reason: error.to_string() })
        });
        Ok(Self(schedules.collect::<Result<_, _>>()?))
    }

    /// The matching times of a bare wall clock after `local`, ascending, up to the end of the year 2100.
    pub(super) fn after(&self, local: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
        iter::successors(self.next(local), |previous| self.next(*previous))
    }

    fn next(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let clock = local.and_utc();
        self.0.iter().filter_map(|schedule| schedule.after(&clock).next()).min().map(|next| next.naive_utc())
    }
}

/// The five fields that the macro `text` stands for.
fn expand(text: &str) -> Result<&'static str, CronFault> {
    if text.eq_ignore_ascii_case("@reboot") {
        return Err(CronFault::Reboot);
    }
    MACROS
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name))
        .map(|(_, fields)| *fields)
        .ok_or_else(|| CronFault::UnknownMacro { word: quoted(text) })
}

/// The fault of an expression that does not have five fields.
fn miscounted(fields: &[&str]) -> CronFault {
    let count = fields.len();
    if !(6..=7).contains(&count) {
        return CronFault::FieldCount { count };
    }
    let five = fields[1..6].join(" ");
    CronFault::Seconds { count, five: Crontab::parse_fields(&five).is_ok().then_some(five) }
}

/// One of the five fields.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// How many values there are before they repeat: Sunday is 0 and 7.
    size: u32,
    /// What the `cron` crate adds to a value: its Sunday is 1.
    shift: u32,
    /// Three-letter names of the values from `first` on.
    names: &'static [&'static str],
    choice: &'static str,
}

const MINUTE: Field =
    Field { name: "minute", first: 0, last: 59, size: 60, shift: 0, names: &[], choice: "`0` to `59`" };

const HOUR: Field =
    Field { name: "hour", first: 0, last: 23, size: 24, shift: 0, names: &[], choice: "`0` to `23`" };

const DAY_OF_MONTH: Field =
    Field { name: "day of month", first: 1, last: 31, size: 31, shift: 0, names: &[], choice: "`1` to `31`" };

const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    size: 12,
    shift: 0,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    choice: "`1` to `12` or `JAN` to `DEC`",
};

const DAY_OF_WEEK: Field = Field {
    name: "day of week",
    first: 0,
    last: 7,
    size: 7,
    shift: 1,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    choice: "`0` to `7` (0 and 7 are Sunday) or `SUN` to `SAT`",
};

impl Field {
    /// The field in the words of the `cron` crate: `*`, or numbers and ascending ranges.
    fn plain(&self, text: &str) -> Result<String, CronFault> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            values.extend(self.item(item)?);
        }
        if values.len() == self.size as usize {
            return Ok("*".to_owned());
        }
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for value in values.into_iter().map(|value| value + self.shift) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == value => *last = value,
                Some(_) | None => runs.push((value, value)),
            }
        }
        let runs = runs
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
        Ok(runs.collect::<Vec<_>>().join(","))
    }

    /// The values of one member of a list: a value, a range or `*`, the latter two perhaps with a step.
    fn item(&self, text: &str) -> Result<impl Iterator<Item = u32>, CronFault> {
        let (base, step) = match text.split_once('/') {
            Some((base, step)) => (base, Some(self.step(step, text)?)),
            None => (text, None),
        };
        let (from, to) = match (base, base.split_once('-')) {
            ("*", _) => (self.first, self.last),
            (_, Some((from, to))) => (self.value(from)?, self.value(to)?),
            (_, None) => {
                let value = self.value(base)?;
                if let Some(step) = step {
                    return Err(self.step_without_range(text, base, step));
                }
                (value, value)
            }
        };
        let to = if from <= to { to } else { to + self.size };
        let (first, size) = (self.first, self.size);
        Ok((from..=to).step_by(step.unwrap_or(1) as usize).map(move |value| (value - first) % size + first))
    }

    fn step(&self, step: &str, text: &str) -> Result<u32, CronFault> {
        number(step).filter(|step| (1..=self.size).contains(step)).ok_or_else(|| CronFault::Step {
            field: self.name,
            text: quoted(text),
            most: self.size,
        })
    }

    fn step_without_range(&self, text: &str, base: &str, step: u32) -> CronFault {
        let instead = format!("{}-{}/{step}", quoted(base), self.last);
        CronFault::StepWithoutRange { field: self.name, text: quoted(text), instead }
    }

    /// A number or a name of this field.
    fn value(&self, text: &str) -> Result<u32, CronFault> {
        self.known(text).ok_or_else(|| self.not_a_value(text))
    }

    fn known(&self, text: &str) -> Option<u32> {
        let named = || {
            let index = self.names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
            Some(self.first + u32::try_from(index).ok()?)
        };
        number(text).filter(|value| (self.first..=self.last).contains(value)).or_else(named)
    }

    fn not_a_value(&self, text: &str) -> CronFault {
        let field = self.name;
        if text == "?" {
            return CronFault::QuestionMark { field };
        }
        let stem = text.trim_end_matches(['l', 'L', 'w', 'W']);
        let suffixed = stem != text && (stem.is_empty() || self.known(stem).is_some());
        if suffixed || text.contains('#') {
            return CronFault::Extension { field, text: quoted(text) };
        }
        CronFault::Value { field, text: quoted(text), choice: self.choice }
    }
}

/// A number of plain digits, without a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
