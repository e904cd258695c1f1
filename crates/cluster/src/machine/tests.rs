//! What the state machine and its stores hold after restarts, damage and snapshots.

use std::{fs, path::Path, sync::Arc};

use futures::stream;
use model::{
    State,
    command::{PutIdentity, Stamped},
    identity::Identity,
    table::{Record, Row as _},
    time::Time,
};
use openraft::{
    RaftSnapshotBuilder as _,
    storage::{EntryResponder, RaftStateMachine as _},
};
use tempfile::TempDir;

use super::*;
use crate::{
    batch::Batch,
    fatal::Fatal,
    ledger::Ledger,
    raft::{Types, entry},
    space::Space,
    store::{Next, Store},
};

struct Fixture {
    machine: Machine,
    view: Arc<View>,
    snapshots: Arc<SnapshotFolder>,
    writer: std::thread::JoinHandle<()>,
    fatal: Arc<Fatal>,
}

impl Fixture {
    fn open(folder: &Path) -> Self {
        let snapshots = Arc::new(SnapshotFolder::open(folder.join("snapshots")).unwrap());
        let opened = Store::open(folder.join("state"), snapshots.current().as_ref());
        let (store, state, position) = opened.unwrap();
        let fatal = Arc::new(Fatal::new());
        let space = Space::open(folder.to_path_buf()).unwrap();
        let ledger = Ledger::open(folder.join("ledger"), &folder.join("damaged"), state.ledger_head());
        let ledger = Arc::new(ledger.unwrap());
        let started = Persister::start(store, position.clone(), ledger, space, Arc::clone(&fatal));
        let (persister, writer) = started.unwrap();
        let (machine, view) = Machine::new(state, position, persister, Arc::clone(&snapshots));
        Self { machine, view, snapshots, writer, fatal }
    }

    async fn apply(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let entries = entries.into_iter().map(|entry| Ok::<EntryResponder<Types>, _>((entry, None)));
        self.machine.apply(stream::iter(entries)).await
    }

    fn close(self) {
        drop((self.machine, self.view));
        self.writer.join().unwrap();
        assert_eq!(self.fatal.reason(), None);
    }
}

fn put(name: &str) -> Stamped {
    let command = PutIdentity {
        name: name.parse().unwrap(),
        owner: "team".into(),
        purpose: "a test".into(),
        workload: "worker".into(),
        environment: "test".into(),
        review_by: Time(4_000_000_000_000),
    };
    Stamped { at: Time(1_000), actor: "test".into(), command: command.into() }
}

fn puts(index: u64, names: &[String]) -> Entry {
    let commands: Vec<_> = names.iter().map(|name| put(name).encode().into()).collect();
    entry(log_id(1, index), Payload::Normal(Batch::join(&commands)))
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("name-{number}")).collect()
}

fn holds(state: &State, names: &[String]) -> bool {
    names.iter().all(|name| state.identities().contains(&name.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_state_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Fixture::open(folder.path());
    first.apply(vec![puts(0, &names(0, 10)), puts(1, &names(10, 20))]).await.unwrap();
    let digest = first.view.state().digest();
    first.close();
    let mut second = Fixture::open(folder.path());
    assert_eq!(second.machine.applied_state().await.unwrap().0, Some(log_id(1, 1)));
    assert!(holds(&second.view.state(), &names(0, 20)));
    assert_eq!(second.view.state().digest(), digest);
    second.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_command_stops_the_node_and_nothing_of_its_entry_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(folder.path());
    fixture.apply(vec![puts(0, &names(0, 1))]).await.unwrap();
    let mut unknown = put("unknown").encode();
    unknown[1..3].copy_from_slice(&u16::MAX.to_le_bytes());
    let batch = Batch::join(&[put("beside").encode().into(), unknown.into()]);
    let result = fixture.apply(vec![entry(log_id(1, 1), Payload::Normal(batch))]).await;
    assert!(result.unwrap_err().to_string().contains("not known"));
    assert!(!holds(&fixture.machine.state, &["beside".into()]));
    assert_eq!(fixture.machine.applied_state().await.unwrap().0, Some(log_id(1, 0)));
    fixture.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_carries_the_state_to_another_node() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sender = Fixture::open(from.path());
    for index in 0..20 {
        let start = usize::try_from(index).unwrap() * 450;
        sender.apply(vec![puts(index, &names(start, start + 450))]).await.unwrap();
    }
    let snapshot = sender.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert!(snapshot.snapshot.frames().unwrap().count() > 2, "several frames");

    let mut receiver = Fixture::open(to.path());
    receiver.apply(vec![puts(0, &["other".into()])]).await.unwrap();
    install(&snapshot, &mut receiver).await;
    assert_eq!(receiver.view.state().digest(), sender.view.state().digest());
    assert!(!holds(&receiver.view.state(), &["other".into()]));
    receiver.close();
    let mut restarted = Fixture::open(to.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, 19)));
    assert_eq!(restarted.view.state().digest(), sender.view.state().digest());
    assert_eq!(fs::read_dir(to.path().join("state")).unwrap().count(), 1, "the old generation is gone");
    restarted.close();
    sender.close();
}

