//! Where the stories of whole clusters play: three nodes, a PostgreSQL server with an administrator of limited
//! rights and roles to rotate, and one credential `orders-db` declared on it.
//!
//! A story starts a [`Stage`], declares what it needs, acts through `stage.client`, and waits with the functions
//! here: each of them waits for a state and says what it saw instead. Everything ends with the stage.

mod consumer;
pub mod demo;
mod login;
mod witness;

use std::time::Duration;

use client::{Client, Error, SubscribeOptions, Update, v1};
use harness::{Cluster, Moto, Postgres, Proxy, eventually, granted};
use model::credential::Strategy;

pub use consumer::Consumer;
pub use login::{Login, alive};
pub use witness::Witness;

/// How long a state may take to come, on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(120);

/// The one credential of the stage, and the schedule that rotates it.
pub const CREDENTIAL: &str = "orders-db";
/// The target on which it is honoured.
pub const TARGET: &str = "orders";
/// The group role whose members the applications are; break-glass may hand it out.
pub const GROUP: &str = "orders";
/// The administrative role that Revolve uses, without superuser rights, and its password.
pub const ROTATOR: &str = "revolve";
/// The password of [`ROTATOR`].
pub const ROTATOR_PASSWORD: &str = "the-administrator-of-orders";
/// Every role there is, before and after any story.
pub const ROLES: [&str; 5] = ["app", "app_a", "app_b", GROUP, ROTATOR];
/// The name of the secret in the AWS store.
pub const AWS_PATH: &str = "prod/orders-db";

/// A year: the schedule never falls due by itself.
const SELDOM_MS: u64 = 365 * 24 * 3_600_000;

/// What a stage has beside three nodes and PostgreSQL.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// A proxy between the nodes and PostgreSQL, to break the network.
    pub proxy: bool,
    /// Secrets Manager, as a store of the credential.
    pub moto: bool,
    /// How the cluster is set up.
    pub cluster: harness::Setup,
}

/// A cluster and a PostgreSQL server, prepared as docs/guides/postgres.md asks.
#[derive(Debug)]
pub struct Stage {
    /// A client of all nodes, as admin.
    pub client: Client,
    /// The nodes.
    pub cluster: Cluster,
    /// The server whose roles are rotated.
    pub postgres: Postgres,
    /// What stands before the server, if asked for.
    pub proxy: Option<Proxy>,
    /// The Secrets Manager, if asked for.
    pub moto: Option<Moto>,
}

/// The strategy of one role, `app`.
pub fn single_user() -> Strategy {
    Strategy::SingleUser { username: "app".into() }
}

/// The strategy of two roles in turn, `app_a` and `app_b`.
pub fn alternating_users() -> Strategy {
    Strategy::AlternatingUsers { usernames: ["app_a".into(), "app_b".into()] }
}

impl Stage {
    /// A stage on which nothing is declared yet.
    pub async fn bare(setup: Setup) -> Self {
        let (cluster, postgres) = tokio::join!(Cluster::start_with(setup.cluster), Postgres::start());
        let roles = format!(
            "CREATE ROLE {ROTATOR} LOGIN CREATEROLE PASSWORD '{ROTATOR_PASSWORD}'; \
             GRANT pg_signal_backend, pg_read_all_stats TO {ROTATOR}; CREATE ROLE {GROUP}; \
             CREATE ROLE app LOGIN IN ROLE {GROUP}; \
             CREATE ROLE app_a LOGIN IN ROLE {GROUP}; CREATE ROLE app_b LOGIN IN ROLE {GROUP}"
        );
        postgres.admin().await.batch_execute(&roles).await.unwrap();
        let proxy = if setup.proxy { Some(Proxy::start(postgres.address()).await) } else { None };
        let moto = if setup.moto { Some(Moto::start().await) } else { None };
        Self { client: cluster.admin(), cluster, postgres, proxy, moto }
    }

