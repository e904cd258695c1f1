//! One trial after another on a cluster that stays.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cluster::{Admission, Cluster, Retention};
use model::{name::NodeId, table::Digest};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    nodes::{Nodes, PATIENCE, ROOT_KEY, commit, has, until},
    notes,
};

const BLOCK: usize = 4_096;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Written before each trial: enough for a snapshot and a purge among few trials.
const WRITES: u64 = 4;

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    FlippedBit,
    ZeroedBlock,
    Truncated,
    SwappedBlocks,
    OldCopy,
}

impl Damage {
    pub const ALL: [Self; 5] =
        [Self::FlippedBit, Self::ZeroedBlock, Self::Truncated, Self::SwappedBlocks, Self::OldCopy];
}

/// What a trial has shown. In either case the node is a voter again with the state and the log of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node has said so, or has given up its storage.
    Detected,
    /// The node has said nothing, and from the damaged files alone it had everything that it held before.
    Harmless,
}

/// Three nodes that stay, but for the one that is being damaged.
pub struct Ground {
    nodes: Nodes,
    names: u64,
}

impl Ground {
    pub async fn prepare() -> Self {
        let mut nodes = Nodes::prepare(3).await;
        nodes.retention = Retention { snapshot_every: 20, kept_entries: 5, ..Retention::default() };
        for node in (1..=3).map(NodeId) {
            nodes.start(node).await;
        }
        nodes.leader().await;
        let mut ground = Self { nodes, names: 0 };
        ground.write(60).await;
        ground
    }

    pub async fn end(mut self) {
        self.nodes.stop_all().await;
    }

    /// Damages a file of one node, and waits until the node is as good as the others again.
    pub async fn trial(&mut self, damage: Damage, seed: u64) -> (&'static str, Outcome) {
        let node = NodeId(1 + (seed + damage as u64) % 3);
        let mut random = Random(seed * 8 + damage as u64 + 1);
        let data = self.nodes.data(node);
        self.write(WRITES).await;
        let mut held = self.stop_when_acknowledged(node).await;
        let (kind, path) = if damage == Damage::OldCopy {
            let kind = pick_kind(&mut random, &["log.durable", "promises"]);
            let (path, old) = (data.join(kind), self.nodes.folder.path().join("old"));
            remove(&old);
            copy(&path, &old);
            self.nodes.start(node).await;
            self.write(4 + seed % 30).await;
            held = self.stop_when_acknowledged(node).await;
            remove(&path);
            copy(&old, &path);
            (kind, path)
        } else {
            damage_some_file(&data, damage, &mut random)
        };
        let identity = fs::read(data.join("identity")).unwrap();
        let what = format!("{damage:?}, seed {seed}, {}", path.display());
        let aside = self.nodes.folder.path().join("as-damaged");
        remove(&aside);
        copy(&data, &aside);
        notes::forget();
        let started = self.nodes.try_start(node, &ROOT_KEY).await;
        started.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        self.is_sound_again(node, &what).await;
        let renewed = fs::read(data.join("identity")).unwrap() != identity;
        if renewed || notes::speak_of_damage() {
            return (kind, Outcome::Detected);
        }
        self.holds_by_itself(node, aside, &held, &what).await;
        (kind, Outcome::Harmless)
    }

    /// From the files as they were damaged, and out of reach of the others, the node has everything that it had: what
    /// was damaged is not in use.
    async fn holds_by_itself(&self, node: NodeId, aside: PathBuf, held: &Held, what: &str) {
        let mut settings = self.nodes.settings(node);
        settings.data = aside;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Whose key is another one is not answered by anybody.
        let alone = Cluster::start(settings, listener, &[&[7; 32]], CancellationToken::new()).await;
        let alone = alone.unwrap_or_else(|error| panic!("not noticed: {what}: {error:?}"));
        let log = alone.log_digests().unwrap();
        let applied = alone.status().applied;
        let first = log.keys().next().copied().unwrap_or(u64::MAX);
        for (index, entry) in &held.log {
            let kept = log.get(index) == Some(entry) || *index < first && Some(*index) <= applied;
            assert!(kept, "not noticed: {what}: entry {index} is gone");
        }
        until(&alone, |progress| progress.term >= held.term).await;
        if applied == held.applied {
            assert_eq!(alone.status().digest, held.digest, "not noticed: {what}");
        }
        alone.stop().await;
    }

    async fn write(&mut self, count: u64) {
        for _ in 0..count {
            commit(self.nodes.any(), &format!("name-{}", self.names)).await;
            self.names += 1;
        }
    }

