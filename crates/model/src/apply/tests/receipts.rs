//! Answers of consumers: in stages, in ranges, and refused when they cannot be true.

use super::machine::{consumer, target};
use super::{Machine, name};
use crate::{
    command::{Acknowledge, Answer, PutConsumer, Receipt, WaiveReceipt},
    consumer::Subscription,
    outcome::Applied,
    refusal::Code,
};

/// With a consumer that was handed five events, and one that was handed none.
fn five_events() -> Machine {
    let mut machine = Machine::alternating();
    machine.ok(consumer("edge", true));
    machine.ok(consumer("core", true));
    machine.append_events(5);
    machine.deliver("edge");
    machine
}

#[test]
fn received_and_enforced_are_kept_apart() {
    let mut machine = five_events();
    assert_eq!(machine.answer("edge", Receipt::Received, &[(1, 5)]), []);
    let edge = machine.consumer("edge");
    assert_eq!((edge.received.cursor(), edge.enforced.cursor()), (5, 0));
    machine.enforce("edge", 1);
    assert_eq!(machine.consumer("edge").enforced.cursor(), 1);
    assert_eq!(machine.consumer("edge").last_answer, Some(machine.now));
}

#[test]
fn out_of_order_answers_are_kept_as_ranges_and_repeats_change_nothing() {
    let mut machine = five_events();
    assert_eq!(machine.answer("edge", Receipt::Enforced, &[(4, 5), (2, 2)]), []);
    let edge = machine.consumer("edge");
    assert_eq!((edge.enforced.cursor(), edge.enforced.ranges()), (0, &[(2, 2), (4, 5)][..]));
    assert_eq!(machine.state.outstanding_of(&edge).map(|row| row.revision).collect::<Vec<_>>(), [1, 3]);
    machine.answer("edge", Receipt::Enforced, &[(4, 5)]);
    assert_eq!(machine.consumer("edge").enforced, edge.enforced);
    machine.answer("edge", Receipt::Enforced, &[(1, 3)]);
    assert_eq!(machine.consumer("edge").enforced.cursor(), 5);
}

#[test]
fn a_failure_is_kept_until_it_is_mended() {
    let mut machine = five_events();
    let failed = Receipt::Failed { detail: "cache is read-only".into() };
    machine.enforce("edge", 1);
    assert_eq!(machine.answer("edge", failed, &[(1, 2)]), []);
    let edge = machine.consumer("edge");
    assert_eq!(edge.failed.keys().copied().collect::<Vec<_>>(), [2], "what was enforced has not failed");
    assert_eq!(edge.received.cursor(), 2);
    machine.enforce("edge", 2);
    assert!(machine.consumer("edge").failed.is_empty());
}

#[test]
fn an_answer_that_cannot_be_true_is_refused_and_audited_under_its_consumer() {
    let mut machine = five_events();
    machine.ok(target("other"));
    let narrow = Subscription { targets: [name("other")].into(), ..Subscription::default() };
    machine.ok(PutConsumer { subscription: narrow, ..consumer("narrow", true) });
    machine.append_events(1);
    machine.deliver("narrow");
    type Case = (&'static str, &'static [(u64, u64)], Code);
    let cases: [Case; 7] = [
        ("core", &[(1, 1)], Code::NeverDelivered),
        ("edge", &[(7, 7)], Code::UnknownRevision),
        ("edge", &[(0, 1)], Code::InvalidRange),
        ("edge", &[(3, 2)], Code::InvalidRange),
        ("edge", &[], Code::InvalidRange),
        ("narrow", &[(6, 6)], Code::NotSubscribed),
        ("edge", &[(1, 1), (6, 6)], Code::NeverDelivered),
    ];
    for (consumer, ranges, code) in cases {
        let before = machine.consumer(consumer);
        assert_eq!(machine.answer(consumer, Receipt::Enforced, ranges), [code]);
        assert_eq!(machine.consumer(consumer), before);
        let record = machine.state.audit().values().next_back().unwrap();
        assert_eq!(record.refused.as_deref(), Some(code.as_str()));
        assert_eq!(
            (record.actor.as_str(), record.object.as_str()),
            (consumer, &*format!("consumer/{consumer}"))
        );
    }
}

#[test]
fn one_refused_answer_does_not_hold_up_the_others() {
    let mut machine = five_events();
    let answer = |consumer: &str, ranges: &[(u64, u64)]| Answer {
        consumer: name(consumer),
        receipt: Receipt::Enforced,
        ranges: ranges.to_vec(),
    };
    let answers = vec![answer("core", &[(1, 1)]), answer("edge", &[(1, 5)]), answer("nobody", &[(1, 1)])];
    let applied = machine.ok(Acknowledge { answers });
    let Applied::Answered { refused } = applied else { panic!("{applied:?}") };
    let codes: Vec<_> = refused.iter().map(|(place, refusal)| (*place, refusal.code)).collect();
    assert_eq!(codes, [(0, Code::NeverDelivered), (2, Code::UnknownConsumer)]);
    assert_eq!(machine.consumer("edge").enforced.cursor(), 5);
}

#[test]
fn a_waiver_excuses_one_consumer_from_one_event() {
    let mut machine = five_events();
    let waive =
        |who: &str, revision| WaiveReceipt { consumer: name(who), revision, reason: "retired".into() };
    machine.ok(waive("core", 1));
    let missing: Vec<_> = machine.state.missing_receipts(1).map(|row| row.name.to_string()).collect();
    assert_eq!(missing, ["edge"]);
    machine.refused(Code::UnknownRevision, waive("core", 9));
    machine.refused(Code::UnknownConsumer, waive("nobody", 1));
    machine.refused(Code::TextRequired, WaiveReceipt { reason: String::new(), ..waive("core", 2) });
    machine.enforce("edge", 1);
    assert_eq!(machine.ok(waive("edge", 1)), Applied::Unchanged, "it has enforced it");
    machine.ok(consumer("late", true));
    machine.refused(Code::NotSubscribed, waive("late", 1));
}

#[test]
fn a_failed_receipt_of_endless_words_is_refused() {
    let mut machine = five_events();
    let detail = "x".repeat(crate::caps::TEXT_BYTES + 1);
    assert_eq!(machine.answer("edge", Receipt::Failed { detail }, &[(1, 1)]), [Code::TooLong]);
    let ranges = vec![(1, 1); crate::caps::ACK_RANGES + 1];
    assert_eq!(machine.answer("edge", Receipt::Received, &ranges), [Code::TooLong]);
}
