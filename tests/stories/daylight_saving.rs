//! Clusters whose wall clocks run over a change of the clock, in six time zones, forward and back: every written time
//! has one rotation, at the instant that Python's time zones say, and none is early, doubled or missed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use client::v1;
use futures::future::join_all;
use harness::{eventually, surroundings};
use serde_json::Value;

use super::stage::WITHIN;
use super::stage::demo::{DemoStage, Due, assert_none_missed_none_doubled, every, now_ms};

/// Of one hour, of half an hour, without any change, the other way round in winter, and not on the hour.
const ZONES: [&str; 6] = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Pacific/Chatham",
];
const YEAR: u64 = 2027;
/// How long before the change the clusters are started. Where a machine is too busy to form them in the first of these
/// times, they are started anew, and are given the next.
const LEADS: [Duration; 3] = [Duration::from_secs(35), Duration::from_secs(90), Duration::from_secs(240)];
/// How long after it is looked.
const AFTER_MS: u64 = 8_000;
/// An interval beside the crontabs, which no change of a clock concerns.
const PERIOD_MS: u64 = 4_000;
const CONTROL: &str = "control";
const SKEW_MS: u64 = 1_000;
/// The fire after those that were seen is looked for this far ahead.
const AHEAD_MS: u64 = 3 * 24 * 3_600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_skipped_hour_every_written_time_has_one_rotation_in_six_zones() {
    join_all(ZONES.map(|zone| runs_over(zone, "gap"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_repeated_hour_every_written_time_has_one_rotation_in_six_zones() {
    join_all(ZONES.map(|zone| runs_over(zone, "repeat"))).await;
}

async fn runs_over(zone: &str, kind: &str) {
    let change = oracle(&["change", zone, kind, &YEAR.to_string()]);
    let at = change["at_ms"].as_u64().unwrap();
    let lines = lines(&change);
    let mut timings = vec![(CONTROL.to_owned(), every(PERIOD_MS))];
    timings.extend(lines.iter().enumerate().map(|(n, line)| (format!("line-{n}"), crontab(line, zone))));
    let Started { stage, ahead, declared, lead } = started_before(zone, at, &timings).await;

    let end = at + AFTER_MS;
    let control = eventually(format!("{zone}: the time after the change"), lead + WITHIN, async || {
        let due = stage.due(CONTROL).await;
        let passed = due.last().is_some_and(|last| last.at_ms >= end);
        if passed { Ok(due) } else { Err(due.len()) }
    })
    .await;
    assert_none_missed_none_doubled(&control, PERIOD_MS, 2);
    compare(&stage, zone, &lines, (declared, end), ahead).await;
}

/// A cluster whose schedules were declared before the change.
struct Started {
    stage: DemoStage,
    /// By so much its clocks are ahead.
    ahead: Duration,
    /// When, by its own time.
    declared: u64,
    /// How long before the change it was started.
    lead: Duration,
}

async fn started_before(zone: &str, change: u64, timings: &[(String, v1::Timing)]) -> Started {
    for lead in LEADS {
        let ahead = Duration::from_millis(change - now_ms()) - lead;
        let clocks = harness::Setup { false_clocks: true, clocks_ahead: ahead, ..harness::Setup::default() };
        let stage = DemoStage::start(clocks).await;
        stage.declare(timings).await;
        let ask = async || stage.client.get_status(v1::GetStatusRequest {}).await;
        let declared = eventually("the time of the cluster", WITHIN, ask).await.now_ms;
        if declared < change {
            return Started { stage, ahead, declared, lead };
        }
    }
    panic!("{zone}: the machine is too slow to form the clusters in {LEADS:?}")
}

/// What was rotated, and what comes next, is what the oracle says.
async fn compare(stage: &DemoStage, zone: &str, lines: &[String], (from, end): (u64, u64), ahead: Duration) {
    let (start, far) = (from.to_string(), (end + AHEAD_MS).to_string());
    let mut arguments = vec!["fires", zone, &start, &far];
    arguments.extend(lines.iter().map(String::as_str));
    let expected: Vec<Vec<u64>> = serde_json::from_value(oracle(&arguments)).unwrap();
    for (n, (line, expected)) in lines.iter().zip(expected).enumerate() {
        let name = format!("line-{n}");
        let (seen, coming): (Vec<u64>, Vec<u64>) = expected.into_iter().partition(|fire| *fire < end);
        let rotated = due(stage, &name, from, ahead).await;
        let rotated: Vec<u64> = rotated.into_iter().filter(|fire| *fire < end).collect();
        assert_eq!(rotated, seen, "{zone}, `{line}`, from {from} to {end}");
        let next = stage.schedule(&name).await.next_ms;
        assert!(next >= end && coming.contains(&next), "{zone}, `{line}`: {next} is not among {coming:?}");
        let passed = coming.iter().take_while(|fire| **fire < next).last();
        let rotated = due(stage, &name, end, ahead).await;
        assert!(
            passed.is_none_or(|fire| rotated.contains(fire)),
            "{zone}, `{line}`: {passed:?} is passed over"
        );
    }
}

/// When the rotations of a schedule fell due, from `from` on; none by a clock that had not come there.
async fn due(stage: &DemoStage, name: &str, from: u64, ahead: Duration) -> Vec<u64> {
    let all = stage.due(name).await;
    let now = now_ms() + u64::try_from(ahead.as_millis()).unwrap();
    let due: Vec<Due> = all.into_iter().filter(|due| due.at_ms >= from).collect();
    assert!(
        due.iter().all(|due| due.has_started() && due.at_ms <= now + SKEW_MS),
        "{name} at {now}: {due:?}"
    );
    due.iter().map(|due| due.at_ms).collect()
}

/// Every minute, every quarter of an hour, the time that comes after the last one before the change, and the one that is
/// shown at the change.
fn lines(change: &Value) -> Vec<String> {
    let time = |shown: &Value| {
        let text = shown.as_str().unwrap();
        let (hour, minute) = (&text[11..13], &text[14..16]);
        (hour.parse::<u32>().unwrap(), minute.parse::<u32>().unwrap())
    };
    let (hour, minute) = time(&change["before"]);
    let (hour, minute) = if minute == 59 { ((hour + 1) % 24, 0) } else { (hour, minute + 1) };
    let (shown_hour, shown_minute) = time(&change["after"]);
    vec![
        "* * * * *".to_owned(),
        "*/15 * * * *".to_owned(),
        format!("{minute} {hour} * * *"),
        format!("{shown_minute} {shown_hour} * * *"),
    ]
}

fn crontab(line: &str, zone: &str) -> v1::Timing {
    v1::Timing { cron: line.to_owned(), time_zone: zone.to_owned(), ..v1::Timing::default() }
}

fn oracle(arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/daylight_saving/oracle.py");
    let output = Command::new(surroundings::python()).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
