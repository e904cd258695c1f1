//! Checks of content that several commands share.

use crate::{
    State, caps,
    credential::{Credential, Version},
    name::{ConsumerName, CredentialName, IdentityName, StoreName, TargetName},
    refusal::{Code, Refusal},
    target::Target,
    time::Span,
};

use super::refuse;

/// A text that must be there, within the limit.
pub(super) fn text(field: &str, value: &str, missing: Code) -> Result<(), Refusal> {
    if value.trim().is_empty() {
        return refuse(missing, format!("`{field}` is empty"));
    }
    optional_text(field, value)
}

/// A text that may be empty.
pub(super) fn optional_text(field: &str, value: &str) -> Result<(), Refusal> {
    if value.len() > caps::TEXT_BYTES {
        return refuse(
            Code::TooLong,
            format!("`{field}` has {} bytes, more than {}", value.len(), caps::TEXT_BYTES),
        );
    }
    if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return refuse(Code::InvalidRequest, format!("`{field}` contains control characters"));
    }
    Ok(())
}

/// A list within the limit.
pub(super) fn count(field: &str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count > limit {
        return refuse(Code::TooLong, format!("`{field}` has {count} entries, more than {limit}"));
    }
    Ok(())
}

/// A span within its range, ends included.
pub(super) fn span(field: &str, value: Span, min: Span, max: Span) -> Result<(), Refusal> {
    if value < min || value > max {
        return refuse(Code::OutOfRange, format!("`{field}` is {value}, outside {min} to {max}"));
    }
    Ok(())
}

impl State {
    pub(super) fn known_identity(&self, name: &IdentityName) -> Result<&crate::identity::Identity, Refusal> {
        self.identities
            .get(name)
            .ok_or_else(|| Refusal::new(Code::UnknownIdentity, format!("there is no identity `{name}`")))
    }

    pub(super) fn known_target(&self, name: &TargetName) -> Result<&Target, Refusal> {
        self.targets
            .get(name)
            .ok_or_else(|| Refusal::new(Code::UnknownTarget, format!("there is no target `{name}`")))
    }

    pub(super) fn known_store(&self, name: &StoreName) -> Result<(), Refusal> {
        if self.stores.contains(name) {
            return Ok(());
        }
        refuse(Code::UnknownStore, format!("there is no store `{name}`"))
    }

    pub(super) fn known_credential(&self, name: &CredentialName) -> Result<&Credential, Refusal> {
        self.credentials
            .get(name)
            .ok_or_else(|| Refusal::new(Code::UnknownCredential, format!("there is no credential `{name}`")))
    }

    pub(super) fn known_version(&self, name: &CredentialName, number: u32) -> Result<&Version, Refusal> {
        self.versions.get(&(name.clone(), number)).ok_or_else(|| {
            Refusal::new(Code::UnknownVersion, format!("credential `{name}` has no version {number}"))
        })
    }

    pub(super) fn known_consumer(&self, name: &ConsumerName) -> Result<&crate::consumer::Consumer, Refusal> {
        self.consumers
            .get(name)
            .ok_or_else(|| Refusal::new(Code::UnknownConsumer, format!("there is no consumer `{name}`")))
    }
}
