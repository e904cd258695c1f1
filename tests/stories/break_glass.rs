//! Break-glass ends by itself: whatever happens to the leader, and even while the whole cluster is down.

use client::{Client, v1};
use harness::{eventually, granted};
use secrecy::SecretString;

use super::stage::{GROUP, Login, ROLES, Setup, Stage, TARGET, WITHIN, alive, alternating_users};

/// Long enough for a slow machine to log in before it is over, short enough to wait for.
const DURATION_MS: u64 = 25_000;

#[tokio::test]
async fn a_grant_ends_at_its_expiry_although_the_leader_is_killed() {
    let mut stage = stage().await;
    let people = People::of(&stage).await;
    let (id, login) = people.granted().await;
    assert!(login.works(&stage.postgres).await);
    let session = login.session(&stage.postgres).await;
    let member: bool = session
        .query_one(&format!("SELECT pg_has_role(current_user, '{GROUP}', 'MEMBER')"), &[])
        .await
        .unwrap()
        .get(0);
    assert!(member, "the temporary role is a member of `{GROUP}`");
    assert_eq!(
        code(people.alice.reveal_grant(v1::RevealGrantRequest { id: id.clone() }).await),
        "already_revealed"
    );

    let leader = stage.cluster.leader().await;
    stage.cluster.kill_node(leader);
    let over = ended(&stage, &people.bob, &id).await;
    assert_eq!(over.end_reason, "expired");
    assert!(over.refused_ms >= over.expires_ms, "the refusal was proven after the end");
    assert!(!alive(&session).await, "its session was cut");
    assert!(!login.works(&stage.postgres).await);
    assert_eq!(stage.postgres.roles().await, ROLES, "the temporary role is gone");

    let told = stage.events().await;
    let ends: Vec<_> = told.iter().filter(|event| event.grant == id).collect();
    assert_eq!(ends.len(), 1, "its end was published once");
    assert_eq!(
        (ends[0].kind(), ends[0].reason_code.as_str()),
        (v1::EventKind::GrantEnded, "break-glass-ended")
    );

    let review = |note: &str| v1::ReviewGrantRequest { id: id.clone(), note: note.into() };
    assert_eq!(code(people.alice_approving.review_grant(review("fine")).await), "own_grant");
    people.bob.review_grant(review("statements match the ticket")).await.unwrap();
    let reviewed = stage.asked("the grant", async || grant(&people.bob, &id).await).await;
    assert_eq!(reviewed.stage, "reviewed");
}

#[tokio::test]
async fn a_grant_is_refused_by_the_target_while_the_whole_cluster_is_down_and_removed_when_it_is_back() {
    let mut stage = stage().await;
    let people = People::of(&stage).await;
    let (id, login) = people.granted().await;
    let session = login.session(&stage.postgres).await;
    for node in stage.cluster.running() {
        stage.cluster.kill_node(node);
    }

    eventually("the target itself to refuse the login", WITHIN, async || !login.works(&stage.postgres).await)
        .await;
    assert!(stage.postgres.roles().await.contains(&login.username), "nobody was there to remove the role");
    assert!(alive(&session).await, "VALID UNTIL refuses logins and cuts no session");

    for node in 1..=3 {
        stage.cluster.start_node(node);
    }
    stage.cluster.leader().await;
    let over = ended(&stage, &people.bob, &id).await;
    assert_eq!(over.end_reason, "expired");
    assert!(!alive(&session).await);
    assert_eq!(stage.postgres.roles().await, ROLES);
}

