//! What `revolve dev` tells: each line is something that has been seen to happen, with the time it was seen.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail};
use client::{
    Client,
    v1::{self, resource::Kind},
};
use tokio::sync::mpsc;

use super::{
    consumer::{self, Deed},
    nodes::Nodes,
    say,
    target::{ADMIN, DemoTarget, Session},
};
use crate::app;

const CREDENTIAL: &str = "demo";
const CONSUMER: &str = "demo-app";
const USERNAME: &str = "app";
/// How often a rotation is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the cluster is looked at between rotations.
const IDLE_EVERY: Duration = Duration::from_millis(500);
/// How long the first rotations may take.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;

/// The story of one run.
pub struct Story {
    nodes: Option<Nodes>,
    target: DemoTarget,
    kept: bool,
    told: BTreeSet<String>,
    /// What the consumer has done so far; each deed is told where it belongs in the story.
    heard: BTreeSet<Deed>,
    leader: u64,
}

impl Story {
    /// A story of these nodes and this target; `kept` says whether their state outlives the run.
    pub const fn new(nodes: Nodes, target: DemoTarget, kept: bool) -> Self {
        Self { nodes: Some(nodes), target, kept, told: BTreeSet::new(), heard: BTreeSet::new(), leader: 0 }
    }

    /// Runs the system and tells what happens, without end.
    pub async fn tell(&mut self) -> anyhow::Result<()> {
        let admin = self.nodes().admin()?;
        self.title()?;
        self.leader =
            self.nodes.as_mut().context("the nodes run until the story ends")?.formed(&admin).await?;
        self.line(&format!(
            "cluster formed    {}, leader node-{}",
            nodes_text(self.nodes().count()),
            self.leader
        ))?;
        self.declare(&admin).await?;

        let (sender, mut deeds) = mpsc::channel(64);
        let token = self.consumer_token(&admin).await?;
        let follower = tokio::spawn(consumer::run(self.nodes().client(token)?, self.target.port(), sender));
        let first = self.first_version(&admin, &mut deeds).await?;
        self.rotate(&admin, &mut deeds, first).await?;
        self.next_commands()?;
        let told = self.follow(&admin, &mut deeds).await;
        follower.abort();
        told
    }

    /// Ends the nodes.
    pub async fn end(&mut self) {
        if let Some(nodes) = self.nodes.take() {
            nodes.stop().await;
        }
    }

    fn nodes(&self) -> &Nodes {
        self.nodes.as_ref().expect("the nodes run until the story ends")
    }

    fn title(&self) -> anyhow::Result<()> {
        let data = if self.kept { "kept" } else { "temporary, use --data DIR to keep it" };
        let version = env!("CARGO_PKG_VERSION");
        say(&format!("revolve {version} dev    data: {data}    NOT for production"))
    }

    /// Declares the demo resources. The target's port and admin password are new in every run.
    async fn declare(&self, admin: &Client) -> anyhow::Result<()> {
        let known = admin.get_secret(v1::GetSecretRequest { credential: CREDENTIAL.into() }).await;
        if let Ok(secret) = known {
            self.target.honour(&secret.username, &secret.password.into());
        }
        let resources = demo_resources(self.target.port(), self.target.admin_password());
        let resources = resources.into_iter().map(|kind| v1::Resource { kind: Some(kind) }).collect();
        admin
            .apply(v1::ApplyRequest { resources, dry_run: false })
            .await
            .context("cannot declare the demo")?;
        self.line(
            "declared          target demo, credential demo (rotates every minute), consumer demo-app",
        )?;
        Ok(())
    }

    async fn consumer_token(&self, admin: &Client) -> anyhow::Result<secrecy::SecretString> {
        let held = admin.list_tokens(v1::ListTokensRequest {}).await?.tokens;
        let name = format!("{CONSUMER}-{}", held.len() + 1);
        let request = v1::IssueTokenRequest {
            name,
            role: "consumer".into(),
            consumer: CONSUMER.into(),
            ttl_ms: DAY_MS,
            ..Default::default()
        };
        Ok(admin.issue_token(request).await.context("cannot issue the consumer's token")?.token.into())
    }

