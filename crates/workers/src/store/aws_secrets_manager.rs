//! AWS Secrets Manager, by the staging labels of its rotation contract: a version is put as `AWSPENDING`, becomes
//! `AWSCURRENT` in one change that leaves the one before as `AWSPREVIOUS`, and loses `AWSPENDING`.
//!
//! The client request token, which is also the version's id, is the same for every attempt with one version of a
//! credential. Every read names a version or a stage: without one the answer may be an old value.

mod answer;
mod settings;

use std::{collections::HashMap, fmt::Write as _};

use async_trait::async_trait;
use aws_sdk_secretsmanager::{Client, operation::describe_secret::DescribeSecretOutput};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

pub use settings::{Access, Settings};

use crate::{bundle::Bundle, fault::Fault, store::Store};

/// The name of this kind of store.
pub const KIND: &str = "aws-secrets-manager";

const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Secrets Manager in one region of one account.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
}

impl SecretsManager {
    /// A client with the given access, or with what the process finds around it: environment, profile, container
    /// or instance role. Nothing is asked of AWS yet but, for a role, its credentials.
    pub async fn new(settings: Settings, access: Option<Access>) -> Self {
        Self { client: Client::from_conf(settings.client_config(access).await) }
    }

    /// What is known of a secret, or `None` when there is none.
    async fn describe(&self, path: &str) -> Result<Option<Stages>, Fault> {
        match self.client.describe_secret().secret_id(path).send().await {
            Ok(described) => Stages::read(described).map(Some),
            Err(error) if answer::is_missing(&error) => Ok(None),
            Err(error) => Err(answer::fault(&error)),
        }
    }

    /// What is known of a secret that must be there.
    async fn described(&self, path: &str) -> Result<Stages, Fault> {
        self.describe(path).await?.ok_or_else(|| Fault::rejected("there is no such secret"))
    }

    /// Makes a secret without a value.
    async fn create(&self, path: &str) -> Result<(), Fault> {
        let made = self.client.create_secret().name(path).description("Rotated by Revolve").send().await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if answer::exists(&error) => Ok(()),
            Err(error) => Err(answer::fault(&error)),
        }
    }

    /// The value of one version.
    async fn value(&self, path: &str, version: &str) -> Result<SecretString, Fault> {
        let read = self.client.get_secret_value().secret_id(path).version_id(version).send().await;
        let value = read.map_err(|error| answer::fault(&error))?.secret_string;
        value.map(SecretString::from).ok_or_else(|| Fault::rejected("a version of the secret is not text"))
    }

    /// Moves a label in one change: from a version, to a version, or both.
    async fn label(
        &self,
        path: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), Fault> {
        let change = self.client.update_secret_version_stage().secret_id(path).version_stage(label);
        let change = change.set_remove_from_version_id(from.map(str::to_owned));
        let change = change.set_move_to_version_id(to.map(str::to_owned));
        change.send().await.map(drop).map_err(|error| answer::fault(&error))
    }
}

#[async_trait]
impl Store for SecretsManager {
    async fn stage(&self, path: &str, bundle: &Bundle) -> Result<(), Fault> {
        let token = token(bundle);
        let stages = match self.describe(path).await? {
            Some(stages) => stages,
            None => {
                self.create(path).await?;
                self.described(path).await?
            }
        };
        if stages.rotated_by_aws {
            return Err(Fault::rejected(
                "AWS rotates this secret itself: turn that off (CancelRotateSecret)",
            ));
        }
        if stages.knows(&token) {
            // Put by an earlier attempt. Another writer's value under our token must never be promoted.
            return match bundle.same_login(&self.value(path, &token).await?) {
                true => Ok(()),
                false => Err(Fault::permanent("this version was written before, with another value")),
            };
        }
        let put = self.client.put_secret_value().secret_id(path).client_request_token(&token);
        let put = put.secret_string(bundle.to_json().expose_secret()).version_stages(PENDING).send().await;
        match put {
            Ok(_) => Ok(()),
            Err(error) if answer::exists(&error) => {
                Err(Fault::permanent("this version was written before, with another value"))
            }
            Err(error) => Err(answer::fault(&error)),
        }
    }

    async fn promote(&self, path: &str, bundle: &Bundle) -> Result<(), Fault> {
        let token = token(bundle);
        let stages = self.described(path).await?;
        let current = stages.on(CURRENT)?;
        if current != Some(token.as_str()) {
            // Names the version that loses the label: had another writer moved it since, AWS would refuse.
            self.label(path, CURRENT, current, Some(&token)).await?;
        }
        if stages.on(PENDING)? == Some(token.as_str()) {
            self.label(path, PENDING, Some(&token), None).await?;
        }
        let stages = self.described(path).await?;
        if stages.on(CURRENT)? != Some(token.as_str()) || stages.on(PENDING)? == Some(token.as_str()) {
            return Err(Fault::retryable("the labels were moved and do not show it yet"));
        }
        Ok(())
    }

