//! What a fuzzer is let at: whatever this node reads from its log and its snapshots, and what peers send. Each function
//! takes any bytes and must return. They are run as ordinary tests below, and for hours by the targets in `fuzz/`.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use raft_log::codeq::{Decode as _, Encode as _};

use crate::{
    batch::Batch,
    machine::SnapshotFolder,
    raft::{Packed, Payload},
};

/// The payload of a record of the log.
///
/// # Panics
///
/// When a payload does not survive its encoding.
pub fn record(bytes: &[u8]) {
    let Ok(packed) = Packed::decode(bytes) else { return };
    let mut again = Vec::new();
    packed.encode(&mut again).expect("writing into memory does not fail");
    assert!(bytes.starts_with(&again), "a payload has one form");
    if let Ok(Payload::Normal(batch)) = packed.unpack() {
        batch.commands().for_each(drop);
    }
}

/// The commands of a batch.
pub fn batch(bytes: &[u8]) {
    Batch::from_bytes(bytes.to_vec().into()).commands().for_each(drop);
}

/// A snapshot file: it is loaded, or set aside.
///
/// # Panics
///
/// When the folder for temporary files cannot be used.
pub fn snapshot(bytes: &[u8]) {
    // One folder at a time, as a node has it.
    static FOLDER: Mutex<()> = Mutex::new(());
    let _held = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    let root = std::env::temp_dir().join(format!("revolve-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a folder for temporary files");
    let path = root.join(format!("{:020}-{:020}.snapshot", 1, 1));
    let mut file = std::fs::File::create(&path).expect("a file of ours");
    file.write_all(bytes).expect("a file of ours");
    let folder = SnapshotFolder::open(root.clone()).expect("the folder itself is sound");
    if let Some(snapshot) = folder.current() {
        drop(snapshot.load());
    }
    std::fs::remove_dir_all(root).expect("a folder of ours");
}

/// What a peer sends; the first byte chooses the message.
pub fn peer(bytes: &[u8]) {
    crate::peer::fuzz::message(bytes);
}

#[cfg(test)]
mod tests {
    use api::v1;
    use bytes::Bytes;
    use fuzzing::{INPUTS, survives};
    use model::{
        State,
        command::{Command, PutIdentity, Stamped, Tick},
        time::Time,
    };
    use prost::Message as _;

    use super::*;
    use crate::machine::Position;

    fn commands() -> Vec<Stamped> {
        let identity = PutIdentity {
            name: "orders".parse().unwrap(),
            owner: "team".into(),
            purpose: "reads orders".into(),
            workload: "orders".into(),
            environment: "test".into(),
            review_by: Time(2_000_000_000_000),
        };
        let stamped = |at, command: Command| Stamped { at: Time(at), actor: "system".into(), command };
        vec![stamped(1, Tick {}.into()), stamped(2, identity.into()), stamped(3, Tick {}.into())]
    }

    fn joined() -> Batch {
        Batch::join(&commands().iter().map(|command| Bytes::from(command.encode())).collect::<Vec<_>>())
    }

    fn packed() -> Vec<u8> {
        let mut bytes = Vec::new();
        Packed::pack(&Payload::Normal(joined())).encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn records_of_any_content_are_read_or_refused() {
        let mut blank = Vec::new();
        Packed::pack(&Payload::Blank).encode(&mut blank).unwrap();
        survives(INPUTS, vec![packed(), blank], record);
    }

    #[test]
    fn batches_of_any_content_are_read_or_refused() {
        survives(INPUTS, vec![joined().bytes().to_vec()], batch);
    }

    #[test]
    fn snapshots_of_any_content_are_loaded_or_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::default();
        for command in commands() {
            state.apply(&command).unwrap();
        }
        let position = Position { digest: state.digest(), ..Position::default() };
        SnapshotFolder::open(folder.path().to_path_buf()).unwrap().write(&state, position).unwrap();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        // Each trial makes files durable, as a node does.
        survives(INPUTS / 20, vec![std::fs::read(file).unwrap()], snapshot);
    }

    #[test]
    fn messages_of_peers_of_any_content_are_read_or_refused() {
        let id = || Some(v1::PeerLogId { term: 3, index: u64::MAX });
        let ballot = || Some(v1::PeerBallot { term: 3, node: 1, committed: true });
        let entry = v1::PeerEntry { id: id(), tag: 1, body: joined().bytes().clone() };
        let append =
            v1::PeerAppendRequest { ballot: ballot(), previous: id(), entries: vec![entry], committed: id() };
        let vote = v1::PeerVoteRequest { ballot: ballot(), last: id(), ..Default::default() };
        let frame = v1::PeerSnapshotFrame { body: vec![1, 2, 3].into(), checksum: vec![0; 32].into() };
        let part = v1::PeerSnapshotPart { part: Some(v1::peer_snapshot_part::Part::Frame(frame.clone())) };
        let seed = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
        let mut seeds = vec![seed(0, append.encode_to_vec()), seed(12, frame.encode_to_vec())];
        for kind in 1..12 {
            seeds.push(seed(kind, vote.encode_to_vec()));
            seeds.push(seed(kind, part.encode_to_vec()));
        }
        survives(INPUTS, seeds, peer);
    }
}
