use api::v1::{
    Consumer, GetClusterResponse, GetKeyStatusResponse, GetStatusResponse, Grant, LastBackup, Look, Member,
    OddVersion, Restoration, RootKey, Rotation,
};

use super::{Examination, Node, Report, Severity};

fn member(id: u64) -> Member {
    Member {
        id,
        voter: true,
        leader: id == 1,
        reachable: true,
        version: "1.0.0".into(),
        ..Default::default()
    }
}

fn answer(node: u64) -> GetClusterResponse {
    let members = (1..=3).map(member).collect();
    GetClusterResponse { node, leader: 1, applied: 9, digest: "aa".into(), members, ..Default::default() }
}

fn node(answer: GetClusterResponse) -> Node {
    Node { address: format!("http://node-{}:7800", answer.node), answer: Ok(answer) }
}

fn silent(id: u64) -> Node {
    Node { address: format!("http://node-{id}:7800"), answer: Err("connection refused".into()) }
}

fn healthy() -> Examination {
    let nodes = (1..=3).map(|id| node(answer(id))).collect();
    Examination { nodes, status: Some(GetStatusResponse::default()), keys: None }
}

/// The checks that have found something, with how bad it is.
fn found(seen: &Examination) -> Vec<(&'static str, Severity)> {
    let report = Report::of(seen);
    assert!(
        report.findings.iter().all(|it| !it.why.is_empty() && !it.next.is_empty() && !it.what.is_empty())
    );
    report.findings.iter().map(|finding| (finding.check, finding.severity)).collect()
}

/// What a healthy cluster becomes when one answer is changed.
fn with(change: impl FnOnce(&mut GetClusterResponse)) -> Vec<(&'static str, Severity)> {
    let mut seen = healthy();
    change(seen.nodes[0].answer.as_mut().unwrap());
    found(&seen)
}

fn with_status(status: GetStatusResponse) -> Vec<(&'static str, Severity)> {
    found(&Examination { status: Some(status), ..healthy() })
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    let report = Report::of(&healthy());
    assert!(!report.needs_attention(), "{}", report.screen());
    assert!(report.screen().ends_with("\nnothing is wrong\n"));
    assert_eq!((report.answered, report.asked, report.leader), (3, 3, Some(1)));
}

#[test]
fn each_thing_that_can_be_wrong_with_a_node_is_found_by_its_check() {
    use Severity::{Critical, Notice, Warning};
    assert_eq!(with(|it| it.disk_full = true), [("disk", Critical)]);
    assert_eq!(with(|it| it.clock_off_ms = Some(-60_000)), [("clock", Warning)]);
    assert_eq!(with(|it| it.digest = "bb".into()), [("digest", Critical)]);
    assert_eq!(with(|it| (it.digest, it.applied) = ("bb".into(), 8)), [], "another entry is another state");
    assert_eq!(with(|it| it.unready = vec!["no leader is known".into()]), [("readiness", Warning)]);
    assert_eq!(with(|it| it.members[1].lag = Some(20_000)), [("lag", Warning)]);
    assert_eq!(with(|it| it.members[1].lag = Some(20)), []);
    assert_eq!(with(|it| it.members[1].version = "1.1.0".into()), [("versions", Warning)]);
    assert_eq!(with(|it| it.members[2].voter = false), [("learners", Notice)]);
    assert_eq!(with(|it| it.leader = 2), [("leader", Warning)]);
    let notice = with(|it| it.members[2].voter = false);
    assert!(notice.iter().all(|(_, severity)| *severity == Notice));
}

#[test]
fn one_node_that_is_left_says_that_there_is_no_leader_and_who_is_away() {
    let mut last = answer(2);
    last.leader = 0;
    last.unready = vec!["no leader is known".into()];
    let seen = Examination { nodes: vec![silent(1), node(last), silent(3)], ..Examination::default() };
    let names: Vec<_> = found(&seen).into_iter().map(|(check, _)| check).collect();
    assert_eq!(names, ["leader", "quorum", "nodes", "nodes", "readiness"]);
    let screen = Report::of(&seen).screen();
    assert!(screen.contains("1 of 3 voters are up, and 2 are needed; away: node-1, node-3"), "{screen}");
    assert!(screen.contains("`http://node-3:7800` does not answer: connection refused"), "{screen}");

    let nobody = Examination { nodes: vec![silent(1)], ..Examination::default() };
    assert_eq!(found(&nobody)[0], ("leader", Severity::Critical));
}

#[test]
fn the_next_fault_is_worse_when_it_would_stop_the_cluster() {
    let mut seen = healthy();
    seen.nodes[2] = silent(3);
    for node in seen.nodes.iter_mut().filter_map(|node| node.answer.as_mut().ok()) {
        node.members[2].reachable = false;
    }
    assert_eq!(found(&seen), [("quorum", Severity::Critical), ("nodes", Severity::Warning)]);
}

