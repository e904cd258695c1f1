//! One YAML document: `apiVersion`, `kind`, `metadata`, `spec`; read strictly, so that a slip is named with its line.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use super::{
    API_VERSION, Kind,
    spec::{Consumer, Credential, Identity, Schedule, Spec, Store, Target},
};
use crate::exit::Failure;

/// How alike a word must be to be suggested, from 0 to 1.
const LIKENESS: f32 = 0.6;

/// A declared resource.
#[derive(Debug)]
pub struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What is declared.
    pub spec: Spec,
}

/// Reads all documents of `text`; `file` is how messages call it.
///
/// # Errors
/// With file, line and column, and a suggestion where a name was mistyped.
pub fn parse(text: &str, file: &str) -> Result<Vec<Document>, Failure> {
    // Without snippets: a line of the file may hold what should have been a reference to a secret.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_multiple_with_options::<Document>(text, options).map_err(|error| explain(&error, file))
}

fn explain(error: &serde_saphyr::Error, file: &str) -> Failure {
    use serde_saphyr::Error as E;

    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()),
        Some(_) | None => file.to_owned(),
    };
    let unknown = |what: &str, word: &str, known: &[&'static str]| {
        let next = similar::get_close_matches(word, known, 1, LIKENESS).first().map_or_else(
            || format!("use one of {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        Failure::usage(format!("{place}: unknown {what} `{word}`"), next)
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is open")]
    match error.without_snippet() {
        E::SerdeUnknownField { field, expected, .. } => unknown("field", field, expected),
        E::SerdeUnknownVariant { variant, expected, .. } => unknown("kind", variant, expected),
        E::SerdeMissingField { field, .. } => {
            Failure::usage(format!("{place}: `{field}` is missing"), "see docs/reference/resources.md")
        }
        E::Message { msg, .. } => {
            Failure::usage(format!("{place}: {msg}"), "see docs/reference/resources.md")
        }
        other => {
            let message = other.to_string();
            let message = message.lines().next().unwrap_or_default();
            Failure::usage(format!("{place}: {message}"), "see docs/reference/resources.md")
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    ApiVersion,
    Kind,
    Metadata,
    Spec,
    /// Shown by `get`; not read, so that what was shown can be applied.
    Status,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> de::Visitor<'de> for Fields {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document with apiVersion, kind, metadata and spec")
    }

    fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<Document, M::Error> {
        use de::Error;

        let (mut version, mut kind, mut metadata, mut spec) = (None, None, None, None);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::ApiVersion => version = Some(map.next_value::<String>()?),
                Key::Kind => kind = Some(map.next_value::<Kind>()?),
                Key::Metadata => metadata = Some(map.next_value::<Metadata>()?),
                Key::Spec => {
                    let kind = kind.ok_or_else(|| M::Error::custom("`kind` must stand before `spec`"))?;
                    spec = Some(read_spec(kind, &mut map)?);
                }
                Key::Status => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        let version = version.ok_or_else(|| M::Error::missing_field("apiVersion"))?;
        if version != API_VERSION {
            return Err(M::Error::custom(format!(
                "apiVersion `{version}` is not known; write `{API_VERSION}`"
            )));
        }
        let metadata = metadata.ok_or_else(|| M::Error::missing_field("metadata"))?;
        Ok(Document {
            kind: kind.ok_or_else(|| M::Error::missing_field("kind"))?,
            name: metadata.name,
            spec: spec.ok_or_else(|| M::Error::missing_field("spec"))?,
        })
    }
}

fn read_spec<'de, M: de::MapAccess<'de>>(kind: Kind, map: &mut M) -> Result<Spec, M::Error> {
    Ok(match kind {
        Kind::Identity => Spec::Identity(map.next_value::<Identity>()?),
        Kind::Target => Spec::Target(map.next_value::<Target>()?),
        Kind::Store => Spec::Store(map.next_value::<Store>()?),
        Kind::Credential => Spec::Credential(map.next_value::<Credential>()?),
        Kind::Schedule => Spec::Schedule(map.next_value::<Schedule>()?),
        Kind::Consumer => Spec::Consumer(map.next_value::<Consumer>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let failure = parse(text, "f.yaml").unwrap_err();
        let Failure::Said { message, next, .. } = failure else { panic!("{failure}") };
        format!("{message} | {next}")
    }

    fn target(spec: &str) -> String {
        format!("apiVersion: revolve/v1\nkind: Target\nmetadata: {{name: pg}}\nspec:\n{spec}")
    }

    #[test]
    fn a_mistyped_field_is_named_with_its_line_and_the_right_word() {
        let text = target("  provider: postgres\n  breakGlasRoles: [dba]\n");
        assert_eq!(
            fault(&text),
            "f.yaml:6:3: unknown field `breakGlasRoles` | did you mean `breakGlassRoles`?"
        );
    }

    #[test]
    fn a_literal_secret_is_refused_and_never_repeated() {
        for literal in ["hunter2", "'hunter2'", "12345", "true", "1.5"] {
            let fault = fault(&target(&format!("  provider: postgres\n  adminPassword: {literal}\n")));
            assert!(fault.starts_with("f.yaml:6:"), "{fault}");
            assert!(fault.contains("must not stand in the file"), "{fault}");
            assert!(!fault.contains(literal.trim_matches('\'')), "{fault}");
        }
    }

    #[test]
    fn numbers_are_taken_as_text_where_text_is_asked_for() {
        let text = target("  provider: postgres\n  params: {port: 5432, tls: true}\n");
        let documents = parse(&text, "f.yaml").unwrap();
        let Spec::Target(target) = &documents[0].spec else { panic!("{documents:?}") };
        assert_eq!(target.params["port"], "5432");
        assert_eq!(target.params["tls"], "true");
    }

    #[test]
    fn several_documents_in_one_file_keep_their_lines() {
        let text = target("  provider: demo\n") + "---\napiVersion: revolve/v1\nkind: Taget\n";
        assert_eq!(fault(&text), "f.yaml:8:7: unknown kind `Taget` | did you mean `Target`?");
    }

    #[test]
    fn the_examples_are_understood() {
        let postgres = parse(include_str!("../../../../examples/postgres.yaml"), "postgres.yaml").unwrap();
        assert!(postgres.iter().any(|document| document.kind == Kind::Schedule));
        parse(include_str!("../../../../examples/aws-secrets-manager.yaml"), "aws.yaml").unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(fault("kind: Target\n").contains("`apiVersion` is missing"));
        let spec_first = "apiVersion: revolve/v1\nspec: {}\nkind: Target\n";
        assert!(fault(spec_first).contains("`kind` must stand before `spec`"));
        assert!(fault(&target("  params: {}\n")).contains("`provider` is missing"));
        assert!(
            fault("apiVersion: revolve/v2\nkind: Store\nmetadata: {name: x}\nspec: {kind: builtin}\n")
                .contains("write `revolve/v1`")
        );
    }
}