#[tokio::test]
async fn a_grant_can_be_denied_ended_and_never_approved_by_its_requester() {
    let stage = stage().await;
    let people = People::of(&stage).await;
    let approve = |id: &str| v1::ApproveGrantRequest { id: id.into() };

    let denied = people.request().await;
    assert_eq!(code(people.alice.approve_grant(approve(&denied)).await), "permission_denied", "an operator");
    assert_eq!(
        code(people.alice_approving.approve_grant(approve(&denied)).await),
        "own_grant",
        "the same person"
    );
    people
        .bob
        .deny_grant(v1::DenyGrantRequest { id: denied.clone(), reason: "not needed".into() })
        .await
        .unwrap();
    assert_eq!(code(people.bob.approve_grant(approve(&denied)).await), "wrong_stage");

    let (id, login) = people.granted().await;
    let session = login.session(&stage.postgres).await;
    assert_eq!(
        code(people.bob.reveal_grant(v1::RevealGrantRequest { id: id.clone() }).await),
        "not_the_requester"
    );
    people.alice.end_grant(v1::EndGrantRequest { id: id.clone(), reason: "done".into() }).await.unwrap();
    let over = ended(&stage, &people.bob, &id).await;
    assert_eq!(over.end_reason, "ended by alice");
    assert!(over.ended_ms < over.expires_ms && !alive(&session).await && !login.works(&stage.postgres).await);

    let too_long = v1::RequestGrantRequest { duration_ms: 4 * 3_600_000 + 1, ..wanted() };
    assert_eq!(code(people.alice.request_grant(too_long).await), "duration_out_of_bounds");
    let superuser = v1::RequestGrantRequest { role: "postgres".into(), ..wanted() };
    assert_eq!(code(people.alice.request_grant(superuser).await), "role_not_allowed");
}

/// Who takes part.
pub struct People {
    /// Asks.
    pub alice: Client,
    /// The same person with another token, which could approve others.
    pub alice_approving: Client,
    /// Decides and reviews.
    pub bob: Client,
}

impl People {
    /// Those who take part on this stage.
    pub async fn of(stage: &Stage) -> Self {
        let client = async |name: &str, principal: &str, role: &str| {
            let token: SecretString = stage.cluster.token(name, principal, role).await;
            stage.cluster.client(token)
        };
        Self {
            alice: client("alice", "alice", "operator").await,
            alice_approving: client("alice-approver", "alice", "approver").await,
            bob: client("bob", "bob", "approver").await,
        }
    }

    async fn request(&self) -> String {
        asked("a grant", async || self.alice.request_grant(wanted()).await).await.id
    }

    /// A grant in force, and the login it gives.
    pub async fn granted(&self) -> (String, Login) {
        let id = self.request().await;
        let approve = || v1::ApproveGrantRequest { id: id.clone() };
        asked("an approval", async || match self.bob.approve_grant(approve()).await {
            // The first try was carried out, and its answer lost.
            Err(error) if error.refused().is_some_and(|it| it.code == "wrong_stage") => Ok(()),
            answer => answer.map(drop),
        })
        .await;
        eventually("the grant to be active", WITHIN, async || {
            let grant = grant(&self.bob, &id).await.map_err(|error| error.to_string())?;
            if grant.stage == "active" { Ok(()) } else { Err(format!("{grant:?}")) }
        })
        .await;
        let reveal = || v1::RevealGrantRequest { id: id.clone() };
        let secret = asked("the secret", async || self.alice.reveal_grant(reveal()).await).await;
        (id, Login { version: 0, username: secret.username, password: secret.password })
    }
}

async fn stage() -> Stage {
    Stage::start(Setup::default(), &alternating_users(), v1::RotationPolicy::default()).await
}

fn wanted() -> v1::RequestGrantRequest {
    v1::RequestGrantRequest {
        target: TARGET.into(),
        role: GROUP.into(),
        duration_ms: DURATION_MS,
        ticket: "INC-4711".into(),
        reason: "orders are stuck".into(),
    }
}

async fn grant(client: &Client, id: &str) -> Result<v1::Grant, client::Error> {
    let answer = client.get_grant(v1::GetGrantRequest { id: id.into() }).await?;
    Ok(answer.grant.expect("the answer holds the grant"))
}

/// Asks until the cluster answers.
///
/// # Panics
///
/// At once when it refuses.
async fn asked<T>(what: &str, ask: impl AsyncFn() -> Result<T, client::Error>) -> T {
    granted(what, WITHIN, ask).await
}

/// The grant, once its end is proven and it waits for a review.
pub async fn ended(stage: &Stage, client: &Client, id: &str) -> v1::Grant {
    eventually("the grant to be over", WITHIN, async || {
        let grant = stage.asked("the grant", async || grant(client, id).await).await;
        if grant.stage == "awaiting-review" { Ok(grant) } else { Err(format!("{grant:?}")) }
    })
    .await
}

/// The code with which a call was refused.
fn code<T: std::fmt::Debug>(answer: Result<T, client::Error>) -> String {
    let error = answer.expect_err("it must be refused");
    error.refused().unwrap_or_else(|| panic!("not refused: {error:?}")).code.clone()
}
