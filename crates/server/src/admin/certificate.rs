//! Certificates of clients, and nodes that are let in no more.

use std::collections::BTreeSet;

use api::{Malformed, v1};
use model::{
    State,
    certificate::{Party, Serial},
    command::{RecordCertificate, RevokeCertificate},
    event::ReasonCode,
    name::{CertificateName, NodeId},
    refusal::Code,
    time::Span,
};

use crate::{clock, denied::Denied, edge::Call};

/// How long a certificate is good when nothing is said.
const LIFETIME: Span = Span::days(90);
/// Longest time a certificate may be good.
const LIFETIME_MAX: Span = Span::days(398);
/// Longest request for a certificate, in bytes of text.
const REQUEST_BYTES: usize = 16 * 1_024;

pub(super) async fn issue(
    call: &Call,
    request: v1::IssueCertificateRequest,
) -> Result<v1::IssueCertificateResponse, Denied> {
    call.about("certificate", &request.name);
    let name: CertificateName = api::parse("name", &request.name)?;
    let lifetime = if request.ttl_ms == 0 { LIFETIME } else { Span(request.ttl_ms) };
    if lifetime > LIFETIME_MAX || lifetime < Span::seconds(1) {
        let message = format!("a certificate is good for at least 1s and at most {LIFETIME_MAX}");
        return Err(Denied::edge(Code::OutOfRange, message));
    }
    if request.request_pem.len() > REQUEST_BYTES {
        return Err(Malformed::new("request_pem", format!("is longer than {REQUEST_BYTES} bytes")).into());
    }
    let bytes = tls::new_serial();
    let serial = serial(&bytes)?;
    let port = &call.edge.port;
    let signed = port.sign(&request.request_pem, name.as_str(), &bytes, clock::duration(lifetime));
    let certificate_pem = signed.map_err(|error| Malformed::new("request_pem", error.to_string()))?;
    let expires = call.now().plus(lifetime);
    // It is handed out only when every node knows of it.
    call.propose(RecordCertificate { serial: serial.clone(), name, expires }).await?;
    Ok(v1::IssueCertificateResponse {
        certificate_pem,
        ca_pem: port.authorities_pem(),
        serial: serial.to_string(),
        expires_ms: expires.0,
    })
}

pub(super) async fn list(
    call: &Call,
    _: v1::ListCertificatesRequest,
) -> Result<v1::ListCertificatesResponse, Denied> {
    let state = call.read().await?;
    let certificates = state.certificates().values().map(v1::Certificate::from);
    let nodes = state.revoked_nodes().values().map(v1::Certificate::from);
    Ok(v1::ListCertificatesResponse { certificates: certificates.chain(nodes).collect() })
}

pub(super) async fn revoke(
    call: &Call,
    request: v1::RevokeCertificateRequest,
) -> Result<v1::RevokeCertificateResponse, Denied> {
    use v1::revoke_certificate_request::Party as Asked;
    let party = match request.party {
        Some(Asked::Serial(serial)) => {
            call.about("certificate", &serial);
            Party::Certificate(api::parse("serial", &serial)?)
        }
        Some(Asked::Node(node)) => {
            call.about("node", &NodeId(node).to_string());
            Party::Node(NodeId(node))
        }
        None => return Err(Malformed::new("party", "name a serial or a node".to_owned()).into()),
    };
    let code: ReasonCode = api::parse("reason_code", &request.reason_code)?;
    let state = call.read().await?;
    let recorded = match &party {
        Party::Certificate(serial) => state.certificates().contains(serial),
        Party::Node(node) => {
            check_majority(call, &state, *node)?;
            true
        }
    };
    call.propose(RevokeCertificate { party, code, reason: request.reason }).await?;
    Ok(v1::RevokeCertificateResponse { recorded })
}

