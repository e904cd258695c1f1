//! A backup never brings back what has died since: 1,000 versions revoked, 1,000 rotated away and 100 grants ended
//! after it was taken; every node destroyed; and 0 of the 2,100 live again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use client::{Client, Error, ReceiptStage, SubscribeOptions, v1};
use futures::{StreamExt as _, stream};
use harness::{Cluster, Setup, answered, eventually, granted};
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use workers::{Login, demo::Service};

use super::stage::WITHIN;

/// How many versions are revoked, and how many are rotated away, after the backup.
const EACH: usize = 1_000;
/// How many grants end after it.
const GRANTS: usize = 100;
/// Calls under way at one time.
const AT_ONCE: usize = 48;
/// Longest time for all of them to be carried out at the target.
const CARRIED_OUT_WITHIN: std::time::Duration = std::time::Duration::from_secs(300);
const ADMIN_PASSWORD: &str = "the-administrator-of-the-demo";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_died_after_the_backup_comes_back_from_it() {
    let mut scene = Scene::begin(3, EACH).await;
    let grants = scene.open_grants(GRANTS).await;
    let backup = scene.backup();

    let before = scene.end_everything(&grants).await;
    let ledger = scene.destroy_all_but_a_ledger().await;
    let refused = scene.restore(&backup, &[]);
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert!(said(&refused).contains("no ledger was found"), "{}", said(&refused));

    let restored = scene.restore(&backup, &["--ledger", ledger.to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(2), "secrets are lost: {}", said(&restored));
    scene.start_all().await;
    scene.check_that_nothing_lives(&before, &grants).await;
    scene.check_that_nothing_fires_until_confirmed().await;
    scene.check_that_nothing_lives(&before, &grants).await;
    assert_eq!(scene.logins(&grants).await, 0, "of {} old logins are honoured", 2 * EACH + GRANTS);
}

#[tokio::test]
async fn a_loss_is_accepted_by_name_alone_and_stands_in_the_audit_log() {
    let mut scene = Scene::begin(1, 4).await;
    let backup = scene.backup();
    scene.revoke(0).await;
    let seen = scene.status().await.revision;
    assert!(seen > 0);
    let export = scene.cluster.folder().join("ledger.jsonl");
    let exported = scene.cluster.cli(["ledger", "export", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", said(&exported));
    let verified = scene.cluster.cli(["ledger", "verify", export.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", said(&verified));
    scene.revoke(1).await;
    let newest = scene.status().await.revision;
    scene.destroy_all_but_a_ledger().await;

    // Somebody has seen more than this ledger tells.
    let (ledger, seen) = (export.to_str().unwrap(), newest.to_string());
    let old = scene.restore(&backup, &["--ledger", ledger, "--seen-revision", &seen]);
    assert_eq!(old.status.code(), Some(5), "{}", said(&old));
    assert!(said(&old).contains("is known to have been seen"), "{}", said(&old));
    let arguments = ["--ledger", ledger, "--seen-revision", &seen, "--accept-loss", "--yes"];
    assert_eq!(scene.restore(&backup, &arguments).status.code(), Some(64), "a reason is needed");
    let why = "the disks are gone";
    let accepted = scene.restore(&backup, &[&arguments[..], &["--reason", why]].concat());
    assert_eq!(accepted.status.code(), Some(2), "{}", said(&accepted));

    scene.start_all().await;
    let status = scene.status().await;
    assert!(status.revision > newest, "revision {} was told before", status.revision);
    assert_eq!(status.observing.and_then(|it| it.accepted_loss).as_deref(), Some(why));
    let told = eventually("the audit log", WITHIN, async || {
        let records = scene.client.watch_audit(v1::WatchAuditRequest::default()).await;
        let mut records = records.map_err(|error| error.to_string())?;
        let mut told = Vec::new();
        while let Some(message) = records.message().await.map_err(|status| status.to_string())? {
            told.extend(message.record.filter(|record| record.action == "cluster.restored"));
        }
        Ok::<_, String>(told)
    })
    .await;
    assert!(told.len() == 1 && told[0].detail.contains(why), "{told:?}");
    assert_eq!(scene.code_of_secret(0).await, "no_secret", "what the ledger tells is carried out");
    assert_eq!(scene.code_of_secret(2).await, "observing", "it may have been replaced by one that is lost");
}

#[tokio::test]
async fn what_only_a_consumer_saw_stays_dead() {
    let mut scene = Scene::begin(1, 4).await;
    let grants = scene.open_grants(1).await;
    let backup = scene.backup();
    scene.revoke(0).await;
    let early = scene.cluster.folder().join("early.ledger");
    let exported = scene.cluster.cli(["ledger", "export", early.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", said(&exported));
    let known = scene.status().await.revision;
    let before = scene.end_everything(&grants).await;
    let record = scene.record_of_a_consumer(before.revision);
    scene.destroy_all_but_a_ledger().await;

    // Without what happened last, and changed by somebody.
    let (early, kept) = (early.to_str().unwrap(), record.to_str().unwrap());
    let lines = fs::read_to_string(&record).unwrap();
    let (holes, forged) = (record.with_extension("holes"), record.with_extension("forged"));
    let with_a_hole = lines.lines().filter(|line| !line.contains(&format!("\"revision\":{},", known + 1)));
    fs::write(&holes, with_a_hole.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    fs::write(&forged, lines.replacen("\"c-0\"", "\"c-3\"", 1)).unwrap();
    for (file, problem) in [
        (&holes, format!("nobody tells what revision {} said", known + 1)),
        (&forged, "contradict each other".to_owned()),
    ] {
        let refused = scene.restore(&backup, &["--ledger", early, "--consumer", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
        assert!(said(&refused).contains(&problem), "{}", said(&refused));
    }

    let restored = scene.restore(&backup, &["--ledger", early, "--consumer", &format!("edge={kept}")]);
    assert_eq!(restored.status.code(), Some(2), "{}", said(&restored));
    let told = format!("{} events behind the ledger's end", before.revision - known);
    assert!(said(&restored).contains(&told), "{}", said(&restored));
    scene.start_all().await;
    let status = scene.status().await;
    assert_eq!(status.observing.and_then(|it| it.accepted_loss), None, "nothing was lost");
    assert_eq!(status.revision, before.revision);
    for number in 0..2 * scene.each {
        assert_eq!(scene.code_of_secret(number).await, "no_secret", "of credential {number}");
    }
    let consumer = scene.consumer().await;
    assert!(consumer.delivered_up_to >= before.consumer.delivered_up_to, "{consumer:?}");
    let edge = scene.cluster.client(scene.cluster.consumer_token("edge").await);
    let acknowledge = async || edge.acknowledge(ReceiptStage::Enforced, [1..=before.revision], "").await;
    let again = asked("the answer to be taken in", acknowledge).await;
    assert_eq!(again, before.revision, "it may answer for all that it was handed");
    scene.confirm_and_wait().await;
    assert_eq!(scene.logins(&grants).await, 0, "of the old logins are honoured");
    let request = || v1::GetGrantRequest { id: grants[0].id.clone() };
    let grant = asked("the grant", async || scene.client.get_grant(request()).await).await.grant.unwrap();
    assert_eq!(grant.stage, "awaiting-review", "{grant:?}");
}

/// A cluster with credentials at a demo service.
struct Scene {
    cluster: Cluster,
    client: Client,
    service: Service,
    alice: Client,
    bob: Client,
    each: usize,
}

/// How far the consumer was, and where the feed stood.
struct Before {
    consumer: v1::Consumer,
    revision: u64,
}

/// A grant that was open when the backup was taken.
struct Open {
    id: String,
    username: String,
    password: String,
}

impl Scene {
    async fn begin(nodes: u64, each: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service =
            Service::start(listener, &Login::new("admin", SecretString::from(ADMIN_PASSWORD))).unwrap();
        let limits = vec![("concurrent_steps".to_owned(), 96)];
        let cluster = Cluster::start_with(Setup { nodes, limits, ..Setup::default() }).await;
        let alice = cluster.client(cluster.token("alice", "alice", "operator").await);
        let bob = cluster.client(cluster.token("bob", "bob", "approver").await);
        let scene = Self { client: cluster.admin(), cluster, service, alice, bob, each };
        scene.declare().await;
        scene
    }

    /// Twice as many credentials as there are changes of one kind; those of the second half have a schedule.
    async fn declare(&self) {
        let address = self.service.address();
        let params = [("host", address.ip().to_string()), ("port", address.port().to_string())];
        let target = v1::Target {
            name: "demo".into(),
            provider: "demo".into(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into(),
            admin_password: ADMIN_PASSWORD.into(),
            break_glass_roles: vec!["reader".into()],
            ..v1::Target::default()
        };
        let subscription = v1::Subscription { all: true, ..v1::Subscription::default() };
        let consumer = v1::Consumer {
            name: "edge".into(),
            owner: "team-edge".into(),
            subscription: Some(subscription),
            ..v1::Consumer::default()
        };
        self.apply(vec![super::stage::identity().into(), target.into(), consumer.into()]).await;
        let all = (0..2 * self.each).map(|number| async move {
            self.service.honour(&Login::new(user(number), SecretString::from(password(number))));
            let request = || v1::ApplyRequest { resources: vec![credential(number).into()], dry_run: false };
            asked("declared", async || match self.client.apply(request()).await {
                // The first try was carried out, and its answer lost.
                Err(error) if error.refused().is_some_and(|it| it.code == "already_exists") => Ok(()),
                answer => answer.map(drop),
            })
            .await;
            if number >= self.each {
                self.apply(vec![schedule(number).into()]).await;
            }
        });
        stream::iter(all).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    async fn apply(&self, resources: Vec<v1::Resource>) {
        let request = || v1::ApplyRequest { resources: resources.clone(), dry_run: false };
        asked("declared", async || self.client.apply(request()).await).await;
    }

    async fn open_grants(&self, count: usize) -> Vec<Open> {
        let open = (0..count).map(|_| async {
            let wanted = || v1::RequestGrantRequest {
                target: "demo".into(),
                role: "reader".into(),
                duration_ms: 3_600_000,
                ticket: "INC-1".into(),
                reason: "orders are stuck".into(),
            };
            let id = asked("a grant", async || self.alice.request_grant(wanted()).await).await.id;
            let approve = || v1::ApproveGrantRequest { id: id.clone() };
            asked("an approval", async || match self.bob.approve_grant(approve()).await {
                Err(error) if error.refused().is_some_and(|it| it.code == "wrong_stage") => Ok(()),
                answer => answer.map(drop),
            })
            .await;
            self.grant_in(&id, "active").await;
            let reveal = || v1::RevealGrantRequest { id: id.clone() };
            let secret = asked("the secret", async || self.alice.reveal_grant(reveal()).await).await;
            Open { id, username: secret.username, password: secret.password }
        });
        stream::iter(open).buffer_unordered(AT_ONCE).collect().await
    }

    fn backup(&self) -> PathBuf {
        let path = self.cluster.folder().join("backup");
        let file = path.to_str().unwrap();
        let save = ["cluster", "snapshot", "save", file, "--reason", "nightly"];
        let saved = self.cluster.cli(save);
        assert!(saved.status.success(), "{}", said(&saved));
        assert_eq!(self.cluster.cli(save).status.code(), Some(5), "nothing is overwritten");
        let key = self.cluster.folder().join("root.key");
        let inspect = ["cluster", "snapshot", "inspect", file, "--root-key-file", key.to_str().unwrap()];
        let inspected = self.cluster.cli(inspect);
        assert!(inspected.status.success(), "{}", said(&inspected));
        path
    }

    /// Revokes, rotates and ends everything, and waits until the target refuses all of it and the consumer has answered.
    async fn end_everything(&self, grants: &[Open]) -> Before {
        let edge = self.cluster.client(self.cluster.consumer_token("edge").await);
        let all = (0..self.each).map(|number| async move {
            self.revoke(number).await;
            let name = name(number + self.each);
            let trigger = || v1::TriggerScheduleRequest { name: name.clone() };
            asked("a rotation", async || match self.client.trigger_schedule(trigger()).await {
                // The first try was carried out, and its answer lost.
                Err(error) if error.refused().is_some_and(|it| it.code == "rotation_in_flight") => Ok(()),
                answer => answer.map(drop),
            })
            .await;
        });
        stream::iter(all).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        for open in grants {
            let end = || v1::EndGrantRequest { id: open.id.clone(), reason: "done".into() };
            asked("the end of a grant", async || match self.alice.end_grant(end()).await {
                // The first try was carried out, and its answer lost.
                Err(error) if error.refused().is_some_and(|it| it.code == "wrong_stage") => Ok(()),
                answer => answer.map(drop),
            })
            .await;
        }
        for open in grants {
            self.grant_in(&open.id, "awaiting-review").await;
        }
        let revision = eventually("everything to be carried out", CARRIED_OUT_WITHIN, async || {
            let status = self.client.get_status(v1::GetStatusRequest {}).await.map_err(|e| e.to_string())?;
            if status.open_rotations == 0 {
                Ok(status.revision)
            } else {
                Err(status.open_rotations.to_string())
            }
        })
        .await;
        assert_eq!(self.logins(grants).await, 0);
        let mut feed = edge.subscribe(SubscribeOptions::default());
        while feed.progress().position() < revision {
            tokio::time::timeout(WITHIN, feed.next()).await.expect("the feed goes on").unwrap();
        }
        asked("the answer to be taken in", async || {
            feed.acknowledge(ReceiptStage::Enforced, [1..=revision]).await
        })
        .await;
        let consumer = self.consumer().await;
        assert_eq!(consumer.enforced_up_to, revision);
        Before { consumer, revision }
    }

    async fn revoke(&self, number: usize) {
        let request = || v1::CreateRevocationRequest {
            subject: Some(v1::RevocationSubject {
                subject: Some(v1::revocation_subject::Subject::Credential(name(number))),
            }),
            reason_code: "cessation-of-operation".into(),
            reason: "not needed any more".into(),
            ack_within_ms: 3_600_000,
        };
        asked("a revocation", async || self.client.create_revocation(request()).await).await;
    }

    /// Kills every node and removes all that they stored, but for the ledger of the last one, whose path is given.
    async fn destroy_all_but_a_ledger(&mut self) -> PathBuf {
        let kept = *self.cluster.ids().last().unwrap();
        let data = self.data(kept);
        let wanted = self.cluster.cli(["ledger", "head", "-o", "json"]);
        let wanted = sequence(&wanted);
        eventually("the ledger to be written", WITHIN, async || {
            let verified = self.cluster.cli(["ledger", "verify", data.to_str().unwrap(), "-o", "json"]);
            if sequence(&verified) >= wanted { Ok(()) } else { Err(said(&verified)) }
        })
        .await;
        for node in self.cluster.ids() {
            self.cluster.kill_node(node);
        }
        let ledger = self.cluster.folder().join("kept");
        fs::rename(data.join("ledger"), &ledger).unwrap();
        for node in self.cluster.ids() {
            fs::remove_dir_all(self.data(node)).unwrap();
        }
        ledger
    }

    fn data(&self, node: u64) -> PathBuf {
        self.cluster.folder().join(format!("node-{node}"))
    }

    fn restore(&self, backup: &Path, more: &[&str]) -> Output {
        let config = self.cluster.folder().join("node-1.toml");
        let arguments = ["cluster", "snapshot", "restore", backup.to_str().unwrap(), "--config"];
        self.cluster.cli([&arguments[..], &[config.to_str().unwrap()], more].concat())
    }

    async fn start_all(&mut self) {
        for node in self.cluster.ids() {
            self.cluster.start_node(node);
        }
        self.cluster.leader().await;
        let all = u32::try_from(self.cluster.ids().len()).unwrap();
        eventually("every node to vote", WITHIN, async || {
            let status = self.client.get_status(v1::GetStatusRequest {}).await.map_err(|e| e.to_string())?;
            if status.voters == all { Ok(()) } else { Err(format!("{} of {all}", status.voters)) }
        })
        .await;
    }

    async fn status(&self) -> v1::GetStatusResponse {
        asked("the status", async || self.client.get_status(v1::GetStatusRequest {}).await).await
    }

    async fn consumer(&self) -> v1::Consumer {
        let kind = v1::ResourceKind::Consumer.into();
        let request = || v1::GetResourceRequest { kind, name: "edge".into() };
        let answer = asked("the consumer", async || self.client.get_resource(request()).await).await;
        match answer.resource.and_then(|resource| resource.kind) {
            Some(v1::resource::Kind::Consumer(consumer)) => consumer,
            other => panic!("not a consumer: {other:?}"),
        }
    }

    /// What was revoked is destroyed, what was rotated away is as well, and what ended has ended; no cursor went back.
    async fn check_that_nothing_lives(&self, before: &Before, grants: &[Open]) {
        let mut versions = BTreeMap::new();
        let mut page = String::new();
        loop {
            let kind = v1::ResourceKind::Credential.into();
            let request =
                || v1::ListResourcesRequest { kind, page_token: page.clone(), ..Default::default() };
            let answer = asked("the credentials", async || self.client.list_resources(request()).await).await;
            for resource in answer.resources {
                if let Some(v1::resource::Kind::Credential(credential)) = resource.kind {
                    let first = credential.versions.iter().find(|version| version.number == 1).unwrap();
                    versions.insert(credential.name, first.state.clone());
                }
            }
            page = answer.next_page_token;
            if page.is_empty() {
                break;
            }
        }
        assert_eq!(versions.len(), 2 * self.each);
        let living: Vec<_> = versions.iter().filter(|(_, state)| *state != "destroyed").collect();
        assert!(living.is_empty(), "{} have come back: {living:?}", living.len());
        for open in grants {
            let request = || v1::GetGrantRequest { id: open.id.clone() };
            let grant =
                asked("a grant", async || self.client.get_grant(request()).await).await.grant.unwrap();
            assert_eq!(grant.stage, "awaiting-review", "{grant:?}");
        }
        let consumer = self.consumer().await;
        assert!(consumer.delivered_up_to >= before.consumer.delivered_up_to, "{consumer:?}");
        assert!(consumer.received_up_to >= before.consumer.received_up_to, "{consumer:?}");
        assert!(consumer.enforced_up_to >= before.consumer.enforced_up_to, "{consumer:?}");
        assert!(self.status().await.revision >= before.revision);
    }

    /// Nothing fires while the cluster observes; what is lost is named; and it is rotated once that is allowed.
    async fn check_that_nothing_fires_until_confirmed(&self) {
        let status = self.status().await;
        assert!(status.observing.is_some(), "{status:?}");
        assert!(status.lost_secrets.len() >= 100, "the status names what is lost, up to a bound");
        for number in [0, self.each - 1, self.each, 2 * self.each - 1] {
            assert_eq!(self.code_of_secret(number).await, "no_secret");
        }
        let lost = name(self.each);
        let trigger = || v1::TriggerScheduleRequest { name: lost.clone() };
        let refused = refusal(async || self.client.trigger_schedule(trigger()).await.map(drop)).await;
        assert_eq!(refused, "observing", "nothing fires");
        let screen = self.cluster.cli(["status"]);
        assert!(String::from_utf8_lossy(&screen.stdout).contains("NOTHING FIRES"));

        let unsure = self.cluster.cli(["cluster", "snapshot", "confirm", "--reason", "looked at"]);
        assert_eq!(unsure.status.code(), Some(64), "nobody can be asked, and nothing was said");
        let confirmed =
            self.cluster.cli(["cluster", "snapshot", "confirm", "--reason", "looked at", "--yes"]);
        assert!(confirmed.status.success(), "{}", said(&confirmed));
        asked("a rotation", async || self.client.trigger_schedule(trigger()).await).await;
        let read = || v1::GetSecretRequest { credential: lost.clone() };
        let secret = eventually("a new secret", WITHIN, async || self.client.get_secret(read()).await).await;
        assert!(secret.version > 2, "version {} was given out before", secret.version);
        assert!(self.logs_in(&secret.username, &secret.password).await);
        eventually("nothing to be under way", WITHIN, async || {
            let status = self.status().await;
            if status.open_rotations == 0 { Ok(()) } else { Err(status.open_rotations) }
        })
        .await;
    }

    /// What the consumer has kept of the feed up to `revision`, in two runs of which the first was cut off within a line.
    fn record_of_a_consumer(&self, revision: u64) -> PathBuf {
        let path = self.cluster.folder().join("edge.jsonl");
        let keep = |count: u64| {
            let (count, file) = (count.to_string(), path.to_str().unwrap());
            let watch = ["feed", "watch", "--consumer", "edge", "--keep", file, "-n", &count, "-o", "json"];
            let kept = self.cluster.cli(watch);
            assert!(kept.status.success(), "{}", said(&kept));
            kept.stdout
        };
        let first = keep(3);
        let mut torn = first.clone();
        torn.extend(b"{\"type\":\"event\",\"revis");
        fs::write(&path, torn).unwrap();
        let rest = keep(revision - 3);
        assert_eq!(fs::read(&path).unwrap(), [first, rest].concat(), "what is kept is what is told");
        path
    }

    async fn confirm_and_wait(&self) {
        let confirm = ["cluster", "snapshot", "confirm", "--reason", "looked at", "--yes"];
        let confirmed = self.cluster.cli(confirm);
        assert!(confirmed.status.success(), "{}", said(&confirmed));
        eventually("nothing to be under way", CARRIED_OUT_WITHIN, async || {
            let status = self.status().await;
            if status.open_rotations == 0 { Ok(()) } else { Err(status.open_rotations) }
        })
        .await;
    }

    async fn code_of_secret(&self, number: usize) -> String {
        let request = || v1::GetSecretRequest { credential: name(number) };
        refusal(async || self.client.get_secret(request()).await.map(drop)).await
    }

    async fn grant_in(&self, id: &str, stage: &str) {
        eventually(format!("{id} to be {stage}"), CARRIED_OUT_WITHIN, async || {
            let request = v1::GetGrantRequest { id: id.into() };
            let grant = self.bob.get_grant(request).await.map_err(|error| error.to_string())?.grant.unwrap();
            if grant.stage == stage { Ok(()) } else { Err(format!("it is {}", grant.stage)) }
        })
        .await;
    }

    /// How many of the logins that must be dead the target honours.
    async fn logins(&self, grants: &[Open]) -> usize {
        let old = (0..2 * self.each).map(|number| (user(number), password(number)));
        let ended = grants.iter().map(|open| (open.username.clone(), open.password.clone()));
        let tries =
            old.chain(ended).map(|(user, password)| async move { self.logs_in(&user, &password).await });
        stream::iter(tries).buffer_unordered(AT_ONCE).filter(|live| std::future::ready(*live)).count().await
    }

    async fn logs_in(&self, user: &str, password: &str) -> bool {
        let mut session = BufReader::new(TcpStream::connect(self.service.address()).await.unwrap());
        session.get_mut().write_all(format!("LOGIN {user} {password}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        session.read_line(&mut answer).await.unwrap();
        match answer.trim() {
            "OK" => true,
            "REFUSED" => false,
            other => panic!("the demo service says {other}"),
        }
    }
}

async fn asked<T>(what: &str, ask: impl AsyncFn() -> Result<T, Error>) -> T {
    granted(what, WITHIN, ask).await
}

/// The code with which the cluster refuses, once it answers.
///
/// # Panics
///
/// At once when it does not refuse.
async fn refusal(ask: impl AsyncFn() -> Result<(), Error>) -> String {
    let error = answered("a refusal", WITHIN, ask).await.expect_err("it must be refused");
    error.refused().unwrap_or_else(|| panic!("{error:?}")).code.clone()
}

fn name(number: usize) -> String {
    format!("c-{number}")
}

fn user(number: usize) -> String {
    format!("user_{number}")
}

fn password(number: usize) -> String {
    format!("the-first-password-of-{number}")
}

fn credential(number: usize) -> v1::Credential {
    v1::Credential {
        name: name(number),
        identity: super::stage::identity().name,
        target: "demo".into(),
        strategy: "overlapping".into(),
        usernames: vec![user(number)],
        adopt_password: password(number),
        ..v1::Credential::default()
    }
}

fn schedule(number: usize) -> v1::Schedule {
    v1::Schedule {
        name: name(number),
        credential: name(number),
        ..super::stage::schedule(v1::RotationPolicy::default())
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn sequence(output: &Output) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    value["sequence"].as_u64().unwrap_or_default()
}
