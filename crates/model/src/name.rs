//! Names and ids: newtypes that exist only when they are valid.

use std::{fmt, marker::PhantomData, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::caps;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a valid {kind} name: use 1 to {max} of a-z, 0-9, `-`, `_`, `.`, starting with a letter or digit",
    max = caps::NAME_BYTES
)]
pub struct NameError {
    kind: &'static str,
    given: String,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError { kind: $kind, given: text.chars().take(caps::NAME_BYTES + 1).collect() })
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )*};
}

/// Reads a name from a text where it lies: a state has several for each of its rows.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = NameError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

names! {
    /// The name of an identity.
    IdentityName = "identity";
    /// The name of a target.
    TargetName = "target";
    /// The name of a store.
    StoreName = "store";
    /// The name of a credential.
    CredentialName = "credential";
    /// The name of a schedule.
    ScheduleName = "schedule";
    /// The name of a consumer.
    ConsumerName = "consumer";
    /// The name of a token.
    TokenName = "token";
    /// The name of a join token.
    JoinTokenName = "join token";
    /// Whose a certificate of the client port is.
    CertificateName = "certificate";
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=caps::NAME_BYTES).contains(&bytes.len())
        && bytes.first().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads the displayed form; the prefix may be left out.
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .unwrap_or(text)
                    .parse()
                    .map(Self)
                    .map_err(|_| IdError { given: text.chars().take(80).collect(), example: concat!($prefix, "42") })
            }
        }
    )*};
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id such as `{example}`")]
pub struct IdError {
    given: String,
    example: &'static str,
}

impl IdError {
    /// `given` should have looked like `example`.
    pub(crate) fn of(given: &str, example: &'static str) -> Self {
        Self { given: given.chars().take(80).collect(), example }
    }
}

ids! {
    /// One run of a schedule.
    RotationId = "rot-";
    /// One revocation statement.
    RevocationId = "rev-";
    /// One grant.
    GrantId = "bg-";
    /// One node of the cluster, as Raft counts them.
    NodeId = "node-";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", "-a", "A", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad}");
        }
        assert_eq!("orders-db.v2_x".parse::<TargetName>().unwrap().to_string(), "orders-db.v2_x");
    }

    #[test]
    fn names_are_written_as_texts_and_checked_when_they_are_read() {
        let name: TargetName = "orders-db".parse().unwrap();
        let written = postcard::to_stdvec(&name).unwrap();
        assert_eq!(written, postcard::to_stdvec("orders-db").unwrap());
        assert_eq!(postcard::from_bytes(&written), Ok(name));
        let bad = postcard::to_stdvec("Orders DB").unwrap();
        assert!(postcard::from_bytes::<TargetName>(&bad).is_err());
    }

    #[test]
    fn ids_are_read_back_as_displayed() {
        assert_eq!(GrantId(7).to_string(), "bg-7");
        assert_eq!("bg-7".parse(), Ok(GrantId(7)));
        assert_eq!("7".parse(), Ok(GrantId(7)));
        assert!("rot-7".parse::<GrantId>().is_err());
    }
}
