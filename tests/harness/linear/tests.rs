use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use super::*;

const STEPS: usize = 100_000;

fn operation(client: usize, start: u64, end: u64, effect: Effect) -> Operation {
    Operation { client, node: 1, start, end, effect }
}

/// Of client 0, 1, … each, with start and end.
fn verdict(history: &[(u64, u64, Effect)]) -> Verdict {
    let each = history.iter().enumerate();
    let history: Vec<_> =
        each.map(|(client, (start, end, effect))| operation(client, *start, *end, *effect)).collect();
    check(&history, STEPS)
}

fn is_violation(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Violation { .. })
}

#[test]
fn nothing_and_one_after_the_other_are_linearizable() {
    assert_eq!(verdict(&[]), Verdict::Linearizable);
    let history = [
        (0, 1, Effect::Read(None)),
        (2, 3, Effect::FoundNothing),
        (4, 5, Effect::Wrote(7)),
        (6, 7, Effect::Read(Some(7))),
        (8, 9, Effect::Removed),
        (10, 11, Effect::Read(None)),
    ];
    assert_eq!(verdict(&history), Verdict::Linearizable);
}

#[test]
fn a_stale_read_is_found_and_named() {
    let history = [
        (0, 1, Effect::Wrote(1)),
        (2, 3, Effect::Wrote(2)),
        (4, 5, Effect::Read(Some(1))),
        (6, 7, Effect::Read(Some(2))),
    ];
    let Verdict::Violation { told, stuck } = verdict(&history) else { panic!("{:?}", verdict(&history)) };
    assert_eq!((told, stuck.effect), (2, Effect::Read(Some(1))));
}

#[test]
fn a_lost_write_is_found() {
    assert!(is_violation(verdict(&[(0, 1, Effect::Wrote(1)), (2, 3, Effect::Read(None))])));
    assert!(is_violation(verdict(&[(0, 1, Effect::Wrote(1)), (2, 3, Effect::FoundNothing)])));
}

#[test]
fn a_value_that_goes_back_is_found_though_the_write_is_still_under_way() {
    let history = [
        (0, 1, Effect::Wrote(1)),
        (2, 20, Effect::Wrote(2)),
        (3, 4, Effect::Read(Some(2))),
        (5, 6, Effect::Read(Some(1))),
    ];
    assert!(is_violation(verdict(&history)));
}

#[test]
fn operations_under_way_together_may_come_in_any_order() {
    let history = [
        (0, 10, Effect::Wrote(1)),
        (0, 10, Effect::Wrote(2)),
        (11, 12, Effect::Read(Some(1))),
        (0, 10, Effect::Removed),
    ];
    assert_eq!(verdict(&history), Verdict::Linearizable);
    // An end and a start at the same instant count as together.
    assert_eq!(verdict(&[(0, 5, Effect::Wrote(1)), (5, 9, Effect::Read(None))]), Verdict::Linearizable);
    assert!(is_violation(verdict(&[(0, 5, Effect::Wrote(1)), (6, 9, Effect::Read(None))])));
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_early_and_not_twice() {
    let unknown = (10, 20, Effect::MayHaveWritten(1));
    for fine in [
        vec![unknown, (30, 31, Effect::Read(None))],
        vec![unknown, (30, 31, Effect::Read(None)), (32, 33, Effect::Read(Some(1)))],
        vec![unknown, (30, 31, Effect::Wrote(2)), (32, 33, Effect::Read(Some(1)))],
        vec![unknown, (30, 31, Effect::Removed), (32, 33, Effect::FoundNothing)],
    ] {
        assert_eq!(verdict(&fine), Verdict::Linearizable, "{fine:?}");
    }
    for wrong in [
        vec![unknown, (0, 9, Effect::Read(Some(1)))],
        vec![
            unknown,
            (30, 31, Effect::Read(Some(1))),
            (32, 33, Effect::Wrote(2)),
            (34, 35, Effect::Read(Some(1))),
        ],
        vec![unknown, (30, 31, Effect::Removed), (32, 33, Effect::Read(Some(1)))],
    ] {
        assert!(is_violation(verdict(&wrong)), "{wrong:?}");
    }
}

#[test]
fn a_write_that_was_promised_to_have_no_effect_may_not_be_seen() {
    assert!(is_violation(verdict(&[(0, 1, Effect::NotWritten(1)), (2, 3, Effect::Read(Some(1)))])));
    let removed = [(0, 1, Effect::Wrote(1)), (2, 3, Effect::NotRemoved), (4, 5, Effect::Read(None))];
    assert!(is_violation(verdict(&removed)));
}

#[test]
fn a_search_that_would_take_too_long_is_given_up() {
    let mut history: Vec<_> = (0..12).map(|value| (0, 100, Effect::Wrote(value))).collect();
    history.push((101, 102, Effect::Read(None)));
    let operations: Vec<_> =
        history.iter().map(|(start, end, effect)| operation(0, *start, *end, *effect)).collect();
    assert_eq!(check(&operations, 1_000), Verdict::Unknown);
    assert!(is_violation(check(&operations, 1_000_000)));
}

#[test]
fn many_unknown_operations_do_not_make_the_search_explode() {
    let mut history: Vec<_> = (0..500).map(|value| (0, 1, Effect::MayHaveWritten(1_000 + value))).collect();
    history.extend((0..200).map(|_| (0, 1, Effect::MayHaveRemoved)));
    history.extend((0..200).flat_map(|round| {
        let at = 10 * round;
        [
            (at + 2, at + 4, Effect::Wrote(round)),
            (at + 5, at + 6, Effect::Read(None)),
            (at + 7, at + 8, Effect::Removed),
        ]
    }));
    assert_eq!(verdict(&history), Verdict::Linearizable);
}

/// The register as stateright wants it told.
#[derive(Clone)]
struct Register(Option<Value>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Write(Value),
    Read,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Done,
    Saw(Option<Value>),
    Nothing,
}

impl SequentialSpec for Register {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, call: &Call) -> Answer {
        match call {
            Call::Write(value) => {
                self.0 = Some(*value);
                Answer::Done
            }
            Call::Read => Answer::Saw(self.0),
            Call::Remove if self.0.take().is_some() => Answer::Done,
            Call::Remove => Answer::Nothing,
        }
    }
}

