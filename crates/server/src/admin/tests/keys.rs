//! Keys as an operator sees them.

use model::{command::AnnounceKeys, name::NodeId};
use secrecy::ExposeSecret as _;
use tonic_types::StatusExt as _;

use super::*;
use crate::consensus::Consensus as _;

fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_data_key_is_replaced_by_an_admin_and_shows_in_the_status() {
    let node = Node::start();
    let request = || v1::RotateDataKeyRequest { reason: "yearly".into() };
    let denied = node.admin().rotate_data_key(node.request("operator", request())).await.unwrap_err();
    assert_eq!(reason(&denied), "permission_denied");
    let done = node.admin().rotate_data_key(node.request("admin", request())).await.unwrap().into_inner();
    assert_eq!((done.id, done.retiring), (2, 1));
    let again = node.admin().rotate_data_key(node.request("admin", request())).await.unwrap_err();
    assert_eq!(reason(&again), "key_rotation_in_flight");
    let request = node.request("auditor", v1::GetKeyStatusRequest {});
    let status = node.admin().get_key_status(request).await.unwrap().into_inner();
    let states: Vec<_> = status.data_keys.iter().map(|key| (key.id, key.state.as_str())).collect();
    assert_eq!((states, status.nodes), (vec![(1, "retiring"), (2, "active")], vec![1]));
}

#[tokio::test]
async fn a_root_key_is_replaced_only_when_the_nodes_hold_another() {
    let node = Node::start();
    let keys = &node.edge.keys;
    let rotate = async || {
        let request = v1::RotateRootKeyRequest { reason: "yearly".into() };
        node.admin().rotate_root_key(node.request("admin", request)).await
    };
    let finish = async || {
        let request = v1::FinishRootKeyRequest { reason: "done".into() };
        node.admin().finish_root_key(node.request("admin", request)).await
    };
    assert_eq!(reason(&rotate().await.unwrap_err()), "key_not_held");
    assert_eq!(reason(&finish().await.unwrap_err()), "conflict");
    let texts = ["31".repeat(32), "32".repeat(32)];
    let new = || texts.clone().map(|text| workers::RootKey::from_text(&text).unwrap());
    let announce = |held| {
        node.alone.apply("node-1", AnnounceKeys { node: NodeId(1), held }.into()).unwrap();
    };
    let refused = keys.replace(new().into(), &node.alone.local()).unwrap_err();
    assert!(refused.to_string().contains("data key 1"), "{refused}");
    // As if another node held it, and this one did not.
    let [stranger, _] = new();
    node.alone
        .apply("node-2", AnnounceKeys { node: NodeId(2), held: [stranger.id()].into() }.into())
        .unwrap();
    let lacking = rotate().await.unwrap_err();
    assert_eq!(reason(&lacking), "key_not_held");
    assert!(lacking.message().ends_with("not held by: node-1"), "{}", lacking.message());
    announce(keys.held());
    assert_eq!(reason(&rotate().await.unwrap_err()), "key_not_held");
}

#[tokio::test]
async fn a_secret_is_read_while_its_key_is_replaced() {
    let node = Node::start();
    let resources = vec![identity(), target().into(), credential().into()];
    let request = v1::ApplyRequest { resources, dry_run: false };
    node.admin().apply(node.request("admin", request)).await.unwrap();
    let request = v1::RotateDataKeyRequest { reason: "yearly".into() };
    node.admin().rotate_data_key(node.request("admin", request)).await.unwrap();
    let request = v1::GetSecretRequest { credential: "orders-db".into() };
    let secret = node.admin().get_secret(node.request("admin", request)).await.unwrap().into_inner();
    assert_eq!(secret.password, CANARY);
    let state = node.alone.local();
    let sealed = node.edge.keys.seal(&state, &"x".into(), b"place").unwrap();
    assert_eq!(sealed.key(), Some(2), "what is sealed now is sealed under the new key");
    assert_eq!(node.edge.keys.open(&state, &sealed, b"place").unwrap().expose_secret(), "x");
}
