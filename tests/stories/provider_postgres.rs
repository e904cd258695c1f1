//! The PostgreSQL provider at a real server: what each step does to roles, sessions and logins, and what it makes of
//! a lost reply, a missing grant, and a server that does not look at passwords.

mod stage;

use std::path::Path;

use harness::{
    canary::{self, Canary},
    eventually,
    proxy::Reply,
};
use model::{
    attempt::{FailureClass, Liveness, Step, StepOutcome},
    name::GrantId,
    sealed::associated,
    time::Time,
};
use secrecy::SecretString;
use stage::{SOON, Stage, WITHIN, alive, certificate, class, note, seen};
use workers::{
    Login, Password, perform,
    task::{Grant, Held, Rotation, Subject},
};

#[tokio::test]
async fn two_roles_in_turn_overlap_until_the_old_one_is_retired_severed_and_proven_refused() {
    let stage = Stage::new().await;
    let run = stage.alternating();
    let first = stage.introduced(&run, None, 1).await;
    let old = stage.session(&first).await;
    let second = stage.introduced(&run, Some(&first), 2).await;
    assert_eq!((first.login.username.as_str(), second.login.username.as_str()), ("app_a", "app_b"));
    let new = stage.session(&second).await;
    assert!(alive(&old).await && alive(&new).await, "both live during the overlap");

    let ending = Rotation {
        candidate: Some(second.clone()),
        current: Some(first.clone()),
        retiring: vec![first.clone()],
        survivor: Some(second.clone()),
        ..run
    };
    let live = stage.perform(Step::ProveRefused, &ending).await;
    assert!(matches!(live, StepOutcome::StillLive { .. }), "{live:?}");
    note(&stage.perform(Step::Retire, &ending).await);
    assert!(alive(&old).await, "PostgreSQL keeps sessions when a role is closed");
    assert_eq!(note(&stage.perform(Step::Sever, &ending).await), "1 session cut");
    assert!(!alive(&old).await);
    note(&stage.perform(Step::ProveRefused, &ending).await);
    for step in [Step::Install, Step::Verify, Step::Publish, Step::Retire, Step::Sever, Step::ProveRefused] {
        note(&stage.perform(step, &ending).await);
    }
    assert!(alive(&new).await, "steps done twice do no harm");
}

#[tokio::test]
async fn one_role_takes_a_new_password_and_sessions_of_the_old_one_end() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let old = stage.session(&first).await;
    let second = stage.introduced(&run, Some(&first), 2).await;
    let ending = Rotation {
        candidate: Some(second.clone()),
        current: Some(first.clone()),
        retiring: vec![first.clone()],
        survivor: Some(second.clone()),
        ..run.clone()
    };
    note(&stage.perform(Step::Retire, &ending).await);
    assert_eq!(note(&stage.perform(Step::Sever, &ending).await), "1 session cut");
    assert!(!alive(&old).await);
    note(&stage.perform(Step::ProveRefused, &ending).await);
    stage.session(&second).await;

    // A revocation leaves nobody, and the next installation brings the role back.
    let revoked = Rotation { retiring: vec![second.clone()], survivor: None, ..run.clone() };
    for step in [Step::Retire, Step::Sever, Step::ProveRefused] {
        note(&stage.perform(step, &revoked).await);
    }
    let third = stage.introduced(&run, None, 3).await;
    assert!(alive(&stage.session(&third).await).await);
}

