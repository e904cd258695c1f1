//! A replica whose stored state was changed behind its back, with a digest that fits: nothing on its own disk can tell,
//! but the others can.

use std::{fs, sync::Arc, time::Instant};

use cluster::{Admission, Cluster};
use model::{
    State,
    name::NodeId,
    table::{Digest, LoadError},
};

use crate::nodes::{Nodes, PATIENCE, commit};

/// A row of the state, as far as this test knows it: by its bytes.
const ROW: &str = "name-7";
const PURPOSE: &[u8] = b"a test";
const OTHER_PURPOSE: &[u8] = b"a cost";

async fn eventually(what: &str, node: &Cluster, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never {what}: {:?}", node.status());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_is_quarantined_alone_and_begins_anew() {
    let mut nodes = Nodes::started(3).await;
    for number in 0..10 {
        commit(nodes.any(), &format!("name-{number}")).await;
    }
    nodes.settled().await;
    let leader = nodes.leader().await;
    let changed = NodeId(1 + leader.0 % 3);
    let sound = nodes.node(changed).local();
    nodes.stop(changed).await;
    let digest = change(&nodes, changed, &sound);
    nodes.start(changed).await;
    let one = nodes.node(changed).clone();
    assert_eq!(one.status().digest, digest, "it does not know that it is wrong");

    // Digests are compared at every 64th entry.
    for number in 10..80 {
        commit(nodes.node(leader), &format!("name-{number}")).await;
    }
    eventually("quarantined", &one, || one.status().fatal.is_some()).await;
    let reason = one.status().fatal.unwrap();
    assert!(reason.contains("is not the one that the majority of the nodes has"), "{reason}");
    assert!(nodes.data(changed).join("quarantined").exists(), "what it holds is not used again");
    for (node, other) in nodes.running.iter().filter(|(node, _)| **node != changed) {
        assert_eq!(other.status().fatal, None, "`{node}` goes on");
        assert_eq!(purposes(&other.local(), OTHER_PURPOSE), 0, "`{node}` was given what nobody proposed");
    }

    let identity = fs::read(nodes.data(changed).join("identity")).unwrap();
    nodes.stop(changed).await;
    nodes.start(changed).await;
    let one = nodes.node(changed).clone();
    eventually("voting", &one, || one.status().admission == Admission::Admitted).await;
    nodes.settled().await;
    assert_ne!(fs::read(nodes.data(changed).join("identity")).unwrap(), identity);
    assert_eq!(purposes(&one.local(), OTHER_PURPOSE), 0);
    assert_eq!(one.status().digest, nodes.node(leader).status().digest);
    nodes.stop_all().await;
}

/// Changes a row in the store of a node that stands still, and the digest that goes with it, which is returned.
fn change(nodes: &Nodes, node: NodeId, sound: &State) -> Digest {
    let mut row = None;
    let records = sound.records().map(|mut record| {
        let value = record.value.as_mut().unwrap();
        // The first record of that name is the identity's own: its audit record is in a table that comes later.
        if row.is_none() && place(&record.key, ROW.as_bytes()).is_some() {
            replace(value, PURPOSE, OTHER_PURPOSE);
            row = Some((record.table, record.key.clone(), value.clone()));
        }
        Ok::<_, LoadError>(record)
    });
    let state = State::load::<LoadError>(records.collect::<Vec<_>>()).unwrap();
    let (table, key, value) = row.unwrap();

    let folder = nodes.data(node).join("state");
    let generation = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let db = sled::open(generation).unwrap();
    let key = [&[b'r', table, 0, 0], &key[..]].concat();
    assert!(db.insert(key, [&[0, 1], &value[..]].concat()).unwrap().is_some(), "there is such a row");
    let mut meta = db.get("m").unwrap().unwrap().to_vec();
    let encoded = |state: &State| postcard::to_stdvec(&state.digest()).unwrap();
    replace(&mut meta, &encoded(sound), &encoded(&state));
    db.insert("m", meta).unwrap();
    db.flush().unwrap();
    state.digest()
}

fn purposes(state: &Arc<State>, purpose: &[u8]) -> usize {
    state.records().filter(|record| place(record.value.as_ref().unwrap(), purpose).is_some()).count()
}

fn place(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn replace(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let start = place(bytes, old).unwrap();
    bytes.splice(start..start + old.len(), new.iter().copied());
}
