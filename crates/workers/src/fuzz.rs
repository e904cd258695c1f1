//! What a fuzzer is let at: keys, sealed secrets and what stands in parameters. Each function takes any bytes and must
//! return. They are run as ordinary tests below, and for hours by the targets in `fuzz/`. What a PostgreSQL server
//! answers is read by `tokio-postgres`, and what AWS answers by its SDK: those parsers have their own fuzzers.

use std::collections::BTreeMap;

use model::sealed::Sealed;
use secrecy::SecretString;

use crate::{
    DataKey, RootKey,
    provider::{demo, postgres},
    store::aws_secrets_manager as aws,
};

/// 32 bytes, as text.
const ROOT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A blob that should be a wrapped data key or a sealed secret.
///
/// # Panics
///
/// When it is opened: nobody forges one without the key.
pub fn sealed(blob: &[u8]) {
    let root = RootKey::from_text(ROOT).expect("32 bytes in hexadecimal");
    for id in [0, 1] {
        assert!(DataKey::unwrap(id, blob, &root).is_err(), "a blob that was never wrapped is unwrapped");
    }
    if let Ok(sealed) = Sealed::try_from(blob.to_vec()) {
        let opened = DataKey::generate(1).open(&sealed, b"place");
        assert!(opened.is_err(), "a blob that was never sealed is opened");
        let _ = DataKey::needed(&sealed);
    }
}

/// The text of a root key file, and of what opens a store.
pub fn keys(text: &str) {
    let _ = RootKey::from_text(text);
    let _ = aws::Access::parse(&SecretString::from(text.to_owned()));
}

/// Parameters of targets and stores: `name=value`, a line each.
pub fn params(text: &str) {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let given: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let _ = postgres::Settings::parse(&given);
    let _ = demo::Settings::parse(&given);
    let _ = aws::Settings::parse(&given);
}

#[cfg(test)]
mod tests {
    use fuzzing::{INPUTS, survives, survives_text};

    use super::*;

    #[test]
    fn blobs_of_any_content_stay_closed() {
        // Of another root key and another data key, so that no change can make them right.
        let wrapped = |id| DataKey::generate(id).wrap(&RootKey::generate());
        let secret = DataKey::generate(1).seal(&SecretString::from("a secret".to_owned()), b"place").unwrap();
        survives(INPUTS / 4, vec![wrapped(0), wrapped(1), secret.as_bytes().to_vec()], sealed);
    }

    #[test]
    fn texts_of_keys_are_read_or_refused() {
        let access = r#"{"access_key_id": "AKIA", "secret_access_key": "s", "session_token": "é"}"#;
        survives_text(INPUTS, &[ROOT, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", access], keys);
    }

    #[test]
    fn parameters_of_any_content_are_read_or_refused() {
        let seeds = [
            "host=db.example\nport=5432\ndatabase=app\nusername=revolve\ntls=verify-full\nca=-----BEGIN",
            "port=1\nusername=admin\nroles=reader,writer",
            "region=eu-west-1\nendpoint=http://localhost:5000/\nkms_key=alias/é",
            "host=::1\nport=99999\ntls=off",
        ];
        survives_text(INPUTS, &seeds, params);
    }
}