/// A node with many rows, and its snapshot.
async fn full(folder: &Path) -> (Fixture, Snapshot<SnapshotFile>) {
    let mut node = Fixture::open(folder);
    for index in 0..20 {
        let start = usize::try_from(index).unwrap() * 300;
        node.apply(vec![puts(index, &names(start, start + 300))]).await.unwrap();
    }
    let snapshot = node.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    (node, snapshot)
}

/// Hands a snapshot over as a peer does, and installs it.
async fn install(snapshot: &Snapshot<SnapshotFile>, node: &mut Fixture) {
    let mut frames = snapshot.snapshot.frames().unwrap();
    let head = frames.next().unwrap().unwrap();
    let intake = node.snapshots.take_in(head.body, 0, |_| {});
    for frame in frames {
        assert!(intake.push(frame.unwrap()).await);
    }
    let received = intake.finish().await.unwrap();
    node.machine.install_snapshot(&snapshot.meta, received).await.unwrap();
}

fn generations(folder: &Path) -> usize {
    fs::read_dir(folder.join("state")).unwrap().count()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                // It was written to meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_before_its_store_goes_on_from_a_snapshot_begins_with_that() {
    let (from, to, left) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, snapshot) = full(from.path()).await;
    let digest = sender.view.state().digest();
    sender.close();
    let mut receiver = Fixture::open(to.path());
    receiver.apply(vec![puts(0, &["other".into()])]).await.unwrap();
    receiver.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    receiver.apply(vec![puts(1, &["another".into()])]).await.unwrap();
    receiver.close();
    // A store that is built upon the snapshot before.
    copy(&to.path().join("state"), &left.path().join("state"));
    let mut receiver = Fixture::open(to.path());
    install(&snapshot, &mut receiver).await;
    assert_eq!(receiver.view.state().digest(), digest, "it goes on at once");
    copy(&to.path().join("snapshots"), &left.path().join("snapshots"));
    receiver.close();

    let mut restarted = Fixture::open(left.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, None);
    // As Raft does with a snapshot that is ahead of the state.
    let current = restarted.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 19)));
    restarted.machine.install_snapshot(&current.meta, current.snapshot).await.unwrap();
    assert_eq!(restarted.view.state().digest(), digest);
    restarted.close();
    let again = Fixture::open(left.path());
    assert_eq!(again.view.state().digest(), digest);
    assert_eq!(generations(left.path()), 1);
    again.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_only_begun_does_not_hide_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(folder.path());
    fixture.apply(vec![puts(0, &names(0, 10))]).await.unwrap();
    fixture.close();
    drop(Next::begin(&folder.path().join("state"), &Position::default()).unwrap());
    let mut restarted = Fixture::open(folder.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, 0)));
    assert!(holds(&restarted.view.state(), &names(0, 10)));
    restarted.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_while_a_snapshot_is_made_is_kept_behind_it() {
    let (folder, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut node, _) = full(folder.path()).await;
    node.apply(vec![puts(20, &names(5_000, 7_000))]).await.unwrap();
    let before = node.view.state().digest();
    let mut builder = node.machine.get_snapshot_builder().await;
    // New rows, and rows that the snapshot holds too.
    node.apply(vec![puts(21, &names(6_500, 7_500))]).await.unwrap();
    // The first is that of an empty node, the second that of the snapshot before.
    eventually(|| folder.path().join("state/0000000003").exists());
    // What a process that is killed here leaves behind: the log has the rest.
    copy(&folder.path().join("state"), &left.path().join("state"));
    copy(&folder.path().join("snapshots"), &left.path().join("snapshots"));
    builder.build_snapshot().await.unwrap();
    node.apply(vec![puts(22, &names(7_400, 7_600))]).await.unwrap();
    let digest = node.view.state().digest();
    drop(builder);
    node.close();
    assert_eq!(generations(folder.path()), 1);

    let mut killed = Fixture::open(left.path());
    assert_eq!(killed.machine.applied_state().await.unwrap().0, Some(log_id(1, 20)));
    assert_eq!(killed.view.state().digest(), before);
    killed.close();
    let mut restarted = Fixture::open(folder.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, 22)));
    assert_eq!(restarted.view.state().digest(), digest);
    // The audit log goes on in the group where it ended.
    restarted.apply(vec![puts(23, &names(0, 3))]).await.unwrap();
    let digest = restarted.view.state().digest();
    restarted.close();
    let again = Fixture::open(folder.path());
    assert_eq!(again.view.state().digest(), digest);
    again.close();
}

