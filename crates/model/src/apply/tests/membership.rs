//! Nodes that come and go, and the tokens that let new ones in.

use super::{Machine, name};
use crate::{
    caps,
    command::{
        AdmitNode, AnnounceNode, ChangeCluster, ClusterChange, CreateJoinToken, Invitation, RemoveNode,
        RevokeJoinToken,
    },
    name::NodeId,
    outcome::Applied,
    refusal::Code,
    time::Span,
};

fn token(text: &str) -> CreateJoinToken {
    CreateJoinToken { name: name(text), hash: [7; 32], ttl: Span::hours(1), reason: "one more".into() }
}

fn admit(token: &str, storage: u8) -> AdmitNode {
    AdmitNode {
        invitation: Some(Invitation { token: name(token), hash: [7; 32] }),
        storage: [storage; 16],
        peer_address: "n:1".into(),
        learner: false,
        highest: NodeId(3),
    }
}

fn remove(node: u64) -> RemoveNode {
    RemoveNode { node: NodeId(node), reason: "the machine burned down".into(), highest: NodeId(3) }
}

#[test]
fn a_join_token_lets_one_node_in() {
    let mut machine = Machine::new();
    machine.ok(token("a"));
    machine.refused(Code::AlreadyExists, token("a"));
    assert_eq!(machine.ok(admit("a", 1)), Applied::Admitted(NodeId(4)));
    assert_eq!(machine.ok(admit("a", 1)), Applied::Admitted(NodeId(4)), "it has not heard the answer");
    machine.refused(Code::JoinToken, admit("a", 2));
    machine.refused(Code::JoinToken, admit("unknown", 2));
    machine.refused(Code::JoinToken, RevokeJoinToken { name: name("a"), reason: "late".into() });
    assert_eq!(machine.state.join_tokens().get(&name("a")).unwrap().used_by, Some(NodeId(4)));

    machine.ok(token("b"));
    let mut other = admit("b", 2);
    other.invitation = Some(Invitation { token: name("b"), hash: [8; 32] });
    machine.refused(Code::JoinToken, other);
    machine.ok(RevokeJoinToken { name: name("b"), reason: "not needed".into() });
    machine.refused(Code::JoinToken, admit("b", 2));

    machine.ok(token("c"));
    machine.wait(Span::hours(1));
    machine.refused(Code::JoinToken, admit("c", 2));
    assert_eq!(machine.state.memberships().len(), 1);
}

#[test]
fn a_join_token_lives_for_a_day_at_most_and_says_why_it_was_made() {
    let mut machine = Machine::new();
    let lives = |ttl| CreateJoinToken { ttl, ..token("a") };
    machine.refused(Code::OutOfRange, lives(Span(caps::JOIN_TOKEN_MAX.0 + 1)));
    machine.refused(Code::OutOfRange, lives(Span(caps::JOIN_TOKEN_MIN.0 - 1)));
    machine.refused(Code::TextRequired, CreateJoinToken { reason: " ".into(), ..token("a") });
    machine.ok(lives(caps::JOIN_TOKEN_MAX));
}

#[test]
fn dead_join_tokens_make_room_and_open_ones_do_not() {
    let mut machine = Machine::new();
    for number in 0..caps::JOIN_TOKENS {
        machine.ok(token(&format!("t{number}")));
    }
    machine.refused(Code::TooLong, token("more"));
    machine.ok(RevokeJoinToken { name: name("t7"), reason: "not needed".into() });
    machine.ok(token("more"));
    assert_eq!(machine.state.join_tokens().len(), caps::JOIN_TOKENS);
    assert!(!machine.state.join_tokens().contains(&name("t7")));
}

#[test]
fn an_id_is_never_given_again() {
    let mut machine = Machine::new();
    let announce = |id| AnnounceNode { id: NodeId(id), client_address: "c:1".into(), version: "1".into() };
    let by_key = |storage| AdmitNode { invitation: None, ..admit("none", storage) };
    assert_eq!(machine.ok(by_key(1)), Applied::Admitted(NodeId(4)), "above what Raft knows");
    machine.ok(announce(6));
    assert_eq!(machine.ok(by_key(2)), Applied::Admitted(NodeId(7)), "above what has announced itself");
    machine.ok(announce(7));
    machine.ok(remove(7));
    assert!(!machine.state.nodes().contains(&NodeId(7)));
    assert_eq!(machine.ok(by_key(3)), Applied::Admitted(NodeId(8)), "above what was removed");
    machine.refused(Code::NodeRemoved, by_key(2));
    machine.refused(Code::NodeRemoved, announce(7));
    assert_eq!(machine.ok(remove(7)), Applied::Unchanged);
    machine.refused(Code::UnknownNode, remove(9));
    machine.refused(Code::UnknownNode, remove(0));
    machine.refused(Code::TextRequired, RemoveNode { reason: String::new(), ..remove(8) });
    assert_eq!(machine.ok(remove(2)), Applied::Changed, "of the first configuration, and never announced");
    let removed: Vec<_> = machine.state.removed_nodes().map(|(id, _)| id.0).collect();
    assert_eq!(removed, [2, 7]);
    machine.refused(Code::OutOfRange, AdmitNode { highest: NodeId(u64::MAX), ..by_key(9) });
}

#[test]
fn a_node_that_asks_again_may_have_moved() {
    let mut machine = Machine::new();
    machine.ok(token("a"));
    machine.ok(admit("a", 1));
    machine.ok(AdmitNode { peer_address: "elsewhere:1".into(), ..admit("a", 1) });
    assert_eq!(machine.state.admission_of(NodeId(4)).unwrap().peer_address, "elsewhere:1");
    machine.refused(Code::InvalidRequest, AdmitNode { peer_address: String::new(), ..admit("a", 1) });
    let stolen = Some(Invitation { token: name("a"), hash: [8; 32] });
    machine.refused(Code::JoinToken, AdmitNode { invitation: stolen, ..admit("a", 1) });
}

#[test]
fn a_learner_stays_one_until_it_is_promoted() {
    let mut machine = Machine::new();
    machine.ok(token("a"));
    machine.ok(AdmitNode { learner: true, ..admit("a", 1) });
    let promote = |node| ChangeCluster {
        node: NodeId(node),
        change: ClusterChange::Promote,
        reason: "it has proven itself".into(),
    };
    assert!(machine.state.admission_of(NodeId(4)).unwrap().learner);
    assert_eq!(machine.ok(promote(4)), Applied::Changed);
    assert!(!machine.state.admission_of(NodeId(4)).unwrap().learner);
    assert_eq!(machine.ok(promote(4)), Applied::Unchanged);
    machine.refused(Code::UnknownNode, promote(5));
    machine.ok(remove(4));
    machine.refused(Code::UnknownNode, promote(4));
}
