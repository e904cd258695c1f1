//! Connections: each verb opens its own and lets it go.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio_postgres::{
    Client, Config, NoTls, Socket,
    config::{ChannelBinding, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    answer,
    settings::{Settings, Tls},
};
use crate::{fault::Fault, provider::Probe, secret::Login};

/// How sessions show in `pg_stat_activity`.
const APPLICATION: &str = "revolve";

/// Opens sessions at one server.
pub struct Connector {
    settings: Settings,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// A connector to the server that `settings` describe.
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        let tls = match settings.tls {
            Tls::Disable => None,
            Tls::Require => Some(MakeRustlsConnect::new(unread_certificate())),
            Tls::Verify => Some(verified_certificate(&settings)?),
        };
        Ok(Self { settings, tls })
    }

    /// A session of the administrative user, in the target's database or another.
    pub async fn administer(&self, admin: &Login, database: Option<&str>) -> Result<Client, Fault> {
        let place = || format!("{}:{}", self.settings.host, self.settings.port);
        let client = match self.open(admin, database).await {
            Ok(client) => client,
            Err(Some(error)) => return Err(answer::admin_refused(&error, &admin.username).within(&place())),
            Err(None) => return Err(self.no_answer().within(&place())),
        };
        client.batch_execute(&self.setup()).await.map_err(|error| answer::unsent(&error).within(&place()))?;
        Ok(client)
    }

    /// Attempts a login, and asks for a row: what stands in front of the server may let in whom the server does not.
    pub async fn probe(&self, login: &Login) -> Probe {
        match self.open(login, None).await {
            Ok(client) => {
                let row = within(self.settings.connect_timeout, client.simple_query("SELECT 1")).await;
                match row {
                    Ok(_) => Probe::Live,
                    Err(_) => Probe::Admitted("no row could be read".into()),
                }
            }
            Err(Some(error)) => answer::login_refused(&error),
            Err(None) => Probe::Unknown(self.no_answer()),
        }
    }

    /// A new session, or the server's answer, or `None` when there was no answer in time.
    async fn open(
        &self,
        login: &Login,
        database: Option<&str>,
    ) -> Result<Client, Option<tokio_postgres::Error>> {
        let settings = &self.settings;
        let mut config = Config::new();
        config
            .host(&settings.host)
            .port(settings.port)
            .dbname(database.unwrap_or(&settings.database))
            .user(&login.username)
            .password(login.password.expose())
            .application_name(APPLICATION)
            .connect_timeout(settings.connect_timeout)
            .ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if settings.tls == Tls::Require {
            config.channel_binding(ChannelBinding::Require);
        }
        match &self.tls {
            Some(tls) => within(settings.connect_timeout, connect(&config, tls.clone())).await,
            None => within(settings.connect_timeout, connect(&config, NoTls)).await,
        }
    }

    /// Statements that make a session ours: nothing of the user's own settings may bend what follows.
    fn setup(&self) -> String {
        let timeout = self.settings.statement_timeout.as_millis();
        // An acknowledged change must outlive a crash of the server.
        format!(
            "SET search_path = pg_catalog; SET statement_timeout = {timeout}; SET lock_timeout = {timeout}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'"
        )
    }

    fn no_answer(&self) -> Fault {
        Fault::unreachable(format!("no answer within {} ms", self.settings.connect_timeout.as_millis()))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

async fn connect<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket> + Send,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await?;
    // It ends with its client; its error reaches the client's pending call as well.
    tokio::spawn(async { drop(connection.await) });
    Ok(client)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Option<tokio_postgres::Error>> {
    match tokio::time::timeout(limit, work).await {
        Ok(answered) => answered.map_err(Some),
        Err(_) => Err(None),
    }
}

fn verified_certificate(settings: &Settings) -> Result<MakeRustlsConnect, Fault> {
    let Some(file) = &settings.ca_file else {
        return match MakeRustlsConnect::with_native_certs() {
            Ok((connector, _unreadable)) => Ok(connector),
            Err(_) => Err(Fault::permanent("this system has no certificates of authorities: give `ca_file`")),
        };
    };
    let unusable =
        |why: String| Fault::permanent(format!("cannot use `ca_file` `{}`: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it".into()));
    }
    let config = tls_builder().with_root_certificates(roots).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unread_certificate() -> ClientConfig {
    let verifier = Arc::new(AnyCertificate(Arc::new(aws_lc_rs::default_provider())));
    tls_builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

fn tls_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider serves TLS 1.2 and 1.3")
}

/// Takes any certificate, as libpq's `sslmode=require` does. Who holds its key is shown by channel binding instead:
/// the SCRAM exchange covers the certificate's hash.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