    /// A stage with the credential declared and its first version in use.
    pub async fn start(setup: Setup, strategy: &Strategy, policy: v1::RotationPolicy) -> Self {
        let stage = Self::bare(setup).await;
        stage.declare(strategy, policy).await;
        stage.rotate().await;
        stage
    }

    /// Declares identity, target, credential and a schedule that fires only when triggered.
    pub async fn declare(&self, strategy: &Strategy, policy: v1::RotationPolicy) {
        let mut resources = vec![identity().into(), self.target(ROTATOR_PASSWORD).into()];
        let mut credential = credential(strategy);
        if let Some(moto) = &self.moto {
            resources.push(aws_store(moto).into());
            credential.stores = vec![v1::Placement { store: "aws".into(), path: AWS_PATH.into() }];
        }
        resources.extend([credential.into(), schedule(policy).into()]);
        self.apply(resources).await;
    }

    /// Declares resources.
    pub async fn apply(&self, resources: Vec<v1::Resource>) {
        let request = v1::ApplyRequest { resources, dry_run: false };
        self.client.apply(request).await.unwrap_or_else(|error| panic!("not declared: {error:?}"));
    }

    /// The target, with the password of its administrative role.
    pub fn target(&self, admin_password: &str) -> v1::Target {
        let params = [
            ("host", self.postgres.host().to_owned()),
            ("port", self.target_port().to_string()),
            ("admin_user", ROTATOR.to_owned()),
            ("connect_timeout", "5s".to_owned()),
        ];
        v1::Target {
            name: TARGET.into(),
            provider: "postgres".into(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into(),
            admin_password: admin_password.into(),
            break_glass_roles: vec![GROUP.into()],
            ..v1::Target::default()
        }
    }

    /// The port at which the nodes find PostgreSQL: the proxy's, where there is one.
    pub fn target_port(&self) -> u16 {
        self.proxy.as_ref().map_or_else(|| self.postgres.port(), Proxy::port)
    }

    /// The proxy before PostgreSQL.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the stage was set up with a proxy")
    }

    /// The Secrets Manager.
    pub fn moto(&self) -> &Moto {
        self.moto.as_ref().expect("the stage was set up with moto")
    }

    /// Starts a rotation, and returns its id.
    pub async fn trigger(&self) -> String {
        let request = || v1::TriggerScheduleRequest { name: CREDENTIAL.into() };
        let mut is_repeat = false;
        self.asked("a rotation to be started", async || match self.client.trigger_schedule(request()).await {
            // The first try was carried out, and its answer lost.
            Err(error) if is_repeat && error.refused().is_some_and(|it| it.code == "rotation_in_flight") => {
                Ok(self.rotations().await.remove(0).id)
            }
            answer => {
                is_repeat = true;
                answer.map(|started| started.rotation)
            }
        })
        .await
    }

    /// Lets a rotation go on that was quarantined.
    pub async fn retry(&self, id: &str) {
        let request = || v1::RetryRotationRequest { id: id.into() };
        let mut is_repeat = false;
        self.asked("a rotation to go on", async || match self.client.retry_rotation(request()).await {
            // The first try was carried out, and its answer lost.
            Err(error) if is_repeat && error.refused().is_some_and(|it| it.code == "wrong_stage") => Ok(()),
            answer => {
                is_repeat = true;
                answer.map(drop)
            }
        })
        .await;
    }

    /// Rotates once, and returns the rotation when it has settled.
    pub async fn rotate(&self) -> v1::Rotation {
        let id = self.trigger().await;
        self.settled(&id).await
    }

    /// A rotation as it stands.
    pub async fn rotation(&self, id: &str) -> v1::Rotation {
        let request = || v1::GetRotationRequest { id: id.into() };
        let answer = self.asked("a rotation", async || self.client.get_rotation(request()).await).await;
        answer.rotation.expect("the answer holds the rotation")
    }

    /// All rotations of the credential, newest first.
    pub async fn rotations(&self) -> Vec<v1::Rotation> {
        let request = || v1::ListRotationsRequest { credential: CREDENTIAL.into(), ..Default::default() };
        self.asked("the rotations", async || self.client.list_rotations(request()).await).await.rotations
    }

