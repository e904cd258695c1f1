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
    store::Store,
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
        Self::with(folder, |store| store)
    }

    /// One whose store is written anew as soon as its files are twice as long as they were when they were new.
    fn renewing(folder: &Path) -> Self {
        Self::with(folder, |store| store.bloated_from(1))
    }

    fn with(folder: &Path, set: impl FnOnce(Store) -> Store) -> Self {
        let (store, state, position) = Store::open(folder.join("state")).unwrap();
        let store = set(store);
        let fatal = Arc::new(Fatal::new());
        let held = (Arc::new(state.clone()), position.clone());
        let space = Space::open(folder.to_path_buf()).unwrap();
        let ledger = Ledger::open(folder.join("ledger"), &folder.join("damaged"), state.ledger_head());
        let ledger = Arc::new(ledger.unwrap());
        let (persister, writer) = Persister::start(store, held, ledger, space, Arc::clone(&fatal)).unwrap();
        let snapshots = Arc::new(SnapshotFolder::open(folder.join("snapshots")).unwrap());
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
    // Another one waits until the state is in the store.
    receiver.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
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

/// Installs a snapshot in a node with an older state, and ends it before its store is filled. Gives its folder, and a
/// copy of it as a process that is killed leaves it. Now and then the store is filled first: nothing then.
async fn ended_early(
    snapshot: &Snapshot<SnapshotFile>,
    digest: model::table::Digest,
) -> Option<[TempDir; 2]> {
    let (to, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut receiver = Fixture::open(to.path());
    receiver.apply(vec![puts(0, &["other".into()])]).await.unwrap();
    // So that the old generation is a sound one, and older.
    receiver.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    install(snapshot, &mut receiver).await;
    assert_eq!(receiver.view.state().digest(), digest, "it goes on at once");
    copy(&to.path().join("state"), &left.path().join("state"));
    copy(&to.path().join("snapshots"), &left.path().join("snapshots"));
    // The old generation is removed last: what was copied is of before that.
    let was_copied = generations(to.path()) == 2;
    // One that is stopped leaves no more, and does not fill the store first.
    receiver.close();
    let (_, state, _) = Store::open(to.path().join("state")).unwrap();
    (was_copied && state.digest() != digest).then_some([to, left])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_before_its_store_is_filled_goes_on_from_the_snapshot() {
    let from = tempfile::tempdir().unwrap();
    let (sender, snapshot) = full(from.path()).await;
    let digest = sender.view.state().digest();
    sender.close();
    let mut attempts = 0;
    let folders = loop {
        attempts += 1;
        assert!(attempts <= 100, "it is always filled first");
        if let Some(folders) = ended_early(&snapshot, digest).await {
            break folders;
        }
    };

    for folder in folders.iter().map(TempDir::path) {
        let mut restarted = Fixture::open(folder);
        assert_eq!(generations(folder), 1, "what was unfinished is gone");
        assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, 0)));
        // As Raft does with a snapshot that is ahead of the state.
        let current = restarted.machine.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta.last_log_id, Some(log_id(1, 19)));
        restarted.machine.install_snapshot(&current.meta, current.snapshot).await.unwrap();
        assert_eq!(restarted.view.state().digest(), digest);
        restarted.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        restarted.close();
        let filled = Fixture::open(folder);
        assert_eq!(filled.view.state().digest(), digest, "now it comes from the store");
        filled.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_only_begun_does_not_hide_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(folder.path());
    fixture.apply(vec![puts(0, &names(0, 10))]).await.unwrap();
    fixture.close();
    let (store, _, _) = Store::open(folder.path().join("state")).unwrap();
    drop(store.begin_next().unwrap());
    drop(store);
    let mut restarted = Fixture::open(folder.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, 0)));
    assert!(holds(&restarted.view.state(), &names(0, 10)));
    restarted.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_while_the_store_is_filled_is_in_it() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, snapshot) = full(from.path()).await;
    sender.close();
    let mut receiver = Fixture::open(to.path());
    install(&snapshot, &mut receiver).await;
    // New rows, and rows that the snapshot holds too.
    let mut last = 19;
    while last < 60 || generations(to.path()) > 1 {
        last += 1;
        assert!(last < 10_000, "it is never filled");
        let start = usize::try_from(last % 50).unwrap() * 100;
        receiver.apply(vec![puts(last, &names(start + 3_000, start + 3_100))]).await.unwrap();
    }
    let digest = receiver.view.state().digest();
    receiver.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    receiver.close();
    assert_eq!(generations(to.path()), 1);
    let mut restarted = Fixture::open(to.path());
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, last)));
    assert_eq!(restarted.view.state().digest(), digest);
    // The audit log goes on in the group where it ended.
    restarted.apply(vec![puts(last + 1, &names(0, 3))]).await.unwrap();
    let digest = restarted.view.state().digest();
    restarted.close();
    let again = Fixture::open(to.path());
    assert_eq!(again.view.state().digest(), digest);
    again.close();
}

