//! A stage without PostgreSQL: a cluster, the demo service, and any number of credentials on it, each with a schedule
//! of the same name. A rotation takes a moment, so that many schedules can be watched.

use std::time::{SystemTime, UNIX_EPOCH};

use client::{Client, v1};
use harness::{Cluster, eventually};
use secrecy::SecretString;
use tokio::net::TcpListener;
use workers::{Login, demo::Service};

use super::{WITHIN, identity, told};

const TARGET: &str = "demo";
const ADMIN: &str = "admin";
/// The password of the service's administrator.
pub const ADMIN_PASSWORD: &str = "the-administrator-of-the-demo";

/// A cluster and a demo service.
pub struct DemoStage {
    /// A client of all nodes, as admin.
    pub client: Client,
    /// The nodes.
    pub cluster: Cluster,
    service: Service,
}

impl DemoStage {
    /// A stage on which nothing is declared yet.
    pub async fn start(mut setup: harness::Setup) -> Self {
        // Several clusters may run at once: what their nodes do in detail is for other stories to search.
        setup.environment.push(("REVOLVE_LOG".into(), "info".into()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = Login::new(ADMIN, SecretString::from(ADMIN_PASSWORD));
        let service = Service::start(listener, &admin).unwrap();
        let cluster = Cluster::start_with(setup).await;
        Self { client: cluster.admin(), cluster, service }
    }

    /// Declares a credential and its schedule for each name and timing.
    pub async fn declare(&self, timings: &[(String, v1::Timing)]) {
        let mut resources = vec![identity().into(), self.target().into()];
        for (name, timing) in timings {
            let credential = v1::Credential {
                name: name.clone(),
                identity: identity().name,
                target: TARGET.into(),
                strategy: "overlapping".into(),
                usernames: vec![name.clone()],
                ..v1::Credential::default()
            };
            let schedule = v1::Schedule {
                name: name.clone(),
                credential: name.clone(),
                timing: Some(timing.clone()),
                ..v1::Schedule::default()
            };
            resources.extend([credential.into(), schedule.into()]);
        }
        let request = || v1::ApplyRequest { resources: resources.clone(), dry_run: false };
        let declared = async || self.client.apply(request()).await.map(drop);
        eventually("the schedules to be declared", WITHIN, declared).await;
    }

    /// The rotations of a credential, oldest first.
    pub async fn rotations(&self, credential: &str) -> Vec<v1::Rotation> {
        let request = || v1::ListRotationsRequest { credential: credential.into(), ..Default::default() };
        let list = async || self.client.list_rotations(request()).await;
        let mut rotations = eventually("the rotations", WITHIN, list).await.rotations;
        rotations.reverse();
        for rotation in &rotations {
            assert_ne!(rotation.stage, "quarantined", "{}", told(rotation));
            assert!(rotation.started_ms >= rotation.due_ms, "early: {}", told(rotation));
        }
        rotations
    }

    /// Every instant of a schedule so far and what came of it, as the audit log has it, oldest first. None is early.
    pub async fn due(&self, schedule: &str) -> Vec<Due> {
        let object = format!("schedule/{schedule}");
        let records = eventually("the audit log", WITHIN, async || {
            let mut stream =
                self.client.watch_audit(v1::WatchAuditRequest::default()).await.map_err(told_of)?;
            let mut records = Vec::new();
            while let Some(message) = stream.message().await.map_err(told_of)? {
                records.extend(message.record);
            }
            Ok::<_, String>(records)
        })
        .await;
        let of_schedule =
            records.iter().filter(|record| record.action == "schedule.due" && record.object == object);
        let due: Vec<Due> = of_schedule.map(Due::of).collect();
        assert!(due.iter().all(|due| due.seen_ms >= due.at_ms), "early: {due:?}");
        due
    }

    /// The schedule as it stands.
    pub async fn schedule(&self, name: &str) -> v1::Schedule {
        let kind = v1::ResourceKind::Schedule.into();
        let request = || v1::GetResourceRequest { kind, name: name.into() };
        let found =
            eventually("the schedule", WITHIN, async || self.client.get_resource(request()).await).await;
        match found.resource.and_then(|resource| resource.kind) {
            Some(v1::resource::Kind::Schedule(schedule)) => schedule,
            other => panic!("not a schedule: {other:?}"),
        }
    }

    /// Lets no schedule start anything more.
    pub async fn pause(&self, names: &[String]) {
        for name in names {
            let request = || v1::PauseScheduleRequest { name: name.clone(), reason: "seen enough".into() };
            let paused = async || self.client.pause_schedule(request()).await.map(drop);
            eventually("a schedule to pause", WITHIN, paused).await;
        }
    }

    fn target(&self) -> v1::Target {
        let address = self.service.address();
        let params = [("host", address.ip().to_string()), ("port", address.port().to_string())];
        v1::Target {
            name: TARGET.into(),
            provider: "demo".into(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into(),
            admin_password: ADMIN_PASSWORD.into(),
            ..v1::Target::default()
        }
    }
}

/// An instant of a schedule, and what came of it.
#[derive(Clone, Debug)]
pub struct Due {
    /// The instant.
    pub at_ms: u64,
    /// When the cluster acted on it, by its own time.
    pub seen_ms: u64,
    /// Such as `rot-3 started`.
    pub effect: String,
}

impl Due {
    /// What a record of a schedule that fell due says.
    ///
    /// # Panics
    ///
    /// When it says anything else.
    pub fn of(record: &v1::AuditRecord) -> Self {
        let told = record.detail.strip_prefix("due ").and_then(|rest| rest.split_once(": "));
        let (at, effect) = told.unwrap_or_else(|| panic!("{record:?}"));
        let at = chrono::DateTime::parse_from_rfc3339(at).unwrap().timestamp_millis();
        Self { at_ms: at.try_into().unwrap(), seen_ms: record.at_ms, effect: effect.to_owned() }
    }

    /// Whether it has started a rotation. It has not where the one before was still under way.
    pub fn has_started(&self) -> bool {
        self.effect.ends_with(" started")
    }
}

fn told_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The timing of an interval since the epoch.
pub fn every(period_ms: u64) -> v1::Timing {
    v1::Timing { every_ms: period_ms, ..v1::Timing::default() }
}

/// Every instant of an interval from the first to the last has had its one effect, and at least `least` of them are a
/// rotation.
pub fn assert_none_missed_none_doubled(due: &[Due], period_ms: u64, least: usize) {
    let mut steps = due.windows(2).map(|pair| pair[1].at_ms.wrapping_sub(pair[0].at_ms));
    assert!(steps.all(|step| step == period_ms), "missed or doubled: {due:#?}");
    let started = due.iter().filter(|due| due.has_started()).count();
    assert!(started >= least, "{started} of {due:#?}");
}

/// The time by the clock of this process, which is right.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