#[tokio::test]
async fn sessions_opened_after_the_installation_are_spared_when_its_instant_is_known() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let old = stage.session(&first).await;
    let second = stage.introduced(&run, Some(&first), 2).await;
    let admin = stage.postgres.admin().await;
    let now = "SELECT ceil(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let installed_by: i64 = admin.query_one(now, &[]).await.unwrap().get(0);
    eventually("the server's clock to move on", SOON, async || {
        admin.query_one(now, &[]).await.unwrap().get::<_, i64>(0) > installed_by
    })
    .await;
    let new = stage.session(&second).await;
    let ending = Rotation {
        retiring: vec![first],
        survivor: Some(second),
        installed_by: Some(Time(installed_by.unsigned_abs())),
        ..run
    };
    assert_eq!(note(&stage.perform(Step::Sever, &ending).await), "1 session cut");
    assert!(!alive(&old).await && alive(&new).await);
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_a_probe_tells() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let second = stage.prepared(&run, Some(&first), 2).await;
    let install = Rotation { candidate: Some(second), current: Some(first), ..run };
    stage.proxy.lose_reply("ALTER ROLE", Reply::Committed);
    let outcome = stage.perform(Step::Install, &install).await;
    assert!(matches!(outcome, StepOutcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(stage.proxy.lost(), 1);
    let probed = stage.perform(Step::Probe, &install).await;
    assert_eq!(seen(&probed), (Liveness::Live, Liveness::Refused));
    note(&stage.perform(Step::Install, &install).await);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_was_asked_for_nothing() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let install = Rotation { candidate: Some(first.clone()), retiring: vec![first], ..run };
    stage.proxy.refuse();
    for step in [Step::Install, Step::Verify, Step::Retire, Step::Sever, Step::ProveRefused] {
        assert_eq!(class(&stage.perform(step, &install).await), FailureClass::Unreachable, "{step:?}");
    }
    assert_eq!(seen(&stage.perform(Step::Probe, &install).await), (Liveness::Unknown, Liveness::Absent));
    stage.proxy.blackhole();
    assert_eq!(class(&stage.perform(Step::Install, &install).await), FailureClass::Unreachable);
    stage.proxy.pass();
    note(&stage.perform(Step::Install, &install).await);
}

#[tokio::test]
async fn what_the_administrator_lacks_is_named_before_anything_is_changed() {
    let stage = Stage::new().await;
    let run = stage.alternating();
    let candidate = stage.prepared(&run, None, 1).await;
    let install = Rotation { candidate: Some(candidate), ..run };
    let admin = stage.postgres.admin().await;
    for (spoil, named, repair) in [
        (
            "REVOKE pg_signal_backend FROM revolve",
            "GRANT pg_signal_backend TO",
            "GRANT pg_signal_backend TO revolve",
        ),
        (
            "REVOKE pg_read_all_stats FROM revolve",
            "GRANT pg_read_all_stats",
            "GRANT pg_read_all_stats TO revolve",
        ),
        ("ALTER ROLE revolve NOCREATEROLE", "CREATEROLE", "ALTER ROLE revolve CREATEROLE"),
        ("REVOKE orders FROM app_b", "GRANT \"orders\" TO \"app_b\"", "GRANT orders TO app_b"),
        ("ALTER ROLE app_b CREATEDB", "alike", "ALTER ROLE app_b NOCREATEDB"),
        (
            "ALTER ROLE app_b VALID UNTIL '2001-01-01'",
            "VALID UNTIL",
            "ALTER ROLE app_b VALID UNTIL 'infinity'",
        ),
        ("ALTER ROLE app_b RENAME TO gone", "does not exist", "ALTER ROLE gone RENAME TO app_b"),
    ] {
        admin.batch_execute(spoil).await.unwrap();
        let outcome = stage.perform(Step::Install, &install).await;
        let StepOutcome::Failed { failure, .. } = &outcome else { panic!("{spoil}: {outcome:?}") };
        assert_eq!(failure.class, FailureClass::RejectedByTarget, "{spoil}: {failure:?}");
        assert!(failure.message.contains(named), "{spoil}: {failure:?}");
        admin.batch_execute(repair).await.unwrap();
    }
    note(&stage.perform(Step::Install, &install).await);

    let mut wrong = stage.task(Step::Install, Subject::Rotation(install));
    wrong.admin = Some(Password::from(SecretString::from("wrong")));
    assert_eq!(class(&perform(&wrong, WITHIN).await), FailureClass::WrongCredential);
}

#[tokio::test]
async fn a_server_that_does_not_look_at_passwords_proves_nothing() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let both = Rotation { candidate: Some(first.clone()), retiring: vec![first], ..run };

    stage.rule("host all app 127.0.0.1/32 trust").await;
    for step in [Step::Install, Step::Verify] {
        let outcome = stage.perform(step, &both).await;
        assert_eq!(class(&outcome), FailureClass::Permanent, "{outcome:?}");
        assert!(format!("{outcome:?}").contains("accepts any password"), "{outcome:?}");
    }
    // Turned away by address: that says nothing of the password.
    stage.rule("host all app 127.0.0.1/32 reject").await;
    let outcome = stage.perform(Step::ProveRefused, &both).await;
    assert_eq!(class(&outcome), FailureClass::RejectedByTarget, "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_is_read_or_the_channel_is_bound_and_nothing_else_is_trusted() {
    let stage = Stage::new().await;
    let first = stage.introduced(&stage.single(), None, 1).await;
    let both = Rotation { candidate: Some(first), ..stage.single() };
    let own = stage.speak_tls("localhost").await;
    let foreign = stage.postgres.folder().join("foreign.pem");
    std::fs::write(&foreign, certificate("localhost").0).unwrap();

    let verified = async |host: &str, tls: &str, ca_file: Option<&Path>| {
        let mut task = stage.task(Step::Verify, Subject::Rotation(both.clone()));
        let mut set = |name: &str, value: &str| task.target.params.insert(name.to_owned(), value.to_owned());
        set("host", host);
        set("port", &stage.postgres.port().to_string());
        set("tls", tls);
        ca_file.map(|path| set("ca_file", path.to_str().unwrap()));
        perform(&task, WITHIN).await
    };
    note(&verified("localhost", "verify", Some(&own)).await);
    note(&verified("127.0.0.1", "require", None).await);
    for (host, ca_file) in [("127.0.0.1", &own), ("localhost", &foreign)] {
        let outcome = verified(host, "verify", Some(ca_file)).await;
        assert_eq!(class(&outcome), FailureClass::Permanent, "{host}: {outcome:?}");
    }
    stage.rule("hostnossl all app 127.0.0.1/32 reject").await;
    let outcome = verified("localhost", "disable", None).await;
    assert_eq!(class(&outcome), FailureClass::RejectedByTarget, "{outcome:?}");
    note(&verified("localhost", "verify", Some(&own)).await);

    // Without SCRAM the channel cannot be bound: whoever answers has shown nothing.
    stage.rule("hostssl all app 127.0.0.1/32 password").await;
    let outcome = verified("127.0.0.1", "require", None).await;
    assert_eq!(class(&outcome), FailureClass::Permanent, "{outcome:?}");
}

#[tokio::test]
async fn a_password_that_is_accepted_without_a_session_is_not_dead() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let both = Rotation { candidate: Some(first.clone()), retiring: vec![first], ..run };
    let admin = stage.postgres.admin().await;
    for (spoil, repair) in [
        ("ALTER ROLE app CONNECTION LIMIT 0", "ALTER ROLE app CONNECTION LIMIT -1"),
        ("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC", "GRANT CONNECT ON DATABASE postgres TO PUBLIC"),
    ] {
        // The administrator keeps its own right to connect.
        admin.batch_execute("GRANT CONNECT ON DATABASE postgres TO revolve").await.unwrap();
        admin.batch_execute(spoil).await.unwrap();
        let outcome = stage.perform(Step::ProveRefused, &both).await;
        assert!(matches!(outcome, StepOutcome::StillLive { .. }), "{spoil}: {outcome:?}");
        assert_eq!(class(&stage.perform(Step::Verify, &both).await), FailureClass::RejectedByTarget);
        admin.batch_execute(repair).await.unwrap();
    }
    note(&stage.perform(Step::Verify, &both).await);
}

