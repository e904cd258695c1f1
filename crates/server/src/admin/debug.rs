//! What a node knows of itself, for a report of a fault: no secrets, and of what is kept under names only how much there
//! is of it. Settings are shown by a list of what may be shown; log lines were freed of secrets when they were taken in.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::v1;
use model::{State, command::RecordCollection, time::Time};
use serde_json::{Value, json};

use crate::{
    denied::Denied,
    edge::{Call, Facts},
    logs, metrics,
    stream::{End, Sender},
};

/// Bytes of a file in one message.
const PIECE_BYTES: usize = 64 << 10;
/// How long the cluster is given to take the audit record. Without a leader the particulars are wanted most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends one file after the other, then ends.
pub(super) async fn collect(
    call: Arc<Call>,
    request: v1::CollectDebugRequest,
    sender: Arc<Sender<v1::CollectDebugResponse>>,
) -> End {
    match send_all(&call, request.reason, &sender).await {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}

async fn send_all(call: &Call, reason: String, sender: &Sender<v1::CollectDebugResponse>) -> Result<(), End> {
    let is_audited = audit(call, reason).await?;
    for (file, content) in files(call, is_audited) {
        for piece in content.as_bytes().chunks(PIECE_BYTES) {
            let message = v1::CollectDebugResponse { file: file.to_owned(), piece: piece.to_vec() };
            sender.send(message).await?;
        }
    }
    Ok(())
}

/// Whether it stands in the audit log that this was asked for. A refusal ends the call; no leader does not.
async fn audit(call: &Call, reason: String) -> Result<bool, Denied> {
    let node = call.edge.consensus.standing().node;
    call.about("node", &node.to_string());
    let record = call.propose(RecordCollection { node, reason });
    match tokio::time::timeout(PATIENCE, record).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(denied @ Denied::Model(_))) => Err(denied),
        Ok(Err(_)) | Err(_) => {
            let actor = &call.caller.principal;
            tracing::warn!(
                actor,
                "this node's particulars are given without an audit record: no leader takes it"
            );
            Ok(false)
        }
    }
}

fn files(call: &Call, is_audited: bool) -> Vec<(&'static str, String)> {
    let (state, now) = (call.known(), call.now());
    let mut files = vec![
        ("about.json", pretty(&about(is_audited, now))),
        ("summary.json", pretty(&summary(&state, now))),
        ("log.txt", logs::ring().lines().join("\n") + "\n"),
    ];
    if let Some(Facts { cluster, settings }) = call.edge.facts.get() {
        let status = cluster.status();
        let (load, expires) = (call.edge.load(), call.edge.port.expires());
        let is_stopping = call.edge.shutdown.is_cancelled();
        let figures = metrics::exposition(&status, is_stopping, &state, now, &load, expires);
        files.push(("metrics.txt", figures));
        files.push(("cluster.txt", format!("{status:#?}\n")));
        files.push(("settings.json", pretty(settings)));
    }
    files
}

fn about(is_audited: bool, now: Time) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "timeZoneData": model::timing::ZONE_DATA,
        "process": std::process::id(),
        "nowMs": now.0,
        "audited": is_audited,
    })
}

/// How much there is of everything, and how old the oldest is.
fn summary(state: &State, now: Time) -> Value {
    let rotations = by_word(state.rotations().values().map(|row| row.stage.as_str()));
    let versions = by_word(state.versions().values().map(|row| row.state.as_str()));
    let grants = by_word(state.grants().values().map(|row| row.stage.as_str()));
    let open = state.open_jobs().count();
    let oldest = state.rotations().values().filter(|row| row.ended.is_none()).map(|row| row.started).min();
    let outstanding = state.consumers().values().map(|row| state.outstanding_of(row).count()).max();
    json!({
        "digest": state.digest().to_string(),
        "revision": state.revision(),
        "auditRecords": state.audit_head().sequence,
        "identities": state.identities().len(),
        "targets": state.targets().len(),
        "stores": state.stores().len(),
        "credentials": state.credentials().len(),
        "versionsByState": versions,
        "schedules": state.schedules().len(),
        "schedulesOverdue": state.overdue_schedules(now).count(),
        "rotationsByStage": rotations,
        "grantsByStage": grants,
        "jobsOpen": open,
        "oldestOpenRotationMs": oldest.map(|at| now.since(at).0),
        "consumers": state.consumers().len(),
        "mostOutstandingOfOneConsumer": outstanding.unwrap_or_default(),
        "eventsKept": state.events().len(),
        "revocations": state.revocations().len(),
        "tokens": state.tokens().len(),
        "nodes": state.nodes().len(),
    })
}

fn by_word<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use model::{
        command::{AnnounceNode, Command},
        name::NodeId,
    };
    use tonic::{Code, Status};
    use v1::admin_service_server::AdminService as _;

    use super::*;
    use crate::testing::Node;

    /// A node that the state knows.
    fn node() -> Node {
        let node = Node::start();
        let announced = AnnounceNode { id: NodeId(1), client_address: "n:1".into(), version: "0.1.0".into() };
        node.alone.apply("node-1", announced.into()).unwrap();
        node
    }

    async fn collected(node: &Node, token: &str, reason: &str) -> Result<BTreeMap<String, String>, Status> {
        let request = node.request(token, v1::CollectDebugRequest { reason: reason.into() });
        let mut stream = node.admin().collect_debug(request).await?.into_inner();
        let mut files = BTreeMap::<String, String>::new();
        while let Some(message) = stream.next().await {
            let v1::CollectDebugResponse { file, piece } = message?;
            files.entry(file).or_default().push_str(&String::from_utf8(piece).unwrap());
        }
        Ok(files)
    }

    fn recorded(node: &Node) -> Vec<String> {
        let reason = |(_, command)| {
            if let Command::RecordCollection(body) = command { Some(body.reason) } else { None }
        };
        node.alone.proposed().into_iter().filter_map(reason).collect()
    }

    #[tokio::test]
    async fn what_is_collected_is_audited_and_without_a_leader_it_is_given_and_says_so() {
        let node = node();
        let files = collected(&node, "admin", "a slow disk").await.unwrap();
        assert!(files["about.json"].contains("\"audited\": true"), "{files:?}");
        assert!(files["summary.json"].contains("\"tokens\": 4"), "{files:?}");
        assert!(files.contains_key("log.txt"));
        assert_eq!(recorded(&node), ["a slow disk"]);

        node.alone.lose_leader(true);
        let files = collected(&node, "admin", "no leader").await.unwrap();
        assert!(files["about.json"].contains("\"audited\": false"), "{files:?}");
        assert_eq!(recorded(&node), ["a slow disk"]);
    }

    #[tokio::test]
    async fn nobody_but_an_admin_with_a_reason_is_given_anything() {
        let node = node();
        for role in ["operator", "approver", "auditor"] {
            let denied = collected(&node, role, "curious").await.unwrap_err();
            assert_eq!(denied.code(), Code::PermissionDenied, "{role}");
        }
        let unsaid = collected(&node, "admin", "").await.unwrap_err();
        assert_eq!(unsaid.code(), Code::InvalidArgument, "{unsaid:?}");
    }
}