    /// Makes sure that there is a version in use, as there would be in any real system.
    async fn first_version(
        &mut self,
        admin: &Client,
        deeds: &mut mpsc::Receiver<Deed>,
    ) -> anyhow::Result<u32> {
        if let Some(current) = current_version(admin).await? {
            return Ok(current);
        }
        let rotation = self.trigger(admin).await?;
        self.settled(admin, &rotation, deeds, false).await?;
        let first = current_version(admin).await?.context("the first version was not published")?;
        self.moved(deeds, first).await?;
        Ok(first)
    }

    /// One rotation, told stage by stage, with a session opened on the old version that must be cut.
    async fn rotate(
        &mut self,
        admin: &Client,
        deeds: &mut mpsc::Receiver<Deed>,
        from: u32,
    ) -> anyhow::Result<()> {
        let secret = admin.get_secret(v1::GetSecretRequest { credential: CREDENTIAL.into() }).await?;
        let session = Session::open(self.target.port(), &secret.username, &secret.password.into()).await?;
        self.line(&format!("session opened    with v{from} at the demo target; it must be cut"))?;
        let cut = tokio::spawn(session.cut());
        let rotation = self.trigger(admin).await?;
        self.settled(admin, &rotation, deeds, true).await?;
        cut.await.context("the session on the old version was not watched to its end")?;
        self.line(&format!(
            "session ended     the one opened with v{from}: seen from the application's side"
        ))?;
        self.acknowledged(deeds, from).await
    }

    async fn trigger(&self, admin: &Client) -> anyhow::Result<String> {
        match admin.trigger_schedule(v1::TriggerScheduleRequest { name: CREDENTIAL.into() }).await {
            Ok(started) => Ok(started.rotation),
            // The schedule has just fired by itself: that rotation does as well.
            Err(client::Error::Refused(refused)) if refused.code == "rotation_in_flight" => {
                let open =
                    v1::ListRotationsRequest { credential: CREDENTIAL.into(), open_only: true, limit: 1 };
                let open = admin.list_rotations(open).await?.rotations;
                open.into_iter().next().map(|rotation| rotation.id).context("no rotation is under way")
            }
            Err(error) => Err(error).context("cannot start a rotation"),
        }
    }