#[tokio::test]
async fn a_rollback_brings_the_old_password_back_and_spares_its_sessions() {
    let stage = Stage::new().await;
    for run in [stage.single(), stage.alternating()] {
        let first = stage.introduced(&run, None, 1).await;
        let old = stage.session(&first).await;
        let second = stage.introduced(&run, Some(&first), 2).await;
        let back = Rotation { candidate: Some(second), current: Some(first.clone()), ..run };
        for _ in 0..2 {
            note(&stage.perform(Step::Rollback, &back).await);
            assert_eq!(seen(&stage.perform(Step::Probe, &back).await), (Liveness::Refused, Liveness::Live));
        }
        assert!(alive(&old).await);
    }
}

#[tokio::test]
async fn a_temporary_user_ends_by_the_servers_clock_and_its_things_stay() {
    let stage = Stage::new().await;
    let admin = stage.postgres.admin().await;
    admin.batch_execute("CREATE DATABASE elsewhere").await.unwrap();
    for database in ["postgres", "elsewhere"] {
        let (user, password) = (stage.postgres.superuser(), stage.postgres.password());
        let client = stage.postgres.client(user, password, database).await.unwrap();
        client.batch_execute("GRANT CREATE ON SCHEMA public TO orders").await.unwrap();
    }
    let mut grant =
        Grant { id: GrantId(7), role: "orders".into(), login: None, valid_until: Time(4_000_000_000_000) };
    let prepared = stage.grant(Step::Prepare, &grant).await;
    let StepOutcome::Prepared { username, sealed } = prepared else { panic!("{prepared:?}") };
    let password = stage.key.open(&sealed, &associated::grant(GrantId(7))).unwrap();
    let login = Login::new(username.clone(), password);
    grant.login = Some(login.clone());
    note(&stage.grant(Step::Install, &grant).await);
    note(&stage.grant(Step::Install, &grant).await);
    let here = stage.session(&Held { number: 1, login: login.clone() }).await;
    here.batch_execute("CREATE TABLE public.made_here ()").await.unwrap();
    let there = stage.postgres.client(&username, login.password.expose(), "elsewhere").await.unwrap();
    there.batch_execute("CREATE TABLE public.made_there ()").await.unwrap();

    note(&stage.grant(Step::Retire, &grant).await);
    assert_eq!(note(&stage.grant(Step::Sever, &grant).await), "2 sessions cut");
    assert!(!alive(&here).await && !alive(&there).await);
    for step in
        [Step::ProveRefused, Step::Remove, Step::Remove, Step::Retire, Step::Sever, Step::ProveRefused]
    {
        note(&stage.grant(step, &grant).await);
    }
    assert!(!stage.postgres.roles().await.contains(&username));
    let kept = "SELECT count(*) FROM pg_tables WHERE tablename = 'made_here'";
    assert_eq!(admin.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 1);

    // Nobody ends it: the server itself does.
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 1500";
    let soon: i64 = admin.query_one(clock, &[]).await.unwrap().get(0);
    grant.valid_until = Time(soon.unsigned_abs());
    note(&stage.grant(Step::Install, &grant).await);
    eventually("the temporary user to be refused", SOON, async || {
        matches!(stage.grant(Step::ProveRefused, &grant).await, StepOutcome::Done { .. })
    })
    .await;
    let other = Grant { login: Some(Login::new("app", SecretString::from("x"))), ..grant };
    assert_eq!(class(&stage.grant(Step::Remove, &other).await), FailureClass::Permanent);
    assert!(stage.postgres.roles().await.contains(&"app".to_owned()));
}

#[tokio::test]
async fn no_password_reaches_the_servers_log() {
    let stage = Stage::new().await;
    let run = stage.single();
    let first = stage.introduced(&run, None, 1).await;
    let second = stage.introduced(&run, Some(&first), 2).await;
    let canaries = [&first, &second].map(|held| Canary::new("password", held.login.password.expose()));
    // The log holds every statement.
    let found = canary::search(&canaries, stage.postgres.folder()).unwrap();
    assert!(found.is_empty(), "{found:?}");
    let control = [Canary::new("statement", "ALTER ROLE \"app\"")];
    assert!(!canary::search(&control, stage.postgres.folder()).unwrap().is_empty());
}
