//! Settings: flag, then `REVOLVE_*`, then the configuration file, then the default.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgAction, ValueEnum};
use client::ClientCertificate;
use secrecy::SecretString;
use serde::Deserialize;

use crate::{
    exit::Failure,
    output::{Format, LogFormat},
    resource::scalar,
};

/// Where a node of `revolve dev` listens.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7800";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags that every command takes.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Flags {
    /// Addresses of the cluster, tried in turn [REVOLVE_ADDR]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub addr: Vec<String>,
    /// File that holds the token [REVOLVE_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// CA certificate of the cluster, PEM [REVOLVE_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Your client certificate, PEM [REVOLVE_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Its key, PEM [REVOLVE_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Longest wait for one answer, such as 10s [REVOLVE_TIMEOUT]
    #[arg(long, global = true, value_name = "SPAN")]
    pub request_timeout: Option<scalar::Span>,
    /// Send the token unencrypted to another machine
    #[arg(long, global = true)]
    pub insecure_plaintext: bool,
    /// How data is written: table, wide, json, yaml, name [REVOLVE_OUTPUT]
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub output: Option<Format>,
    /// Log to stderr; stands before the command [REVOLVE_LOG]
    #[arg(long, value_name = "FILTER", num_args = 0..=1, require_equals = true,
          default_missing_value = "info")]
    pub log: Option<String>,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

impl Flags {
    /// What to log, if anything.
    pub fn log_filter(&self) -> Option<String> {
        self.log.clone().or_else(|| variable("REVOLVE_LOG"))
    }

    /// How the log is written; a word that is not known means as usual, for a log must come about.
    #[expect(clippy::unused_self, reason = "a setting like the others")]
    pub fn log_format(&self) -> LogFormat {
        let asked = variable("REVOLVE_LOG_FORMAT");
        asked.and_then(|word| LogFormat::from_str(&word, true).ok()).unwrap_or_default()
    }
}

/// What a command works with.
#[derive(Debug)]
pub struct Settings {
    /// Addresses of the cluster.
    pub addresses: Vec<String>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Whether a token may be sent unencrypted.
    pub insecure_plaintext: bool,
    /// How data is written.
    pub format: Format,
    token: TokenSource,
    token_flag: Option<PathBuf>,
    cacert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

#[derive(Debug)]
enum TokenSource {
    None,
    Value(SecretString),
    File(PathBuf),
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    addr: Option<Addresses>,
    token_file: Option<PathBuf>,
    cacert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    timeout: Option<String>,
    output: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Many(Vec<String>),
}

impl Settings {
    /// Gathers the settings for `flags`.
    ///
    /// # Errors
    /// When a setting cannot be understood.
    pub fn gather(flags: &Flags) -> Result<Self, Failure> {
        let file = config_path().map_or_else(|| Ok(File::default()), |path| read_file(&path))?;
        let timeout = match flags.request_timeout {
            Some(span) => Some(span),
            None => named("REVOLVE_TIMEOUT", variable("REVOLVE_TIMEOUT").as_deref(), str::parse)?,
        };
        let timeout = match timeout {
            Some(span) => Some(span),
            None => named("timeout", file.timeout.as_deref(), str::parse)?,
        };
        let format = match flags.output {
            Some(format) => Some(format),
            None => named("REVOLVE_OUTPUT", variable("REVOLVE_OUTPUT").as_deref(), format_of)?,
        };
        let format = match format {
            Some(format) => Some(format),
            None => named("output", file.output.as_deref(), format_of)?,
        };
        Ok(Self {
            addresses: addresses(flags, file.addr),
            timeout: timeout.map_or(DEFAULT_TIMEOUT, |span: scalar::Span| Duration::from_millis(span.0)),
            insecure_plaintext: flags.insecure_plaintext,
            format: format.unwrap_or_default(),
            token: token_source(flags, file.token_file),
            token_flag: flags.token_file.clone(),
            cacert: path(flags.cacert.as_ref(), "REVOLVE_CACERT", file.cacert),
            client_cert: path(flags.client_cert.as_ref(), "REVOLVE_CLIENT_CERT", file.client_cert),
            client_key: path(flags.client_key.as_ref(), "REVOLVE_CLIENT_KEY", file.client_key),
        })
    }

