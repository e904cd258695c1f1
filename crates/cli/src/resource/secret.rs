//! Secrets in YAML: only by reference.

use std::{fmt, path::Path, path::PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

use crate::{exit::Failure, settings};

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In a file, relative to the folder of the YAML file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl SecretRef {
    /// Reads the secret; a relative path starts at `folder`.
    ///
    /// # Errors
    /// When it is not there, is empty, or everyone may read the file.
    pub fn read(&self, folder: &Path) -> Result<SecretString, Failure> {
        match self {
            Self::File(path) => settings::read_secret(&folder.join(path)),
            Self::Env(name) => settings::variable(name).map(Into::into).ok_or_else(|| {
                Failure::usage(
                    format!("the environment variable `{name}` is not set"),
                    "set it and try again",
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference)
    }
}

const LITERAL: &str = "a secret must not stand in the file: write `{file: PATH}` or `{env: VARIABLE}`";

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    File,
    Env,
}

struct Reference;

/// Refuses a literal of any type without repeating it.
macro_rules! refuse {
    ($($visit:ident($type:ty))*) => {$(
        fn $visit<E: de::Error>(self, _secret: $type) -> Result<SecretRef, E> {
            Err(E::custom(LITERAL))
        }
    )*};
}

impl<'de> de::Visitor<'de> for Reference {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{file: PATH}` or `{env: VARIABLE}`")
    }

    refuse! { visit_str(&str) visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) }

    fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<SecretRef, M::Error> {
        let found = match map.next_key::<Key>()? {
            Some(Key::File) => SecretRef::File(map.next_value()?),
            Some(Key::Env) => SecretRef::Env(map.next_value()?),
            None => {
                return Err(de::Error::custom(
                    "say where the secret is: `{file: PATH}` or `{env: VARIABLE}`",
                ));
            }
        };
        match map.next_key::<Key>()? {
            None => Ok(found),
            Some(Key::File | Key::Env) => Err(de::Error::custom("give `file` or `env`, not both")),
        }
    }
}
