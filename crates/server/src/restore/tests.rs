use std::{fs, sync::Arc};

use model::{
    command::Revoke,
    event::{About as Of, Event, ReasonCode, Subject},
    ledger::LedgerEntry,
    time::Span,
};
use serde_json::json;
use workers::backup::Writer;
use zeroize::Zeroizing;

use super::*;
use crate::{
    consensus::Consensus as _,
    keys::Keyring,
    testing::{Alone, declare},
};

/// A cluster with credentials, and a folder for what is left of it.
struct Scene {
    folder: tempfile::TempDir,
    root: RootKey,
    alone: Arc<Alone>,
    backup: PathBuf,
}

impl Scene {
    /// With a backup that was taken when nothing but the data key was there.
    fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("root.key");
        RootKey::generate_to(&key).unwrap();
        let (root, alone) = (RootKey::read_from(&key).unwrap(), Alone::new());
        let keys = Keyring::new(vec![RootKey::read_from(&key).unwrap()]);
        let added = keys.new_data_key(&alone.local(), "test".to_owned()).unwrap();
        alone.apply("node-1", added.into()).unwrap();
        let scene = Self { backup: folder.path().join("backup"), folder, root, alone };
        scene.save();
        scene
    }

    /// With a backup of four credentials, and the first of them revoked behind it.
    fn with_credentials() -> Self {
        let mut scene = Self::bare();
        let keys = Keyring::new(vec![RootKey::read_from(&scene.path("root.key")).unwrap()]);
        declare(&scene.alone, &keys, ["c-1", "c-2", "c-3", "c-4"].map(str::to_owned));
        scene.backup = scene.path("backup-of-four");
        scene.save();
        scene.revoke("c-1");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn revoke(&self, credential: &str) {
        let subject = Subject::Credential(credential.parse().unwrap());
        let (code, reason) = (ReasonCode::KeyCompromise, "leaked".to_owned());
        let ack_within = Span::minutes(1);
        self.alone.apply("test", Revoke { subject, code, reason, ack_within }.into()).unwrap();
    }

    fn save(&self) {
        let state = self.alone.local();
        let records: Vec<Record> = state.records().collect();
        let about = About {
            cluster: "test".into(),
            created_at: state.now(),
            applied: 1,
            revision: state.revision(),
            ledger: state.ledger_head(),
            data_key: state.data_key().map(|key| key.id),
            digest: state.digest().to_bytes(),
            records: records.len() as u64,
        };
        let (mut writer, mut file) = Writer::begin(about, &self.root).unwrap();
        let plain = Zeroizing::new(postcard::to_stdvec(&records).unwrap());
        file.extend(writer.chunk(plain, true).unwrap());
        fs::write(&self.backup, file).unwrap();
    }

    /// The ledger as it is now, exported to a file.
    async fn export(&self, name: &str) -> PathBuf {
        let entries: Vec<LedgerEntry> = self.alone.ledger(0, usize::MAX).await.unwrap();
        let lines = entries.iter().map(|entry| {
            let line = ledger_file::Line::from(api::ledger::shown(entry));
            serde_json::to_string(&line).unwrap() + "\n"
        });
        let path = self.path(name);
        fs::write(&path, lines.collect::<String>()).unwrap();
        path
    }

    /// What a consumer has kept of the feed: these revisions, changed by `change`.
    fn record(&self, name: &str, revisions: &[u64], change: impl Fn(&mut serde_json::Value)) -> Kept {
        let state = self.alone.local();
        let lines = revisions.iter().map(|revision| {
            let mut line = line_of(state.events().get(revision).unwrap());
            change(&mut line);
            format!("{line}\n")
        });
        let path = self.path(name);
        fs::write(&path, lines.collect::<String>()).unwrap();
        Kept { consumer: None, path }
    }

    fn restore(
        &self,
        ledgers: &[PathBuf],
        consumers: &[Kept],
        accept_loss: Option<&str>,
    ) -> Result<Done, RestoreError> {
        let data = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        restore(&Order {
            backup: &self.backup,
            ledgers,
            consumers,
            seen_revision: 0,
            accept_loss: accept_loss.map(str::to_owned),
            by: "operator".into(),
            at: self.alone.local().now(),
            data,
            node: NodeId(1),
            address: "127.0.0.1:1".into(),
            root: &self.root,
        })
    }
}

/// As `revolve feed watch -o json` writes it.
fn line_of(event: &Event) -> serde_json::Value {
    let (credential, version, grant) = match &event.about {
        Of::Version { credential, version } => (Some(credential.to_string()), Some(*version), None),
        Of::Grant(id) => (None, None, Some(id.to_string())),
    };
    json!({
        "type": "event", "revision": event.revision, "previousRevision": event.revision - 1,
        "at": event.at.to_string(), "kind": event.kind.as_str(),
        "credential": credential, "version": version, "grant": grant, "target": event.target.to_string(),
        "reasonCode": event.reason.as_str(), "revocation": event.revocation.map(|id| id.to_string()),
        "deadline": event.deadline.to_string(),
    })
}

fn unchanged(_: &mut serde_json::Value) {}

