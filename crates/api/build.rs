//! Generates the wire types and services from `proto/`, without protoc.

use std::path::PathBuf;

/// Messages that carry a secret: their `Debug` is written by hand and leaves it out.
const SECRET: [&str; 7] = [
    "Target",
    "Store",
    "Credential",
    "IssueTokenResponse",
    "RevealGrantResponse",
    "GetSecretResponse",
    "CreateJoinTokenResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for when it runs: built in one copy of the workspace, it may be run for another.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files =
        ["revolve/v1/admin.proto", "revolve/v1/feed.proto", "revolve/v1/peer.proto", "revolve/v1/join.proto"];
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure()
        .btree_map(".")
        // Payloads that are shared, not copied.
        .bytes(".revolve.v1.PeerEntry")
        .bytes(".revolve.v1.PeerProposeRequest")
        .bytes(".revolve.v1.PeerSnapshotFrame")
        .bytes(".revolve.v1.PeerSnapshotHead")
        .bytes(".revolve.v1.PeerHoldSnapshotRequest")
        .bytes(".revolve.v1.PeerFetchSnapshotRequest")
        .skip_debug(SECRET.map(|name| format!(".revolve.v1.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}
