//! What a fuzzer is let at: whatever this node reads from its log and its snapshots, and what peers send. Each function
//! takes any bytes and must return. They are run as ordinary tests below, and for hours by the targets in `fuzz/`.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use model::table::{Record, RecordRef};
use raft_log::codeq::{Decode as _, Encode as _};
use sha2::{Digest as _, Sha256};

use crate::{
    batch::Batch,
    log::mark,
    machine::SnapshotFolder,
    promise,
    raft::{Packed, Payload},
    store::groups::{Group, Groups, TABLE},
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

/// What a node knows the others to have promised, and its note of how far its own log is durable, with checksums that
/// match.
pub fn notes(bytes: &[u8]) {
    drop(promise::decode(bytes));
    drop(promise::decode(&[bytes, &Sha256::digest(bytes)].concat()));
    if let Some((body, _)) = bytes.split_first_chunk::<{ mark::BYTES / 2 }>() {
        let whole = [&body[..], &Sha256::digest(body)].concat();
        let _ = mark::decode(&whole.try_into().expect("half of it is the checksum"));
    }
}

/// Groups of audit records, as the store keeps them: each behind its number and its length in 16 bits. What is read can
/// be appended to.
pub fn groups(mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first_chunk::<10>() {
        let (number, length) = head.split_at(8);
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (value, rest) = rest.split_at(length.min(rest.len()));
        let record = Record { table: TABLE, key: number.to_vec(), value: Some(value.to_vec()) };
        let mut records = Vec::new();
        let opened = Group::open((&record).into());
        let read = opened.and_then(|group| {
            group.each(|RecordRef { table, key, value }| {
                records.push(Record { table, key: key.to_vec(), value: value.map(<[u8]>::to_vec) });
                Ok(())
            })
        });
        if let (Ok(()), Ok(mut groups)) = (read, Groups::resume((&record).into())) {
            // A record of a group that is closed already is refused.
            drop(groups.fold(records));
        }
        bytes = rest;
    }
}

/// A snapshot file, whole or a part of it: it is loaded, or set aside.
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
    std::fs::write(root.join("snapshot.part"), bytes).expect("a file of ours");
    drop(folder.part());
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
        audit::AuditRecord,
        command::{Command, PutIdentity, Stamped, Tick},
        table::Row as _,
        time::Time,
    };
    use prost::Message as _;

    use std::collections::BTreeMap;
    use uuid::Uuid;

    use super::*;
    use crate::{machine::Position, promise::Promise};

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
    fn notes_of_any_content_are_read_or_refused() {
        let promise = Promise { node: 1, term: 3, last: Some((3, 50)) };
        let promises = BTreeMap::from([(Uuid::from_u128(1), promise), (Uuid::from_u128(2), promise)]);
        let mark = [3_u64, 3, 51].into_iter().flat_map(u64::to_le_bytes).chain([0; 8]);
        survives(INPUTS, vec![postcard::to_stdvec(&promises).unwrap(), mark.collect()], notes);
    }

    #[test]
    fn groups_of_any_content_are_read_or_refused() {
        let record = |sequence: u64| Record {
            table: AuditRecord::TAG,
            key: postcard::to_stdvec(&sequence).unwrap(),
            value: Some(vec![7; 5]),
        };
        let folded = Groups::default().fold((60..70).map(record).collect()).unwrap();
        let framed = folded.into_iter().flat_map(|group| {
            let value = group.value.unwrap();
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [group.key, length.to_vec(), value].concat()
        });
        survives(INPUTS, vec![framed.collect()], super::groups);
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
        let mut seeds = vec![seed(0, append.encode_to_vec()), seed(13, frame.encode_to_vec())];
        for kind in 1..13 {
            seeds.push(seed(kind, vote.encode_to_vec()));
            seeds.push(seed(kind, part.encode_to_vec()));
        }
        survives(INPUTS, seeds, peer);
    }
}