#[tokio::test]
async fn a_ledger_in_which_nothing_was_stated_continues_a_backup_from_before_the_first_entry() {
    let scene = Scene::bare();
    assert_eq!(scene.alone.local().ledger_head().sequence, 0);
    let exported = scene.export("empty.ledger").await;
    let done = scene.restore(std::slice::from_ref(&exported), &[], None).unwrap();
    assert_eq!((done.ledger, done.summary.entries, done.loss_accepted), (Some(exported), 0, false));

    let node = scene.path("node-1");
    fs::create_dir_all(node.join("ledger")).unwrap();
    assert!(scene.restore(&[node], &[], None).is_ok(), "the data folder of a node");
    let (folder, garbage) = (scene.path("nothing"), scene.path("garbage"));
    fs::create_dir(&folder).unwrap();
    fs::write(&garbage, "no ledger\n").unwrap();
    for no_ledger in [folder, garbage] {
        let refused = scene.restore(&[no_ledger], &[], None).unwrap_err();
        assert!(matches!(refused, RestoreError::NoLedger { head: 0, .. }), "{refused}");
    }
}

#[tokio::test]
async fn an_empty_ledger_does_not_continue_a_backup_from_behind_the_first_entry() {
    let scene = Scene::with_credentials();
    let empty = scene.path("empty");
    fs::write(&empty, "").unwrap();
    let refused = scene.restore(&[empty], &[], None).unwrap_err();
    assert!(matches!(refused, RestoreError::NoLedger { .. }), "{refused}");
}

#[tokio::test]
async fn what_a_consumer_saw_behind_the_ledgers_end_is_carried_out() {
    let scene = Scene::with_credentials();
    let ledger = [scene.export("early.ledger").await];
    scene.revoke("c-2");
    scene.revoke("c-3");
    let alone = scene.restore(&ledger, &[], None).unwrap();
    assert_eq!((alone.revision, alone.summary.told), (1, 0), "nobody says that there is more");

    let record = scene.record("edge.jsonl", &[2, 3], unchanged);
    let done = scene.restore(&ledger, &[record], None).unwrap();
    assert_eq!((done.revision, done.summary.told, done.loss_accepted), (3, 2, false));
    let dead: Vec<String> = done.summary.to_retire.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(dead, ["c-1", "c-2", "c-3"], "they are retired once it is confirmed, and `c-4` lives");
}

#[tokio::test]
async fn a_revision_that_nobody_tells_needs_a_loss_to_be_accepted() {
    let scene = Scene::with_credentials();
    let ledger = [scene.export("early.ledger").await];
    for credential in ["c-2", "c-3", "c-4"] {
        scene.revoke(credential);
    }
    let (one, other) = (scene.record("one", &[2], unchanged), scene.record("other", &[4], unchanged));
    let records = [one.clone(), other.clone()];
    let refused = scene.restore(&ledger, &records, None).unwrap_err();
    assert!(matches!(refused, RestoreError::Untold { found: 1, seen: 4, missing: 3 }), "{refused}");
    let done = scene.restore(&ledger, &records, Some("the disks are gone")).unwrap();
    assert!(done.loss_accepted && done.revision > 4 && done.summary.told == 2, "{done:?}");
    let dead: Vec<String> = done.summary.to_retire.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(dead, ["c-1", "c-2", "c-4"]);

    let third = scene.record("third", &[3], unchanged);
    let done = scene.restore(&ledger, &[one, other, third], Some("not needed")).unwrap();
    assert!(!done.loss_accepted && done.revision == 4, "together they tell everything: {done:?}");

    // A heartbeat says that there was more, and nobody tells what.
    let beat = scene.path("beat");
    fs::write(&beat, "{\"type\":\"heartbeat\",\"revision\":2}\n").unwrap();
    let refused = scene.restore(&ledger, &[Kept { consumer: None, path: beat }], None).unwrap_err();
    assert!(matches!(refused, RestoreError::Untold { found: 1, seen: 2, missing: 2 }), "{refused}");
}

#[tokio::test]
async fn a_record_is_no_ledger() {
    let scene = Scene::with_credentials();
    let record = scene.record("edge.jsonl", &[1], unchanged);
    let refused = scene.restore(&[], std::slice::from_ref(&record), None).unwrap_err();
    assert!(matches!(refused, RestoreError::NoLedger { .. }), "{refused}");
    let done = scene.restore(&[], &[record], Some("the disks are gone")).unwrap();
    assert!(done.loss_accepted && done.summary.told == 1 && done.revision > 1_000_000, "{done:?}");
}

#[tokio::test]
async fn records_that_contradict_the_ledger_or_each_other_are_refused_with_both_names() {
    let scene = Scene::with_credentials();
    let ledger = [scene.export("the.ledger").await];
    scene.revoke("c-2");
    let other = |line: &mut serde_json::Value| line["credential"] = json!("c-4");
    let forged = scene.record("forged", &[1], other);
    let refused = scene.restore(&ledger, std::slice::from_ref(&forged), None).unwrap_err().to_string();
    for part in ["forged` and `", "the.ledger` contradict each other", "revision 1"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let (one, two) = (scene.record("one", &[2], unchanged), scene.record("two", &[2], other));
    let refused = scene.restore(&ledger, &[one, two], Some("whatever")).unwrap_err().to_string();
    assert!(refused.contains("two` and `") && refused.contains("one` contradict"), "{refused}");

    let mut later = Scene::with_credentials();
    later.backup = later.path("later");
    later.save();
    let forged = later.record("forged", &[1], other);
    let refused = later.restore(&[], &[forged], Some("no ledger")).unwrap_err().to_string();
    assert!(refused.contains("the backup contradict"), "{refused}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_refused_with_its_line() {
    let scene = Scene::with_credentials();
    let ledger = [scene.export("the.ledger").await];
    let path = scene.path("notes.txt");
    fs::write(&path, "my notes\n").unwrap();
    let refused = scene.restore(&ledger, &[Kept { consumer: None, path }], None).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(refused.to_string().contains("notes.txt") && source.contains("line 1"), "{refused}: {source}");
}