    /// The token, read now.
    ///
    /// # Errors
    /// When its file cannot be read, or others can read it too.
    pub fn token(&self) -> Result<Option<SecretString>, Failure> {
        match &self.token {
            TokenSource::None => Ok(None),
            TokenSource::Value(token) => Ok(Some(token.clone())),
            TokenSource::File(path) => read_secret(path).map(Some),
        }
    }

    /// The token file that was named with this very command.
    pub fn named_token_file(&self) -> Option<&Path> {
        self.token_flag.as_deref()
    }

    /// The CA certificate, read now.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn ca(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.cacert else { return Ok(None) };
        let text = fs::read_to_string(path).map_err(|error| unreadable("CA certificate", path, &error))?;
        Ok(Some(text))
    }

    /// The client's own certificate and its key, read now.
    ///
    /// # Errors
    /// When one is named without the other, or cannot be read, or others can read the key.
    pub fn client_certificate(&self) -> Result<Option<ClientCertificate>, Failure> {
        let (path, key) = match (&self.client_cert, &self.client_key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => return Err(half("certificate", "--client-key or REVOLVE_CLIENT_KEY")),
            (None, Some(_)) => return Err(half("key", "--client-cert or REVOLVE_CLIENT_CERT")),
        };
        let read = fs::read_to_string(path);
        let certificate = read.map_err(|error| unreadable("client certificate", path, &error))?;
        Ok(Some(ClientCertificate { certificate, key: read_secret(key)? }))
    }
}

fn half(given: &str, other: &str) -> Failure {
    Failure::usage(format!("a client {given} is named alone"), format!("name the other in {other}"))
}

/// The flag, else the variable, else what the file says.
fn path(flag: Option<&PathBuf>, name: &str, file: Option<PathBuf>) -> Option<PathBuf> {
    flag.cloned().or_else(|| variable(name).map(Into::into)).or(file)
}

/// Reads a secret from a file that only its owner and group may read, without the line end.
///
/// # Errors
/// When it cannot be read, is empty, or anyone may read it.
pub fn read_secret(path: &Path) -> Result<SecretString, Failure> {
    let metadata = fs::metadata(path).map_err(|error| unreadable("secret", path, &error))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(Failure::refused(
            format!("`{}` holds a secret, and everyone on this machine may read it", path.display()),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable("secret", path, &error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::usage(format!("`{}` is empty", path.display()), "write the secret into it"));
    }
    Ok(text.into())
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("the {what} file `{}` cannot be read: {error}", path.display()), "")
}

fn config_path() -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("revolve/config.toml"))
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(unreadable("configuration", path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        let message = format!("`{}` is not understood: {}", path.display(), error.to_string().trim_end());
        Failure::usage(message, "see `revolve help environment`")
    })
}

fn addresses(flags: &Flags, file: Option<Addresses>) -> Vec<String> {
    if !flags.addr.is_empty() {
        return flags.addr.clone();
    }
    if let Some(list) = variable("REVOLVE_ADDR") {
        return list.split(',').map(|address| address.trim().to_owned()).collect();
    }
    match file {
        Some(Addresses::One(address)) => vec![address],
        Some(Addresses::Many(addresses)) => addresses,
        None => vec![DEFAULT_ADDRESS.to_owned()],
    }
}

fn token_source(flags: &Flags, file: Option<PathBuf>) -> TokenSource {
    if let Some(path) = &flags.token_file {
        return TokenSource::File(path.clone());
    }
    if let Some(token) = variable("REVOLVE_TOKEN") {
        return TokenSource::Value(token.into());
    }
    match variable("REVOLVE_TOKEN_FILE").map(PathBuf::from).or(file) {
        Some(path) => TokenSource::File(path),
        None => TokenSource::None,
    }
}

fn named<T, E: std::fmt::Display>(
    name: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let parsed = text.map(&parse).transpose();
    parsed.map_err(|error| Failure::usage(format!("{name}: {error}"), "see `revolve help environment`"))
}

fn format_of(text: &str) -> Result<Format, String> {
    Format::from_str(text, true)
        .map_err(|_| format!("`{text}` is not a format; use table, wide, json, yaml or name"))
}
