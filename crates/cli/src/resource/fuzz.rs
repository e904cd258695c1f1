//! What a fuzzer is let at: documents and the scalars in them. Each function takes any text and must return. They are
//! run as ordinary tests below, and for hours by the target in `fuzz/`.

use super::{
    document,
    scalar::{Instant, Span},
};

/// A file of documents.
pub fn documents(text: &str) {
    if let Err(failure) = document::parse(text, "file.yaml") {
        drop(failure.to_string());
    }
}

/// Spans and instants.
///
/// # Panics
///
/// When one that was read is not read back as it is written.
pub fn scalars(text: &str) {
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse::<Span>().map(|again| again.0), Ok(span.0), "{text}");
    }
    if let Ok(instant) = text.parse::<Instant>() {
        assert_eq!(instant.to_string().parse::<Instant>().map(|again| again.0), Ok(instant.0), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use fuzzing::{INPUTS, survives_text};

    use super::*;

    #[test]
    fn documents_of_any_content_are_read_or_refused() {
        let seeds = [
            include_str!("../../../../examples/postgres.yaml"),
            include_str!("../../../../examples/quickstart.yaml"),
            "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b, *b]\n<<: *a\n",
            "--- !!binary |\n  AAAA\n...\n? [a]\n: {}\n",
        ];
        survives_text(INPUTS / 10, &seeds, documents);
    }

    #[test]
    fn scalars_of_any_content_are_read_or_refused() {
        let seeds =
            ["1d2h3m", "90s", "500ms", "2026-12-01", "2026-12-01T09:00:00Z", "9999-12-31T23:59:60+14:00"];
        survives_text(INPUTS, &seeds, scalars);
    }
}
