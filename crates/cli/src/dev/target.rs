//! The demo target, and a login at it as an application would make one.

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use server::demo::{Login, Password, Service};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// The one user that may change others.
pub const ADMIN: &str = "admin";

/// The demo target: a TCP service in this process that checks credentials and keeps sessions.
pub struct DemoTarget {
    service: Service,
    admin: Login,
}

impl DemoTarget {
    /// Starts it on a port of its own.
    pub async fn start() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot open a port for the demo target")?;
        let admin = Login::new(ADMIN, Password::generate(&model::target::SecretPolicy::default()));
        let service = Service::start(listener, &admin).context("cannot start the demo target")?;
        Ok(Self { service, admin })
    }

    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.service.address().port()
    }

    /// The password of its administrator.
    pub fn admin_password(&self) -> String {
        self.admin.password.expose().to_owned()
    }

    /// Makes it honour a login, as the state that was kept says it did before.
    pub fn honour(&self, username: &str, password: &SecretString) {
        self.service.honour(&Login::new(username, password.clone()));
    }
}

/// A session at the demo target.
pub struct Session(BufReader<TcpStream>);

impl Session {
    /// Logs in; refused is an error.
    pub async fn open(port: u16, username: &str, password: &SecretString) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).await.context("the demo target cannot be reached")?;
        let mut session = Self(BufReader::new(stream));
        let line = zeroize_line(format!("LOGIN {username} {}\n", password.expose_secret()));
        session.0.write_all(line.expose_secret().as_bytes()).await?;
        match session.answer().await?.as_deref() {
            Some("OK") => Ok(session),
            _ => bail!("the demo target refuses `{username}`"),
        }
    }

    /// Waits until the other side cuts the session.
    pub async fn cut(mut self) {
        while let Ok(Some(_)) = self.answer().await {}
    }

    async fn answer(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }
}

fn zeroize_line(line: String) -> SecretString {
    line.into()
}
