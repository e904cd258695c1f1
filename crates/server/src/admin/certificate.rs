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
    let is_heard = |id: &NodeId| {
        *id == standing.node || state.nodes().get(id).is_some_and(|found| found.reachable)
    };
    let left =
        voters.iter().filter(|id| **id != node && !state.revoked_nodes().contains(id) && is_heard(id)).count();
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
