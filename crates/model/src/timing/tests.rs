//! Tables: what each kind of schedule does, one promise a test.

use chrono::{DateTime, Utc};

use super::*;

#[test]
fn an_interval_fires_at_whole_multiples_of_itself_and_its_phase() {
    let timing = Timing::every(Span::hours(6), Span::minutes(30), PERIOD_FLOOR).unwrap();
    let day = utc("2026-09-21T00:00");
    assert_eq!(timing.next_after(day), Some(utc("2026-09-21T00:30")));
    assert_eq!(timing.next_after(utc("2026-09-21T00:30")), Some(utc("2026-09-21T06:30")));
    assert_eq!(timing.next_after(Time(utc("2026-09-21T06:30").0 - 1)), Some(utc("2026-09-21T06:30")));
    assert_eq!(timing.next_after(Time(0)), Some(Time(1_800_000)), "the first fire is the phase itself");
    assert_eq!(timing.next_after(Time::MAX), None);
}

#[test]
fn an_interval_without_phase_meets_midnight() {
    let timing = Timing::every(Span::days(1), Span(0), PERIOD_FLOOR).unwrap();
    assert_eq!(timing.next_after(utc("2026-09-21T12:34")), Some(utc("2026-09-22T00:00")));
    assert_eq!(timing.next_after(utc("2026-09-22T00:00")), Some(utc("2026-09-23T00:00")));
}

#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    let short = Timing::every(Span::seconds(30), Span(0), PERIOD_FLOOR).unwrap_err();
    assert_eq!(short.to_string(), "interval `30s` is too short: write `1m` or longer");
    assert_eq!(short.code(), "interval_too_short");
    let zero = Timing::every(Span(0), Span(0), Span(0)).unwrap_err();
    assert_eq!(zero.to_string(), "interval `0s` is too short: write `1ms` or longer");
    let phase = Timing::every(Span::hours(1), Span::hours(1), PERIOD_FLOOR).unwrap_err();
    assert_eq!(phase.to_string(), "phase `1h` is out of range: write less than the interval `1h`");
    assert_eq!(phase.code(), "phase_out_of_range");
    assert!(Timing::every(Span(50), Span(49), Span(50)).is_ok(), "the floor is the caller's");
}

