//! A real moto server: AWS's wire protocol on a loopback port, and boto3 as a client that owes nothing to ours.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Child;
use crate::{eventually, port, surroundings};

const START_WITHIN: Duration = Duration::from_secs(120);
const CALL_WITHIN: Duration = Duration::from_secs(120);
const REGION: &str = "us-east-1";
/// moto checks no signature unless told to.
const ACCESS_KEY: &str = "testing";
const ASK: &str = include_str!("ask_aws.py");

/// A moto server. Dropping it ends the process.
#[derive(Debug)]
pub struct Moto {
    server: Child,
    folder: TempDir,
    port: u16,
}

impl Moto {
    /// Starts a server and returns once it answers.
    ///
    /// # Panics
    ///
    /// When moto is missing or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("revolve-moto-").tempdir().expect("a temporary folder");
        let port = port::free();
        let mut command = Command::new(surroundings::python());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut server = Child::spawn("moto", folder.path(), command);
        eventually("an answer from moto", START_WITHIN, async || {
            if let Some(status) = server.ended() {
                panic!("moto ended with {status}\n{}", server.tail());
            }
            answers(port).await
        })
        .await;
        Self { server, folder, port }
    }

    /// The URL to give to an AWS client as its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The folder that holds the server's log, for a search of leaked secrets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The environment under which any AWS client talks to this server and to nothing else.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", REGION.to_string()),
            ("AWS_DEFAULT_REGION", REGION.to_string()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()),
            ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.to_string()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_string()),
            ("AWS_CONFIG_FILE", "/dev/null".to_string()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_string()),
        ]
    }

    /// Calls one operation of Secrets Manager through boto3, named and given parameters as boto3 does
    /// (`put_secret_value`, `{"SecretId": …}`), and returns its answer.
    ///
    /// # Errors
    ///
    /// The AWS error code, such as `ResourceNotFoundException`.
    ///
    /// # Panics
    ///
    /// When the call cannot be made at all.
    pub async fn call(&self, operation: &str, parameters: Value) -> Result<Value, String> {
        self.ask(json!({ "operation": operation, "parameters": parameters })).await
    }

    /// All there is to know of a secret, or null when there is none:
    /// `{"versions": {ID: {"stages": [STAGE, …], "value": STRING or null}}, "stages": {STAGE: {"version": ID,
    /// "value": STRING or null}}}`. A version without a stage is deprecated and cannot be found by stage.
    ///
    /// # Panics
    ///
    /// When the server does not answer, or contradicts itself on which version a stage is on.
    pub async fn secret(&self, name: &str) -> Value {
        match self.ask(json!({ "describe": name })).await {
            Ok(described) => described,
            Err(code) if code == "ResourceNotFoundException" => Value::Null,
            Err(code) => panic!("cannot describe the secret `{name}`: {code}"),
        }
    }

    /// Runs the client. The request goes in over standard input: it may hold a secret, and arguments are public.
    async fn ask(&self, request: Value) -> Result<Value, String> {
        let mut command = tokio::process::Command::new(surroundings::python());
        command.args(["-c", ASK]).envs(self.environment()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut input = client.stdin.take().expect("stdin was asked for as a pipe");
        input.write_all(request.to_string().as_bytes()).await.expect("the client reads its request");
        drop(input);
        let ended = tokio::time::timeout(CALL_WITHIN, client.wait_with_output()).await;
        let output = ended.expect("the client ends in time").expect("the client can be waited for");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the AWS client ended with {}\n{errors}", output.status);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("the client answers in JSON");
        match answer.get("error") {
            Some(code) => Err(code.as_str().unwrap_or("unnamed").to_string()),
            None => Ok(answer["answer"].clone()),
        }
    }
}

/// Whether moto answers an HTTP request; before that its port may be open already.
async fn answers(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(port::loopback(port)).await?;
    stream.write_all(b"GET /moto-api/data.json HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") {
        return Ok(());
    }
    Err(std::io::Error::other(answer))
}
