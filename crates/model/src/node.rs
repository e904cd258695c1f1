//! Nodes, as work is shared out among them.

use serde::{Deserialize, Serialize};

use crate::{attempt::Job, name::NodeId, table::Row};

/// A node that has announced itself. Who votes is Raft's business and is kept there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// The version it runs.
    pub version: String,
    /// Whether the leader hears it, so that work may be given to it.
    pub reachable: bool,
}

impl Row for Node {
    type Key = NodeId;
    const TAG: u8 = 13;
}

/// The node that works on `job`: highest random weight among `nodes`, so that a change moves only its own share.
/// The number of failed attempts takes part, so that a job does not stay with a node that cannot do it.
#[must_use]
pub fn assignee(job: Job, failures: u32, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let salt = match job {
        Job::Rotation(id) => id.0 << 1,
        Job::Grant(id) => id.0 << 1 | 1,
    };
    nodes.max_by_key(|node| mix(mix(salt ^ u64::from(failures).rotate_left(40)) ^ node.0))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): spreads every input bit over the output.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RotationId;

    #[test]
    fn losing_a_node_moves_only_its_own_jobs() {
        let all = [NodeId(1), NodeId(2), NodeId(3)];
        for id in 0..300 {
            let job = Job::Rotation(RotationId(id));
            let before = assignee(job, 0, all.into_iter()).unwrap();
            let after = assignee(job, 0, all.into_iter().filter(|node| *node != NodeId(3))).unwrap();
            assert!(before == after || before == NodeId(3));
        }
    }
}
