//! `revolve certificate`.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use api::v1::{
    IssueCertificateRequest, IssueCertificateResponse, ListCertificatesRequest, RevokeCertificateRequest,
    revoke_certificate_request::Party,
};
use clap::{Subcommand, builder::PossibleValuesParser};
use model::{certificate::Serial, event::ReasonCode, name::NodeId, time::Span};
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    output::when::When,
    show::{Certificate, IssuedCertificate},
};

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Issue one for a client; its key is made here and goes nowhere
    Issue(Issue),
    /// Those of clients, and the nodes that are revoked
    List,
    /// Shut one out, or a node with all of its own, for good; open connections are cut
    Revoke {
        /// Its serial, or a node such as node-4
        #[arg(value_parser = text())]
        party: String,
        /// Why, in words of RFC 5280
        #[arg(long, value_name = "CODE", default_value = "unspecified",
              value_parser = PossibleValuesParser::new(codes()))]
        reason_code: String,
        /// Why, in your words
        #[arg(long, value_parser = text())]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A certificate to issue.
#[derive(Debug, clap::Args)]
pub struct Issue {
    /// Whose it is
    #[arg(value_parser = text())]
    name: String,
    /// Folder for NAME.pem, NAME.key and ca.pem; made when it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many days it is good
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=398))]
    days: u64,
}

fn codes() -> impl Iterator<Item = &'static str> {
    let fits = |code: &ReasonCode| !matches!(code, ReasonCode::Hold | ReasonCode::BreakGlassEnded);
    ReasonCode::ALL.into_iter().filter(fits).map(ReasonCode::as_str)
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Issue(it) => issue(app, it).await,
        Verb::List => {
            let found = app.client()?.list_certificates(ListCertificatesRequest {}).await?.certificates;
            app.output.list(&found.iter().map(Certificate::from).collect::<Vec<_>>())?;
            Ok(Exit::Done)
        }
        Verb::Revoke { party, reason_code, reason, yes } => {
            let asked = read_party(&party)?;
            confirm(&app.output, yes, &format!("this shuts out {party} for good"), &party)?;
            let request = RevokeCertificateRequest { party: Some(asked), reason_code, reason };
            let answer = app.client()?.revoke_certificate(request).await?;
            app.output.note(&format!("{party} is revoked, and its connections are cut"));
            if !answer.recorded {
                app.output.note("the cluster did not issue it; it is refused from now on all the same");
            }
            Ok(Exit::Done)
        }
    }
}

fn read_party(text: &str) -> Result<Party, Failure> {
    if text.starts_with("node-")
        && let Ok(NodeId(node)) = text.parse()
    {
        return Ok(Party::Node(node));
    }
    let serial: Serial = text.parse().map_err(|_| {
        Failure::usage(
            format!("`{text}` is neither a serial nor a node"),
            "`revolve certificate list` has the serials, `revolve cluster members` the nodes",
        )
    })?;
    Ok(Party::Serial(serial.to_string()))
}

async fn issue(app: &App, it: Issue) -> Outcome {
    let Issue { name, out, days } = it;
    fs::create_dir_all(&out).with_context(|| format!("cannot make `{}`", out.display()))?;
    let at = |ending: &str| out.join(format!("{name}.{ending}"));
    let (certificate, key) = (at("pem"), at("key"));
    // The files are made first: a certificate that cannot be kept is not asked for.
    let mut files = [create(&certificate, 0o644)?, create(&key, 0o600)?];
    match ask(app, &name, days).await.and_then(|(answer, pem)| {
        files[0].write_all(answer.certificate_pem.as_bytes())?;
        files[1].write_all(pem.as_bytes())?;
        Ok(answer)
    }) {
        Ok(answer) => {
            let ca = out.join("ca.pem");
            fs::write(&ca, &answer.ca_pem).with_context(|| format!("cannot write `{}`", ca.display()))?;
            let issued = IssuedCertificate {
                serial: answer.serial,
                expires: When(answer.expires_ms),
                ca: ca.display().to_string(),
                certificate: certificate.display().to_string(),
                key: key.display().to_string(),
            };
            app.output.screen(&issued, &issued.lines())?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            for path in [certificate, key] {
                if let Err(error) = fs::remove_file(&path) {
                    app.output.note(&format!("the empty file `{}` is left behind: {error}", path.display()));
                }
            }
            Err(failure)
        }
    }
}

/// Makes a key and asks for its certificate.
async fn ask(
    app: &App,
    name: &str,
    days: u64,
) -> Result<(IssueCertificateResponse, Zeroizing<String>), Failure> {
    let made = || {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok::<_, rcgen::Error>((request, Zeroizing::new(key.serialize_pem())))
    };
    let (request_pem, key) = made().context("cannot make a key")?;
    let request = IssueCertificateRequest { name: name.to_owned(), request_pem, ttl_ms: Span::days(days).0 };
    Ok((app.client()?.issue_certificate(request).await?, key))
}

fn create(path: &Path, mode: u32) -> Result<File, Failure> {
    let opened = File::options().write(true).create_new(true).mode(mode).open(path);
    opened.map_err(|error| {
        Failure::usage(
            format!("the certificate cannot be written to `{}`: {error}", path.display()),
            "name a folder that does not hold one yet; nothing is overwritten",
        )
    })
}
