//! What a fuzzer is let at: bearer tokens, join tokens, configurations and the records of consumers. Each function takes any text and
//! must return. They are run as ordinary tests below, and for hours by the targets in `fuzz/`.

use secrecy::ExposeSecret as _;

use crate::{config::Config, consumer_file, join::JoinToken, token::Bearer};

/// What stands after `Bearer` in a request.
///
/// # Panics
///
/// When a token that was read is written in another way.
pub fn bearer(text: &str) {
    if let Ok(bearer) = Bearer::parse(text) {
        assert_eq!(bearer.to_text().expose_secret(), text, "a token has one form");
    }
}

/// What stands in the file of a join token.
///
/// # Panics
///
/// When a token that was read is written in another way.
pub fn join_token(text: &str) {
    if let Ok(token) = JoinToken::parse(text) {
        assert_eq!(token.to_text().expose_secret(), text, "a join token has one form");
    }
}

/// The configuration of a node.
pub fn config(text: &str) {
    if let Ok(config) = toml::from_str::<Config>(text) {
        let _ = (config.check(), config.peer_addresses(), config.schedule_floor());
    }
}

/// The record of a consumer that is given to a restore.
///
/// # Panics
///
/// When it tells of an event beyond the last revision that it says it has seen.
pub fn consumer_file(text: &str) {
    if let Ok(seen) = consumer_file::read_from(text.as_bytes()) {
        assert!(seen.events().all(|event| (1..=seen.revision()).contains(&event.revision)));
        assert!(seen.complete_up_to(0) <= seen.revision());
    }
}

#[cfg(test)]
mod tests {
    use fuzzing::{INPUTS, survives_text};

    use super::*;

    #[test]
    fn tokens_of_any_content_are_read_or_refused() {
        let whole = Bearer::generate("ci.deploy-1".parse().unwrap()).to_text();
        survives_text(INPUTS, &[whole.expose_secret(), "rvlt_a.", "rvlt_é.AAAA"], bearer);
    }

    #[test]
    fn join_tokens_of_any_content_are_read_or_refused() {
        let pinned = JoinToken::generate("rack.7".parse().unwrap(), Some([7; 32])).to_text();
        let plain = JoinToken::generate("rack.7".parse().unwrap(), None).to_text();
        let whole = [pinned.expose_secret(), plain.expose_secret(), "rvj_a.", "rvj_é.AAAA.-"];
        survives_text(INPUTS, &whole, join_token);
    }

    #[test]
    fn configurations_of_any_content_are_read_or_refused() {
        let whole = r#"
            node = 1
            data = "data"
            root_key_file = "root.key"
            [listen]
            client = "127.0.0.1:7800"
            peer = "[::1]:7801"
            [peers]
            1 = "127.0.0.1:7801"
            [tls]
            cert_file = "c"
            key_file = "k"
            [timing]
            heartbeat_ms = 150
            [limits]
            schedule_floor_ms = 60000
        "#;
        survives_text(INPUTS / 4, &[whole], config);
    }

    #[test]
    fn records_of_consumers_of_any_content_are_read_or_refused() {
        let event = r#"{"type":"event","revision":1,"at":"2026-09-21T14:13:20.123Z","kind":"credential-revoked","credential":"orders-db","version":2,"target":"pg","reasonCode":"hold","revocation":"rev-4","deadline":null}"#;
        let grant = r#"{"type":"event","revision":2,"kind":"grant-ended","grant":"bg-3","target":"pg","reasonCode":"break-glass-ended"}"#;
        let snapshot = r#"{"type":"snapshot","revision":3,"versions":[{"credential":"orders-db","version":3,"state":"active"}]}"#;
        let whole = [event, grant, snapshot, r#"{"type":"heartbeat","revision":4}"#].join("\n");
        survives_text(INPUTS, &[&whole[..], event, grant], super::consumer_file);
    }
}