#[test]
fn a_crontab_fires_when_crontab_5_says() {
    // 2026-09-21 is a Monday.
    let table = [
        ("0 9 * * 1", "2026-09-21T08:59", "2026-09-21T09:00"),
        ("0 9 * * 1", "2026-09-21T09:00", "2026-09-28T09:00"),
        ("*/15 * * * *", "2026-09-21T09:01", "2026-09-21T09:15"),
        ("*/45 * * * *", "2026-09-21T09:45", "2026-09-21T10:00"),
        ("1-30/5 * * * *", "2026-09-21T09:26", "2026-09-21T10:01"),
        ("5,10-12,59 * * * *", "2026-09-21T09:12", "2026-09-21T09:59"),
        ("0 22-2 * * *", "2026-09-21T02:00", "2026-09-21T22:00"),
        ("0 22-2 * * *", "2026-09-21T23:00", "2026-09-22T00:00"),
        ("0 22-4/3 * * *", "2026-09-21T22:00", "2026-09-22T01:00"),
        ("0 0 28-2 * *", "2026-09-21T00:00", "2026-09-28T00:00"),
        ("0 0 28-2 * *", "2026-09-30T00:00", "2026-10-01T00:00"),
        ("0 0 * * FRI-MON", "2026-09-21T00:00", "2026-09-25T00:00"),
        ("0 0 * * 7", "2026-09-21T00:00", "2026-09-27T00:00"),
        ("0 0 * * 0", "2026-09-21T00:00", "2026-09-27T00:00"),
        ("0 0 * * sun", "2026-09-21T00:00", "2026-09-27T00:00"),
        ("0 0 * * 5-7", "2026-09-26T00:00", "2026-09-27T00:00"),
        ("0 0 * * 7-1", "2026-09-27T00:00", "2026-09-28T00:00"),
        ("0 0 1 jAn-3 *", "2026-09-21T00:00", "2027-01-01T00:00"),
        ("0 0 1 NOV-FEB *", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("0 0 29 2 *", "2026-09-21T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-09-21T00:00", "never"), // 2100 is not a leap year
        ("0 0 31 * *", "2026-08-31T00:00", "2026-10-31T00:00"),
        ("59 23 31 12 *", "2099-12-31T23:59", "2100-12-31T23:59"),
        ("59 23 31 12 *", "2100-12-31T23:59", "never"),
        ("  05\t09  * * *  ", "2026-09-21T00:00", "2026-09-21T09:05"),
        ("@yearly", "2026-09-21T00:00", "2027-01-01T00:00"),
        ("@annually", "2026-09-21T00:00", "2027-01-01T00:00"),
        ("@Monthly", "2026-09-21T00:00", "2026-10-01T00:00"),
        ("@weekly", "2026-09-21T00:00", "2026-09-27T00:00"),
        ("@daily", "2026-09-21T00:00", "2026-09-22T00:00"),
        ("@midnight", "2026-09-21T00:00", "2026-09-22T00:00"),
        ("@hourly", "2026-09-21T00:00", "2026-09-21T01:00"),
    ];
    for (expression, after, next) in table {
        let found = cron(expression, "UTC").next_after(utc(after)).map_or_else(|| "never".to_owned(), minute);
        assert_eq!(found, next, "`{expression}` after {after}");
    }
}

#[test]
fn two_restricted_day_fields_match_either_way_and_a_star_makes_both_necessary() {
    // September 2026 begins on a Tuesday.
    let table: [(&str, &[u32], &str); 5] = [
        ("0 0 13 9 FRI", &[4, 11, 13, 18, 25], "Fridays, and the 13th"),
        ("0 0 */2 9 MON", &[7, 21], "odd days that are Mondays"),
        ("0 0 1-31/2 9 MON", &[1, 3, 5, 7, 9, 11, 13, 14, 15], "the same days without a star: either"),
        ("0 0 1-4 9 *", &[1, 2, 3, 4], "a bare star restricts nothing"),
        ("0 0 1-7 9 */7", &[6], "the first Sunday, thanks to the star"),
    ];
    for (expression, days, why) in table {
        let expected: Vec<String> = days.iter().map(|day| format!("2026-09-{day:02}T00:00")).collect();
        assert_eq!(
            fires(expression, "UTC", "2026-08-31T23:59", days.len()),
            expected,
            "`{expression}`: {why}"
        );
    }
    let mondays = cron("0 0 */2 9 MON", "UTC");
    assert_eq!(mondays.next_after(utc("2026-09-21T00:00")).map(minute).unwrap(), "2027-09-13T00:00");
}

#[test]
fn a_crontab_that_cannot_be_read_is_refused_with_what_to_write_instead() {
    let layout = "write `minute hour day-of-month month day-of-week`, such as `0 9 * * 1`";
    let table = [
        ("", format!("it has 0 fields instead of five: {layout}")),
        ("0 9 * *", format!("it has 4 fields instead of five: {layout}")),
        ("1 2 3 4 5 6 7 8", format!("it has 8 fields instead of five: {layout}")),
        (
            "0 30 9 * * MON",
            "it has 6 fields, and seconds and years are not accepted: \
             write `minute hour day-of-month month day-of-week`, here `30 9 * * MON`"
                .to_owned(),
        ),
        ("0 9 * * MON 2027", format!("it has 6 fields, and seconds and years are not accepted: {layout}")),
        (
            "0 0 9 1 1 * 2027",
            "it has 7 fields, and seconds and years are not accepted: \
             write `minute hour day-of-month month day-of-week`, here `0 9 1 1 *`"
                .to_owned(),
        ),
        ("@reboot", format!("`@reboot` names no time: {layout}, or `@daily`")),
        (
            "@fortnightly",
            "`@fortnightly` is not known: write `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, \
             `@midnight` or `@hourly`, or an interval instead of cron"
                .to_owned(),
        ),
        ("60 * * * *", "`60` is not a valid minute: write `0` to `59`".to_owned()),
        ("0 24 * * *", "`24` is not a valid hour: write `0` to `23`".to_owned()),
        ("0 0 0 * *", "`0` is not a valid day of month: write `1` to `31`".to_owned()),
        ("0 0 1 APRIL *", "`APRIL` is not a valid month: write `1` to `12` or `JAN` to `DEC`".to_owned()),
        (
            "0 0 * * 8",
            "`8` is not a valid day of week: write `0` to `7` (0 and 7 are Sunday) or `SUN` to `SAT`"
                .to_owned(),
        ),
        ("1,,2 * * * *", "`` is not a valid minute: write `0` to `59`".to_owned()),
        ("-5 * * * *", "`` is not a valid minute: write `0` to `59`".to_owned()),
        ("+5 * * * *", "`+5` is not a valid minute: write `0` to `59`".to_owned()),
        ("99999999999 * * * *", "`99999999999` is not a valid minute: write `0` to `59`".to_owned()),
        ("\u{1b}[31m * * * *", "`\\u{1b}[31m` is not a valid minute: write `0` to `59`".to_owned()),
        ("0 0 ? * MON", "`?` in the day of month is not accepted: write `*`".to_owned()),
        ("0 0 L * *", extension("L", "day of month")),
        ("0 0 L-3 * *", extension("L", "day of month")),
        ("0 0 15W * *", extension("15W", "day of month")),
        ("0 0 LW * *", extension("LW", "day of month")),
        ("0 0 * * friL", extension("friL", "day of week")),
        ("0 0 * * MON#2", extension("MON#2", "day of week")),
        ("*/0 * * * *", step("*/0", "minute", 60)),
        ("*/90 * * * *", step("*/90", "minute", 60)),
        ("0 0 * * */2/3", step("*/2/3", "day of week", 7)),
        ("0 */ * * *", step("*/", "hour", 24)),
        (
            "5/15 * * * *",
            "`5/15` in the minute steps from a single value: write a range, such as `5-59/15`".to_owned(),
        ),
    ];
    for (expression, fault) in table {
        let error = Timing::cron(expression, "UTC", Time(0)).unwrap_err();
        assert_eq!(error.code(), "cron_syntax", "`{expression}`");
        let quoted: String = expression.escape_debug().collect();
        assert_eq!(error.to_string(), format!("cron expression `{quoted}` is refused: {fault}"));
    }
}

#[test]
fn a_crontab_of_any_length_is_answered_and_a_long_one_is_refused() {
    let minutes = vec!["1"; 124].join(",");
    assert!(Timing::cron(&format!("{minutes} * * * *"), "UTC", Time(0)).is_ok());
    let error = Timing::cron(&format!("1,1,{minutes},1 * * * *"), "UTC", Time(0)).unwrap_err();
    let start = "1,".repeat(32);
    let message = format!("cron expression `{start}…` is refused: it is 261 bytes long: write at most 256");
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_crontab_that_never_fires_is_refused() {
    for expression in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 FEB */2"] {
        let error = Timing::cron(expression, "Europe/Prague", utc("2026-09-21T00:00")).unwrap_err();
        assert_eq!(error.code(), "cron_never_fires");
        let message = format!(
            "cron expression `{expression}` never fires between `2026-09-21T00:00:00.000Z` and the year 2100: \
             write a day that its months have, such as `0 0 28 2 *`"
        );
        assert_eq!(error.to_string(), message);
    }
    assert!(Timing::cron("0 0 29 2 *", "UTC", utc("2026-09-21T00:00")).is_ok());
    assert!(Timing::cron("0 0 29 2 *", "UTC", utc("2097-01-01T00:00")).is_err());
    assert!(Timing::cron("* * * * *", "UTC", Time::MAX).is_err());
}

#[test]
fn an_unknown_zone_is_refused_with_a_name_that_exists() {
    let refuse = |zone: &str| Timing::cron("0 9 * * *", zone, Time(0)).unwrap_err();
    assert_eq!(refuse("europe/prague").code(), "unknown_time_zone");
    let message =
        "time zone `europe/prague` is unknown: write a name of the IANA database, such as `Europe/Prague`";
    assert_eq!(refuse("europe/prague").to_string(), message);
    let message =
        "time zone `asia/tokyo` is unknown: write a name of the IANA database, such as `Asia/Tokyo`";
    assert_eq!(refuse("asia/tokyo").to_string(), message);
    let message = "time zone `+02:00` is unknown: write a name of the IANA database, such as `Europe/Prague`";
    assert_eq!(refuse("+02:00").to_string(), message);
    assert!(refuse(&"x".repeat(10_000)).to_string().len() < 200);
    assert_eq!(cron("0 9 * * *", " UTC "), cron(" 0 9 * * * ", "UTC"), "kept without the space around it");
}

#[test]
fn a_time_that_the_clock_skips_fires_once_at_the_first_valid_instant() {
    // Prague goes from 02:00 to 03:00 on 2026-03-29, at 01:00 UTC.
    assert_eq!(
        fires("30 2 * * *", "Europe/Prague", "2026-03-28T00:00", 3),
        ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]
    );
    assert_eq!(
        fires("0 * * * *", "Europe/Prague", "2026-03-28T23:30", 4),
        ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00", "2026-03-29T03:00"],
        "02:00 and 03:00 are one fire, an hour is an hour"
    );
    assert_eq!(
        fires("*/20 * * * *", "Europe/Prague", "2026-03-29T00:20", 3),
        ["2026-03-29T00:40", "2026-03-29T01:00", "2026-03-29T01:20"]
    );
    // New York goes from 02:00 to 03:00 on 2026-03-08, at 07:00 UTC.
    assert_eq!(
        fires("30 2 * * *", "America/New_York", "2026-03-07T12:00", 2),
        ["2026-03-08T07:00", "2026-03-09T06:30"]
    );
    // Lord Howe goes from 02:00 to 02:30 on 2026-10-04, at 15:30 UTC of the day before.
    assert_eq!(
        fires("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00", 3),
        ["2026-10-02T15:45", "2026-10-03T15:30", "2026-10-04T15:15"]
    );
    assert_eq!(
        fires("*/15 * * * *", "Australia/Lord_Howe", "2026-10-03T15:10", 3),
        ["2026-10-03T15:15", "2026-10-03T15:30", "2026-10-03T15:45"],
        "02:00, 02:15 and 02:30 are one fire"
    );
    // São Paulo skipped midnight on 2018-11-04, at 03:00 UTC.
    assert_eq!(
        fires("@daily", "America/Sao_Paulo", "2018-11-03T12:00", 2),
        ["2018-11-04T03:00", "2018-11-05T02:00"]
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_fires_the_first_time() {
    // Prague goes from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
    assert_eq!(
        fires("30 2 * * *", "Europe/Prague", "2026-10-24T12:00", 2),
        ["2026-10-25T00:30", "2026-10-26T01:30"]
    );
    assert_eq!(
        fires("0 * * * *", "Europe/Prague", "2026-10-24T23:30", 4),
        ["2026-10-25T00:00", "2026-10-25T02:00", "2026-10-25T03:00", "2026-10-25T04:00"],
        "02:00, and 03:00 two hours later"
    );
    assert_eq!(
        fires("*/30 * * * *", "America/New_York", "2026-11-01T04:59", 4),
        ["2026-11-01T05:00", "2026-11-01T05:30", "2026-11-01T07:00", "2026-11-01T07:30"]
    );
    // Lord Howe goes from 02:00 back to 01:30 on 2026-04-05, at 15:00 UTC of the day before.
    assert_eq!(
        fires("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:20", 4),
        ["2026-04-04T14:30", "2026-04-04T14:45", "2026-04-04T15:30", "2026-04-04T15:45"]
    );
}

#[test]
fn a_restart_within_the_repeated_hour_does_not_fire_again() {
    let timing = cron("*/30 * * * *", "Europe/Prague");
    for after in
        ["2026-10-25T00:30", "2026-10-25T00:59", "2026-10-25T01:00", "2026-10-25T01:15", "2026-10-25T01:59"]
    {
        assert_eq!(timing.next_after(utc(after)).map(minute).unwrap(), "2026-10-25T02:00", "after {after}");
    }
    assert_eq!(timing.next_after(utc("2026-10-25T00:29")).map(minute).unwrap(), "2026-10-25T00:30");
    // Casey went back three hours at 15:00 UTC: nothing is due while all of them are shown again.
    let minutes = cron("* * * * *", "Antarctica/Casey");
    for after in ["2010-03-04T14:59", "2010-03-04T15:00", "2010-03-04T17:59"] {
        assert_eq!(minutes.next_after(utc(after)).map(minute).unwrap(), "2010-03-04T18:00", "after {after}");
    }
}

#[test]
fn a_day_that_a_zone_never_had_fires_once_at_its_end() {
    // Apia crossed the date line: 2011-12-29 was followed by 2011-12-31, at 10:00 UTC on the 30th.
    assert_eq!(
        fires("0 9 * * *", "Pacific/Apia", "2011-12-28T20:00", 4),
        ["2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00", "2011-12-31T19:00"],
        "the 29th, the 30th at its end, the 31st, the 1st"
    );
    assert_eq!(
        fires("@daily", "Pacific/Apia", "2011-12-29T09:00", 3),
        ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
        "the 30th and the 31st begin together"
    );
    assert_eq!(
        fires("* * * * *", "Pacific/Apia", "2011-12-30T09:58", 3),
        ["2011-12-30T09:59", "2011-12-30T10:00", "2011-12-30T10:01"]
    );
    // Kwajalein skipped 1993-08-21; Casey went back three hours on 2010-03-05.
    assert_eq!(
        fires("0 9 21 8 *", "Pacific/Kwajalein", "1993-08-01T00:00", 2),
        ["1993-08-21T12:00", "1994-08-20T21:00"]
    );
    assert_eq!(
        fires("* * * * *", "Antarctica/Casey", "2010-03-04T14:58", 2),
        ["2010-03-04T14:59", "2010-03-04T18:00"]
    );
}

#[test]
fn a_preview_shows_the_wall_clock_and_what_the_clock_did() {
    let shown = |expression, zone, after, count| {
        let fires = cron(expression, zone).preview(utc(after), count);
        fires.into_iter().map(|fire| (fire.local, fire.note)).collect::<Vec<_>>()
    };
    let forward = Some("clock goes forward: first valid instant");
    let back = Some("clock goes back: first of the two");
    let at = |local: &str, note| (local.to_owned(), note);
    assert_eq!(
        shown("30 2 * * *", "Europe/Prague", "2026-03-28T12:00", 2),
        [at("2026-03-29 03:00:00 CEST", forward), at("2026-03-30 02:30:00 CEST", None)]
    );
    assert_eq!(
        shown("30 2 * * *", "Europe/Prague", "2026-10-24T12:00", 2),
        [at("2026-10-25 02:30:00 CEST", back), at("2026-10-26 02:30:00 CET", None)]
    );
    assert_eq!(
        shown("0 9 1 12 *", "America/Sao_Paulo", "2026-09-21T00:00", 1),
        [at("2026-12-01 09:00:00 -03", None)]
    );

    let interval = Timing::every(Span::hours(6), Span(1_500), PERIOD_FLOOR).unwrap();
    let fires = interval.preview(utc("2026-09-21T00:00"), 2);
    let local = "2026-09-21 00:00:01.500 UTC".to_owned();
    assert_eq!(fires[0], Fire { at: Time(utc("2026-09-21T00:00").0 + 1_500), local, note: None });
    assert_eq!(fires[1].local, "2026-09-21 06:00:01.500 UTC");
}

#[test]
fn a_preview_ends_with_the_schedule_and_is_never_too_long() {
    assert_eq!(cron("0 0 1 1 *", "UTC").preview(utc("2098-06-01T00:00"), 10).len(), 2);
    assert_eq!(cron("* * * * *", "UTC").preview(Time(0), usize::MAX).len(), PREVIEW_MAX);
    assert!(cron("* * * * *", "UTC").preview(Time(0), 0).is_empty());
    assert!(cron("* * * * *", "UTC").preview(Time::MAX, 3).is_empty());
    let centuries = Timing::every(Span(u64::MAX / 2), Span(0), PERIOD_FLOOR).unwrap();
    assert_eq!(centuries.preview(Time(1), 5).len(), 2);
}

#[test]
fn a_timing_that_was_never_checked_does_not_fire_and_does_not_panic() {
    let unchecked = [
        Timing::Every { period: Span(0), phase: Span(5) },
        Timing::Cron { expression: "0 0 31 2 *".to_owned(), zone: "UTC".to_owned() },
        Timing::Cron { expression: "nonsense".to_owned(), zone: "UTC".to_owned() },
        Timing::Cron { expression: "* * * * *".to_owned(), zone: "Nowhere".to_owned() },
    ];
    for timing in unchecked {
        assert_eq!(timing.next_after(Time(1_000)), None, "{timing:?}");
        assert!(timing.preview(Time(1_000), 3).is_empty(), "{timing:?}");
    }
}

#[test]
fn a_timing_keeps_its_persisted_form() {
    let every = Timing::every(Span::minutes(2), Span(5), PERIOD_FLOOR).unwrap();
    let cron = cron("@daily", "UTC");
    let table = [(every, b"\x00\xc0\xa9\x07\x05".as_slice()), (cron, b"\x01\x06@daily\x03UTC".as_slice())];
    for (timing, bytes) in table {
        assert_eq!(postcard::to_stdvec(&timing).unwrap(), bytes);
        assert_eq!(postcard::from_bytes::<Timing>(bytes).unwrap(), timing);
    }
}

#[test]
fn jitter_depends_on_the_id_alone_and_fills_its_range() {
    assert_eq!(
        jitter("schedule-1", Span::hours(1)),
        Span(637_590),
        "pinned: it must not move between versions"
    );
    assert_eq!(jitter("anything", Span(0)), Span(0));
    let spread: Vec<u64> = (0..1_000).map(|id| jitter(&id.to_string(), Span(9)).0).collect();
    for point in 0..=9 {
        let hits = spread.iter().filter(|found| **found == point).count();
        assert!((60..=140).contains(&hits), "{point}: {hits}");
    }
    assert!(spread.iter().all(|point| *point <= 9));
    assert!(jitter("anything", Span(u64::MAX)) > Span(0));
}

fn cron(expression: &str, zone: &str) -> Timing {
    Timing::cron(expression, zone, Time(0)).unwrap()
}

fn fires(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let preview = cron(expression, zone).preview(utc(after), count);
    preview.into_iter().map(|fire| minute(fire.at)).collect()
}

pub(super) fn utc(minute: &str) -> Time {
    let at: DateTime<Utc> = format!("{minute}:00Z").parse().unwrap();
    Time(at.timestamp_millis().try_into().unwrap())
}

fn minute(at: Time) -> String {
    let text = at.to_string();
    text.strip_suffix(":00.000Z").unwrap_or(&text).to_owned()
}

fn extension(text: &str, field: &str) -> String {
    format!(
        "`{text}` in the {field} is not accepted, `L`, `W` and `#` have no meaning here: \
         write plain days, such as `1,15` or `28-31`"
    )
}

fn step(text: &str, field: &str, most: u32) -> String {
    format!("`{text}` in the {field} has no usable step: write a step from 1 to {most}, such as `*/2`")
}
