//! Bugs in files and in what is asked of them: each of these is planted alone, and the test named beside it, which
//! passes without it, fails.

use std::process::Command;

use model::planted::{Bug, VARIABLE};

#[test]
fn an_append_that_is_acknowledged_before_its_flush_is_caught() {
    caught(Bug::AckBeforeFlush, "log::tests::nothing_is_acknowledged_before_it_is_durable");
}

#[test]
fn a_vote_that_is_given_before_its_flush_is_caught() {
    caught(Bug::VoteUnflushed, "log::tests::nothing_is_acknowledged_before_it_is_durable");
}

#[test]
fn a_wiped_node_that_is_let_in_is_caught() {
    caught(Bug::WipedVotes, "admission::tests::the_newest_membership_decides_about_the_storage");
}

#[test]
fn a_promise_that_is_not_kept_is_caught() {
    caught(Bug::PromiseForgotten, "admission::tests::a_storage_that_went_back_is_excluded");
}

#[test]
fn a_frame_without_its_checksum_is_caught() {
    caught(Bug::FrameUnchecked, "machine::tests::a_damaged_snapshot_is_never_loaded");
}

#[test]
fn an_unknown_command_that_is_skipped_is_caught() {
    let test = "machine::tests::an_unknown_command_stops_the_node_and_nothing_of_its_entry_is_applied";
    caught(Bug::UnknownSkipped, test);
}

/// Runs one test of this binary in a process with the bug, and in one without.
fn caught(bug: Bug, test: &str) {
    for planted in [Some(bug), None] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact"]).env_remove(VARIABLE);
        command.envs(planted.map(|bug| (VARIABLE, bug.name())));
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let expected = if planted.is_some() { "0 passed; 1 failed" } else { "1 passed; 0 failed" };
        assert!(told.contains(expected), "`{test}` with {planted:?}: {told}");
    }
}
