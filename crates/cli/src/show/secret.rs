//! The few things that are secret: shown on stdout when asked for, never in `Debug`.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use crate::output::when::When;

/// A login.
#[derive(Debug, Serialize)]
pub struct Secret {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub username: String,
    #[serde(serialize_with = "exposed")]
    pub password: SecretString,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<When>,
    pub connection: BTreeMap<String, String>,
}

impl Secret {
    /// `key=value` lines.
    pub fn lines(&self) -> String {
        let mut text = format!("username={}\npassword={}\n", self.username, self.password.expose_secret());
        for (key, value) in &self.connection {
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }
}

/// A token that was just issued.
#[derive(Debug, Serialize)]
pub struct IssuedToken {
    pub name: String,
    #[serde(serialize_with = "exposed")]
    pub token: SecretString,
    pub expires: When,
}

fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}
