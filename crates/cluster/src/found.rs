//! Makes the data folder of the first node of a new cluster from a state that was put back: the others join it empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use model::{State, ledger::LedgerEntry, name::NodeId};

use crate::{
    disk::{Layout, sync_folder},
    ledger,
    machine::{Position, SnapshotFolder},
    raft::{Member, Membership, StoredMembership, damaged, log_id},
};

/// Where in its log the new cluster begins: its first entry stands for everything in the state.
const BEGINNING: (u64, u64) = (1, 1);

/// The first node of a new cluster.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its data folder; made, and nothing may be in it.
    pub data: PathBuf,
    /// Its id.
    pub node: NodeId,
    /// Its peer address, `host:port`.
    pub address: String,
}

/// Writes the data folder. The node that is started with it is alone in its cluster until others come.
///
/// # Errors
/// There is something in the folder, or it cannot be written; what was written stays.
pub fn found(
    first: &Found,
    state: &State,
    entries: impl Iterator<Item = io::Result<LedgerEntry>>,
) -> io::Result<()> {
    if first.data.exists() && fs::read_dir(&first.data)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the data folder is not empty"));
    }
    let layout = Layout::make(first.data.clone())?;
    let _held = layout.lock()?;
    let storage = layout.identity()?;
    ledger::write_new(&layout.ledger(), entries)?;
    let node = first.node.0;
    let members = BTreeMap::from([(node, Member::new(first.address.as_str(), storage))]);
    let membership = Membership::new(vec![BTreeSet::from([node])], members).map_err(damaged)?;
    let (term, index) = BEGINNING;
    let position = Position {
        applied: Some(BEGINNING),
        membership: StoredMembership::new(Some(log_id(term, index)), membership),
        digest: state.digest(),
    };
    // Last: a folder without it is one of a node that was never in a cluster.
    SnapshotFolder::open(layout.snapshots())?.write(state, position)?;
    sync_folder(&first.data)
}

/// The entries of a ledger, in order: of the data folder of a node, or of the `ledger` folder in one. Nothing is changed.
///
/// # Errors
/// There is no such folder, or it cannot be read.
pub fn read_ledger(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<LedgerEntry>> + use<>> {
    let inside = folder.join("ledger");
    ledger::read_folder(if inside.is_dir() { &inside } else { folder })
}
