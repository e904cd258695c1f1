//! What a node answers on its client port to those who speak no gRPC.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Cluster;

/// The answer of a node to a request over HTTP/1.1: its code and its body.
///
/// # Panics
///
/// When the node does not answer, or with something else.
pub async fn get(cluster: &Cluster, id: u64, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(cluster.client_address(id)).await.expect("the node listens");
    let bearer = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{bearer}\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer is a text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a head has a code");
    (code, body.to_owned())
}
