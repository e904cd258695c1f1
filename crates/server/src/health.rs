//! What machines ask of a node: whether it lives, whether it is of use, and how it fares. Whether it lives never depends
//! on the others: a node without a leader is not helped by being started again.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use cluster::{Admission, Cluster, Status};
use model::name::NodeId;
use tonic::{Code, metadata::MetadataMap};

use crate::{edge::Edge, gate::Action, metrics};

/// What a scrape of OpenMetrics is answered with.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Health {
    cluster: Cluster,
    edge: Arc<Edge>,
}

/// `/livez` and `/readyz` for anyone, `/metrics` for those who may look at the state.
pub(crate) fn routes(cluster: Cluster, edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Health { cluster, edge })
}

/// Why a node is of no use now, one reason for each thing that must hold; empty when it is ready.
pub(crate) fn unready(status: &Status, is_stopping: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_stopping {
        reasons.push("this node is stopping".to_owned());
    }
    match &status.admission {
        Admission::Admitted => {}
        Admission::Asking => reasons.push("this node asks the others whether it may take part".to_owned()),
        Admission::Excluded(exclusion) => reasons.push(exclusion.to_string()),
    }
    if status.leader.is_none() {
        reasons.push("no leader is known".to_owned());
    }
    if status.is_leader && !hears_a_majority(status) {
        reasons.push("this node leads, and does not hear a majority of the voters".to_owned());
    }
    reasons.extend(status.fatal.clone());
    reasons
}

/// A leader that is cut off does not know that it leads no more.
fn hears_a_majority(status: &Status) -> bool {
    let is_heard =
        |id: &&NodeId| **id == status.node || status.peers.get(*id).is_some_and(|peer| peer.reachable);
    status.voters.iter().filter(is_heard).count() * 2 > status.voters.len()
}

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    health.cluster.status().fatal.map_or_else(
        || (StatusCode::OK, "ok\n".to_owned()),
        |reason| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    )
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let reasons = unready(&health.cluster.status(), health.edge.shutdown.is_cancelled());
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.iter().map(|reason| format!("{reason}\n")).collect())
}

async fn scrape(State(health): State<Health>, headers: HeaderMap) -> Response {
    let call = match health.edge.admit(&MetadataMap::from_headers(headers), Action::Look).await {
        Ok(call) => call,
        Err(status) => return (code_of(status.code()), format!("{}\n", status.message())).into_response(),
    };
    let text = metrics::exposition(&health.cluster.status(), &call.known(), call.now(), &health.edge.load());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

fn code_of(code: Code) -> StatusCode {
    match code {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use cluster::{Exclusion, PeerStatus};

    use super::*;

    fn status() -> Status {
        Status { leader: Some(NodeId(2)), admission: Admission::Admitted, ..Status::default() }
    }

    #[test]
    fn a_node_is_ready_when_it_takes_part_and_knows_a_leader() {
        assert!(unready(&status(), false).is_empty());
        assert_eq!(unready(&status(), true), ["this node is stopping"]);
        assert_eq!(unready(&Status { leader: None, ..status() }, false), ["no leader is known"]);
        let voters = (1..=3).map(NodeId).collect();
        let leads = Status { node: NodeId(2), is_leader: true, voters, ..status() };
        assert_eq!(unready(&leads, false).len(), 1, "it hears nobody");
        let peers = [(NodeId(3), PeerStatus { reachable: true, matched: None, silent_for: None })].into();
        assert!(unready(&Status { peers, ..leads }, false).is_empty());
        let excluded = Admission::Excluded(Exclusion::NoMember);
        let told = unready(&Status { admission: excluded, ..status() }, false);
        assert_eq!(told, [Exclusion::NoMember.to_string()]);
    }
}
