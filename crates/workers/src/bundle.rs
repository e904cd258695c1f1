//! The bundle: everything a consumer needs for one login, as one value that is flipped as one.

use model::{name::CredentialName, target::Target};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::{
    params::ParamError,
    provider::{self, Address},
    secret::Login,
};

/// One version of a credential, as stores hold it and consumers read it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The credential.
    pub credential: CredentialName,
    /// Its version.
    pub version: u32,
    /// Where it is honoured.
    pub address: Address,
    /// User and password.
    pub login: Login,
}

impl Bundle {
    /// The bundle of a version, with the address from the target's parameters.
    ///
    /// # Errors
    /// When the target's parameters are not those of its provider.
    pub fn new(
        credential: &CredentialName,
        version: u32,
        target: &Target,
        login: &Login,
    ) -> Result<Self, ParamError> {
        let address = provider::address(target)?;
        Ok(Self { credential: credential.clone(), version, address, login: login.clone() })
    }

    /// The bundle as JSON, with the keys AWS uses for database secrets (`engine`, `host`, `port`, `dbname`,
    /// `username`, `password`) and `credential` and `version` beside them. The same bundle always gives the same
    /// text.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        #[derive(Serialize)]
        struct Form<'a> {
            engine: &'a str,
            host: &'a str,
            port: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            dbname: Option<&'a str>,
            username: &'a str,
            password: &'a str,
            credential: &'a str,
            version: u32,
        }
        let form = Form {
            engine: self.address.engine,
            host: &self.address.host,
            port: self.address.port,
            dbname: self.address.database.as_deref(),
            username: &self.login.username,
            password: self.login.password.expose(),
            credential: self.credential.as_str(),
            version: self.version,
        };
        // Room enough that the text does not move while it grows, escapes included.
        let mut text =
            Vec::with_capacity(6 * (256 + form.host.len() + form.username.len() + form.password.len()));
        serde_json::to_writer(&mut text, &form).expect("strings and numbers can be written as JSON");
        String::from_utf8(text).expect("JSON is UTF-8").into()
    }

    /// Whether `json` is a bundle with the same user and password.
    #[must_use]
    pub fn same_login(&self, json: &SecretString) -> bool {
        #[derive(serde::Deserialize)]
        struct Form {
            username: String,
            password: SecretString,
        }
        serde_json::from_str::<Form>(json.expose_secret()).is_ok_and(|form| {
            form.username == self.login.username
                && form.password.expose_secret() == self.login.password.expose()
        })
    }
}
