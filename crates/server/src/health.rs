//! What machines ask of a node: whether it lives, whether it is of use, and how it fares. Whether it lives never depends
//! on the others: a node without a leader is not helped by being started again.

use std::{sync::Arc, time::Duration};

use api::v1::{admin_service_server::AdminServiceServer, feed_service_server::FeedServiceServer};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use cluster::{Admission, Cluster, Progress, Status};
use model::name::NodeId;
use tokio::sync::watch::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Code, metadata::MetadataMap, server::NamedService};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{admin, edge::Edge, feed, gate::Action, metrics};

/// The names under which `grpc.health.v1` is asked what `/readyz` and `/livez` say, beside those of the services.
const READY: &str = "ready";
const LIVE: &str = "live";
/// How often it is looked whether the node is of use, when nothing tells that something has changed.
const LOOK: Duration = Duration::from_millis(250);
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

/// Keeps `grpc.health.v1` at what `/readyz` and `/livez` say, until `shutdown`; it then serves no more.
pub(crate) async fn report(cluster: Cluster, reporter: HealthReporter, shutdown: CancellationToken) {
    let services =
        ["", READY, AdminServiceServer::<admin::Service>::NAME, FeedServiceServer::<feed::Service>::NAME];
    let mut progress = cluster.watch();
    let mut last = None;
    loop {
        progress.borrow_and_update();
        let status = cluster.status();
        let is_ready = unready(&status, shutdown.is_cancelled()).is_empty();
        let now = (is_ready, status.fatal.is_none());
        if last != Some(now) {
            for service in services {
                reporter.set_service_status(service, serving(is_ready)).await;
            }
            reporter.set_service_status(LIVE, serving(status.fatal.is_none())).await;
            last = Some(now);
        }
        if shutdown.is_cancelled() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = leader_changed(&mut progress) => {}
        }
    }
}

/// Entries are applied all the time, and change nothing here.
async fn leader_changed(progress: &mut Receiver<Progress>) -> Result<(), RecvError> {
    let leader = progress.borrow().leader;
    progress.wait_for(|progress| progress.leader != leader).await.map(drop)
}

const fn serving(is_well: bool) -> ServingStatus {
    if is_well { ServingStatus::Serving } else { ServingStatus::NotServing }
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
    let is_stopping = health.edge.shutdown.is_cancelled();
    let (status, edge) = (health.cluster.status(), &health.edge);
    let expires = edge.port.expires();
    let text = metrics::exposition(&status, is_stopping, &call.known(), call.now(), &edge.load(), expires);
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