    async fn restore(&self, path: &str, candidate: &Bundle, current: Option<&Bundle>) -> Result<(), Fault> {
        let candidate = token(candidate);
        let Some(stages) = self.describe(path).await? else { return Ok(()) };
        if stages.on(CURRENT)? == Some(candidate.as_str()) {
            let known = current.map(token).filter(|token| stages.knows(token));
            // The version before ours may be one that somebody else wrote.
            let back = known.as_deref().or(stages.on(PREVIOUS)?);
            if let Some(back) = back.filter(|back| *back != candidate) {
                self.label(path, CURRENT, Some(&candidate), Some(back)).await?;
            }
        }
        // Read again: moving one label moves another.
        let stages = self.described(path).await?;
        for label in [PENDING, PREVIOUS] {
            if stages.on(label)? == Some(candidate.as_str()) {
                self.label(path, label, Some(&candidate), None).await?;
            }
        }
        Ok(())
    }
}

/// Which version bears which labels.
struct Stages {
    of: HashMap<String, Vec<String>>,
    rotated_by_aws: bool,
}

impl Stages {
    fn read(described: DescribeSecretOutput) -> Result<Self, Fault> {
        if described.deleted_date.is_some() {
            return Err(Fault::rejected("the secret is about to be deleted: restore it (RestoreSecret)"));
        }
        Ok(Self {
            rotated_by_aws: described.rotation_enabled.unwrap_or_default(),
            of: described.version_ids_to_stages.unwrap_or_default(),
        })
    }

    fn knows(&self, version: &str) -> bool {
        self.of.contains_key(version)
    }

    /// The one version that bears `label`.
    fn on(&self, label: &str) -> Result<Option<&str>, Fault> {
        let bears = |labels: &Vec<String>| labels.iter().any(|one| one == label);
        let mut bearers =
            self.of.iter().filter(|(_, labels)| bears(labels)).map(|(version, _)| version.as_str());
        match (bearers.next(), bearers.next()) {
            (bearer, None) => Ok(bearer),
            (_, Some(_)) => Err(Fault::rejected(format!("two versions bear the label {label}"))),
        }
    }
}

/// The client request token of a version: the same for every attempt, in the form of a UUID. It covers all that the
/// bundle says but the password, so a target that moved gets a version of its own.
fn token(bundle: &Bundle) -> String {
    let address = &bundle.address;
    let mut hash = Sha256::new();
    for part in [
        "revolve-client-request-token",
        bundle.credential.as_str(),
        &bundle.version.to_string(),
        address.engine,
        &address.host,
        &address.port.to_string(),
        address.database.as_deref().unwrap_or_default(),
        &bundle.login.username,
    ] {
        // With its length, so that no two sequences of parts read alike.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = String::with_capacity(36);
    for (place, byte) in hash.finalize().iter().take(16).enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a string can be written to");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{provider::Address, secret::Login};

    fn bundle(version: u32, host: &str, password: &str) -> Bundle {
        Bundle {
            credential: "orders-db".parse().unwrap(),
            version,
            address: Address {
                engine: "postgres",
                host: host.into(),
                port: 5432,
                database: Some("orders".into()),
            },
            login: Login::new("app", SecretString::from(password)),
        }
    }

    #[test]
    fn a_version_keeps_its_token_and_no_two_versions_share_one() {
        let one = token(&bundle(1, "db", "p"));
        assert_eq!(one, token(&bundle(1, "db", "q")), "the password does not show in the token");
        assert_eq!(one.len(), 36);
        assert!(one.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, token(&bundle(2, "db", "p")));
        assert_ne!(one, token(&bundle(1, "db2", "p")));
    }

    #[test]
    fn a_bundle_reads_as_aws_writes_database_secrets() {
        let bundle = bundle(3, "db", "p\"q");
        let json = bundle.to_json();
        let read: serde_json::Value = serde_json::from_str(json.expose_secret()).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "engine": "postgres", "host": "db", "port": 5432, "dbname": "orders",
                "username": "app", "password": "p\"q", "credential": "orders-db", "version": 3,
            })
        );
        assert!(bundle.same_login(&json));
        assert!(!format!("{bundle:?}").contains("p\\\"q"));
    }
}