/// A node that votes is not shut out when the others that are heard could not go on without it.
fn check_majority(call: &Call, state: &State, node: NodeId) -> Result<(), Denied> {
    let standing = call.edge.consensus.standing();
    let voters: BTreeSet<NodeId> =
        standing.members.iter().filter(|member| member.voter).map(|member| member.id).collect();
    if !voters.contains(&node) || state.revoked_nodes().contains(&node) {
        return Ok(());
    }
    let left = voters
        .iter()
        .filter(|id| **id != node && !state.revoked_nodes().contains(id) && standing.reaches(state, **id))
        .count();
    if left * 2 > voters.len() {
        return Ok(());
    }
    let message = format!(
        "without `{node}` {left} of {} voters are heard, which is no majority: the cluster would stop",
        voters.len()
    );
    Err(Denied::edge(Code::ClusterCannot, message))
}

fn serial(bytes: &[u8]) -> Result<Serial, Denied> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.parse().map_err(|error| Denied::Internal(format!("a serial of our own: {error}")))
}

#[cfg(test)]
mod tests {
    use api::v1::{admin_service_server::AdminService as _, revoke_certificate_request::Party as Asked};
    use model::command::AnnounceNode;
    use tonic::{Code as Status, Request};

    use super::*;
    use crate::testing::Node;

    fn wanted(name: &str) -> v1::IssueCertificateRequest {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        v1::IssueCertificateRequest { name: name.into(), request_pem: request.pem().unwrap(), ttl_ms: 0 }
    }

    fn order(party: Asked) -> v1::RevokeCertificateRequest {
        let (reason_code, reason) = ("key-compromise".to_owned(), "stolen".to_owned());
        v1::RevokeCertificateRequest { party: Some(party), reason_code, reason }
    }

    async fn listed(node: &Node) -> Vec<v1::Certificate> {
        let request: Request<_> = node.request("auditor", v1::ListCertificatesRequest {});
        node.admin().list_certificates(request).await.unwrap().into_inner().certificates
    }

    #[tokio::test]
    async fn a_certificate_is_recorded_before_it_is_handed_out_and_can_be_revoked() {
        let node = Node::start();
        let admin = node.admin();
        let issued = admin.issue_certificate(node.request("admin", wanted("ci"))).await.unwrap().into_inner();
        let row = listed(&node).await.remove(0);
        assert_eq!(
            (row.name.as_str(), &row.serial, row.expires_ms),
            ("ci", &issued.serial, issued.expires_ms)
        );
        assert!(issued.ca_pem.contains("BEGIN CERTIFICATE") && row.revoked_ms == 0);

        let known = order(Asked::Serial(issued.serial));
        assert!(admin.revoke_certificate(node.request("admin", known)).await.unwrap().into_inner().recorded);
        assert_eq!(listed(&node).await[0].reason_code, "key-compromise");
        let foreign = order(Asked::Serial("ab".into()));
        assert!(
            !admin.revoke_certificate(node.request("admin", foreign)).await.unwrap().into_inner().recorded
        );
    }

    #[tokio::test]
    async fn what_is_no_request_and_who_may_not_ask_is_refused() {
        let node = Node::start();
        let admin = node.admin();
        let denied = admin.issue_certificate(node.request("operator", wanted("ci"))).await.unwrap_err();
        assert_eq!(denied.code(), Status::PermissionDenied);
        let long = v1::IssueCertificateRequest { ttl_ms: u64::MAX, ..wanted("ci") };
        let blank = v1::IssueCertificateRequest { request_pem: "no request".into(), ..wanted("ci") };
        for wrong in [long, blank, wanted("not a name")] {
            let refused = admin.issue_certificate(node.request("admin", wrong)).await.unwrap_err();
            assert_eq!(refused.code(), Status::InvalidArgument, "{refused}");
        }
        assert!(listed(&node).await.is_empty());
    }

    #[tokio::test]
    async fn a_node_without_which_the_cluster_would_stop_is_not_revoked() {
        let node = Node::start();
        let announce = AnnounceNode { id: NodeId(1), client_address: "n:1".into(), version: "0".into() };
        node.alone.apply("node-1", announce.into()).unwrap();
        let last = node.request("admin", order(Asked::Node(1)));
        let refused = node.admin().revoke_certificate(last).await.unwrap_err();
        assert!(refused.message().contains("no majority"), "{refused}");
        assert!(listed(&node).await.is_empty());
    }
}
