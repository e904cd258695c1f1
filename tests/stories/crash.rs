//! Nodes die at the worst moments: before and after the effect of every step, alone and together with the leader.
//! The rotation still ends exactly once, a recorded version logs in at every moment, and no password or role is left
//! that nobody knows of.

use std::path::PathBuf;

use client::v1;
use harness::eventually;
use model::credential::Strategy;
use tempfile::TempDir;

use super::stage::{Consumer, Login, Setup, Stage, WITHIN, Witness, alternating_users, single_user, told};

/// The steps of a rotation that a worker performs.
const STEPS: [&str; 7] = ["prepare", "install", "verify", "publish", "retire", "sever", "prove-refused"];

#[tokio::test]
async fn with_one_role_a_worker_may_die_before_and_after_every_step() {
    let mut play = Play::start(&single_user(), false).await;
    for step in STEPS {
        for moment in ["before", "after"] {
            play.crash_at(&format!("{step}.{moment}"), Casualties::Worker).await;
        }
    }
    play.end().await;
}

#[tokio::test]
async fn with_two_roles_worker_and_leader_may_die_before_and_after_every_step() {
    let mut play = Play::start(&alternating_users(), false).await;
    for step in STEPS {
        for moment in ["before", "after"] {
            play.crash_at(&format!("{step}.{moment}"), Casualties::WorkerAndLeader).await;
        }
    }
    play.end().await;
}

#[tokio::test]
async fn a_worker_may_die_between_a_store_and_the_target() {
    let mut play = Play::start(&alternating_users(), true).await;
    for point in ["install.staged", "publish.staged", "publish.after"] {
        play.crash_at(point, Casualties::Worker).await;
        let secret = play.stage.moto().secret(super::stage::AWS_PATH).await;
        let stages = secret["stages"].as_object().unwrap();
        assert_eq!(stages.keys().collect::<Vec<_>>(), ["AWSCURRENT", "AWSPREVIOUS"], "{point}");
        let bundle: serde_json::Value =
            serde_json::from_str(stages["AWSCURRENT"]["value"].as_str().unwrap()).unwrap();
        let current = play.versions.last().unwrap();
        assert_eq!(bundle["version"], current.version, "{point}");
        assert_eq!(bundle["password"], current.password, "{point}");
        let versions = secret["versions"].as_object().unwrap().len();
        assert_eq!(versions, play.versions.len(), "{point}: the store holds one value for each version");
    }
    play.end().await;
}

#[tokio::test]
async fn the_leader_may_die_while_a_step_hangs_at_the_target_and_while_consumers_are_waited_for() {
    let setup = Setup { proxy: true, ..Setup::default() };
    let mut stage = Stage::start(setup, &alternating_users(), v1::RotationPolicy::default()).await;
    let mut versions = vec![stage.secret().await];
    let witness = Witness::begin(&stage.postgres).await;

    stage.proxy().blackhole();
    let id = stage.trigger().await;
    stage
        .seen(&id, "an attempt that hangs", |run| run.stage == "install" && !run.attempt_node.is_empty())
        .await;
    let first = kill_leader(&mut stage).await;
    stage.proxy().pass();
    stage.settled(&id).await;
    versions.push(stage.secret().await);
    stage.cluster.start_node(first);

    let billing = stage.consumer("billing").await;
    let id = stage.trigger().await;
    stage.reached(&id, "drain").await;
    versions.push(stage.secret().await);
    let second = kill_leader(&mut stage).await;
    let waiting = stage.reached(&id, "drain").await;
    assert_eq!(waiting.waiting_for, ["billing"], "{}", told(&waiting));
    let _billing = Consumer::follow(&billing);
    stage.settled(&id).await;
    stage.cluster.start_node(second);

    witness.confirm(&stage.postgres, &versions).await;
    assert_eq!(stage.told_by_feed().await, one_after_another(3));
    assert_eq!(stage.rotations().await.len(), 3);
    stage.assert_only_expected_roles_and_one_live_password().await;
    stage.assert_nodes_agree().await;
}

/// `kill -9` of the leader; returns once there is another.
async fn kill_leader(stage: &mut Stage) -> u64 {
    let leader = stage.cluster.leader().await;
    stage.cluster.kill_node(leader);
    assert_ne!(stage.cluster.leader().await, leader);
    leader
}

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Casualties {
    /// The node that performs the step.
    Worker,
    /// That node and, if it is another one, the leader: nobody is left who could decide.
    WorkerAndLeader,
}

