//! The whole table: every stage, event and order. `.` is illegal, `=` stays, anything else is the successor.

use std::fmt::Write as _;

use super::*;

const ORDERS: [Order; 3] = [Order::OverlapFirst, Order::RevokeFirst, Order::RevokeOnly];

const STAGES: [Stage; 13] = [
    Stage::Prepare,
    Stage::Install,
    Stage::Uncertain,
    Stage::Verify,
    Stage::Publish,
    Stage::Drain,
    Stage::Retire,
    Stage::Sever,
    Stage::ProveRefused,
    Stage::Rollback,
    Stage::Quarantined,
    Stage::Settled,
    Stage::Aborted,
];

const CLASSES: [FailureClass; 5] = [
    FailureClass::Retryable,
    FailureClass::RejectedByTarget,
    FailureClass::WrongCredential,
    FailureClass::Unreachable,
    FailureClass::Permanent,
];

/// Every event but the failures, with its column.
const COLUMNS: [(&str, Event); 13] = [
    ("done", Event::Done),
    ("lost", Event::Lost),
    ("live", Event::Probed(Liveness::Live)),
    ("refused", Event::Probed(Liveness::Refused)),
    ("absent", Event::Probed(Liveness::Absent)),
    ("unknown", Event::Probed(Liveness::Unknown)),
    ("still", Event::StillLive { exhausted: false }),
    ("still!", Event::StillLive { exhausted: true }),
    ("drained", Event::Drained),
    ("held", Event::Held),
    ("abort", Event::AbortRequested),
    ("retry", Event::RetryRequested),
    ("reorder", Event::Reordered),
];

/// The stages that a rotation which stands in `stage` has passed.
fn passed_before(stage: Stage, order: Order) -> Passed {
    let of = |stages: &[Stage]| stages.iter().fold(Passed::default(), |passed, stage| passed.with(*stage));
    match stage {
        Stage::Uncertain => passed_before(Stage::Install, order).with(Stage::Uncertain),
        Stage::Rollback => of(&[Stage::Prepare, Stage::Install, Stage::Rollback]),
        Stage::Settled | Stage::Aborted | Stage::Quarantined => of(order.stages()),
        Stage::Prepare
        | Stage::Install
        | Stage::Verify
        | Stage::Publish
        | Stage::Drain
        | Stage::Retire
        | Stage::Sever
        | Stage::ProveRefused => {
            let before =
                order.stages().iter().position(|other| *other == stage).unwrap_or(order.stages().len());
            of(&order.stages()[..before])
        }
    }
}

fn cell(stage: Stage, event: Event, order: Order, passed: Passed) -> &'static str {
    match transition(stage, event, order, passed) {
        Ok((next, _)) if next == stage => "=",
        Ok((next, _)) => next.as_str(),
        Err(Illegal) => ".",
    }
}

fn row(text: &mut String, label: &str, stage: Stage, order: Order, passed: Passed) {
    write!(text, "{label:<26}").unwrap();
    for (_, event) in COLUMNS {
        write!(text, " {:<13}", cell(stage, event, order, passed)).unwrap();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn table(order: Order) -> String {
    let mut text = format!("\n{:<26}", "");
    for (name, _) in COLUMNS {
        write!(text, " {name:<13}").unwrap();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for stage in STAGES.into_iter().filter(|stage| *stage != Stage::Quarantined) {
        row(&mut text, stage.as_str(), stage, order, passed_before(stage, order));
    }
    for from in STAGES.into_iter().filter(|stage| stage.step().is_some() || *stage == Stage::Drain) {
        let label = format!("quarantined@{}", from.as_str());
        row(&mut text, &label, Stage::Quarantined, order, passed_before(from, order));
    }
    text
}

#[test]
fn every_pair_of_stage_and_event_is_as_the_table_says() {
    assert_eq!(table(Order::OverlapFirst), include_str!("tests/overlap-first.txt"));
    assert_eq!(table(Order::RevokeFirst), include_str!("tests/revoke-first.txt"));
    assert_eq!(table(Order::RevokeOnly), include_str!("tests/revoke-only.txt"));
}

/// Failures are the same in every stage with a step, whatever the order: the class alone decides.
#[test]
fn a_failure_stays_or_is_quarantined_by_its_class() {
    for order in ORDERS {
        for stage in STAGES {
            for class in CLASSES {
                for exhausted in [false, true] {
                    let passed = passed_before(stage, order);
                    let gives_up = match class {
                        FailureClass::Retryable => exhausted,
                        FailureClass::Unreachable => false,
                        FailureClass::RejectedByTarget
                        | FailureClass::WrongCredential
                        | FailureClass::Permanent => true,
                    };
                    let next = if gives_up { Stage::Quarantined } else { stage };
                    let expected = if stage.step().is_some() { Ok((next, passed)) } else { Err(Illegal) };
                    assert_eq!(
                        transition(stage, Event::Failed { class, exhausted }, order, passed),
                        expected
                    );
                }
            }
        }
    }
}

#[test]
fn what_has_been_passed_is_kept_through_doubt_and_the_way_back() {
    let order = Order::OverlapFirst;
    let next = |stage, event, passed| transition(stage, event, order, passed).unwrap();
    let set = |stages: &[Stage]| stages.iter().fold(Passed::default(), |passed, stage| passed.with(*stage));
    let (prepared, doubtful) = (set(&[Stage::Prepare]), set(&[Stage::Prepare, Stage::Uncertain]));
    let installed = set(&[Stage::Prepare, Stage::Install]);

    assert_eq!(next(Stage::Install, Event::Lost, prepared), (Stage::Uncertain, doubtful));
    let live = Event::Probed(Liveness::Live);
    assert_eq!(next(Stage::Uncertain, live, doubtful), (Stage::Verify, installed));
    let refused = Event::Probed(Liveness::Refused);
    assert_eq!(next(Stage::Uncertain, refused, doubtful), (Stage::Install, prepared));
    let back = installed.with(Stage::Rollback);
    assert_eq!(next(Stage::Verify, Event::AbortRequested, installed), (Stage::Rollback, back));
    assert_eq!(next(Stage::Quarantined, Event::RetryRequested, back), (Stage::Rollback, back));

    let proving = passed_before(Stage::ProveRefused, order);
    let again = passed_before(Stage::Retire, order);
    let still = Event::StillLive { exhausted: false };
    assert_eq!(next(Stage::ProveRefused, still, proving), (Stage::Retire, again));

    let turned = transition(Stage::Rollback, Event::Reordered, Order::RevokeFirst, back.with(Stage::Verify));
    assert_eq!(turned, Ok((Stage::Retire, doubtful)), "nobody knows how far the way back has come");
}

#[test]
fn a_set_of_stages_holds_each_of_them_apart() {
    for one in STAGES {
        for other in STAGES {
            assert_eq!(Passed::default().with(one).contains(other), one == other);
            assert!(!Passed::default().with(one).with(other).without(one).contains(one));
        }
    }
}
