//! The cluster, as this node sees it.

use api::v1;
use model::{
    State,
    command::{ChangeCluster, ClusterChange, RemoveNode},
    name::NodeId,
};

use crate::{
    consensus::{MemberChange, Standing},
    denied::Denied,
    edge::Call,
};

/// Answers from what this node knows, so that it answers without a leader as well.
#[allow(clippy::unused_async, reason = "all calls have one shape")]
pub(super) async fn get(call: &Call, _: v1::GetClusterRequest) -> Result<v1::GetClusterResponse, Denied> {
    let state = call.edge.consensus.local();
    let standing = call.edge.consensus.standing();
    let awaited: Vec<v1::Member> = awaited(&state, &standing).collect();
    let last_log = standing.last_log;
    let ids = standing.members.iter().map(|member| member.id);
    let reached: Vec<NodeId> = ids.filter(|id| standing.reaches(&state, *id)).collect();
    let members = standing.members.into_iter().map(|member| {
        let leads = standing.leader == Some(member.id);
        let node = state.nodes().get(&member.id);
        v1::Member {
            id: member.id.0,
            peer_address: member.peer_address,
            client_address: node.map(|node| node.client_address.clone()).unwrap_or_default(),
            voter: member.voter,
            leader: leads,
            reachable: reached.contains(&member.id),
            version: node.map(|node| node.version.clone()).unwrap_or_default(),
            storage: member.storage,
            lag: if leads { Some(0) } else { member.matched.map(|held| last_log.saturating_sub(held)) },
            silent_ms: member
                .silent_for
                .map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
            awaited: false,
            stays_learner: state.admission_of(member.id).is_some_and(|admission| admission.learner),
        }
    });
    Ok(v1::GetClusterResponse {
        node: standing.node.0,
        leader: standing.leader.map_or(0, |id| id.0),
        term: standing.term,
        last_log: standing.last_log,
        applied: standing.applied,
        digest: standing.digest.to_string(),
        members: members.chain(awaited).collect(),
        clock_off_ms: standing.clock_off,
        peer_certificate_expires_ms: standing.certificate_expires.0,
        client_certificate_expires_ms: call.edge.port.expires().unwrap_or_default().0,
        last_backup: state.last_backup().map(|row| v1::LastBackup {
            at_ms: row.at.0,
            by: row.by.clone(),
            applied: row.applied,
            revision: row.revision,
            ledger_entry: row.ledger,
        }),
        founded_ms: state.founded().0,
        unready: standing.unready,
        disk_full: standing.disk_full,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        changing: standing.changing,
    })
}

/// The nodes that were let in and are no members yet.
fn awaited<'a>(state: &'a State, standing: &Standing) -> impl Iterator<Item = v1::Member> + use<'a> {
    let members: Vec<NodeId> = standing.members.iter().map(|member| member.id).collect();
    let rows = state.memberships().values().filter(move |row| !members.contains(&row.id));
    rows.filter_map(|row| state.admission_of(row.id).map(|admission| (row.id, admission))).map(
        |(id, admission)| v1::Member {
            id: id.0,
            peer_address: admission.peer_address.clone(),
            awaited: true,
            stays_learner: admission.learner,
            ..Default::default()
        },
    )
}

pub(super) async fn promote(
    call: &Call,
    request: v1::PromoteNodeRequest,
) -> Result<v1::PromoteNodeResponse, Denied> {
    let node = note(call, request.node, ClusterChange::Promote, request.reason).await?;
    let done = call.edge.consensus.change_members(MemberChange::Promote(node)).await;
    done.map_err(|error| Denied::by_the_nodes(&error))?;
    Ok(v1::PromoteNodeResponse {})
}

/// What would stop the cluster is refused before anything is written. From then on the node is turned out: should this
/// call be cut short, the leader takes it out by itself.
pub(super) async fn remove(
    call: &Call,
    request: v1::RemoveNodeRequest,
) -> Result<v1::RemoveNodeResponse, Denied> {
    let node = NodeId(request.node);
    call.about("node", &node.to_string());
    let may = call.edge.consensus.change_members(MemberChange::MayRemove(node)).await;
    may.map_err(|error| Denied::by_the_nodes(&error))?;
    let standing = call.edge.consensus.standing();
    let highest = standing.members.iter().map(|member| member.id).max().unwrap_or_default();
    call.propose(RemoveNode { node, reason: request.reason, highest }).await?;
    #[cfg(feature = "failpoints")]
    workers::crash::reached("remove.committed");
    let done = call.edge.consensus.change_members(MemberChange::Remove(node)).await;
    done.map_err(|error| Denied::by_the_nodes(&error).after_a_commit())?;
    Ok(v1::RemoveNodeResponse {})
}

pub(super) async fn transfer_leader(
    call: &Call,
    request: v1::TransferLeaderRequest,
) -> Result<v1::TransferLeaderResponse, Denied> {
    let node = note(call, request.node, ClusterChange::TransferLeader, request.reason).await?;
    let done = call.edge.consensus.transfer_leader(node).await;
    done.map_err(|error| Denied::by_the_nodes(&error))?;
    Ok(v1::TransferLeaderResponse {})
}

pub(super) async fn permit_rejoin(
    call: &Call,
    request: v1::PermitRejoinRequest,
) -> Result<v1::PermitRejoinResponse, Denied> {
    let node = note(call, request.node, ClusterChange::Rejoin, request.reason).await?;
    let done = call.edge.consensus.permit_rejoin(node).await;
    done.map_err(|error| Denied::by_the_nodes(&error))?;
    Ok(v1::PermitRejoinResponse {})
}

/// Who asks for what, and why, stands in the audit log before it is done.
async fn note(call: &Call, node: u64, change: ClusterChange, reason: String) -> Result<NodeId, Denied> {
    let node = NodeId(node);
    call.about("node", &node.to_string());
    call.propose(ChangeCluster { node, change, reason }).await?;
    Ok(node)
}
