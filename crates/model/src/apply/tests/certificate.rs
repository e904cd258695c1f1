//! Certificates of clients, and nodes that are let in no more.

use super::{Machine, machine::START, name};
use crate::{
    caps,
    certificate::{Party, Serial},
    command::{AnnounceNode, RecordCertificate, RevokeCertificate, Stamped, Tick},
    event::ReasonCode,
    name::NodeId,
    outcome::Applied,
    refusal::Code,
    time::Span,
};

fn serial(text: &str) -> Serial {
    text.parse().unwrap()
}

fn recorded(text: &str) -> RecordCertificate {
    RecordCertificate { serial: serial(text), name: name("ci"), expires: START.plus(Span::hours(1)) }
}

fn revoked(party: Party) -> RevokeCertificate {
    RevokeCertificate { party, code: ReasonCode::KeyCompromise, reason: "laptop stolen".into() }
}

#[test]
fn a_certificate_is_recorded_once_and_revoked_for_good() {
    let mut machine = Machine::new();
    machine.refused(Code::OutOfRange, RecordCertificate { expires: START, ..recorded("ab") });
    machine.ok(recorded("ab"));
    machine.refused(Code::AlreadyExists, recorded("ab"));
    let order = revoked(Party::Certificate(serial("ab")));
    machine.refused(Code::TextRequired, RevokeCertificate { reason: " ".into(), ..order.clone() });
    machine.refused(Code::InvalidRequest, RevokeCertificate { code: ReasonCode::Hold, ..order.clone() });
    assert_eq!(machine.state.revoked_serials().count(), 0);
    assert_eq!(machine.ok(order.clone()), Applied::Changed);
    assert_eq!(machine.ok(order), Applied::Unchanged);
    machine.refused(Code::AlreadyExists, recorded("ab"));
    assert_eq!(machine.state.revoked_serials().collect::<Vec<_>>(), [&serial("ab")]);
    assert_eq!(machine.audited("certificate.revoke"), 4, "refusals too");
}

#[test]
fn one_that_was_issued_beside_the_cluster_can_be_revoked() {
    let mut machine = Machine::new();
    machine.ok(revoked(Party::Certificate(serial("cd"))));
    let row = machine.state.certificates().get(&serial("cd")).unwrap();
    assert!(row.name.is_none() && row.revoked.is_some());
}

#[test]
fn a_node_is_revoked_when_there_is_one() {
    let mut machine = Machine::new();
    machine.refused(Code::UnknownNode, revoked(Party::Node(NodeId(4))));
    machine.ok(AnnounceNode { id: NodeId(4), client_address: "n:4".into(), version: "0.1.0".into() });
    assert_eq!(machine.ok(revoked(Party::Node(NodeId(4)))), Applied::Changed);
    assert_eq!(machine.ok(revoked(Party::Node(NodeId(4)))), Applied::Unchanged);
    assert!(machine.state.revoked_nodes().contains(&NodeId(4)));
}

#[test]
fn those_that_ended_long_ago_make_room_and_no_others() {
    let mut machine = Machine::new();
    for number in 0..caps::CERTIFICATES {
        let command = recorded(&format!("{number:08x}")).into();
        machine.state.apply(&Stamped { at: machine.now, actor: "alice".into(), command }).unwrap();
    }
    machine.refused(Code::TooLong, recorded("ffffffff"));
    machine.refused(Code::TooLong, revoked(Party::Certificate(serial("ffffffff"))));
    machine.now = START.plus(Span::hours(1)).plus(caps::CERTIFICATE_KEPT_AFTER_END).plus(Span(1));
    machine.ok(Tick {});
    let later = RecordCertificate { expires: machine.now.plus(Span::hours(1)), ..recorded("ffffffff") };
    machine.ok(later);
    assert_eq!(machine.state.certificates().len(), 1);
}
