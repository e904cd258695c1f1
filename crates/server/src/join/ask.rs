//! How a new node asks to be let in.

use std::collections::BTreeMap;

use api::v1;
use model::name::NodeId;
use workers::RootKey;

use super::{JoinToken, NONCE_BYTES, PURPOSE, answered, asked, asked_with_token, is_address};
use crate::port::authority;

/// A request to be let in.
pub struct Ask {
    request: v1::JoinRequest,
    key: zeroize::Zeroizing<[u8; 32]>,
}

/// What the cluster has given a new node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its id.
    pub node: NodeId,
    /// Where the members are reached.
    pub peers: BTreeMap<NodeId, String>,
}

/// Why it is not asked, or the answer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The other nodes could not reach it.
    #[error("`{0}` is not an address such as `node-4.example:7801` at which the other nodes reach this one")]
    Address(String),
    /// The token is of a cluster with another root key.
    #[error("the root key is not that of the cluster that has given the join token")]
    OtherRootKey,
    /// No authority can be derived from the root key.
    #[error("the root key cannot be used: {0}")]
    RootKey(String),
    /// Whoever answered does not hold the root key.
    #[error("who answered does not hold the same root key: it is another cluster, or none")]
    OtherCluster,
    /// There is nobody to go on with.
    #[error("the answer names no member")]
    NoMembers,
}

impl Ask {
    /// A request for the node with this storage, which the others reach at `peer_address`.
    ///
    /// # Errors
    /// [`AskError::Address`]; [`AskError::OtherRootKey`] when the authority that the token names is not that of the root
    /// key.
    pub fn new(
        root: &RootKey,
        token: Option<&JoinToken>,
        storage: [u8; 16],
        peer_address: &str,
        learner: bool,
    ) -> Result<Self, AskError> {
        if !is_address(peer_address) {
            return Err(AskError::Address(peer_address.to_owned()));
        }
        if let Some(named) = token.and_then(JoinToken::authority) {
            let own = authority(root).map_err(|error| AskError::RootKey(error.to_string()))?;
            if own.fingerprint() != named {
                return Err(AskError::OtherRootKey);
            }
        }
        let mut nonce = vec![0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system's random generator answers");
        let key = root.derive(PURPOSE);
        let mut request = v1::JoinRequest {
            nonce,
            storage: storage.to_vec(),
            peer_address: peer_address.to_owned(),
            learner,
            token: token.map(|token| token.name().to_string()).unwrap_or_default(),
            ..Default::default()
        };
        if let Some(token) = token {
            request.token_proof = asked(&request).proof(&token.hash());
        }
        request.proof = asked_with_token(&request).proof(&key);
        Ok(Self { request, key })
    }

    /// What is sent.
    #[must_use]
    pub fn request(&self) -> v1::JoinRequest {
        self.request.clone()
    }

    /// Takes the answer of a cluster that has proven itself.
    ///
    /// # Errors
    /// [`AskError::OtherCluster`], [`AskError::NoMembers`].
    pub fn take(&self, answer: &v1::JoinResponse) -> Result<Given, AskError> {
        if !answered(&self.request, answer).is_proven(&self.key, &answer.proof) {
            return Err(AskError::OtherCluster);
        }
        if answer.peers.is_empty() {
            return Err(AskError::NoMembers);
        }
        let peers = answer.peers.iter().map(|(node, address)| (NodeId(*node), address.clone()));
        Ok(Given { node: NodeId(answer.node), peers: peers.collect() })
    }
}
