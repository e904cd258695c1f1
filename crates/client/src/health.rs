//! Whether a node lives and is of use, as machines ask for it: without a token.

use http_body_util::{BodyExt as _, Limited};
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::{Client, Error, OptionsError};

/// Longest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// What is asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether its process can go on; never whether the other nodes do.
    Live,
    /// Whether it takes part and knows a leader.
    Ready,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

impl Client {
    /// Asks the first address; what is wrong, in words, one for each reason, and nothing when all is well. The token is
    /// not sent.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it does not answer in time, [`Error::Failed`] when what answers is not a node.
    pub async fn health(&self, probe: Probe) -> Result<Vec<String>, Error> {
        let (address, channel, timeout) = self.first_node();
        let unreachable = |message: String| Error::Unreachable { tried: vec![(address.to_owned(), message)] };
        let request = http::Request::get(probe.path()).body(Body::empty());
        let request = request.map_err(|_| OptionsError::Address { address: address.to_owned() })?;
        let asked = async {
            let answer = channel.oneshot(request).await.map_err(|error| unreachable(cause(&error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            let lines = String::from_utf8_lossy(&body).lines().map(ToOwned::to_owned).collect();
            match status {
                http::StatusCode::OK => Ok(Vec::new()),
                http::StatusCode::SERVICE_UNAVAILABLE => Ok(lines),
                other => Err(Error::Failed { message: format!("`{address}` answers {other}") }),
            }
        };
        let late = || Err(unreachable(format!("no answer within {timeout:?}")));
        tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| late())
    }
}

/// The innermost cause, which says more than that the transport failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
