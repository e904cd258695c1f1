//! Keys: where they stand, and how they are replaced while everything goes on.

use std::collections::BTreeSet;

use api::v1;
use model::{
    State,
    command::FinishRootKey,
    key::{RootKey, RootKeyId, RootKeyState},
    name::NodeId,
    refusal::Code,
};

use crate::{denied::Denied, edge::Call};

pub(super) async fn status(
    call: &Call,
    _: v1::GetKeyStatusRequest,
) -> Result<v1::GetKeyStatusResponse, Denied> {
    let state = call.read().await?;
    let data_keys = state.data_keys().into_iter().map(|row| v1::DataKey {
        id: row.id,
        state: row.state.as_str().to_owned(),
        values: state.sealed_under(row.id),
        root_key: row.root.map(|root| root.to_string()).unwrap_or_default(),
        created_ms: row.created.0,
        since_ms: row.since.0,
    });
    // Of a cluster of before root keys had ids, the state does not know which one it is.
    let wrapping = call.edge.keys.wrapping(&state).ok();
    let standing = |row: &RootKey| {
        let wraps = row.state == RootKeyState::Held && wrapping == Some(row.id);
        if wraps { RootKeyState::Active } else { row.state }
    };
    let root_keys = state.root_keys().values().map(|row| v1::RootKey {
        id: row.id.to_string(),
        state: standing(row).as_str().to_owned(),
        holders: row.holders.iter().map(|node| node.0).collect(),
        since_ms: row.since.0,
    });
    Ok(v1::GetKeyStatusResponse {
        data_keys: data_keys.collect(),
        root_keys: root_keys.collect(),
        nodes: members(call).into_iter().map(|node| node.0).collect(),
    })
}

/// The old key goes on opening what it has sealed; the leader seals that anew and then destroys it.
pub(super) async fn rotate_data(
    call: &Call,
    request: v1::RotateDataKeyRequest,
) -> Result<v1::RotateDataKeyResponse, Denied> {
    let state = call.read().await?;
    let retiring = state.data_key().map_or(0, |key| key.id);
    let added = call.edge.keys.new_data_key(&state, request.reason)?;
    let id = added.id;
    call.about("data-key", &id.to_string());
    call.propose(added).await?;
    Ok(v1::RotateDataKeyResponse { id, retiring })
}

/// The data keys are wrapped by the root key that all nodes hold beside the active one.
pub(super) async fn rotate_root(
    call: &Call,
    request: v1::RotateRootKeyRequest,
) -> Result<v1::RotateRootKeyResponse, Denied> {
    let state = call.read().await?;
    let nodes = members(call);
    let new = next_root_key(&state, call.edge.keys.wrapping(&state)?, &nodes)?;
    call.about("root-key", &new.id.to_string());
    let rewrap = call.edge.keys.rewrap(&state, new.id, nodes, request.reason)?;
    let (id, former) = (rewrap.to.to_string(), rewrap.from.to_string());
    call.propose(rewrap).await?;
    Ok(v1::RotateRootKeyResponse { id, former })
}

pub(super) async fn finish_root(
    call: &Call,
    request: v1::FinishRootKeyRequest,
) -> Result<v1::FinishRootKeyResponse, Denied> {
    let state = call.read().await?;
    let none = || Denied::edge(Code::Conflict, "no root key is being replaced");
    let id = state.leaving_root_key().ok_or_else(none)?.id;
    call.about("root-key", &id.to_string());
    call.propose(FinishRootKey { id, nodes: members(call), reason: request.reason }).await?;
    Ok(v1::FinishRootKeyResponse { retired: id.to_string() })
}

/// The root key that is to come: the one that most nodes hold. Refused with the nodes that lack it.
fn next_root_key<'a>(
    state: &'a State,
    active: RootKeyId,
    nodes: &BTreeSet<NodeId>,
) -> Result<&'a RootKey, Denied> {
    if let Some(leaving) = state.leaving_root_key() {
        let message = format!("the replacement of root key {} is not finished", leaving.id);
        return Err(Denied::edge(Code::KeyRotationInFlight, message));
    }
    let held = state.root_keys().values().filter(|row| row.state == RootKeyState::Held);
    let next = held.filter(|row| row.id != active).max_by_key(|row| row.holders.len());
    let Some(next) = next else {
        return Err(Denied::edge(Code::KeyNotHeld, "no node holds another root key than the active one"));
    };
    let missing: Vec<_> = nodes.difference(&next.holders).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(next);
    }
    let message = format!("root key {} is not held by: {}", next.id, missing.join(", "));
    Err(Denied::edge(Code::KeyNotHeld, message))
}

fn members(call: &Call) -> BTreeSet<NodeId> {
    call.edge.consensus.standing().members.into_iter().map(|member| member.id).collect()
}