#[test]
fn what_the_status_lists_is_found() {
    use Severity::{Critical, Notice, Warning};
    let names = || vec!["orders-db".to_owned()];
    let status = |change: fn(&mut GetStatusResponse)| {
        let mut status = GetStatusResponse::default();
        change(&mut status);
        with_status(status)
    };
    assert_eq!(
        with_status(GetStatusResponse { overdue_schedules: names(), ..Default::default() }),
        [("overdue-schedules", Warning)]
    );
    assert_eq!(
        with_status(GetStatusResponse { overdue_reviews: names(), ..Default::default() }),
        [("identity-reviews", Warning)]
    );
    assert_eq!(
        status(|it| it.quarantined = vec![Rotation::default()]),
        [("quarantined-rotations", Critical)]
    );
    assert_eq!(status(|it| it.failing = vec![Rotation::default()]), [("failing-rotations", Warning)]);
    assert_eq!(status(|it| it.live_grants = vec![Grant::default()]), [("grants", Notice)]);
    assert_eq!(status(|it| it.awaiting_review = vec![Grant::default()]), [("grant-reviews", Warning)]);
    let consumer = |overdue, required| Consumer { overdue, required, outstanding: 3, ..Default::default() };
    let late =
        |consumer| with_status(GetStatusResponse { unacknowledged: vec![consumer], ..Default::default() });
    assert_eq!(late(consumer(0, true)), [], "there is time left");
    assert_eq!(late(consumer(1, true)), [("overdue-receipts", Critical)]);
    assert_eq!(late(consumer(1, false)), [("overdue-receipts", Warning)]);
}

#[test]
fn a_root_key_that_a_node_lacks_is_found_while_it_is_replaced() {
    let key = |id: &str, state: &str, holders: &[u64]| RootKey {
        id: id.into(),
        state: state.into(),
        holders: holders.to_vec(),
        since_ms: 0,
    };
    let with_keys = |root_keys| {
        let keys = GetKeyStatusResponse { root_keys, nodes: vec![1, 2, 3], ..Default::default() };
        found(&Examination { keys: Some(keys), ..healthy() })
    };
    let lacking = [("root-key", Severity::Warning)];
    let all = [1, 2, 3];
    assert_eq!(with_keys(vec![key("aa", "active", &all)]), []);
    assert_eq!(with_keys(vec![key("aa", "active", &all), key("bb", "held", &[1, 3])]), lacking);
    assert_eq!(with_keys(vec![key("aa", "leaving", &[2]), key("bb", "active", &[1, 3])]), lacking);
    assert_eq!(with_keys(vec![key("aa", "leaving", &[]), key("bb", "active", &all)]), []);
    assert_eq!(with_keys(vec![key("aa", "retired", &[]), key("bb", "active", &all)]), []);
}

#[test]
fn a_certificate_that_was_not_renewed_and_a_restore_that_nobody_confirmed_are_found() {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    let ends = |peer, client| {
        let mut seen = healthy();
        seen.status.as_mut().unwrap().now_ms = 100 * DAY_MS;
        let first = seen.nodes[0].answer.as_mut().unwrap();
        (first.peer_certificate_expires_ms, first.client_certificate_expires_ms) = (peer, client);
        found(&seen)
    };
    let near = ("certificates", Severity::Warning);
    assert_eq!(ends(104 * DAY_MS, 0), [], "plain text shows none");
    assert_eq!(ends(102 * DAY_MS, 104 * DAY_MS), [near]);
    assert_eq!(ends(102 * DAY_MS, 99 * DAY_MS), [near, near]);
    let restored = GetStatusResponse {
        observing: Some(Restoration::default()),
        lost_secrets: vec!["orders-db".into()],
        ..Default::default()
    };
    let expected = [("observing", Severity::Critical), ("lost-secrets", Severity::Warning)];
    assert_eq!(with_status(restored), expected);
}

#[test]
fn a_backup_that_is_missing_or_old_is_told_of() {
    use Severity::{Notice, Warning};
    const DAY_MS: u64 = 24 * 3_600_000;
    let at = |now_ms: u64, credentials: u32, last: Option<u64>| {
        let mut seen = healthy();
        seen.status = Some(GetStatusResponse { now_ms, credentials, ..Default::default() });
        for node in &mut seen.nodes {
            let answer = node.answer.as_mut().unwrap();
            answer.founded_ms = DAY_MS;
            answer.last_backup = last.map(|at_ms| LastBackup { at_ms, ..Default::default() });
        }
        found(&seen)
    };
    assert_eq!(at(50 * DAY_MS, 0, None), [], "there is nothing to back up");
    assert_eq!(at(DAY_MS + 1, 3, None), [("backup", Notice)]);
    assert_eq!(at(2 * DAY_MS + 1, 3, None), [("backup", Warning)]);
    assert_eq!(at(50 * DAY_MS, 3, Some(43 * DAY_MS)), []);
    assert_eq!(at(50 * DAY_MS, 3, Some(41 * DAY_MS)), [("backup", Warning)]);
}

#[test]
fn what_a_restored_cluster_finds_at_its_targets_is_told_of() {
    use Severity::{Critical, Warning};
    let odd = |found: &str| OddVersion {
        credential: format!("c-{found}"),
        version: 1,
        look: Some(Look { found: found.into(), ..Default::default() }),
        ..Default::default()
    };
    let odd = ["live", "refused", "absent", "unknown"].map(odd).to_vec();
    let observing = Some(Restoration { odd, ..Default::default() });
    let told = with_status(GetStatusResponse { observing, ..Default::default() });
    let logins: Vec<_> =
        told.into_iter().filter(|(check, _)| *check == "logins").map(|(_, how)| how).collect();
    assert_eq!(logins, [Critical, Warning, Warning]);
}
