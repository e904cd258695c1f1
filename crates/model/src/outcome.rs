//! Outcomes: what a command that was not refused has led to.

use serde::{Deserialize, Serialize};

use crate::{
    name::{GrantId, NodeId, RevocationId, RotationId},
    refusal::Refusal,
};

/// What `apply` answers.
pub type Outcome = Result<Applied, Refusal>;

/// What a command that was not refused has led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// The state was changed.
    Changed,
    /// The state already was as asked.
    Unchanged,
    /// A rotation was started.
    Started(RotationId),
    /// An attempt was begun.
    Begun {
        /// To be given back with `Finish`.
        fence: u64,
    },
    /// A revocation was stated, or the same one stood already.
    Revoked {
        /// Its id.
        id: RevocationId,
        /// The feed entries that carry it.
        revisions: Vec<u64>,
    },
    /// A grant was asked for.
    Requested(GrantId),
    /// Answers were taken in; refused ones are listed with their place.
    Answered {
        /// Which answers were refused and why; all others were taken in.
        refused: Vec<(u32, Refusal)>,
    },
    /// A node was let in, or was so before.
    Admitted(NodeId),
}