/// The generations that there are.
fn names_of_generations(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder.join("state")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A node with many rows whose store is being written anew.
async fn renewed(folder: &Path) -> (Fixture, u64) {
    let mut node = Fixture::renewing(folder);
    let mut last = 0;
    loop {
        let start = usize::try_from(last % 20).unwrap() * 300;
        node.apply(vec![puts(last, &names(start, start + 300))]).await.unwrap();
        if last >= 20 && last % 5 == 0 {
            node.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
            // It may have been renewed before: what counts is that it is so now.
            for _ in 0..1_000 {
                if generations(folder) == 2 {
                    return (node, last);
                }
                tokio::task::yield_now().await;
            }
        }
        last += 1;
        assert!(last < 1_000, "it is never written anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_grown_far_beyond_its_rows_is_written_anew_while_the_node_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, mut last) = renewed(folder.path()).await;
    let before = names_of_generations(folder.path());
    while names_of_generations(folder.path()).contains(&before[0]) {
        last += 1;
        assert!(last < 10_000, "the old one stays");
        node.apply(vec![puts(last, &names(5_900, 6_000))]).await.unwrap();
    }
    let digest = node.view.state().digest();
    node.close();
    let mut restarted = Fixture::open(folder.path());
    assert_eq!(generations(folder.path()), 1);
    assert_eq!(restarted.machine.applied_state().await.unwrap().0, Some(log_id(1, last)));
    assert_eq!(restarted.view.state().digest(), digest);
    // The audit log goes on in the group where it ended.
    restarted.apply(vec![puts(last + 1, &names(0, 3))]).await.unwrap();
    let digest = restarted.view.state().digest();
    restarted.close();
    let again = Fixture::open(folder.path());
    assert_eq!(again.view.state().digest(), digest);
    again.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_while_its_store_is_written_anew_has_the_old_one() {
    let (folder, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut node, mut last) = renewed(folder.path()).await;
    let durable = node.view.state().digest();
    // What a process that is killed here leaves behind: nothing is written to the old one meanwhile.
    copy(&folder.path().join("state"), &left.path().join("state"));
    let is_unfinished = generations(folder.path()) == 2;
    let reached = last;
    last += 1;
    node.apply(vec![puts(last, &names(6_000, 6_100))]).await.unwrap();
    let digest = node.view.state().digest();
    node.close();
    // One that is told to stop gives the new one up, and keeps what came meanwhile.
    let mut stopped = Fixture::open(folder.path());
    assert_eq!(generations(folder.path()), 1);
    assert_eq!(stopped.machine.applied_state().await.unwrap().0, Some(log_id(1, last)));
    assert_eq!(stopped.view.state().digest(), digest);
    stopped.close();
    if is_unfinished {
        let mut killed = Fixture::open(left.path());
        assert_eq!(killed.machine.applied_state().await.unwrap().0, Some(log_id(1, reached)));
        assert_eq!(killed.view.state().digest(), durable);
        killed.close();
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
    assert!(fixture.machine.get_snapshot_builder().await.build_snapshot().await.is_err());
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
    let (mut store, _, _) = Store::open(folder.path().to_path_buf()).unwrap();
    let short = long_record("neighbour", 10);
    for length in [300_000, 70_000, 10, 200_000] {
        let records = vec![long_record("long", length), short.clone()];
        let state = State::load::<RestoreError>(records.iter().cloned().map(Ok)).unwrap();
        store.write(records, &position_of(&state)).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let (reopened, found, _) = Store::open(folder.path().to_path_buf()).unwrap();
        assert_eq!(found.digest(), state.digest(), "{length}");
        store = reopened;
    }
    let gone = Record { value: None, ..long_record("long", 0) };
    let state = State::load::<RestoreError>([Ok(short)]).unwrap();
    store.write(vec![gone], &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let (_, found, _) = Store::open(folder.path().to_path_buf()).unwrap();
    assert_eq!(found.digest(), state.digest());
}

#[test]
fn a_stored_state_without_its_digest_is_set_aside() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(folder.path().to_path_buf()).unwrap();
    let state = State::load::<RestoreError>([Ok(long_record("one", 10))]).unwrap();
    // As if sled had lost a row.
    store.write(Vec::new(), &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let (store, found, position) = Store::open(folder.path().to_path_buf()).unwrap();
    assert_eq!(found.digest(), State::default().digest());
    assert_eq!(position.applied, None);
    assert!(folder.path().join("damaged").exists());
    drop(store);
    let (_, _, position) = Store::open(folder.path().to_path_buf()).unwrap();
    assert_eq!(position.applied, None);
}

#[test]
fn damage_to_the_stored_state_gives_the_whole_state_or_an_empty_one() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(folder.path().to_path_buf()).unwrap();
    let records: Vec<_> = (0..200).map(|number| long_record(&format!("row-{number}"), 200)).collect();
    let state = State::load::<RestoreError>(records.iter().cloned().map(Ok)).unwrap();
    store.write(records, &position_of(&state)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let generation = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
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
        let (_, found, position) = Store::open(copy.path().to_path_buf()).unwrap();
        if position.applied.is_some() {
            assert_eq!(found.digest(), state.digest(), "trial {trial}");
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
