//! Power cuts: every node runs under a layer that keeps a journal of what it does to its data folder. When all are
//! killed, each folder is made to hold what a disk might have held: everything that was made durable, and of the rest
//! what the seed says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use volatile::{Disk, Fate, Image};

use crate::{Cluster, surroundings};

/// The power of a cluster that was set up with volatile disks.
#[derive(Debug, Default)]
pub struct Power {
    /// What each disk held when the power was last switched on.
    disks: BTreeMap<u64, Image>,
}

impl Power {
    /// How many bytes the journals of all nodes have since the power was switched on.
    #[must_use]
    pub fn activity(cluster: &Cluster) -> u64 {
        let journals = cluster.running().into_iter().map(|id| journal(cluster.folder(), id));
        journals.filter_map(|journal| fs::metadata(journal).ok()).map(|found| found.len()).sum()
    }

    /// Cuts the power: kills all nodes and leaves on each disk what the seed says. Returns what became of them.
    ///
    /// # Panics
    ///
    /// When a node's folder is not what its journal says: then the layer has missed a call, and a cut proves nothing.
    pub fn cut(&mut self, cluster: &mut Cluster, seed: u64) -> BTreeMap<u64, Fate> {
        let nodes = cluster.running();
        // All of them stand still before the first one is waited for: the power fails everywhere at once.
        for id in &nodes {
            cluster.pause_node(*id);
        }
        for id in &nodes {
            cluster.kill_node(*id);
        }
        nodes.into_iter().map(|id| (id, self.cut_disk(cluster.folder(), id, seed))).collect()
    }

    fn cut_disk(&mut self, cluster: &Path, id: u64, seed: u64) -> Fate {
        // Another seed for each node, and not the ones of the next cut.
        let seed = seed.wrapping_mul(1_000).wrapping_add(id);
        let (folder, journal) = (data(cluster, id), journal(cluster, id));
        let mut disk = Disk::new(&folder, self.disks.remove(&id).unwrap_or_default());
        let records = fs::read(&journal).expect("the node has kept a journal");
        disk.replay(&records);
        let found = Image::read(&folder).expect("the node's folder");
        // A call may have been carried out and not recorded when the node was killed; it changes one name, or the two
        // of a renaming.
        let differences = disk.current().differences(&found);
        assert!(differences.len() <= 2, "the layer has missed what node {id} did to {differences:?}");
        let fate = Fate::drawn(seed);
        let left = disk.cut(fate, seed);
        left.write(&folder).expect("the node's folder");
        fs::remove_file(journal).expect("the node's journal");
        self.disks.insert(id, left);
        fate
    }
}

/// Puts a node's command under the layer.
pub(crate) fn watch(command: &mut Command, cluster: &Path, id: u64) {
    // The folder is there from the beginning: that it comes to be is not the node's promise.
    fs::create_dir_all(data(cluster, id)).expect("a folder of ours");
    command
        .env("LD_PRELOAD", surroundings::volatile_layer())
        .env(volatile::FOLDER_VARIABLE, data(cluster, id))
        .env(volatile::JOURNAL_VARIABLE, journal(cluster, id));
}

fn data(cluster: &Path, id: u64) -> PathBuf {
    // The layer compares with what the kernel says, which knows no symbolic links.
    fs::canonicalize(cluster).expect("a folder of ours").join(format!("node-{id}"))
}

fn journal(cluster: &Path, id: u64) -> PathBuf {
    cluster.join(format!("node-{id}.journal"))
}