    /// The rotation, once it has settled.
    ///
    /// # Panics
    ///
    /// At once when it ends or stops in another way, with its history.
    pub async fn settled(&self, id: &str) -> v1::Rotation {
        self.reached(id, "settled").await
    }

    /// The rotation, once it is in `stage`.
    ///
    /// # Panics
    ///
    /// At once when it ends or is quarantined in place of that, with its history.
    pub async fn reached(&self, id: &str, stage: &str) -> v1::Rotation {
        self.seen(id, stage, |rotation| rotation.stage == stage).await
    }

    /// The rotation, once it is as `awaited`.
    ///
    /// # Panics
    ///
    /// At once when it ends or is quarantined before that, with its history.
    pub async fn seen(&self, id: &str, what: &str, awaited: impl Fn(&v1::Rotation) -> bool) -> v1::Rotation {
        eventually(format!("{id} to be seen: {what}"), WITHIN, async || {
            let rotation = self.rotation(id).await;
            if awaited(&rotation) {
                return Ok(rotation);
            }
            let stuck = ["settled", "aborted", "quarantined"].contains(&rotation.stage.as_str());
            assert!(!stuck, "{id} was to be seen: {what}; {}", told(&rotation));
            Err(told(&rotation))
        })
        .await
    }

    /// The credential, with its versions.
    pub async fn credential(&self) -> v1::Credential {
        let kind = v1::ResourceKind::Credential.into();
        let request = || v1::GetResourceRequest { kind, name: CREDENTIAL.into() };
        let answer = self.asked("the credential", async || self.client.get_resource(request()).await).await;
        match answer.resource.and_then(|resource| resource.kind) {
            Some(v1::resource::Kind::Credential(credential)) => credential,
            other => panic!("not a credential: {other:?}"),
        }
    }

    /// The state of every version, by number.
    pub async fn versions(&self) -> Vec<(u32, String)> {
        let versions = self.credential().await.versions;
        versions.into_iter().map(|version| (version.number, version.state)).collect()
    }

    /// The current secret, as consumers read it.
    pub async fn secret(&self) -> Login {
        let request = || v1::GetSecretRequest { credential: CREDENTIAL.into() };
        let secret = self.asked("the secret", async || self.client.get_secret(request()).await).await;
        Login { version: secret.version, username: secret.username, password: secret.password }
    }

    /// What needs attention.
    pub async fn status(&self) -> v1::GetStatusResponse {
        self.asked("the status", async || self.client.get_status(v1::GetStatusRequest {}).await).await
    }

    /// Every event there is, in order.
    pub async fn events(&self) -> Vec<v1::Event> {
        let last = self.status().await.revision;
        let options = SubscribeOptions { all: true, ..SubscribeOptions::default() };
        let mut feed = self.client.subscribe(options);
        let mut events = Vec::new();
        while feed.progress().position() < last {
            let next = tokio::time::timeout(WITHIN, feed.next()).await.expect("the feed goes on");
            if let Update::Event(event) = next.expect("the feed can be read") {
                events.push(event);
            }
        }
        events
    }

