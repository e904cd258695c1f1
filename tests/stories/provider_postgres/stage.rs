//! Where the PostgreSQL stories play, and how they read an outcome.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use harness::{Postgres, Proxy, eventually};
use model::{
    attempt::{FailureClass, Liveness, Step, StepOutcome},
    credential::Strategy,
    name::CredentialName,
    sealed::associated,
    target::{SecretPolicy, Target},
};
use secrecy::SecretString;
use tokio_postgres::Client;
use workers::{
    DataKey, Login, Password, Task, perform,
    task::{Grant, Held, Rotation, Subject},
};

pub const WITHIN: Duration = Duration::from_secs(60);
pub const SOON: Duration = Duration::from_secs(60);

/// A server, an administrator without superuser rights, roles to rotate, and a proxy on the way.
pub struct Stage {
    pub postgres: Postgres,
    pub proxy: Proxy,
    pub target: Target,
    pub key: Arc<DataKey>,
}

const ADMIN_PASSWORD: &str = "the-administrator";

impl Stage {
    pub async fn new() -> Self {
        let postgres = Postgres::start().await;
        let setup = format!(
            "CREATE ROLE revolve LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}'; \
             GRANT pg_signal_backend, pg_read_all_stats TO revolve; CREATE ROLE orders; \
             CREATE ROLE app LOGIN IN ROLE orders; CREATE ROLE app_a IN ROLE orders; CREATE ROLE app_b IN ROLE orders"
        );
        postgres.admin().await.batch_execute(&setup).await.unwrap();
        let proxy = Proxy::start(postgres.address()).await;
        let params = [
            ("host", "127.0.0.1".to_owned()),
            ("port", proxy.port().to_string()),
            ("admin_user", "revolve".to_owned()),
            ("connect_timeout", "5s".to_owned()),
        ];
        let target = Target {
            name: "orders".parse().unwrap(),
            provider: "postgres".into(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into(),
            admin: None,
            secrets: SecretPolicy::default(),
            break_glass_roles: vec!["orders".into()],
        };
        workers::provider::check(&target).unwrap();
        Self { postgres, proxy, target, key: Arc::new(DataKey::generate(1)) }
    }

    pub fn single(&self) -> Rotation {
        rotation(Strategy::SingleUser { username: "app".into() })
    }

    pub fn alternating(&self) -> Rotation {
        rotation(Strategy::AlternatingUsers { usernames: ["app_a".into(), "app_b".into()] })
    }

    pub async fn prepared(&self, run: &Rotation, current: Option<&Held>, number: u32) -> Held {
        let prepare = Rotation { next_version: number, current: current.cloned(), ..run.clone() };
        let prepared = self.perform(Step::Prepare, &prepare).await;
        let StepOutcome::Prepared { username, sealed } = prepared else { panic!("{prepared:?}") };
        let password = self.key.open(&sealed, &associated::version(&run.credential, number)).unwrap();
        Held { number, login: Login::new(username, password) }
    }

    pub async fn introduced(&self, run: &Rotation, current: Option<&Held>, number: u32) -> Held {
        let held = self.prepared(run, current, number).await;
        let run = Rotation { candidate: Some(held.clone()), current: current.cloned(), ..run.clone() };
        for step in [Step::Install, Step::Verify, Step::Publish] {
            note(&self.perform(step, &run).await);
        }
        held
    }

    /// A consumer's session, past the proxy.
    pub async fn session(&self, held: &Held) -> Client {
        let login = &held.login;
        self.postgres.client(&login.username, login.password.expose(), "postgres").await.unwrap()
    }

    /// Puts a rule before all others in `pg_hba.conf`, and waits until new sessions are let in by it.
    pub async fn rule(&self, rule: &str) {
        let path = self.postgres.folder().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&path).unwrap();
        let loaded = async || -> String {
            let row = self.postgres.admin().await.query_one("SELECT pg_conf_load_time()::text", &[]).await;
            row.unwrap().get(0)
        };
        let before = loaded().await;
        std::fs::write(&path, format!("{rule}\n{rules}")).unwrap();
        self.postgres.admin().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        eventually("the rule to hold", SOON, async || loaded().await != before).await;
    }

    /// Makes the server offer TLS as `host`, with a certificate that is its own authority: the file's path.
    pub async fn speak_tls(&self, host: &str) -> PathBuf {
        let data = self.postgres.folder().join("data");
        let owner = std::fs::metadata(&data).unwrap();
        let (certificate, key) = certificate(host);
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let admin = self.postgres.admin().await;
        admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        eventually("the server to offer TLS", SOON, async || {
            let row = self.postgres.admin().await.query_one("SHOW ssl", &[]).await.unwrap();
            row.get::<_, String>(0) == "on"
        })
        .await;
        data.join("server.crt")
    }

    pub fn task(&self, step: Step, subject: Subject) -> Task {
        let admin = Some(Password::from(SecretString::from(ADMIN_PASSWORD)));
        Task {
            step,
            subject,
            target: self.target.clone(),
            admin,
            data_key: Arc::clone(&self.key),
            failures: 0,
        }
    }

    pub async fn perform(&self, step: Step, rotation: &Rotation) -> StepOutcome {
        perform(&self.task(step, Subject::Rotation(rotation.clone())), WITHIN).await
    }

    pub async fn grant(&self, step: Step, grant: &Grant) -> StepOutcome {
        perform(&self.task(step, Subject::Grant(grant.clone())), WITHIN).await
    }
}

fn rotation(strategy: Strategy) -> Rotation {
    Rotation {
        credential: "orders-db".parse::<CredentialName>().unwrap(),
        strategy,
        next_version: 1,
        candidate: None,
        current: None,
        retiring: Vec::new(),
        survivor: None,
        installed_by: None,
        placements: Vec::new(),
    }
}

/// A certificate for `host`, its own authority, and its key.
pub fn certificate(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

pub async fn alive(client: &Client) -> bool {
    client.simple_query("SELECT 1").await.is_ok()
}

/// The note of a step that was done.
pub fn note(outcome: &StepOutcome) -> &str {
    let StepOutcome::Done { note } = outcome else { panic!("not done: {outcome:?}") };
    note
}

pub fn seen(outcome: &StepOutcome) -> (Liveness, Liveness) {
    let StepOutcome::Probed(probed) = outcome else { panic!("not probed: {outcome:?}") };
    (probed.candidate, probed.current)
}

pub fn class(outcome: &StepOutcome) -> FailureClass {
    let StepOutcome::Failed { failure, .. } = outcome else { panic!("not failed: {outcome:?}") };
    failure.class
}
