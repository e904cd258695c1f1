//! Somebody who looks at the server all the time: which passwords there are, and that one of them is always in use.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::Postgres;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{Login, ROLES, Stage};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// The role with which a verifier is tried out; it is gone before anybody looks at the roles.
const STAND_IN: &str = "stand_in";

/// The verifiers of the application roles that may log in, by role.
type Verifiers = BTreeSet<(String, String)>;

/// Looks at the application roles all the time.
#[derive(Debug)]
pub struct Witness {
    end: oneshot::Sender<()>,
    task: JoinHandle<Verifiers>,
}

impl Witness {
    /// Begins to look.
    pub async fn begin(postgres: &Postgres) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(watch(postgres.admin().await, ended));
        Self { end, task }
    }

    /// Stops looking, and checks what was seen against all versions there were: at every look some role could log
    /// in, and every password at any look was that of a version.
    ///
    /// # Panics
    ///
    /// When it was not so.
    pub async fn confirm(self, postgres: &Postgres, versions: &[Login]) {
        drop(self.end);
        let seen = self.task.await.unwrap_or_else(|error| panic!("the witness: {error}"));
        let admin = postgres.admin().await;
        for (role, verifier) in seen {
            let mut known = false;
            for login in versions.iter().filter(|login| login.username == role) {
                known |= is_of(postgres, &admin, &verifier, &login.password).await;
            }
            assert!(known, "`{role}` had a password that is of none of {versions:?}");
        }
    }
}

async fn watch(admin: Client, mut ended: oneshot::Receiver<()>) -> Verifiers {
    let mut all = Verifiers::new();
    while let Err(oneshot::error::TryRecvError::Empty) = ended.try_recv() {
        let seen = verifiers(&admin).await;
        assert!(!seen.is_empty(), "at this moment no version logs in");
        all.extend(seen);
        tokio::time::sleep(PAUSE).await;
    }
    all
}

async fn verifiers(admin: &Client) -> Verifiers {
    let query = "SELECT rolname::text, rolpassword FROM pg_authid \
        WHERE rolcanlogin AND rolpassword IS NOT NULL AND rolname LIKE 'app%'";
    let rows = admin.query(query, &[]).await.expect("the superuser may read the verifiers");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Whether a verifier is that of a password: a SCRAM verifier is not bound to its role, so another may carry it.
async fn is_of(postgres: &Postgres, admin: &Client, verifier: &str, password: &str) -> bool {
    let create = format!("CREATE ROLE {STAND_IN} LOGIN PASSWORD '{verifier}'");
    admin.batch_execute(&create).await.expect("a verifier is taken as a password");
    let login = Login { version: 0, username: STAND_IN.into(), password: password.into() };
    let works = login.works(postgres).await;
    admin.batch_execute(&format!("DROP ROLE {STAND_IN}")).await.expect("a role that owns nothing can go");
    works
}

impl Stage {
    /// Checks that the server is as it should be between rotations: no role that was not there before, the current
    /// version logs in, and no other application role has a password or may log in with one.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub async fn assert_only_expected_roles_and_one_live_password(&self) {
        assert_eq!(self.postgres.roles().await, ROLES);
        let current = self.secret().await;
        assert!(current.works(&self.postgres).await, "{current:?} is current and does not log in");
        let seen = verifiers(&self.postgres.admin().await).await;
        let roles: Vec<&str> = seen.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(roles, [current.username.as_str()], "roles with a live password");
    }
}
