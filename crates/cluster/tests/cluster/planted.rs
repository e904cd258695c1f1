//! What the simulation cannot see, for it has a disk and a door of its own: each of these bugs is planted alone, and the
//! test named beside it, which passes without it, fails.

use std::process::Command;

use model::planted::{Bug, VARIABLE};

#[test]
fn a_wiped_node_that_votes_is_caught() {
    caught(Bug::WipedVotes, "repair::a_wiped_node_comes_back_as_a_learner_and_votes_when_it_has_caught_up");
}

#[test]
fn a_read_without_asking_the_others_is_caught() {
    caught(Bug::StaleRead, "three_nodes::a_minority_neither_commits_nor_reads");
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