    /// What the leader has not heard is no promise. Gives what the node held.
    async fn stop_when_acknowledged(&mut self, node: NodeId) -> Held {
        let index = self.nodes.settled().await;
        let leader = self.nodes.node(self.nodes.leader().await).clone();
        eventually("acknowledged", &leader, || {
            let status = leader.status();
            !status.is_leader
                || status.node == node
                || status.peers.get(&node).is_some_and(|peer| peer.matched >= index)
        })
        .await;
        let one = self.nodes.node(node);
        let status = one.status();
        let (term, applied, digest) = (status.term, status.applied, status.digest);
        let held = Held { log: one.log_digests().unwrap(), term, applied, digest };
        self.nodes.stop(node).await;
        held
    }

    /// It votes, holds everything, and its log and state are those of the others.
    async fn is_sound_again(&self, node: NodeId, what: &str) {
        let one = self.nodes.node(node).clone();
        eventually(&format!("voting after {what}"), &one, || {
            let status = one.status();
            let known = self.nodes.running.values().all(|other| other.status().voters.contains(&node));
            known && status.admission == Admission::Admitted && status.leader.is_some()
        })
        .await;
        self.nodes.settled().await;
        for other in self.nodes.running.values() {
            let state = other.local();
            let lost = (0..self.names).find(|name| !has(&state, &format!("name-{name}")));
            assert_eq!(lost, None, "after {what} `{}` lacks it", other.status().node);
            assert_eq!(other.status().fatal, None, "after {what}");
        }
        eventually(&format!("alike after {what}"), &one, || {
            let seen = self.nodes.running.values().map(|node| node.status());
            let mut seen = seen.map(|status| (status.applied, status.digest));
            let first = seen.next();
            seen.all(|other| Some(other) == first)
        })
        .await;
        self.logs_agree(what);
    }

    /// What two nodes hold of what is committed is the same.
    fn logs_agree(&self, what: &str) {
        let applied = self.nodes.running.values().map(|node| node.status().applied).min().flatten();
        let mut entries = BTreeMap::new();
        for node in self.nodes.running.values() {
            for (index, entry) in node.log_digests().unwrap() {
                let first = *entries.entry(index).or_insert(entry);
                assert!(first == entry || Some(index) > applied, "logs differ at {index} after {what}");
            }
        }
    }
}

/// What a node held when it was stopped.
struct Held {
    log: BTreeMap<u64, (u64, [u8; 32])>,
    term: u64,
    applied: Option<u64>,
    digest: Digest,
}

/// The log, the state and the snapshots hold nearly everything.
fn pick_kind(random: &mut Random, others: &[&'static str]) -> &'static str {
    let kinds = ["log", "log", "log", "state", "state", "state", "snapshots", "snapshots"];
    let kinds = [&kinds[..], others].concat();
    kinds[random.below(kinds.len())]
}

/// Damages a file so that its bytes are others.
fn damage_some_file(data: &Path, damage: Damage, random: &mut Random) -> (&'static str, PathBuf) {
    loop {
        let kind = pick_kind(random, &["log.durable", "promises", "identity"]);
        let path = pick(&data.join(kind), random);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        harm(&mut bytes, damage, random);
        if bytes != sound {
            fs::write(&path, bytes).unwrap();
            return (kind, path);
        }
    }
}

async fn eventually(what: &str, node: &Cluster, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never {what}: {:?}", node.status());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn harm(bytes: &mut Vec<u8>, damage: Damage, random: &mut Random) {
    let place = random.below(bytes.len());
    let block = |place: usize| place / BLOCK * BLOCK;
    match damage {
        Damage::FlippedBit => bytes[place] ^= 1 << random.below(8),
        Damage::ZeroedBlock => {
            let end = (block(place) + BLOCK).min(bytes.len());
            bytes[block(place)..end].fill(0);
        }
        Damage::Truncated => bytes.truncate(place),
        Damage::SwappedBlocks => {
            let (one, other) = (block(place), block(random.below(bytes.len())));
            // The last block may be short.
            let length = BLOCK.min(bytes.len() - one.max(other));
            let held = bytes[one..one + length].to_vec();
            bytes.copy_within(other..other + length, one);
            bytes[other..other + length].copy_from_slice(&held);
        }
        Damage::OldCopy => unreachable!("it is not done to the bytes of a file"),
    }
}

/// A file that is not empty and was not set aside in an earlier trial.
fn pick(root: &Path, random: &mut Random) -> PathBuf {
    let mut files = Vec::new();
    list(root, &mut files);
    files.retain(|path| fs::metadata(path).unwrap().len() > 0);
    files.retain(|path| path.extension().is_none_or(|extension| extension != "damaged"));
    files.sort();
    files.swap_remove(random.below(files.len()))
}

fn list(path: &Path, files: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        return files.push(path.to_path_buf());
    }
    for entry in fs::read_dir(path).unwrap() {
        list(&entry.unwrap().path(), files);
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}

/// Splitmix64: the same seed damages the same place.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
