//! The spans of a call nest from the edge to the commit, name who asked for what, and hold no secret.
#![expect(clippy::unwrap_used, reason = "in the functions that tests share, as in the tests themselves")]

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use api::v1::{self, admin_service_client::AdminServiceClient};
use server::{
    config::Config,
    init::{ADMIN_TOKEN_FILE, Addresses, Plan, init},
    node::{Listeners, Server},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};
use tonic_types::StatusExt as _;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt as _, registry::LookupSpan,
};

const CANARY: &str = "the-canary-of-the-administrator";
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spans_of_a_call_nest_from_the_edge_to_the_commit_and_hold_no_secret() {
    let seen = Seen::default();
    let layer =
        seen.clone().with_filter(Targets::new().with_target(cluster::trace::TARGET, tracing::Level::DEBUG));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (address, server) = node(folder.path()).await;
    let token = std::fs::read_to_string(folder.path().join(ADMIN_TOKEN_FILE)).unwrap().trim().to_owned();
    let mut admin =
        AdminServiceClient::new(Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy());
    let request = |token: &str, id: &'static str| {
        let resource = v1::Resource { kind: Some(v1::resource::Kind::Target(target())) };
        let mut request = Request::new(v1::ApplyRequest { resources: vec![resource], dry_run: false });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        request
    };

    let deadline = tokio::time::Instant::now() + WITHIN;
    let answer = loop {
        match admin.apply(request(&token, "job-17")).await {
            // An entry belongs to the first proposal in it, and the node has some of its own when it starts.
            Ok(answer) => match without_an_entry(&seen.all()) {
                Some(missing) => assert!(tokio::time::Instant::now() < deadline, "{missing}"),
                None => break answer,
            },
            Err(status) => {
                assert!(tokio::time::Instant::now() < deadline, "{status:?}");
                assert_ne!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
                tokio::task::yield_now().await;
            }
        }
    };
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "job-17");
    let refused = admin.apply(request("rvlt_nobody.AAAA", "job-18")).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.metadata["request_id"], "job-18");

    let spans = seen.all();
    let call = spans
        .values()
        .find(|span| span.fields.contains("request_id=job-17") && span.fields.contains("object="));
    let fields = &call.unwrap_or_else(|| panic!("{spans:?}")).fields;
    for part in ["method=/revolve.v1.AdminService/Apply", "actor=admin", "object=target/orders", "trace_id="]
    {
        assert!(fields.contains(part), "{fields}");
    }
    let everything = format!("{spans:?}");
    let secret = token.rsplit('.').next().unwrap();
    assert!(!everything.contains(CANARY) && !everything.contains(secret), "{everything}");
    server.stop().await;
}

/// The first stage of an entry that no call has led to, and where there is one.
fn without_an_entry(spans: &BTreeMap<u64, Opened>) -> Option<String> {
    ["append", "commit", "apply"].into_iter().find_map(|stage| {
        let expected = format!("call > propose > entry > {stage}");
        let paths = spans.values().filter(|span| span.name == stage).map(|leaf| path_of(spans, leaf));
        let paths: Vec<String> = paths.collect();
        (!paths.contains(&expected)).then(|| format!("{stage}: {paths:?}"))
    })
}

fn target() -> v1::Target {
    v1::Target {
        name: "orders".into(),
        provider: "demo".into(),
        params: [("host".into(), "127.0.0.1".into()), ("port".into(), "1".into())].into(),
        admin_password: CANARY.into(),
        ..v1::Target::default()
    }
}

/// A cluster of one, and where its client port is.
async fn node(folder: &std::path::Path) -> (SocketAddr, Server) {
    // Open from the beginning, so that nobody else is given the ports.
    let open = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listeners = Listeners { client: open().await, peer: open().await };
    let address = listeners.client.local_addr().unwrap();
    let addresses = Addresses { client: address, peer: listeners.peer.local_addr().unwrap() };
    init(&Plan { folder: folder.to_owned(), nodes: vec![addresses] }).unwrap();
    let config = Config::load(&folder.join("node-1.toml")).unwrap();
    (address, Server::start(config, listeners, CancellationToken::new()).await.unwrap())
}

/// A span that was opened.
#[derive(Clone, Debug, Default)]
struct Opened {
    name: &'static str,
    parent: Option<u64>,
    fields: String,
}

/// Every span that was opened, by a number of its own: ids are used again.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u64, Opened>>>);

impl Seen {
    fn all(&self) -> BTreeMap<u64, Opened> {
        self.0.lock().unwrap().clone()
    }
}

struct Number(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().and_then(|parent| Some(parent.extensions().get::<Number>()?.0));
        let mut opened = Opened { name: attributes.metadata().name(), parent, fields: String::new() };
        attributes.record(&mut Fields(&mut opened.fields));
        let mut all = self.0.lock().unwrap();
        let number = all.len() as u64;
        span.extensions_mut().insert(Number(number));
        all.insert(number, opened);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let number = span.extensions().get::<Number>().map(|number| number.0);
        let mut all = self.0.lock().unwrap();
        if let Some(opened) = number.and_then(|number| all.get_mut(&number)) {
            values.record(&mut Fields(&mut opened.fields));
        }
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

fn path_of(spans: &BTreeMap<u64, Opened>, leaf: &Opened) -> String {
    match leaf.parent.and_then(|parent| spans.get(&parent)) {
        Some(parent) => format!("{} > {}", path_of(spans, parent), leaf.name),
        None => leaf.name.to_owned(),
    }
}
