//! Disks that do what a test orders: every node runs under a layer that makes calls to its data folder fail, stall or
//! find no room, from one call to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use volatile::orders::{Call, Fate, Order, Orders, Room};

use crate::{Cluster, surroundings};

/// Orders that fail or stall calls to files whose path below the data folder begins with `below`.
#[must_use]
pub fn hinder(call: Call, fate: Fate, below: &str) -> Orders {
    Orders { orders: vec![Order { call, fate, below: below.into() }], room: None }
}

/// Orders that leave room for so many bytes from now on.
#[must_use]
pub fn leave(bytes: u64) -> Orders {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let room = Room { number: NUMBER.fetch_add(1, Ordering::Relaxed), bytes };
    Orders { orders: Vec::new(), room: Some(room) }
}

/// Gives orders to the disk of a node of a cluster that was set up with bad disks; the default are none.
///
/// # Panics
///
/// When they cannot be written.
pub fn order(cluster: &Cluster, id: u64, orders: &Orders) {
    let path = orders_of(cluster.folder(), id);
    let draft = path.with_extension("draft");
    // Whole or not at all: the node may read them at any moment.
    fs::write(&draft, orders.to_string()).expect("a folder of ours");
    fs::rename(draft, path).expect("a folder of ours");
}

/// Puts a node's command under the layer.
pub(crate) fn command(command: &mut Command, cluster: &Path, id: u64) {
    // The layer compares with what the kernel says, which knows no symbolic links.
    let cluster = fs::canonicalize(cluster).expect("a folder of ours");
    command
        .env("LD_PRELOAD", surroundings::volatile_layer())
        .env(volatile::FOLDER_VARIABLE, cluster.join(format!("node-{id}")))
        .env(volatile::ORDERS_VARIABLE, orders_of(&cluster, id));
}

fn orders_of(cluster: &Path, id: u64) -> PathBuf {
    cluster.join(format!("node-{id}.orders"))
}
