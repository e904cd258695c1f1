//! The whole table: every stage and event. `.` is illegal, `=` stays, anything else is the successor.

use std::fmt::Write as _;

use super::*;

const STAGES: [GrantStage; 13] = [
    GrantStage::Requested,
    GrantStage::Prepare,
    GrantStage::Install,
    GrantStage::Uncertain,
    GrantStage::Active,
    GrantStage::Retire,
    GrantStage::Sever,
    GrantStage::ProveRefused,
    GrantStage::Remove,
    GrantStage::AwaitingReview,
    GrantStage::Reviewed,
    GrantStage::Denied,
    GrantStage::Lapsed,
];

/// Every event, with its column.
const COLUMNS: [(&str, GrantEvent); 17] = [
    ("approved", GrantEvent::Approved),
    ("refused", GrantEvent::Refused),
    ("lapsed", GrantEvent::Lapsed),
    ("done", GrantEvent::Done),
    ("retryable", GrantEvent::Failed(FailureClass::Retryable)),
    ("unreachable", GrantEvent::Failed(FailureClass::Unreachable)),
    ("rejected", GrantEvent::Failed(FailureClass::RejectedByTarget)),
    ("wrong", GrantEvent::Failed(FailureClass::WrongCredential)),
    ("permanent", GrantEvent::Failed(FailureClass::Permanent)),
    ("lost", GrantEvent::Lost),
    ("live", GrantEvent::Probed(Liveness::Live)),
    ("dead", GrantEvent::Probed(Liveness::Refused)),
    ("absent", GrantEvent::Probed(Liveness::Absent)),
    ("unknown", GrantEvent::Probed(Liveness::Unknown)),
    ("still", GrantEvent::StillLive),
    ("over", GrantEvent::Over),
    ("reviewed", GrantEvent::Reviewed),
];

#[test]
fn every_pair_of_stage_and_event_is_as_the_table_says() {
    let mut text = format!("\n{:<16}", "");
    for (name, _) in COLUMNS {
        write!(text, " {name:<15}").unwrap();
    }
    for stage in STAGES {
        text.truncate(text.trim_end_matches(' ').len());
        write!(text, "\n{:<16}", stage.as_str()).unwrap();
        for (_, event) in COLUMNS {
            let next = match transition(stage, event) {
                Ok(next) if next == stage => "=",
                Ok(next) => next.as_str(),
                Err(crate::rotation::Illegal) => ".",
            };
            write!(text, " {next:<15}").unwrap();
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    assert_eq!(text, include_str!("tests/table.txt"));
}

#[test]
fn only_what_is_owed_has_a_step_and_nothing_terminal_does() {
    for stage in STAGES {
        let events = COLUMNS.iter().filter(|(_, event)| transition(stage, *event).is_ok()).count();
        assert_eq!(events == 0, stage.is_terminal(), "{stage:?}");
        assert!(!(stage.is_terminal() && stage.step().is_some()));
    }
}
