//! What went wrong at a target or a store, and whether it may have taken effect all the same.

use model::attempt::FailureClass;

/// A verb that did not succeed. The message is for people and carries no secret and no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure it is, which decides what happens next.
    pub class: FailureClass,
    /// What happened.
    pub message: String,
    /// Whether the verb may have taken effect.
    pub effect: Effect,
}

/// Whether a verb that failed may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It did not.
    None,
    /// Nobody knows: the reply was lost.
    Unknown,
}

impl Fault {
    /// A failure of `class` that had no effect.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), effect: Effect::None }
    }

    /// Worth another try.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Retryable, message)
    }

    /// The target or store understood and will not do it.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(FailureClass::RejectedByTarget, message)
    }

    /// The administrative access was refused.
    pub fn wrong_credential(message: impl Into<String>) -> Self {
        Self::new(FailureClass::WrongCredential, message)
    }

    /// It could not be reached, and nothing was asked of it.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Unreachable, message)
    }

    /// No further try can succeed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Permanent, message)
    }

    /// The reply was lost: it may have taken effect.
    pub fn lost(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Unreachable, message: message.into(), effect: Effect::Unknown }
    }

    /// The same failure, saying where it happened.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}
