//! Tokens, nodes, the data key and reads.

use super::machine::{START, consumer};
use super::{Machine, name};
use crate::{
    command::{
        AnnounceNode, ChangeCluster, ClusterChange, InstallDataKey, IssueToken, RecordCollection, RecordRead,
        RemoveConsumer, ReportReachable, RevokeToken,
    },
    name::NodeId,
    outcome::Applied,
    refusal::Code,
    time::Span,
    token::Role,
};

fn token(text: &str, role: Role) -> IssueToken {
    IssueToken {
        name: name(text),
        principal: text.to_owned(),
        role,
        consumer: None,
        hash: [7; 32],
        expires: None,
    }
}

fn revoked(text: &str) -> RevokeToken {
    RevokeToken { name: name(text), reason: "left the team".into() }
}

#[test]
fn the_last_admin_token_that_does_not_expire_stays() {
    let mut machine = Machine::new();
    machine.ok(token("root", Role::Admin));
    let expires = Some(START.plus(Span::hours(1)));
    machine.ok(IssueToken { expires, ..token("guest", Role::Admin) });
    machine.refused(Code::LastAdmin, revoked("root"));
    machine.ok(revoked("guest"));
    machine.ok(token("second", Role::Admin));
    assert_eq!(machine.ok(revoked("root")), Applied::Changed);
    assert_eq!(machine.ok(revoked("root")), Applied::Unchanged);
    machine.refused(Code::LastAdmin, revoked("second"));
    machine.refused(Code::AlreadyExists, token("root", Role::Auditor));
    machine.refused(Code::UnknownToken, revoked("nobody"));
    machine.refused(Code::TextRequired, RevokeToken { reason: String::new(), ..revoked("second") });
}

#[test]
fn a_token_works_until_it_expires_or_is_revoked() {
    let mut machine = Machine::new();
    let expires = Some(START.plus(Span::hours(1)));
    machine.ok(IssueToken { expires, ..token("bob", Role::Approver) });
    let row = |machine: &Machine| machine.state.tokens().get(&name("bob")).unwrap().clone();
    assert!(row(&machine).is_live(START) && !row(&machine).is_live(START.plus(Span::hours(1))));
    machine.ok(revoked("bob"));
    assert!(!row(&machine).is_live(START));
    machine.refused(Code::OutOfRange, IssueToken { expires: Some(START), ..token("late", Role::Auditor) });
    let nobody = IssueToken { principal: String::new(), ..token("nobody", Role::Auditor) };
    machine.refused(Code::TextRequired, nobody);
}

#[test]
fn a_consumers_token_speaks_for_one_consumer_and_no_other_does() {
    let mut machine = Machine::alternating();
    machine.refused(Code::ConsumerBinding, token("edge-token", Role::Consumer));
    let bound = IssueToken { consumer: Some(name("edge")), ..token("edge-token", Role::Consumer) };
    machine.refused(Code::UnknownConsumer, bound.clone());
    machine.ok(consumer("edge", true));
    machine.refused(Code::ConsumerBinding, IssueToken { role: Role::Admin, ..bound.clone() });
    machine.ok(bound);
    machine.refused(Code::InUse, RemoveConsumer { name: name("edge") });
    machine.ok(revoked("edge-token"));
    machine.ok(RemoveConsumer { name: name("edge") });
}

#[test]
fn a_node_keeps_its_standing_when_it_announces_itself_again() {
    let mut machine = Machine::new();
    let announce = |address: &str| AnnounceNode {
        id: NodeId(1),
        client_address: address.into(),
        version: "0.1.0".into(),
    };
    machine.ok(announce("a:1"));
    assert_eq!(machine.ok(announce("a:1")), Applied::Unchanged);
    let nodes = ReportReachable { nodes: [NodeId(1), NodeId(9)].into() };
    assert_eq!(machine.ok(nodes.clone()), Applied::Changed);
    assert_eq!(machine.ok(nodes), Applied::Unchanged);
    machine.ok(announce("b:1"));
    let row = machine.state.nodes().get(&NodeId(1)).unwrap();
    assert!(row.reachable && row.client_address == "b:1");
    machine.refused(Code::InvalidRequest, announce("a\u{7}"));
}

#[test]
fn the_data_key_is_put_in_place_once() {
    let mut machine = Machine::new();
    machine.refused(Code::OutOfRange, InstallDataKey { id: 1, wrapped: Vec::new() });
    machine.ok(InstallDataKey { id: 1, wrapped: vec![1; 60] });
    machine.refused(Code::DataKeyExists, InstallDataKey { id: 2, wrapped: vec![2; 60] });
    assert_eq!(machine.state.data_key().unwrap().id, 1);
}

#[test]
fn what_is_asked_of_the_nodes_is_recorded_with_its_reason() {
    let mut machine = Machine::new();
    let ask = |node, reason: &str| ChangeCluster {
        node: NodeId(node),
        change: ClusterChange::TransferLeader,
        reason: reason.into(),
    };
    machine.refused(Code::UnknownNode, ask(3, "maintenance"));
    machine.ok(AnnounceNode { id: NodeId(3), client_address: "n:3".into(), version: "0.1.0".into() });
    machine.refused(Code::TextRequired, ask(3, ""));
    machine.ok(ask(3, "maintenance"));
    assert_eq!(machine.audited("cluster.change"), 3, "refusals too");
}

#[test]
fn what_is_collected_from_a_node_is_recorded_with_its_reason() {
    let mut machine = Machine::new();
    let collect = |node, reason: &str| RecordCollection { node: NodeId(node), reason: reason.into() };
    machine.refused(Code::UnknownNode, collect(3, "a slow disk"));
    machine.ok(AnnounceNode { id: NodeId(3), client_address: "n:3".into(), version: "0.1.0".into() });
    machine.refused(Code::TextRequired, collect(3, ""));
    let before = machine.state.digest();
    machine.ok(collect(3, "a slow disk"));
    assert_ne!(machine.state.digest(), before, "the audit record alone is new");
    assert_eq!(machine.audited("debug.collect"), 3, "refusals too");
}

#[test]
fn a_read_is_recorded_if_there_is_something_to_read() {
    let mut machine = Machine::alternating();
    let read = |version| RecordRead { credential: name("orders-db"), version };
    machine.ok(read(1));
    assert_eq!(machine.audited("secret.read"), 1);
    machine.refused(Code::UnknownVersion, read(2));
    let id = machine.trigger();
    machine.run(id);
    machine.refused(Code::NoSecret, read(1));
    machine.ok(read(2));
}