    /// Follows one rotation to its end; with `aloud` each stage is told as it is passed.
    async fn settled(
        &mut self,
        admin: &Client,
        id: &str,
        deeds: &mut mpsc::Receiver<Deed>,
        aloud: bool,
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + SETTLED_WITHIN;
        let mut passed = 0;
        loop {
            let request = v1::GetRotationRequest { id: id.to_owned() };
            if let Ok(answer) = admin.get_rotation(request).await
                && let Some(rotation) = answer.rotation
            {
                for passage in rotation.history.iter().skip(passed).filter(|_| aloud) {
                    if passage.stage == "drain" {
                        self.moved(deeds, rotation.to_version).await?;
                    }
                    if let Some(text) = stage_text(&rotation, passage) {
                        self.line(&text)?;
                    }
                }
                passed = rotation.history.len();
                match rotation.stage.as_str() {
                    "settled" => {
                        self.told.insert(rotation.id);
                        return Ok(());
                    }
                    "aborted" | "quarantined" => bail!("{id} is {}: {}", rotation.stage, rotation.failure),
                    _ => {}
                }
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{id} has not settled after {} s; run with --log to see why", SETTLED_WITHIN.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the consumer has moved to a version, and tells it.
    async fn moved(&mut self, deeds: &mut mpsc::Receiver<Deed>, version: u32) -> anyhow::Result<()> {
        self.hear(deeds, Deed::Moved { version }).await?;
        self.line(&format!("{CONSUMER:<17} {}", Deed::Moved { version }))
    }

    /// Waits for the consumer's receipt of a version's end, and tells it.
    async fn acknowledged(&mut self, deeds: &mut mpsc::Receiver<Deed>, version: u32) -> anyhow::Result<()> {
        self.hear(deeds, Deed::Dropped { version }).await?;
        self.line(&format!("{CONSUMER:<17} {}", Deed::Dropped { version }))
    }

    /// Waits until the consumer has done `awaited`, which it may have done already.
    async fn hear(&mut self, deeds: &mut mpsc::Receiver<Deed>, awaited: Deed) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + SETTLED_WITHIN;
        while !self.heard.contains(&awaited) {
            match tokio::time::timeout_at(deadline, deeds.recv()).await {
                Ok(Some(failed @ Deed::Failed(_))) => self.line(&format!("{CONSUMER:<17} {failed}"))?,
                Ok(Some(deed)) => drop(self.heard.insert(deed)),
                Ok(None) | Err(_) => bail!("{CONSUMER} has not answered: {awaited:?}"),
            }
        }
        Ok(())
    }

    fn next_commands(&self) -> anyhow::Result<()> {
        let (addresses, token) = (self.nodes().addresses(), self.nodes().token_file());
        say("")?;
        say(&format!("  address     {addresses}"))?;
        say(&format!("  token file  {}", token.display()))?;
        say("")?;
        say("Try, in another terminal:")?;
        say(&format!("  export REVOLVE_ADDR={addresses} REVOLVE_TOKEN_FILE={}", token.display()))?;
        say("  revolve status")?;
        say("  revolve schedule trigger demo --wait")?;
        say(
            "  revolve revocation create credential demo --reason-code key-compromise --reason test --yes --wait=acked",
        )?;
        if self.nodes().count() > 1 {
            self.kill_hint()?;
        }
        say("")
    }

    fn kill_hint(&self) -> anyhow::Result<()> {
        if let Some(pid) = self.nodes().pid(self.leader) {
            say(&format!(
                "Kill the leader and see a rotation finish exactly once:\n  revolve schedule trigger demo && kill -9 {pid}",
            ))?;
        }
        Ok(())
    }

    /// Goes on telling: one line per rotation that ended, and one when the leader changes.
    async fn follow(&mut self, admin: &Client, deeds: &mut mpsc::Receiver<Deed>) -> anyhow::Result<()> {
        loop {
            while let Ok(deed) = deeds.try_recv() {
                self.line(&format!("{CONSUMER:<17} {deed}"))?;
            }
            let recent =
                v1::ListRotationsRequest { credential: CREDENTIAL.into(), open_only: false, limit: 5 };
            if let Ok(answer) = admin.list_rotations(recent).await {
                for rotation in answer.rotations.iter().rev() {
                    let ended = rotation.ended_ms > 0 || rotation.stage == "quarantined";
                    if ended && self.told.insert(rotation.id.clone()) {
                        self.line(&ended_text(rotation))?;
                    }
                }
            }
            if let Ok(cluster) = admin.get_cluster(v1::GetClusterRequest {}).await
                && cluster.leader != 0
                && cluster.leader != self.leader
            {
                self.leader = cluster.leader;
                self.line(&format!("new leader        node-{} in term {}", cluster.leader, cluster.term))?;
                self.kill_hint()?;
            }
            tokio::time::sleep(IDLE_EVERY).await;
        }
    }

    fn line(&self, text: &str) -> anyhow::Result<()> {
        say(&format!("{}  {text}", clock_time()))
    }
}

/// The time of day in UTC, to tenths of a second.
fn clock_time() -> String {
    let text = app::now().to_string();
    text.get(11..21).unwrap_or(&text).to_owned()
}

fn nodes_text(count: usize) -> String {
    if count == 1 { "1 node".into() } else { format!("{count} nodes") }
}

async fn current_version(admin: &Client) -> anyhow::Result<Option<u32>> {
    let kind = v1::ResourceKind::Credential.into();
    let answer = admin.get_resource(v1::GetResourceRequest { kind, name: CREDENTIAL.into() }).await?;
    match answer.resource.and_then(|resource| resource.kind) {
        Some(Kind::Credential(credential)) => {
            Ok(Some(credential.current_version).filter(|version| *version > 0))
        }
        _ => bail!("credential {CREDENTIAL} is gone"),
    }
}

/// What a passage in a rotation's history means to a person, if it is worth a line.
fn stage_text(rotation: &v1::Rotation, passage: &v1::Passage) -> Option<String> {
    let (from, to) = (rotation.from_version, rotation.to_version);
    let done = passage.note.strip_prefix("done: ");
    match (passage.stage.as_str(), done) {
        ("prepare", None) => Some(format!("candidate sealed  v{to}, committed before the target is touched")),
        ("install", Some(_)) => Some(format!("installed         v{to} at the demo target")),
        ("verify", Some(_)) => Some(format!("verified          v{to} logs in")),
        ("publish", Some(_)) => {
            Some(format!("rotated           v{from} → v{to}, credential-rotated sent to consumers"))
        }
        ("drain", None) => Some(format!("drained           {}", passage.note)),
        ("retire", Some(_)) => Some(format!("retired           v{from} at the demo target")),
        ("sever", Some(note)) => Some(format!("severed           {note}")),
        ("prove-refused", Some(_)) => {
            Some(format!("proven refused    a login with v{from} was refused (probe)"))
        }
        _ => None,
    }
}

fn ended_text(rotation: &v1::Rotation) -> String {
    let took = rotation.ended_ms.saturating_sub(rotation.started_ms);
    let versions = format!("v{} → v{}", rotation.from_version, rotation.to_version);
    match rotation.stage.as_str() {
        "settled" => format!("{:<17} {versions} settled in {took} ms ({})", rotation.id, rotation.cause),
        stage => format!("{:<17} {versions} {stage}: {}", rotation.id, rotation.failure),
    }
}

fn demo_resources(port: u16, admin_password: String) -> Vec<Kind> {
    let review_by_ms = app::now().0 + 365 * DAY_MS;
    let params =
        [("host", "127.0.0.1".to_owned()), ("port", port.to_string()), ("admin_user", ADMIN.to_owned())];
    vec![
        Kind::Identity(v1::Identity {
            name: "demo-app".into(),
            owner: "you".into(),
            purpose: "show a rotation".into(),
            workload: "demo-app".into(),
            environment: "dev".into(),
            review_by_ms,
        }),
        Kind::Target(v1::Target {
            name: "demo".into(),
            provider: "demo".into(),
            params: params.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            admin_password,
            ..Default::default()
        }),
        Kind::Credential(v1::Credential {
            name: CREDENTIAL.into(),
            identity: "demo-app".into(),
            target: "demo".into(),
            strategy: "overlapping".into(),
            usernames: vec![USERNAME.into()],
            ..Default::default()
        }),
        Kind::Consumer(v1::Consumer {
            name: CONSUMER.into(),
            owner: "you".into(),
            subscription: Some(v1::Subscription {
                credentials: vec![CREDENTIAL.into()],
                ..Default::default()
            }),
            required: true,
            ..Default::default()
        }),
        Kind::Schedule(v1::Schedule {
            name: CREDENTIAL.into(),
            credential: CREDENTIAL.into(),
            timing: Some(v1::Timing { every_ms: 60_000, ..Default::default() }),
            policy: Some(v1::RotationPolicy {
                overlap_max_ms: 30_000,
                on_overlap_end: "retire".into(),
                step_timeout_ms: 5_000,
                ..Default::default()
            }),
            ..Default::default()
        }),
    ]
}
