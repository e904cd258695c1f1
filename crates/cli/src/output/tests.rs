use api::v1;

use super::*;
use crate::show::{Chain, Entry, Grant, Receipt, Resource, RevocationStatus, Rotation, Secret};

/// 2026-09-21T14:13:20Z.
const NOW: Time = Time(1_790_000_000_000);
const HOUR: u64 = 3_600_000;

fn output(format: Format) -> Output {
    Output { format, colour: false, live: false, now: NOW }
}

fn rotation() -> Rotation {
    Rotation::from(&v1::Rotation {
        id: "rot-7".into(),
        credential: "orders-db".into(),
        cause: "due".into(),
        from_version: 1,
        to_version: 2,
        stage: "drain".into(),
        started_ms: NOW.0 - 2 * HOUR,
        waiting_for: vec!["orders-api".into()],
        ..Default::default()
    })
}

fn schedule() -> Resource {
    let schedule = v1::Schedule {
        name: "orders-db".into(),
        credential: "orders-db".into(),
        timing: Some(v1::Timing { every_ms: 30 * 24 * HOUR, phase_ms: 90 * 60_000, ..Default::default() }),
        next_ms: NOW.0 + 216 * HOUR,
        ..Default::default()
    };
    Resource::new(&v1::Resource { kind: Some(v1::resource::Kind::Schedule(schedule)) }).unwrap()
}

fn status() -> v1::GetRevocationResponse {
    let row =
        v1::ReceiptStanding { revision: 12, required: true, deadline_ms: NOW.0 + HOUR, ..Default::default() };
    v1::GetRevocationResponse {
        revocation: Some(v1::Revocation {
            id: "rev-3".into(),
            subject: "version/orders-db@3".into(),
            reason_code: "key-compromise".into(),
            reason: "found in a log".into(),
            by: "ada".into(),
            at_ms: NOW.0 - 1_000,
            revisions: vec![12],
            ..Default::default()
        }),
        receipts: vec![
            v1::ReceiptStanding { consumer: "a".into(), enforced: true, received: true, ..row.clone() },
            v1::ReceiptStanding { consumer: "b".into(), delivered: true, overdue: true, ..row.clone() },
            v1::ReceiptStanding { consumer: "c".into(), failed: "no disk".into(), ..row.clone() },
            v1::ReceiptStanding { consumer: "d".into(), waived: true, ..row.clone() },
            v1::ReceiptStanding { consumer: "e".into(), ..row },
        ],
        evidence: vec![v1::Evidence {
            subject: "orders-db@3".into(),
            state: "revoked".into(),
            refused_ms: NOW.0,
        }],
    }
}

#[test]
fn a_table_has_heads_columns_two_apart_and_no_borders() {
    let text = output(Format::Table).render_list(&[rotation()]).unwrap();
    assert_eq!(
        text,
        "ID     CREDENTIAL  VERSIONS  STAGE  CAUSE  STARTED                        FAILED  WAITING FOR\n\
         rot-7  orders-db   v1→v2     drain  due    2026-09-21T12:13:20Z (2h ago)  0       orders-api\n"
    );
    let empty: [Rotation; 0] = [];
    assert_eq!(output(Format::Table).render_list(&empty).unwrap().lines().count(), 1, "heads alone");
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = output(Format::Table).render_list(&[rotation()]).unwrap();
    let coloured = Output { colour: true, ..output(Format::Table) }.render_list(&[rotation()]).unwrap();
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
}

#[test]
fn json_has_camel_case_fields_and_exact_instants() {
    let json: serde_json::Value =
        serde_json::from_str(&output(Format::Json).render_item(&rotation()).unwrap()).unwrap();
    assert_eq!(json["fromVersion"], 1);
    assert_eq!(json["started"], "2026-09-21T12:13:20.000Z");
    assert_eq!(json["ended"], serde_json::Value::Null);
    assert_eq!(json["waitingFor"][0], "orders-api");
}

#[test]
fn names_stand_alone_on_their_lines() {
    assert_eq!(output(Format::Name).render_list(&[rotation(), rotation()]).unwrap(), "rot-7\nrot-7\n");
}

#[test]
fn a_resource_is_shown_as_the_document_that_declares_it() {
    let yaml = output(Format::Yaml).render_item(&schedule()).unwrap();
    assert!(yaml.contains("every: 30d") && yaml.contains("phase: 1h 30m"), "{yaml}");
    let read = crate::resource::document::parse(&yaml, "x").unwrap();
    assert_eq!(read[0].name, "orders-db");
}

#[test]
fn for_people_a_document_says_how_far_away_its_instants_are() {
    let text = output(Format::Table).render_item(&schedule()).unwrap();
    assert!(text.contains("next: \"2026-09-30T14:13:20.000Z\"  (in 9d)"), "{text}");
}

#[test]
fn a_revocation_shows_each_consumer_and_the_evidence() {
    let found = status();
    let status = RevocationStatus::from(&found);
    let text = status.screen(&output(Format::Table));
    for line in ["ok", "overdue", "failed: no disk", "waived", "waiting", "acks outstanding"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.ends_with("evidence  orders-db@3  revoked  login refused 2026-09-21T14:13:20Z (now)\n"),
        "{text}"
    );
    assert_eq!(status.standing(), "rev-3: outstanding: b (12 overdue), c (12 failed), e (12 waiting)");
    assert!(!status.is_acked());
}

#[test]
fn the_feed_in_json_is_one_object_a_line_with_its_type() {
    let event = client::Update::Event(v1::Event { revision: 4, grant: "bg-7".into(), ..Default::default() });
    let line = json_line(&Entry::from(&event)).unwrap();
    assert!(line.starts_with(r#"{"type":"event","revision":4,"previousRevision":0,"#), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_secret_is_shown_where_asked_for_and_nowhere_else() {
    let secret = Secret {
        version: None,
        username: "bg_7".into(),
        password: "canary-7f3a".to_owned().into(),
        expires: None,
        connection: [("host".to_owned(), "db".to_owned())].into(),
    };
    assert_eq!(secret.lines(), "username=bg_7\npassword=canary-7f3a\nhost=db\n");
    assert!(json(&secret).unwrap().contains("canary-7f3a"));
    assert!(!format!("{secret:?}").contains("canary-7f3a"));
}

#[test]
fn a_broken_chain_is_said_loudly() {
    let answer = v1::VerifyAuditResponse { problem: "record 3 was changed".into(), ..Default::default() };
    assert!(Chain::from(&answer).line().starts_with("BROKEN"));
}

#[test]
fn every_view_has_a_cell_for_every_head() {
    fn check<T: Show>(item: &T) {
        assert_eq!(item.cells(NOW).len(), T::HEADS.len());
        assert_eq!(item.wide(NOW).len(), T::WIDE.len());
    }
    check(&rotation());
    check(&schedule());
    check(&Grant::from(&v1::Grant::default()));
    check(&Receipt::from(&v1::ReceiptStanding::default()));
    check(&Entry::from(&client::Update::Event(v1::Event::default())));
    check(&crate::show::Token::from(&v1::Token::default()));
    check(&crate::show::Audit::from(&v1::AuditRecord::default()));
    check(&crate::show::Change::from(&v1::ResourceChange::default()));
    check(&crate::show::Revocation::from(&v1::Revocation::default()));
}
