//! Targets.

use model::{
    command::PutTarget,
    refusal::Code,
    target::{Alphabet, SecretPolicy, Target},
};

use crate::{Malformed, malformed::word, parse, v1};

const ALPHABETS: [(&str, Alphabet); 3] = [
    ("alphanumeric", Alphabet::Alphanumeric),
    ("url-safe", Alphabet::UrlSafe),
    ("symbols", Alphabet::Symbols),
];

impl TryFrom<v1::Target> for PutTarget {
    type Error = Malformed;

    /// Leaves the administrative secret out: the server seals it.
    fn try_from(wire: v1::Target) -> Result<Self, Malformed> {
        Ok(Self {
            name: parse("name", &wire.name)?,
            provider: wire.provider,
            params: wire.params,
            admin: None,
            secrets: secret_policy(wire.secrets.as_ref()).map_err(|error| error.within("secrets"))?,
            break_glass_roles: wire.break_glass_roles,
        })
    }
}

impl From<&Target> for v1::Target {
    fn from(row: &Target) -> Self {
        Self {
            name: row.name.to_string(),
            provider: row.provider.clone(),
            params: row.params.clone(),
            admin_password: String::new(),
            secrets: Some(v1::SecretPolicy {
                length: row.secrets.length.into(),
                alphabet: alphabet_name(row.secrets.alphabet).to_owned(),
            }),
            break_glass_roles: row.break_glass_roles.clone(),
            has_admin_password: row.admin.is_some(),
        }
    }
}

fn secret_policy(wire: Option<&v1::SecretPolicy>) -> Result<SecretPolicy, Malformed> {
    let default = SecretPolicy::default();
    let Some(wire) = wire else { return Ok(default) };
    let length = match wire.length {
        0 => default.length,
        length => u16::try_from(length)
            .map_err(|_| Malformed::new("length", "is far too long").with_code(Code::OutOfRange))?,
    };
    let alphabet = match wire.alphabet.as_str() {
        "" => default.alphabet,
        text => word("alphabet", text, &ALPHABETS)?,
    };
    Ok(SecretPolicy { length, alphabet })
}

const fn alphabet_name(alphabet: Alphabet) -> &'static str {
    match alphabet {
        Alphabet::Alphanumeric => "alphanumeric",
        Alphabet::UrlSafe => "url-safe",
        Alphabet::Symbols => "symbols",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_secret_policies_take_the_default() {
        assert_eq!(secret_policy(None), Ok(SecretPolicy::default()));
        assert_eq!(secret_policy(Some(&v1::SecretPolicy::default())), Ok(SecretPolicy::default()));
        let wire = v1::SecretPolicy { length: 70_000, alphabet: String::new() };
        assert!(secret_policy(Some(&wire)).is_err());
    }

    #[test]
    fn every_alphabet_is_read_back_as_written() {
        for (name, alphabet) in ALPHABETS {
            assert_eq!(alphabet_name(alphabet), name);
        }
    }
}
