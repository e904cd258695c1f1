//! Properties: any crontab in any zone against an independent walk along the clock, and any text at all.

use std::{fmt, iter};

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::tests::utc;
use super::*;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// More than any clock has gone back at once since 1970 (Antarctica/Casey, three hours).
const REPEATED_MAX: u64 = 6 * 60 * MINUTE;

#[test]
fn every_zone_agrees_with_its_own_clock_at_every_change_of_two_years() {
    for zone in TZ_VARIANTS {
        let calendar = Calendar::parse("*/10 * * * *", zone.name()).unwrap();
        let mut after = utc("2025-01-01T00:00");
        while let Some(change) = change_after(zone, after).filter(|change| *change < utc("2027-01-01T00:00"))
        {
            let window = (Time(change.0 - 4 * 60 * MINUTE), Time(change.0 + 4 * 60 * MINUTE));
            let expected = walk(|clock| clock.minute() % 10 == 0, zone, window);
            assert_eq!(all_fires(&calendar, window), expected, "{} at {change}", zone.name());
            after = change;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn cron_agrees_with_walking_along_the_clock(
        plan in plans(), zone in zones(), from in instants(), lead in 0..21 * DAY,
    ) {
        // Three weeks around a clock change, if the zone still has any.
        let around = change_after(zone, from).unwrap_or(from);
        let start = Time((around.0 - lead) / MINUTE * MINUTE);
        let window = (start, Time(start.0 + 21 * DAY));
        let calendar = Calendar::parse(&plan.to_string(), zone.name()).unwrap();
        prop_assert_eq!(
            all_fires(&calendar, window),
            walk(|clock| plan.matches(clock), zone, window),
            "`{}` in {} from {}", plan, zone.name(), start
        );
    }

    #[test]
    fn a_restart_at_any_instant_goes_on_where_the_iteration_would(
        plan in plans(), zone in zones(), from in instants(), cuts in prop::collection::vec(0..DAY / 2, 16),
    ) {
        let start = Time(change_after(zone, from).unwrap_or(from).0 - DAY / 4);
        let timing = Timing::Cron { expression: plan.to_string(), zone: zone.name().to_owned() };
        let fires: Vec<Time> = timing.preview(start, PREVIEW_MAX).into_iter().map(|fire| fire.at).collect();
        prop_assert!(fires.is_sorted_by(|earlier, later| earlier < later), "{:?}", fires);
        for fire in fires.iter().step_by(31) {
            prop_assert_eq!(timing.next_after(Time(fire.0 - 1)), Some(*fire));
        }
        for (fire, next) in fires.iter().zip(fires.iter().skip(1)).step_by(31) {
            prop_assert_eq!(timing.next_after(*fire), Some(*next));
        }
        for cut in cuts {
            let cut = Time(start.0 + cut);
            if let Some(next) = fires.iter().find(|fire| **fire > cut) {
                prop_assert_eq!(timing.next_after(cut), Some(*next), "after {}", cut);
            }
        }
    }

    #[test]
    fn an_interval_is_aligned_and_strictly_later(period in 1_u64.., phase in 0_u64.., after in 0_u64..) {
        let phase = phase % period;
        let timing = Timing::every(Span(period), Span(phase), Span(0)).unwrap();
        if let Some(next) = timing.next_after(Time(after)) {
            prop_assert!(next.0 > after);
            prop_assert_eq!(next.0 % period, phase);
            prop_assert!(next.0 <= phase || next.0 - after <= period);
            prop_assert_eq!(timing.next_after(Time(next.0 - 1)), Some(next));
        } else {
            prop_assert!(u128::from(after) + u128::from(period) > u128::from(u64::MAX));
        }
    }

    #[test]
    fn jitter_stays_within_its_range(id in ".*", max in 0_u64..) {
        prop_assert!(jitter(&id, Span(max)).0 <= max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(
        expression in prop_oneof![
            ".{0,300}", "[-0-9*,/ \t@A-Za-z#?]{0,300}", "([-0-9*,/SUNMOJALW#?]{1,6} ){4,7}",
        ],
        zone in prop_oneof![Just("Europe/Prague".to_owned()), ".{0,40}"],
        now in 0_u64..,
    ) {
        match Timing::cron(&expression, &zone, Time(now % (140 * 366 * DAY))) {
            Ok(timing) => {
                let next = timing.next_after(Time(0));
                prop_assert!(next.is_some());
                let _ = timing.next_after(Time(now));
            }
            Err(error) => prop_assert!(error.to_string().len() < 1_200, "{}", error),
        }
        let _ = (Timing::Cron { expression, zone }).next_after(Time(now));
    }
}

/// A crontab as its parts, matched by arithmetic on the parts and never by way of text.
#[derive(Clone, Debug)]
struct Plan {
    fields: [Vec<Item>; 5],
}

#[derive(Clone, Debug)]
enum Item {
    Star(u32),
    Value(u32),
    Range(u32, u32, u32),
}

/// First and last value that can be written, and how many there are before they repeat.
const FIELDS: [(u32, u32, u32); 5] = [(0, 59, 60), (0, 23, 24), (1, 31, 31), (1, 12, 12), (0, 7, 7)];

impl Plan {
    fn matches(&self, clock: NaiveDateTime) -> bool {
        let weekday = clock.weekday().num_days_from_sunday();
        let values = [clock.minute(), clock.hour(), clock.day(), clock.month(), weekday];
        let [minute, hour, day, month, weekday] = [0, 1, 2, 3, 4].map(|field| {
            let (first, _, size) = FIELDS[field];
            self.fields[field].iter().any(|item| item.matches(values[field], first, size))
        });
        let starred = [2, 4].iter().any(|field| matches!(self.fields[*field][0], Item::Star(_)));
        minute && hour && month && if starred { day && weekday } else { day || weekday }
    }
}

impl Item {
    fn matches(&self, value: u32, first: u32, size: u32) -> bool {
        let steps = |from: u32, to: u32, step: u32| {
            // Sunday is written 0 or 7: distances are taken around the circle, and a range that ends where it
            // began, a whole circle later (0-7), holds everything.
            let length = if to > from { to - from } else { (to + size - from) % size };
            let distance = (value + size - from % size) % size;
            distance <= length && distance.is_multiple_of(step)
        };
        match self {
            Self::Star(step) => (value - first).is_multiple_of(*step),
            Self::Value(only) => steps(*only, *only, 1),
            Self::Range(from, to, step) => steps(*from, *to, *step),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |items: &Vec<Item>| items.iter().map(Item::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}", self.fields.iter().map(field).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star(1) => write!(f, "*"),
            Self::Star(step) => write!(f, "*/{step}"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Range(from, to, 1) => write!(f, "{from}-{to}"),
            Self::Range(from, to, step) => write!(f, "{from}-{to}/{step}"),
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let field = |index: usize| {
        let (first, last, size) = FIELDS[index];
        let step = prop_oneof![2 => Just(1), 1 => 1..=size];
        let item = prop_oneof![
            2 => (first..=last).prop_map(Item::Value),
            2 => (first..=last, first..=last, step.clone()).prop_map(|(from, to, step)| Item::Range(from, to, step)),
            1 => step.prop_map(Item::Star),
        ];
        prop_oneof![
            1 => Just(vec![Item::Star(1)]),
            1 => prop::collection::vec(item, 1..4),
        ]
    };
    [field(0), field(1), field(2), field(3), field(4)].prop_map(|fields| Plan { fields })
}

fn zones() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![
        Tz::UTC,
        Tz::Europe__Prague,
        Tz::Europe__London,
        Tz::America__New_York,
        Tz::America__St_Johns,
        Tz::America__Sao_Paulo,
        Tz::America__Caracas,
        Tz::Africa__Casablanca,
        Tz::Asia__Kathmandu,
        Tz::Asia__Pyongyang,
        Tz::Asia__Tehran,
        Tz::Australia__Lord_Howe,
        Tz::Antarctica__Casey,
        Tz::Antarctica__Troll,
        Tz::Pacific__Apia,
        Tz::Pacific__Chatham,
        Tz::Pacific__Kwajalein,
    ])
}

/// Whole minutes from 1980, when the last zone had given up seconds in its offset, to 2090.
fn instants() -> impl Strategy<Value = Time> {
    (10 * 366 * DAY / MINUTE..120 * 365 * DAY / MINUTE).prop_map(|minute| Time(minute * MINUTE))
}

/// The fires of the schedule by the definition itself: walking along the instants, minute by minute, a time
/// fires when the wall clock first shows it or has jumped past it.
fn walk(matches: impl Fn(NaiveDateTime) -> bool, zone: Tz, (after, until): (Time, Time)) -> Vec<Time> {
    let start = after.0 - REPEATED_MAX;
    let mut shown = wall(zone, Time(start));
    let mut fires = Vec::new();
    for at in (start..=until.0).step_by(60_000).map(Time) {
        let now = wall(zone, at);
        let mut due = false;
        while shown < now {
            shown += TimeDelta::minutes(1);
            due |= matches(shown);
        }
        if due && at > after {
            fires.push(at);
        }
    }
    fires
}

fn all_fires(calendar: &Calendar, (after, until): (Time, Time)) -> Vec<Time> {
    let next = |after| calendar.next_after(after).map(|(at, _)| at).filter(|at| *at <= until);
    iter::successors(next(after), |previous| next(*previous)).collect()
}

/// The first minute after `after` at which the offset of the zone is not what it was, if within two years.
fn change_after(zone: Tz, after: Time) -> Option<Time> {
    let offset = |at: Time| wall(zone, at) - wall(Tz::UTC, at);
    let changed = |at: &Time| offset(*at) != offset(after);
    let coarse = (1..1_460).map(|step| Time(after.0 + step * DAY / 2)).find(changed)?;
    (coarse.0 - DAY / 2..=coarse.0).step_by(60_000).map(Time).find(changed)
}

fn wall(zone: Tz, at: Time) -> NaiveDateTime {
    let utc = DateTime::from_timestamp_millis(at.0.try_into().unwrap()).unwrap();
    zone.from_utc_datetime(&utc.naive_utc()).naive_local()
}
