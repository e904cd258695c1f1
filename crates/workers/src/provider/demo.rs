//! The demo service as a target: any number of passwords for a user at once, each with its own sessions.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use async_trait::async_trait;
use model::credential::Strategy;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    demo::{digest, line},
    fault::Fault,
    params::{ParamError, Params},
    provider::{Address, Capabilities, Ending, Overlap, Probe, Provider, TEMPORARY_PREFIX, Temporary},
    secret::{Login, Password},
};

/// The name of this kind of target.
pub const KIND: &str = "demo";

/// What it can do.
pub const CAPABILITIES: Capabilities =
    Capabilities { overlap: Overlap::Many, sever: true, self_rotate: false, inventory: false };

const KNOWN: [&str; 3] = ["host", "port", "admin_user"];
const ADMIN: &str = "admin";
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a demo target needs to be told.
#[derive(Clone, Debug)]
pub struct Settings {
    host: String,
    port: u16,
    admin_user: String,
}

impl Settings {
    /// Reads and checks the parameters `host`, `port` and `admin_user` (`admin` unless given).
    ///
    /// # Errors
    /// Names the parameter and what is wrong with it.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, ParamError> {
        let params = Params::among(given, &KNOWN)?;
        let host = params.required("host")?.to_owned();
        params.required("port")?;
        let port = params.port("port", 0)?;
        let admin_user = params.text("admin_user")?.unwrap_or(ADMIN).to_owned();
        check_user(&admin_user).map_err(|reason| ParamError::invalid("admin_user", reason))?;
        Ok(Self { host, port, admin_user })
    }

    /// Where consumers find the service.
    #[must_use]
    pub fn address(&self) -> Address {
        Address { engine: KIND, host: self.host.clone(), port: self.port, database: None }
    }
}

/// Checks that the strategy can be run here.
///
/// # Errors
/// Says what can.
pub fn supports(strategy: &Strategy) -> Result<(), String> {
    match strategy {
        Strategy::Overlapping { username } => check_user(username),
        Strategy::SingleUser { .. } | Strategy::AlternatingUsers { .. } => {
            Err("the demo service keeps several passwords for a user: use overlapping".into())
        }
    }
}

fn check_user(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 63 || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{name}` cannot be a user: use 1 to 63 bytes without spaces"));
    }
    Ok(())
}

/// One demo service.
#[derive(Debug)]
pub struct Demo {
    settings: Settings,
    admin: Login,
}

impl Demo {
    /// A provider for the service that `settings` describe. Nothing is connected yet.
    #[must_use]
    pub fn new(settings: Settings, admin: Password) -> Self {
        let admin = Login::new(settings.admin_user.clone(), admin);
        Self { settings, admin }
    }

    /// Logs the administrator in and sends one command. Until it is sent, nothing can have taken effect.
    async fn command(&self, command: String) -> Result<String, Fault> {
        let mut session = Session::open(&self.settings).await?;
        match session.login(&self.admin).await?.as_str() {
            "OK" => {}
            _ => {
                let name = &self.admin.username;
                return Err(Fault::wrong_credential(format!("the administrative user `{name}` is refused")));
            }
        }
        let answer =
            session.ask(Zeroizing::new(command)).await.map_err(|fault| Fault::lost(fault.message))?;
        match answer.strip_prefix("ERROR ") {
            Some(why) => Err(Fault::rejected(format!("the demo service answered: {why}"))),
            None => Ok(answer),
        }
    }
}

#[async_trait]
impl Provider for Demo {
    async fn preflight(&self, strategy: &Strategy) -> Result<(), Fault> {
        supports(strategy).map_err(Fault::permanent)
    }

    async fn probe(&self, login: &Login) -> Probe {
        let attempt = async {
            let mut session = Session::open(&self.settings).await?;
            session.login(login).await
        };
        match attempt.await {
            Ok(answer) if answer == "OK" => Probe::Live,
            Ok(answer) if answer == "REFUSED" => Probe::Refused("refused by the demo service".into()),
            Ok(_) => Probe::Unknown(Fault::retryable("the demo service gave an unknown answer")),
            Err(fault) => Probe::Unknown(fault),
        }
    }

    async fn install(&self, login: &Login) -> Result<String, Fault> {
        check_user(&login.username).map_err(Fault::permanent)?;
        self.command(format!("ADD {} {}", login.username, hex(login))).await?;
        Ok(format!("`{}` has one more password", login.username))
    }

    async fn retire(&self, ending: &Ending<'_>) -> Result<String, Fault> {
        let login = ending.login;
        check_user(&login.username).map_err(Fault::permanent)?;
        self.command(format!("DROP {} {}", login.username, hex(login))).await?;
        Ok(format!("`{}` has one password less", login.username))
    }

    async fn sever(&self, ending: &Ending<'_>) -> Result<u64, Fault> {
        let login = ending.login;
        check_user(&login.username).map_err(Fault::permanent)?;
        let answer = self.command(format!("CUT {} {}", login.username, hex(login))).await?;
        let count = answer.strip_prefix("CUT ").and_then(|count| count.parse().ok());
        count.ok_or_else(|| Fault::retryable("the demo service gave an unknown answer"))
    }

    async fn install_temporary(&self, temporary: &Temporary) -> Result<String, Fault> {
        let login = &temporary.login;
        check_user(&login.username).map_err(Fault::permanent)?;
        self.command(format!("ADD {} {} {}", login.username, hex(login), temporary.valid_until.0)).await?;
        Ok(format!("`{}` is honoured until {}", login.username, temporary.valid_until))
    }

    async fn remove(&self, username: &str, _role: &str) -> Result<String, Fault> {
        if !username.starts_with(TEMPORARY_PREFIX) {
            return Err(Fault::permanent(format!("`{username}` is not a temporary user")));
        }
        self.command(format!("FORGET {username}")).await?;
        Ok(format!("`{username}` is removed"))
    }
}

/// The password's digest: administrators' commands carry no password.
fn hex(login: &Login) -> String {
    digest(login.password.expose()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string can be written to");
        hex
    })
}

struct Session(BufReader<TcpStream>);

impl Session {
    async fn open(settings: &Settings) -> Result<Self, Fault> {
        let place = (settings.host.as_str(), settings.port);
        match timeout(ANSWER_WITHIN, TcpStream::connect(place)).await {
            Ok(Ok(stream)) => Ok(Self(BufReader::new(stream))),
            Ok(Err(error)) => {
                Err(Fault::unreachable(format!("{}:{}: {error}", settings.host, settings.port)))
            }
            Err(_) => Err(Fault::unreachable(format!("{}:{}: no answer", settings.host, settings.port))),
        }
    }

    async fn login(&mut self, login: &Login) -> Result<String, Fault> {
        let text = format!("LOGIN {} {}", login.username, login.password.expose());
        self.ask(Zeroizing::new(text)).await
    }

    async fn ask(&mut self, text: impl Into<Zeroizing<String>>) -> Result<String, Fault> {
        let mut text = text.into();
        text.push('\n');
        let asked = async {
            self.0.get_mut().write_all(text.as_bytes()).await?;
            line(&mut self.0).await
        };
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(Some(answer))) => Ok(answer.to_string()),
            Ok(Ok(None)) => Err(Fault::unreachable("the demo service closed the connection")),
            Ok(Err(error)) => Err(Fault::unreachable(format!("the demo service: {error}"))),
            Err(_) => Err(Fault::unreachable("the demo service gave no answer in time")),
        }
    }
}
