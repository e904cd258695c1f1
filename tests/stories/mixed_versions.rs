//! Programs of two versions in one cluster: a node that meets a command it does not know stops, and says what to do.
//! The others go on, and when it is started as a program that knows the command, it catches up.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, v1};
use harness::{Cluster, eventually};

const WITHIN: Duration = Duration::from_secs(120);
/// In front of a record's payload: type, term and index of the entry, length of the payload.
const HEAD_BYTES: usize = 4 + 8 + 8 + 4;
/// Behind it: a CRC-32 in eight bytes.
const CHECKSUM_BYTES: usize = 8;
/// Of a record that appends an entry.
const APPEND: u32 = 1;
/// In front of the first command in a payload: its tag, and the command's length.
const COMMAND_AT: usize = HEAD_BYTES + 1 + 4;
/// No program writes commands in this encoding.
const FROM_THE_FUTURE: u8 = 200;

#[tokio::test]
async fn a_node_stops_at_a_command_it_does_not_know_and_goes_on_when_it_is_upgraded() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let older = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    // Asked for at this node, so that it stands in its log when the answer is there.
    put(&cluster.client_of(older), "a-new-kind").await;
    cluster.kill_node(older);

    // As the log looks to a program that is too old for it. The state is taken away, so that the node must apply the
    // command, which it had known before.
    let data = cluster.folder().join(format!("node-{older}"));
    fs::remove_dir_all(data.join("state")).unwrap();
    let (chunk, known) = last_chunk(&data);
    fs::write(&chunk, in_an_unknown_encoding(&known, "a-new-kind")).unwrap();
    cluster.start_node(older);
    let ended = eventually("the end of the node that is too old", WITHIN, async || {
        let ended = cluster.reap();
        (!ended.is_empty()).then_some(ended)
    })
    .await;
    assert_eq!(ended, [older], "it alone");
    let told = fs::read_to_string(cluster.folder().join(format!("node-{older}.stderr"))).unwrap();
    let last = told.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    for part in ["encoding 200", "not known to this build", "upgrade this node and start it again"] {
        assert!(last.contains(part), "`{part}` is not in: {last}");
    }

    put(&cluster.client_of(leader), "meanwhile").await;
    assert_eq!((cluster.reap(), cluster.running().len()), (vec![], 2), "the others go on");

    // Upgraded: the same log, and a program that knows all that is in it.
    let (chunk, _) = last_chunk(&data);
    fs::write(&chunk, known).unwrap();
    cluster.start_node(older);
    let client = cluster.client_of(older);
    for name in ["a-new-kind", "meanwhile"] {
        eventually(format!("`{name}` at the upgraded node"), WITHIN, async || {
            let request =
                v1::GetResourceRequest { kind: v1::ResourceKind::Identity.into(), name: name.into() };
            client.get_resource(request).await
        })
        .await;
    }
    assert_eq!(cluster.reap(), [0_u64; 0]);
}

async fn put(client: &Client, name: &str) {
    let identity = v1::Identity {
        name: name.into(),
        owner: "team".into(),
        purpose: "a test".into(),
        workload: "worker".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    };
    let request = v1::ApplyRequest { resources: vec![identity.into()], dry_run: false };
    eventually(format!("`{name}` written"), WITHIN, async || client.apply(request.clone()).await).await;
}

/// The part of the log that is written to, and what is in it.
fn last_chunk(data: &Path) -> (PathBuf, Vec<u8>) {
    let files = fs::read_dir(data.join("log")).unwrap().map(|file| file.unwrap().path());
    let chunk = files.filter(|path| path.extension().is_some_and(|ending| ending == "wal")).max().unwrap();
    let bytes = fs::read(&chunk).unwrap();
    (chunk, bytes)
}

/// The log with the entry that holds `text` in an encoding that is not known; its checksum is right.
fn in_an_unknown_encoding(log: &[u8], text: &str) -> Vec<u8> {
    let place = log.windows(text.len()).position(|bytes| bytes == text.as_bytes()).unwrap();
    let record = (0..place).rev().find_map(|start| appending(log, start).filter(|at| at.contains(&place)));
    let record = record.expect("the text stands in a record of an entry");
    let mut bytes = log.to_vec();
    bytes[record.start + COMMAND_AT] = FROM_THE_FUTURE;
    let checksum = u64::from(crc32fast::hash(&bytes[record.clone()]));
    bytes[record.end..record.end + CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The record without its checksum, if one that appends an entry begins here.
fn appending(log: &[u8], start: usize) -> Option<Range<usize>> {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        Some(log.get(at..at + bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let length = usize::try_from(number(start + HEAD_BYTES - 4, 4)?).ok()?;
    let end = start + HEAD_BYTES + length;
    let whole = number(start, 4)? == u64::from(APPEND)
        && number(end, CHECKSUM_BYTES)? == u64::from(crc32fast::hash(log.get(start..end)?));
    whole.then_some(start..end)
}