    /// The kinds of all events and the versions they speak of, after the check that no revision is missing.
    pub async fn told_by_feed(&self) -> Vec<(v1::EventKind, u32)> {
        let events = self.events().await;
        let revisions: Vec<u64> = events.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, (1..).take(events.len()).collect::<Vec<u64>>(), "the feed has gaps");
        events.iter().map(|event| (event.kind(), event.version)).collect()
    }

    /// The audit records whose object is `object`, such as `rotation/rot-3`; all of them when it is empty.
    pub async fn audit(&self, object: &str) -> Vec<v1::AuditRecord> {
        self.asked("the audit log", async || {
            let mut stream = self.client.watch_audit(v1::WatchAuditRequest::default()).await?;
            let mut records = Vec::new();
            // A stream that breaks is read again from its beginning.
            while let Ok(message) = stream.message().await {
                let Some(message) = message else { return Ok(records) };
                records.extend(message.record);
            }
            Err(Error::Unknown { message: "the stream of audit records broke".into() })
        })
        .await
        .into_iter()
        .filter(|record| object.is_empty() || record.object == object)
        .collect()
    }

    /// Waits until all nodes that run have applied the same entries, and checks that their states are equal.
    ///
    /// # Panics
    ///
    /// When they are not.
    pub async fn assert_nodes_agree(&self) {
        let clients: Vec<Client> =
            self.cluster.running().into_iter().map(|id| self.cluster.client_of(id)).collect();
        let digests = eventually("all nodes at one entry", WITHIN, async || {
            let mut seen = Vec::new();
            for client in &clients {
                let node = client.get_cluster(v1::GetClusterRequest {}).await;
                let node = node.map_err(|error| error.to_string())?;
                seen.push((node.applied, node.digest));
            }
            let (applied, _) = seen[0];
            if seen.iter().all(|(other, _)| *other == applied) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await;
        assert!(digests.iter().all(|node| *node == digests[0]), "states differ: {digests:?}");
    }

    /// Asks until the cluster answers: between two leaders, and while a connection breaks, it may not.
    ///
    /// # Panics
    ///
    /// At once when the cluster refuses.
    pub async fn asked<T>(&self, what: &str, ask: impl AsyncFnMut() -> Result<T, Error>) -> T {
        granted(what, WITHIN, ask).await
    }
}

/// The only identity.
pub fn identity() -> v1::Identity {
    v1::Identity {
        name: "orders-service".into(),
        owner: "team-orders".into(),
        purpose: "reads and writes orders".into(),
        workload: "orders".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    }
}

/// The credential under a strategy, in no store but `builtin`.
pub fn credential(strategy: &Strategy) -> v1::Credential {
    v1::Credential {
        name: CREDENTIAL.into(),
        identity: identity().name,
        target: TARGET.into(),
        strategy: strategy.as_str().into(),
        usernames: strategy.usernames().into_iter().map(str::to_owned).collect(),
        ..v1::Credential::default()
    }
}

/// A schedule that fires only when triggered.
pub fn schedule(policy: v1::RotationPolicy) -> v1::Schedule {
    let half_a_year_on = (now_ms() + SELDOM_MS / 2) % SELDOM_MS;
    let timing = v1::Timing { every_ms: SELDOM_MS, phase_ms: half_a_year_on, ..v1::Timing::default() };
    v1::Schedule {
        name: CREDENTIAL.into(),
        credential: CREDENTIAL.into(),
        timing: Some(timing),
        policy: Some(policy),
        ..v1::Schedule::default()
    }
}

/// The store `aws`.
pub fn aws_store(moto: &Moto) -> v1::Store {
    let key = || "testing".to_owned();
    v1::Store {
        name: "aws".into(),
        kind: "aws-secrets-manager".into(),
        params: [("region".into(), "us-east-1".into()), ("endpoint_url".into(), moto.endpoint())].into(),
        access: [("access_key_id".into(), key()), ("secret_access_key".into(), key())].into(),
        has_access: false,
    }
}

/// A rotation in words, with its history.
pub fn told(rotation: &v1::Rotation) -> String {
    let passages = rotation.history.iter().map(|passage| format!("\n  {}: {}", passage.stage, passage.note));
    format!(
        "it is in `{}` after {} failed attempts ({}), attempt by {:?}, waiting for {:?}:{}",
        rotation.stage,
        rotation.failed_attempts,
        rotation.failure,
        rotation.attempt_node,
        rotation.waiting_for,
        passages.collect::<String>()
    )
}

/// How often `stage` is in a rotation's history with a note that begins so.
pub fn passages(rotation: &v1::Rotation, stage: &str, note: &str) -> usize {
    rotation.history.iter().filter(|passage| passage.stage == stage && passage.note.starts_with(note)).count()
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_millis()).expect("the clock is not far ahead")
}
