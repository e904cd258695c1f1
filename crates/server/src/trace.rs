//! One span for each call, and the id by which a caller, a log and an operator speak of the same call. The id is taken
//! from `x-request-id` or `traceparent` where the caller gives one that is fit to be printed, and made otherwise.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};
use cluster::trace::{ORIGIN, TARGET};
use tonic::metadata::MetadataMap;
use tracing::{Instrument as _, Span, debug_span, field::Empty};

/// The header of the id, of a request and of its answer.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
/// Longest id that is taken over.
const ID_BYTES: usize = 64;

/// Carries a call under its span, and tells the caller the id.
pub(crate) async fn carry(mut request: Request, next: Next) -> Response {
    let given = Trace::given(request.headers());
    let id = id(request.headers(), given.as_ref());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let span = debug_span!(
        target: TARGET, "call", request_id = id.to_str().unwrap_or_default(), method = request.uri().path(),
        trace_id = Empty, actor = Empty, object = Empty
    );
    let mut response = if span.is_disabled() {
        next.run(request).await
    } else {
        let trace = given.unwrap_or_else(Trace::new);
        span.record("trace_id", &trace.id);
        ORIGIN.scope(trace.to_text(), next.run(request)).instrument(span).await
    };
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id of a call that came through [`carry`]; empty for one that did not.
pub(crate) fn request_id(metadata: &MetadataMap) -> String {
    metadata.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
}

/// Notes in the span of the call who makes it.
pub(crate) fn note_actor(actor: &str) {
    Span::current().record("actor", actor);
}

/// Notes in the span of the call what it is about.
pub(crate) fn note_object(object: &str) {
    Span::current().record("object", object);
}

fn id(headers: &HeaderMap, trace: Option<&Trace>) -> HeaderValue {
    let is_fit = |id: &&HeaderValue| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    let given = headers.get(REQUEST_ID).filter(is_fit).cloned();
    let text = || trace.map_or_else(fresh, |trace| trace.id.clone());
    given.unwrap_or_else(|| HeaderValue::try_from(text()).expect("hexadecimal digits and a hyphen"))
}

/// An id that no other call of any node has.
fn fresh() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{:x}", *PROCESS, CALLS.fetch_add(1, Ordering::Relaxed))
}

/// What W3C Trace Context says of a call: the trace, and the span of the caller.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    id: String,
    parent: String,
}

impl Trace {
    fn new() -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            parent: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// The trace that the caller names, of version 00.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(TRACEPARENT)?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            text.len() == length
                && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
        let is_well = version == "00"
            && parts.next().is_none()
            && is_hex(id, 32)
            && is_hex(parent, 16)
            && is_hex(flags, 2)
            && is_set(id)
            && is_set(parent);
        is_well.then(|| Self { id: id.to_owned(), parent: parent.to_owned() })
    }

    fn to_text(&self) -> String {
        format!("00-{}-{}-01", self.id, self.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_trace_is_taken_over_when_it_is_one() {
        let read = |text: &str| Trace::given(&headers(&[(TRACEPARENT, text)]));
        assert_eq!(read(TRACE).unwrap().to_text(), TRACE);
        for not in [
            "",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(read(not), None, "{not}");
        }
        let own = Trace::new();
        assert_eq!(read(&own.to_text()), Some(own));
    }

    #[test]
    fn an_id_is_what_the_caller_says_if_it_is_fit_to_be_printed() {
        let of = |given: &[(&'static str, &str)]| {
            let headers = headers(given);
            id(&headers, Trace::given(&headers).as_ref()).to_str().unwrap().to_owned()
        };
        assert_eq!(of(&[(REQUEST_ID, "job-17.a")]), "job-17.a");
        assert_eq!(of(&[(TRACEPARENT, TRACE)]), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(of(&[(REQUEST_ID, "job-17"), (TRACEPARENT, TRACE)]), "job-17");
        for unfit in ["", "two words", "a\"b", &"x".repeat(65)] {
            assert!(of(&[(REQUEST_ID, unfit)]) != unfit, "{unfit}");
        }
        assert_ne!(of(&[]), of(&[]));
    }
}
