//! A transfer of a snapshot that was cut short goes on where it ended, with what of it is sound.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{Cluster, Retention};
use futures::future::join_all;
use model::{
    command::{Command, PutIdentity},
    name::NodeId,
    time::Time,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::nodes::{Nodes, PATIENCE, commit, commit_put, until};

/// Several frames of a snapshot.
const ROWS: usize = 900;
/// Many frames.
const LONG_ROWS: usize = 5_000;
/// A connection is cut when it has carried so much of them.
const CUT_AFTER_BYTES: u64 = 6_000_000;
/// A length, a checksum, a body.
const LENGTH_BYTES: usize = 4;
const FRAME_HEAD_BYTES: usize = LENGTH_BYTES + 32;
const MAGIC_BYTES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_behind_the_frames_that_arrived_and_are_sound() {
    let mut nodes = Nodes::prepare(3).await;
    nodes.retention = Retention { snapshot_every: 20, kept_entries: 2, ..Retention::default() };
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    let leader = nodes.leader().await;
    let behind = NodeId(if leader == NodeId(3) { 2 } else { 3 });
    fill(nodes.node(leader)).await;
    nodes.settled().await;

    // Of the frames that arrived before the transfer was cut short, so many are whole and sound.
    for (arrived, flipped, sound) in [(3, None, 3), (3, Some(2), 1), (0, None, 0)] {
        let held = nodes.node(behind).status().last_log;
        nodes.stop(behind).await;
        let snapshot = new_snapshot(&nodes, leader, held).await;
        let ends = frame_ends(&snapshot);
        let frames = ends.len() as u64 - 1;
        assert!(frames > 3, "{frames} frames");
        // The one after them arrived in part.
        let mut part = snapshot[..ends[arrived] + 100].to_vec();
        if let Some(frame) = flipped {
            part[ends[frame] - 1] ^= 1;
        }
        let name: String = snapshot[MAGIC_BYTES + LENGTH_BYTES..MAGIC_BYTES + FRAME_HEAD_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = nodes.data(behind).join("snapshots");
        fs::write(folder.join(format!("{name}.part")), part).unwrap();
        fs::write(folder.join("another.part"), b"of another snapshot").unwrap();

        nodes.start(behind).await;
        let wanted = nodes.node(leader).status();
        until(nodes.node(behind), |progress| progress.applied >= wanted.applied).await;
        let status = nodes.node(behind).status();
        assert_eq!(status.snapshot_frames, frames - sound, "{arrived} arrived, flipped: {flipped:?}");
        nodes.settled().await;
        assert_eq!(nodes.node(behind).status().digest, nodes.node(leader).status().digest);
        let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<PathBuf> =
            left.filter(|path| path.extension().is_some_and(|ending| ending == "part")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    nodes.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_in_its_midst_goes_on_where_it_was() {
    let mut nodes = Nodes::prepare(3).await;
    nodes.retention = Retention { snapshot_every: 40, kept_entries: 2, ..Retention::default() };
    // What the others send to the third goes through a relay.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = NodeId(3);
    let (there, through) = (nodes.addresses[&behind].clone(), relay.local_addr().unwrap().to_string());
    for other in [NodeId(1), NodeId(2)] {
        nodes.told.get_mut(&other).unwrap().insert(behind, through.clone());
    }
    let cut = Arc::new(AtomicBool::new(false));
    let relaying = tokio::spawn(relay_and_cut(relay, there, Arc::clone(&cut)));
    for node in (1..=3).map(NodeId) {
        nodes.start(node).await;
    }
    if nodes.leader().await == behind {
        nodes.node(behind).transfer_leadership(NodeId(1)).await.unwrap();
    }
    let leader = nodes.leader().await;
    let held = nodes.node(behind).status().last_log;
    nodes.stop(behind).await;
    let mut noise = 1_u64;
    for first in (0..LONG_ROWS).step_by(500) {
        let puts = (first..first + 500).map(|row| {
            let [purpose, workload, environment] = [(); 3].map(|()| incompressible(&mut noise));
            commit_put(nodes.node(leader), long_row(row, purpose, workload, environment))
        });
        join_all(puts).await;
    }
    let snapshot = new_snapshot(&nodes, leader, held).await;
    assert!(snapshot.len() as u64 > CUT_AFTER_BYTES * 3 / 2, "{} bytes", snapshot.len());
    let frames = frame_ends(&snapshot).len() as u64 - 1;

    nodes.start(behind).await;
    let wanted = nodes.node(leader).status();
    until(nodes.node(behind), |progress| progress.applied >= wanted.applied).await;
    assert!(cut.load(Ordering::Relaxed), "the connection was cut");
    // Some that had arrived and were not yet written come again; but not all of the first half.
    let taken = nodes.node(behind).status().snapshot_frames;
    assert!((frames..frames + frames / 3).contains(&taken), "{taken} frames were taken of {frames}");
    nodes.settled().await;
    assert_eq!(nodes.node(behind).status().digest, nodes.node(leader).status().digest);
    nodes.stop_all().await;
    relaying.abort();
}

/// Passes on what comes to `there`. The first connection that has carried [`CUT_AFTER_BYTES`] is cut, and no other.
async fn relay_and_cut(relay: TcpListener, there: String, cut: Arc<AtomicBool>) {
    loop {
        let (mut here, _) = relay.accept().await.unwrap();
        let (there, cut) = (there.clone(), Arc::clone(&cut));
        tokio::spawn(async move {
            let Ok(mut there) = TcpStream::connect(there).await else { return };
            let ((mut requests, mut replies), (mut back, mut on)) = (here.split(), there.split());
            let onward = async {
                let mut buffer = vec![0; 16 * 1024];
                let mut carried = 0;
                while let Ok(count @ 1..) = requests.read(&mut buffer).await {
                    carried += count as u64;
                    let is_cut = carried > CUT_AFTER_BYTES && !cut.swap(true, Ordering::Relaxed);
                    if is_cut || on.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = onward => {}
                _ = tokio::io::copy(&mut back, &mut replies) => {}
            }
        });
    }
}

/// A thousand letters that do not compress.
pub fn incompressible(noise: &mut u64) -> String {
    let letter = || {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(*noise >> 58).unwrap())
    };
    std::iter::repeat_with(letter).take(1_000).collect()
}

pub fn long_row(row: usize, purpose: String, workload: String, environment: String) -> Command {
    PutIdentity {
        name: format!("row-{row}").parse().unwrap(),
        owner: "team".into(),
        purpose,
        workload,
        environment,
        review_by: Time(4_000_000_000_000),
    }
    .into()
}

async fn fill(node: &Cluster) {
    let long = "x".repeat(1_000);
    let puts = (0..ROWS).map(|row| commit_put(node, long_row(row, long.clone(), long.clone(), long.clone())));
    join_all(puts).await;
}

/// Writes more than the log keeps, so that a node which is away and holds so much needs a snapshot; gives the bytes of the
/// newest one, which nothing follows.
async fn new_snapshot(nodes: &Nodes, leader: NodeId, held: Option<u64>) -> Vec<u8> {
    let node = nodes.node(leader);
    for number in 0..60 {
        commit(node, &format!("later-{}-{number}", node.status().applied.unwrap())).await;
    }
    let begun = Instant::now();
    while node.status().snapshot != node.status().applied || node.status().purged <= held {
        assert!(begun.elapsed() < PATIENCE, "{:?}", node.status());
        // One that is being made already does not reach so far.
        node.snapshot().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let files = fs::read_dir(nodes.data(leader).join("snapshots")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "snapshot"));
    files.sort();
    fs::read(files.last().unwrap()).unwrap()
}

/// Where each frame ends, the head first.
fn frame_ends(snapshot: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut place = MAGIC_BYTES;
    while place < snapshot.len() {
        let length = u32::from_le_bytes(snapshot[place..place + LENGTH_BYTES].try_into().unwrap());
        place += FRAME_HEAD_BYTES + usize::try_from(length).unwrap();
        ends.push(place);
    }
    ends
}
