//! How a new node comes in. It proves that it knows the join token and the root key, and sends neither; the cluster
//! proves in turn that it holds the same root key. A wrong root key is found out before an id is used up.

mod ask;
mod first;
mod service;
mod token;

use api::v1;
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use model::name::NodeId;

pub use ask::{Ask, AskError, Given};
pub use first::{Place, Way, door, write_configuration};
pub(crate) use first::{given, number};
pub(crate) use service::Service;
pub use token::{JoinToken, NotAJoinToken};
pub use workers::RootKey;

/// The UUID of the storage of a node that is to be let in; the folder is made when there is none.
///
/// # Errors
/// The folder cannot be made, or a node has run on it already.
pub fn fresh_storage(data: &std::path::Path) -> std::io::Result<[u8; 16]> {
    cluster::fresh_storage(data)
}

/// What the key of the proofs is derived from the root key for.
pub(crate) const PURPOSE: &str = "join";
/// Before everything that a request's proofs are over.
const REQUEST: &[u8] = b"revolve join request v1";
/// Before everything that an answer's proof is over.
const ANSWER: &[u8] = b"revolve join answer v1";
const NONCE_BYTES: usize = 32;

/// Something proven by who knows a key.
struct Statement(Vec<u8>);

impl Statement {
    fn new(kind: &[u8]) -> Self {
        Self(Vec::new()).and(kind)
    }

    /// Adds a field, so that no two lists of fields read the same.
    fn and(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// What proves that who says it knows `key`.
    fn proof(&self, key: &[u8; 32]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &self.0).as_ref().to_vec()
    }

    /// Whether `proof` is that of someone who knows `key`; takes the same time whatever it is.
    fn is_proven(&self, key: &[u8; 32], proof: &[u8]) -> bool {
        verify_slices_are_equal(&self.proof(key), proof).is_ok()
    }
}

/// What a request's token proof is over.
fn asked(request: &v1::JoinRequest) -> Statement {
    Statement::new(REQUEST)
        .and(&request.nonce)
        .and(&request.storage)
        .and(request.peer_address.as_bytes())
        .and(&[u8::from(request.learner)])
        .and(request.token.as_bytes())
}

/// What a request's proof of the root key is over.
fn asked_with_token(request: &v1::JoinRequest) -> Statement {
    asked(request).and(&request.token_proof)
}

/// What an answer's proof is over: it is an answer to that request alone.
fn answered(request: &v1::JoinRequest, answer: &v1::JoinResponse) -> Statement {
    let statement = Statement::new(ANSWER).and(&request.proof).and(&answer.node.to_be_bytes());
    answer.peers.iter().fold(statement, |statement, (node, address)| {
        statement.and(&node.to_be_bytes()).and(address.as_bytes())
    })
}

/// The last part of the address of a peer is its port.
fn is_address(address: &str) -> bool {
    let port = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    matches!(port, Some((host, Ok(port))) if !host.is_empty() && port > 0)
        && !address.contains([' ', '/', '@'])
}

/// The actor of an admission by the root key alone.
pub(crate) const BY_ROOT_KEY: &str = "root-key";

/// The actor of an admission by a join token.
pub(crate) fn by_token(name: &impl std::fmt::Display) -> String {
    format!("join-token/{name}")
}

/// A node's number as it stands in a configuration.
fn number_of(node: NodeId) -> String {
    node.0.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::JoinRequest {
        v1::JoinRequest {
            nonce: vec![1; NONCE_BYTES],
            storage: vec![2; 16],
            peer_address: "n:1".into(),
            token: "t".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_proof_is_over_every_field_and_needs_the_key() {
        let (key, plain) = ([3; 32], request());
        let proof = asked(&plain).proof(&key);
        assert!(asked(&plain).is_proven(&key, &proof));
        assert!(!asked(&plain).is_proven(&[4; 32], &proof));
        assert!(!asked(&plain).is_proven(&key, &[]));
        let changed = [
            v1::JoinRequest { nonce: vec![9; NONCE_BYTES], ..request() },
            v1::JoinRequest { storage: vec![9; 16], ..request() },
            v1::JoinRequest { peer_address: "m:1".into(), ..request() },
            v1::JoinRequest { learner: true, ..request() },
            v1::JoinRequest { token: "u".into(), ..request() },
        ];
        for other in changed {
            assert!(!asked(&other).is_proven(&key, &proof), "{other:?}");
        }
        // Bytes do not move from one field to the next.
        let moved = v1::JoinRequest { peer_address: "n:".into(), token: "1t".into(), ..request() };
        assert_ne!(asked(&moved).0, asked(&plain).0);
    }

    #[test]
    fn an_answer_is_to_one_request() {
        let key = [3; 32];
        let mut first = request();
        first.proof = asked_with_token(&first).proof(&key);
        let answer = v1::JoinResponse { node: 4, peers: [(1, "a:1".to_owned())].into(), proof: Vec::new() };
        let proof = answered(&first, &answer).proof(&key);
        assert!(answered(&first, &answer).is_proven(&key, &proof));
        let second = v1::JoinRequest { proof: vec![0; 32], ..first.clone() };
        assert!(!answered(&second, &answer).is_proven(&key, &proof));
        let other = v1::JoinResponse { node: 5, ..answer };
        assert!(!answered(&first, &other).is_proven(&key, &proof));
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["n:1", "10.0.0.4:7801", "[::1]:7801", "node-4.example:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "n", ":1", "n:", "n:0", "n:65536", "http://n:1", "a b:1", "u@n:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