fn eventually(look: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !look() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it never comes to be");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_comes_too_late_does_not_replace_a_newer_one() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, snapshot) = full(from.path()).await;
    let digest = sender.view.state().digest();
    sender.close();
    let mut receiver = Fixture::open(to.path());
    receiver.apply(vec![puts(0, &["other".into()])]).await.unwrap();
    let mut late = receiver.machine.get_snapshot_builder().await;
    install(&snapshot, &mut receiver).await;
    late.build_snapshot().await.unwrap();
    assert_eq!(receiver.snapshots.current().unwrap().meta().last_log_id, Some(log_id(1, 19)));
    drop(late);
    receiver.close();
    let restarted = Fixture::open(to.path());
    assert_eq!(restarted.view.state().digest(), digest);
    restarted.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_upon_a_damaged_snapshot_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, snapshot) = full(folder.path()).await;
    node.apply(vec![puts(20, &names(0, 10))]).await.unwrap();
    node.close();
    let path = fs::read_dir(folder.path().join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    for place in (64..whole.len()).step_by(whole.len() / 20) {
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        fs::write(copied.path().join("snapshots").join(path.file_name().unwrap()), flipped).unwrap();
        let mut restarted = Fixture::open(copied.path());
        assert_eq!(restarted.machine.applied_state().await.unwrap().0, None, "flipped at {place}");
        let current = restarted.snapshots.current();
        assert!(current.is_none_or(|current| current.meta() == snapshot.meta && current.load().is_err()));
        restarted.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_never_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(folder.path());
    fixture.apply(vec![puts(0, &names(0, 5))]).await.unwrap();
    fixture.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    fixture.close();
    let path = fs::read_dir(folder.path().join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let load = |bytes: &[u8]| {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(path.file_name().unwrap()), bytes).unwrap();
        let folder = SnapshotFolder::open(other.path().to_path_buf()).unwrap();
        folder.current().is_some_and(|snapshot| snapshot.load().is_ok())
    };
    assert!(load(&whole));
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        assert!(!load(&flipped), "flipped at {place}");
    }
    for length in (0..whole.len()).step_by(7) {
        assert!(!load(&whole[..length]), "cut at {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(folder.path());
    fixture.apply(vec![puts(0, &names(0, 1))]).await.unwrap();
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    drop(fixture.machine.get_snapshot_builder().await);
    assert!(fixture.fatal.raised().await.contains("cannot be written"));
}

fn long_record(name: &str, length: usize) -> Record {
    let identity = Identity {
        name: name.parse().unwrap(),
        owner: "o".repeat(length),
        purpose: String::new(),
        workload: String::new(),
        environment: String::new(),
        review_by: Time(0),
    };
    Record {
        table: Identity::TAG,
        key: postcard::to_stdvec(&identity.name).unwrap(),
        value: Some(postcard::to_stdvec(&identity).unwrap()),
    }
}

fn position_of(state: &State) -> Position {
    Position { digest: state.digest(), applied: Some((1, 1)), ..Position::default() }
}

#[test]
fn long_rows_are_kept_in_parts_and_leave_none_behind() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(folder.path().to_path_buf(), None).unwrap();
    let short = long_record("neighbour", 10);
    for length in [300_000, 70_000, 10, 200_000] {
        let records = vec![long_record("long", length), short.clone()];
        let state = State::load::<RestoreError>(records.iter().cloned().map(Ok)).unwrap();
        store.write(records, &position_of(&state)).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let (reopened, found, _) = Store::open(folder.path().to_path_buf(), None).unwrap();
        assert_eq!(found.digest(), state.digest(), "{length}");
        store = reopened;
    }
    let gone = Record { value: None, ..long_record("long", 0) };
    let state = State::load::<RestoreError>([Ok(short)]).unwrap();
    store.write(vec![gone], &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let (_, found, _) = Store::open(folder.path().to_path_buf(), None).unwrap();
    assert_eq!(found.digest(), state.digest());
}

/// Rows that are in a snapshot, and a store upon it.
fn based(folder: &Path, rows: &BTreeMap<String, Record>) -> (SnapshotFolder, Store) {
    let state = state_of(rows);
    let snapshots = SnapshotFolder::open(folder.join("snapshots")).unwrap();
    snapshots.write(&state, position_of(&state)).unwrap();
    let next = Next::begin(&folder.join("state"), &position_of(&state)).unwrap();
    (snapshots, next.finish(&position_of(&state)).unwrap())
}

fn state_of(rows: &BTreeMap<String, Record>) -> State {
    State::load::<RestoreError>(rows.values().cloned().map(Ok)).unwrap()
}

#[test]
fn rows_change_go_and_come_back_over_a_snapshot() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let row =
        |number: usize, length| (format!("row-{number}"), long_record(&format!("row-{number}"), length));
    let mut rows: BTreeMap<_, _> = (0..20).map(|number| row(number, number * 10_000)).collect();
    let (snapshots, mut store) = based(folder.path(), &rows);
    // Each time some go, some change their length across the limit of a part, and some are new or come back.
    for round in 0..30 {
        let (gone, changed) = (round % 20, (round * 7 + 3) % 25);
        let (name, record) = row(changed, (round * 37 % 20) * 10_000);
        rows.insert(name, record.clone());
        let mut records = vec![record];
        if gone != changed {
            records.push(Record { value: None, ..row(gone, 0).1 });
            rows.remove(&format!("row-{gone}"));
        }
        let state = state_of(&rows);
        store.write(records, &position_of(&state)).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let opened = Store::open(folder.path().join("state"), snapshots.current().as_ref());
        let (reopened, found, _) = opened.unwrap();
        assert_eq!((found.digest(), found.count_records()), (state.digest(), rows.len() as u64), "{round}");
        store = reopened;
    }
}

#[test]
fn a_stored_state_without_its_digest_is_set_aside() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(folder.path().to_path_buf(), None).unwrap();
    let state = State::load::<RestoreError>([Ok(long_record("one", 10))]).unwrap();
    // As if sled had lost a row.
    store.write(Vec::new(), &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let (store, found, position) = Store::open(folder.path().to_path_buf(), None).unwrap();
    assert_eq!(found.digest(), State::default().digest());
    assert_eq!(position.applied, None);
    assert!(folder.path().join("damaged").exists());
    drop(store);
    let (_, _, position) = Store::open(folder.path().to_path_buf(), None).unwrap();
    assert_eq!(position.applied, None);
}

#[test]
fn damage_to_the_stored_state_gives_the_state_as_it_was_or_an_empty_one() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let row = |number: u32| (number.to_string(), long_record(&format!("row-{number}"), 200));
    let below = (0..100).map(row).collect();
    let (snapshots, mut store) = based(folder.path(), &below);
    let records = (50..200).map(|number| row(number).1);
    let gone = (0..20).map(|number| Record { value: None, ..row(number).1 });
    let state = state_of(&(20..200).map(row).collect());
    store.write(records.chain(gone).collect(), &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let generation = fs::read_dir(folder.path().join("state")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(generation.join("db")).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for trial in 0..30 {
        let copy = TempDir::new().unwrap();
        let target = copy.path().join(generation.file_name().unwrap());
        fs::create_dir(&target).unwrap();
        for file in
            fs::read_dir(&generation).unwrap().map(Result::unwrap).filter(|file| file.path().is_file())
        {
            fs::copy(file.path(), target.join(file.file_name())).unwrap();
        }
        let mut damaged = whole.clone();
        let place = trial * used / 30;
        match trial % 3 {
            0 => damaged[place] ^= 1,
            1 => damaged[place..(place + 4_096).min(whole.len())].fill(0),
            _ => damaged.truncate(place),
        }
        fs::write(target.join("db"), damaged).unwrap();
        let newest = snapshots.current();
        let (_, found, position) = Store::open(copy.path().to_path_buf(), newest.as_ref()).unwrap();
        // Of the last batch, sled may have all or nothing.
        let known = [state.digest(), state_of(&below).digest()];
        if position.applied.is_some() {
            assert!(known.contains(&position.digest), "trial {trial}");
            assert_eq!(found.digest(), position.digest, "trial {trial}");
        } else {
            assert_eq!(found.digest(), State::default().digest(), "trial {trial}");
        }
    }
}

#[test]
fn a_state_and_the_entry_it_reaches_to_are_seen_together() {
    const STATES: u64 = 16;
    const LOOKS: u64 = 100_000;
    let mut state = State::default();
    let states: Vec<State> = (0..STATES)
        .map(|number| {
            let command = PutIdentity {
                name: format!("i-{number}").parse().unwrap(),
                owner: "team".into(),
                purpose: "a test".into(),
                workload: "worker".into(),
                environment: "test".into(),
                review_by: Time(4_000_000_000_000),
            };
            state
                .apply(&Stamped { at: Time(number), actor: "test".into(), command: command.into() })
                .unwrap();
            state.drain_changes();
            state.clone()
        })
        .collect();
    let digests: Vec<_> = states.iter().map(State::digest).collect();
    let view = View {
        state: ArcSwap::from_pointee(states[0].clone()),
        samples: Samples::default(),
        progress: watch::Sender::new(Progress { applied: Some(0), ..Progress::default() }),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, state) in (0..STATES).zip(&states).cycle().take(20_000) {
                view.publish(state.clone(), Some(number));
            }
        });
        for _ in 0..LOOKS {
            let (state, applied) = view.state_at();
            assert_eq!(state.digest(), digests[usize::try_from(applied.unwrap()).unwrap()]);
        }
    });
}
