//! What does not fit the model's types, and where it stood.

use std::{fmt::Display, str::FromStr};

use model::refusal::{Code, Refusal};

/// A field of a request that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct Malformed {
    field: String,
    problem: String,
    code: Code,
}

impl Malformed {
    /// `field` cannot be understood; carries no secret.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Display) -> Self {
        Self { field: field.into(), problem: problem.to_string(), code: Code::InvalidRequest }
    }

    /// `field` must be given.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::new(field, "is missing")
    }

    /// The same with a code of its own.
    #[must_use]
    pub fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The same, one level further in: `name` becomes `parent.name`.
    #[must_use]
    pub fn within(self, parent: impl Display) -> Self {
        Self { field: format!("{parent}.{}", self.field), ..self }
    }

    /// The path of the field, such as `schedule.timing.every_ms`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::new(malformed.code, malformed.to_string())
    }
}

/// Reads the text of `field` as a name, an id or one of a set of words.
///
/// # Errors
/// [`Malformed`], with what the type says of the text.
pub fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|error| Malformed::new(field, error))
}

/// Reads one of a set of words.
pub(crate) fn word<T: Copy>(field: &str, text: &str, words: &[(&str, T)]) -> Result<T, Malformed> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        Malformed::new(field, format!("use one of {known}"))
    })
}

/// Reads every text of a list.
pub(crate) fn parse_all<T: FromStr<Err: Display>, C: FromIterator<T>>(
    field: &str,
    texts: &[String],
) -> Result<C, Malformed> {
    texts.iter().enumerate().map(|(at, text)| parse(&format!("{field}[{at}]"), text)).collect()
}

#[cfg(test)]
mod tests {
    use model::name::TargetName;

    use super::*;

    #[test]
    fn a_malformed_field_is_named_with_its_path() {
        let error =
            parse::<TargetName>("name", "No Name").unwrap_err().within("target").within("resources[3]");
        assert_eq!(error.field(), "resources[3].target.name");
        let refusal = Refusal::from(error);
        assert_eq!(refusal.code, Code::InvalidRequest);
        assert!(refusal.message.contains("No Name"), "{refusal}");
    }

    #[test]
    fn an_unknown_word_is_answered_with_those_there_are() {
        let error = word("misfire", "never", &[("run-once", 1), ("skip", 2)]).unwrap_err();
        assert_eq!(error.to_string(), "`misfire`: use one of `run-once`, `skip`");
    }
}
