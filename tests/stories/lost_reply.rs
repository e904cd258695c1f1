//! The reply to a change is lost after PostgreSQL has committed it: nobody knows what happened, a probe finds out,
//! and there is never a second candidate.

use client::v1;
use harness::proxy::Reply;
use model::credential::Strategy;

use super::stage::{Setup, Stage, Witness, alternating_users, passages, single_user, told};

#[tokio::test]
async fn one_role_whose_change_was_not_confirmed_is_probed_and_not_changed_again() {
    loses_the_reply(&single_user(), "app").await;
}

#[tokio::test]
async fn the_role_at_rest_whose_change_was_not_confirmed_is_probed_and_not_changed_again() {
    loses_the_reply(&alternating_users(), "app_b").await;
}

async fn loses_the_reply(strategy: &Strategy, changed: &str) {
    let setup = Setup { proxy: true, ..Setup::default() };
    let stage = Stage::start(setup, strategy, v1::RotationPolicy::default()).await;
    let first = stage.secret().await;
    let statement = format!("ALTER ROLE \"{changed}\" LOGIN PASSWORD");
    let before = stage.postgres.logged(&statement);
    let witness = Witness::begin(&stage.postgres).await;

    stage.proxy().lose_reply(&statement, Reply::Committed);
    let rotation = stage.rotate().await;

    assert_eq!(stage.proxy().lost(), 1);
    assert_eq!(passages(&rotation, "install", "outcome unknown"), 1, "{}", told(&rotation));
    assert_eq!(passages(&rotation, "uncertain", "candidate live"), 1, "{}", told(&rotation));
    assert_eq!(passages(&rotation, "prepare", "candidate sealed"), 1, "{}", told(&rotation));
    assert_eq!(stage.postgres.logged(&statement), before + 1, "the role was changed once");
    let second = stage.secret().await;
    assert_eq!(second.version, first.version + 1, "there is one new version");
    assert_eq!(stage.versions().await, [(1, "destroyed".into()), (2, "active".into())]);
    assert!(!first.works(&stage.postgres).await);
    witness.confirm(&stage.postgres, &[first, second]).await;
    stage.assert_only_expected_roles_and_one_live_password().await;
}