/// One cluster that is crashed again and again.
struct Play {
    stage: Stage,
    strategy: Strategy,
    /// All versions there were, in order.
    versions: Vec<Login>,
    consumer: Consumer,
    /// Tells the nodes at which point one of them is to die.
    orders: PathBuf,
    _folder: TempDir,
}

impl Play {
    async fn start(strategy: &Strategy, moto: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let orders = folder.path().join("die-at");
        let environment = vec![("REVOLVE_CRASH_FILE".to_owned(), orders.display().to_string())];
        let cluster = harness::Setup { environment, ..harness::Setup::default() };
        let setup = Setup { moto, cluster, ..Setup::default() };
        let stage = Stage::start(setup, strategy, v1::RotationPolicy::default()).await;
        let versions = vec![stage.secret().await];
        let consumer = Consumer::follow(&stage.consumer("billing").await);
        Self { stage, strategy: strategy.clone(), versions, consumer, orders, _folder: folder }
    }

    /// One rotation, in which a node dies at `point` and comes back.
    async fn crash_at(&mut self, point: &str, casualties: Casualties) {
        let leader = self.stage.cluster.leader().await;
        let witness = Witness::begin(&self.stage.postgres).await;
        self.order_death_at(point);
        let id = self.stage.trigger().await;
        let cluster = &mut self.stage.cluster;
        let mut dead = eventually(format!("a node to die at {point}"), WITHIN, async || {
            let ended = cluster.reap();
            if ended.is_empty() { None } else { Some(ended) }
        })
        .await;
        if casualties == Casualties::WorkerAndLeader && !dead.contains(&leader) {
            cluster.kill_node(leader);
            dead.push(leader);
        }
        for node in dead {
            cluster.start_node(node);
        }
        self.settled(&id, point).await;

        let current = self.stage.secret().await;
        let old = self.versions.last().unwrap().clone();
        assert_eq!(current.version, old.version + 1, "{point}: there is one new version");
        assert!(!old.works(&self.stage.postgres).await, "{point}: the old version is dead");
        self.versions.push(current.clone());
        witness.confirm(&self.stage.postgres, &[old, current]).await;
        self.stage.assert_only_expected_roles_and_one_live_password().await;
    }

    /// Waits for the end. With two roles, what is published logs in all the time.
    async fn settled(&self, id: &str, point: &str) {
        eventually(format!("{id} to settle after a death at {point}"), WITHIN, async || {
            if matches!(self.strategy, Strategy::AlternatingUsers { .. }) {
                let published = self.stage.secret().await;
                if !published.works(&self.stage.postgres).await {
                    let now = self.stage.secret().await;
                    assert_ne!(published, now, "{point}: what is published does not log in");
                }
            }
            let rotation = self.stage.rotation(id).await;
            assert_ne!(rotation.stage, "quarantined", "{point}: {}", told(&rotation));
            if rotation.stage == "settled" { Ok(()) } else { Err(told(&rotation)) }
        })
        .await;
    }

    /// Whole or not at all: a node may read the file at any moment.
    fn order_death_at(&self, point: &str) {
        let draft = self.orders.with_extension("draft");
        std::fs::write(&draft, point).unwrap();
        std::fs::rename(&draft, &self.orders).unwrap();
    }

    /// The feed tells of each version once, to everyone, and all nodes hold the same.
    async fn end(self) {
        let Self { stage, versions, consumer, .. } = self;
        let count = u32::try_from(versions.len()).unwrap();
        let expected = one_after_another(count);
        assert_eq!(stage.told_by_feed().await, expected);
        eventually("the consumer to have seen the last event", WITHIN, async || {
            let seen = consumer.seen();
            let seen: Vec<_> = seen.iter().map(|event| (event.kind(), event.version)).collect();
            // It was registered after the first version was published.
            if seen == expected[1..] { Ok(()) } else { Err(seen) }
        })
        .await;
        let rotations = stage.rotations().await;
        assert_eq!(rotations.len(), versions.len(), "one rotation for each version");
        assert!(rotations.iter().all(|rotation| rotation.stage == "settled"));
        stage.assert_nodes_agree().await;
        let audit = stage.client.verify_audit(v1::VerifyAuditRequest {}).await.unwrap();
        assert!(audit.intact, "{}", audit.problem);
    }
}

/// What the feed says of versions that replaced each other: a version is published, then the one before it dies.
fn one_after_another(versions: u32) -> Vec<(v1::EventKind, u32)> {
    use v1::EventKind::{CredentialRevoked, CredentialRotated};
    let replaced = (2..=versions).flat_map(|to| [(CredentialRotated, to), (CredentialRevoked, to - 1)]);
    std::iter::once((CredentialRotated, 1)).chain(replaced).collect()
}
