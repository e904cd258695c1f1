//! The cluster, as this node sees it.

use api::v1;
use model::{
    command::{ChangeCluster, ClusterChange},
    name::NodeId,
};

use crate::{denied::Denied, edge::Call};

/// Answers from what this node knows, so that it answers without a leader as well.
#[allow(clippy::unused_async, reason = "all calls have one shape")]
pub(super) async fn get(call: &Call, _: v1::GetClusterRequest) -> Result<v1::GetClusterResponse, Denied> {
    let state = call.edge.consensus.local();
    let standing = call.edge.consensus.standing();
    let members = standing.members.into_iter().map(|member| {
        let node = state.nodes().get(&member.id);
        v1::Member {
            id: member.id.0,
            peer_address: member.peer_address,
            client_address: node.map(|node| node.client_address.clone()).unwrap_or_default(),
            voter: member.voter,
            leader: standing.leader == Some(member.id),
            // What the last leader said of the others says nothing while there is none.
            reachable: member.id == standing.node
                || (standing.leader.is_some() && node.is_some_and(|node| node.reachable)),
            version: node.map(|node| node.version.clone()).unwrap_or_default(),
        }
    });
    Ok(v1::GetClusterResponse {
        node: standing.node.0,
        leader: standing.leader.map_or(0, |id| id.0),
        term: standing.term,
        last_log: standing.last_log,
        applied: standing.applied,
        digest: state.digest().to_string(),
        members: members.collect(),
        clock_off_ms: standing.clock_off,
    })
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