/// Whether stateright finds a story.
fn stateright_finds_one(history: &[Operation]) -> bool {
    // Calls go before answers of the same instant: then they are under way together, as for us.
    let mut steps = Vec::new();
    for (index, operation) in history.iter().enumerate() {
        let (call, answer) = match operation.effect {
            Effect::Wrote(value) => (Call::Write(value), Some(Answer::Done)),
            Effect::Read(value) => (Call::Read, Some(Answer::Saw(value))),
            Effect::Removed => (Call::Remove, Some(Answer::Done)),
            Effect::FoundNothing => (Call::Remove, Some(Answer::Nothing)),
            Effect::MayHaveWritten(value) => (Call::Write(value), None),
            Effect::MayHaveRemoved => (Call::Remove, None),
            Effect::NotWritten(_) | Effect::NotRemoved | Effect::NotRead => continue,
        };
        steps.push((operation.start, 0, index, Some(call), None));
        steps.extend(answer.map(|answer| (operation.end, 1, index, None, Some(answer))));
    }
    steps.sort_by_key(|(at, order, ..)| (*at, *order));
    let mut tester = LinearizabilityTester::new(Register(None));
    // Every operation is a thread of its own: all order there is comes from the times.
    for (_, _, thread, call, answer) in steps {
        if let Some(call) = call {
            tester.on_invoke(thread, call).unwrap();
        }
        if let Some(answer) = answer {
            tester.on_return(thread, answer).unwrap();
        }
    }
    tester.is_consistent()
}

/// One operation to come: who, what, how long before it and in it, and what its client is told.
#[derive(Clone, Debug)]
struct Draft {
    client: usize,
    call: Call,
    pause: u64,
    until_effect: u64,
    until_answer: u64,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Truth,
    Lie(Option<Value>),
    Nothing,
    /// Nothing, and nothing happened.
    NothingLost,
}

fn draft() -> impl Strategy<Value = Draft> {
    let call =
        prop_oneof![3 => (0..3_u64).prop_map(Call::Write), 3 => Just(Call::Read), 2 => Just(Call::Remove)];
    let told = prop_oneof![
        8 => Just(Told::Truth),
        1 => proptest::option::of(0..3_u64).prop_map(Told::Lie),
        1 => Just(Told::Nothing),
        1 => Just(Told::NothingLost),
    ];
    (0..3_usize, call, 0..4_u64, 0..6_u64, 0..6_u64, told).prop_map(
        |(client, call, pause, until_effect, until_answer, told)| Draft {
            client,
            call,
            pause,
            until_effect,
            until_answer,
            told,
        },
    )
}

/// Lets the drafts happen on a true register.
fn happen(drafts: &[Draft]) -> Vec<Operation> {
    let mut free = [0_u64; 3];
    let mut planned: Vec<(u64, u64, u64, &Draft)> = Vec::new();
    for draft in drafts {
        let start = free[draft.client] + draft.pause;
        let effect = start + draft.until_effect;
        let end = effect + draft.until_answer;
        free[draft.client] = end + 1;
        planned.push((effect, start, end, draft));
    }
    planned.sort_by_key(|(effect, ..)| *effect);
    let mut register = Register(None);
    let each = planned.into_iter().map(|(_, start, end, draft)| {
        let answer =
            if draft.told == Told::NothingLost { Answer::Done } else { register.invoke(&draft.call) };
        operation(draft.client, start, end, told(draft, answer))
    });
    each.collect()
}

fn told(draft: &Draft, truth: Answer) -> Effect {
    let silent = matches!(draft.told, Told::Nothing | Told::NothingLost);
    match (draft.call, truth) {
        (Call::Write(value), _) if silent => Effect::MayHaveWritten(value),
        (Call::Remove, _) if silent => Effect::MayHaveRemoved,
        (Call::Read, _) if silent => Effect::NotRead,
        (Call::Write(value), _) => Effect::Wrote(value),
        (Call::Read, Answer::Saw(value)) => {
            Effect::Read(if let Told::Lie(lie) = draft.told { lie } else { value })
        }
        (Call::Remove, Answer::Nothing) => Effect::FoundNothing,
        (Call::Read | Call::Remove, _) => Effect::Removed,
    }
}

#[test]
fn the_verdict_is_that_of_stateright() {
    let (fine, wrong) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() });
    let agreed = runner.run(&proptest::collection::vec(draft(), 1..10), |drafts| {
        let history = happen(&drafts);
        let expected = stateright_finds_one(&history);
        let verdict = check(&history, STEPS);
        prop_assert_eq!(verdict == Verdict::Linearizable, expected, "{:?}: {:?}", verdict, history);
        prop_assert_ne!(verdict, Verdict::Unknown);
        let count = if expected { &fine } else { &wrong };
        count.set(count.get() + 1);
        Ok(())
    });
    agreed.unwrap();
    assert!(fine.get() > 200 && wrong.get() > 100, "{} fine, {} wrong", fine.get(), wrong.get());
}
