//! The last lines that this process has logged, for a report of a fault. Lines are freed of whatever looks like a secret
//! when they are taken in: no secret is logged in the first place, and what a library or a target says is not ours.

use std::{
    collections::VecDeque,
    io,
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::{Captures, Regex};

/// Most bytes that are kept; the oldest lines go first.
const KEPT_BYTES: usize = 4 << 20;
/// Longest line; the rest of a longer one is left out.
const LINE_BYTES: usize = 16 << 10;
/// What stands in place of what was taken out.
const REDACTED: &str = "[redacted]";

static RING: Ring = Ring { held: Mutex::new(Held { lines: VecDeque::new(), bytes: 0 }) };

/// The ring of this process, to be written to by the log as well.
#[must_use]
pub fn ring() -> &'static Ring {
    &RING
}

/// The last lines of a log.
#[derive(Debug)]
pub struct Ring {
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Ring {
    /// The lines kept, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }

    fn take_in(&self, line: &str) {
        let line = redacted(cut(line));
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes += line.len();
        held.lines.push_back(line);
        while held.bytes > KEPT_BYTES
            && let Some(oldest) = held.lines.pop_front()
        {
            held.bytes -= oldest.len();
        }
    }
}

impl io::Write for &Ring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.take_in(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text without whatever looks like a secret: too much rather than too little.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, replacement) in PATTERNS.iter() {
        if pattern.is_match(&text) {
            text = pattern.replace_all(&text, replacement.as_str()).into_owned();
        }
    }
    let encoded = |found: &Captures<'_>| {
        let found = &found[0];
        if looks_random(found) { REDACTED.to_owned() } else { found.to_owned() }
    };
    ENCODED.replace_all(&text, encoded).into_owned()
}

/// What a secret is known by, and what is left of it.
static PATTERNS: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    let patterns = [
        // Our own tokens: the name may stay.
        (r"(rvlt_[A-Za-z0-9-]*)[^\s,;}\)]*", "$1"),
        (r"(?i)\b(bearer|basic)\s+[^\s,;}]+", "$1 "),
        // A URL with somebody's name and password.
        (r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@", "${1}"),
        // What is given under a name that says so, as `name=value`, `name: value` and `"name":"value"`.
        (
            r#"(?i)([\w-]*(?:passw(?:or)?d|passphrase|secret|api[_-]?key|private[_-]?key|access[_-]?key(?:[_-]id)?|root[_-]?key|authorization|scram)[\w-]*\\?["']?\s*[=:]\s*)(?:\\?"[^"\\]*\\?"|\\?'[^'\\]*\\?'|[^\s,;}&\)]+)"#,
            "$1",
        ),
        // SQL's way of giving one.
        (r"(?i)\b(password\s+)'(?:[^']|'')*'?", "$1"),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", ""),
        (r"\b(AKIA|ASIA)[0-9A-Z]{16}\b", ""),
    ];
    let compiled = patterns.map(|(pattern, kept)| {
        (Regex::new(pattern).expect("a pattern that is tested below"), format!("{kept}{REDACTED}"))
    });
    compiled.into()
});

/// Long runs of letters and digits, as keys and generated passwords are.
static ENCODED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_=-]{32,}").expect("a pattern that is tested below"));

/// Upper and lower case and digits all mixed. Digests in hexadecimal, names and paths are not.
fn looks_random(text: &str) -> bool {
    let has = |kind: fn(&char) -> bool| text.chars().filter(kind).count() >= 3;
    has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit)
}

fn cut(line: &str) -> &str {
    let end = (0..=LINE_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    &line[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_the_rest_stays() {
        let cases = [
            ("token rvlt_ci.q83vEjRWeJA was refused", "token rvlt_ci[redacted] was refused"),
            ("authorization: Bearer abc.def", "authorization: [redacted] [redacted]"),
            ("sent Bearer abc.def, then", "sent Bearer [redacted], then"),
            ("dial postgres://app:swordfish@db:5432/x", "dial postgres://[redacted]db:5432/x"),
            (r#"{"admin_password":"sword fish","port":1}"#, r#"{"admin_password":[redacted],"port":1}"#),
            ("PGPASSWORD=swordfish host=db", "PGPASSWORD=[redacted] host=db"),
            ("ALTER ROLE app PASSWORD 'sword fish'", "ALTER ROLE app PASSWORD [redacted]"),
            ("secret_access_key=wJalrXUtn", "secret_access_key=[redacted]"),
            ("id AKIAIOSFODNN7EXAMPLE used", "id [redacted] used"),
            ("-----BEGIN EC PRIVATE KEY----- MHcC", "[redacted]"),
            ("key q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", "key [redacted]"),
        ];
        for (line, expected) in cases {
            assert_eq!(redacted(line), expected);
        }
        for plain in [
            "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 at 17",
            "handing the lead over before this node stops",
            "node=node-1 leader=node-2 path=/var/lib/revolve/node-1/snapshots/current",
        ] {
            assert_eq!(redacted(plain), plain);
        }
    }

    #[test]
    fn the_newest_lines_are_kept_and_no_more_than_there_is_room_for() {
        let ring = Ring { held: Mutex::new(Held { lines: VecDeque::new(), bytes: 0 }) };
        let long = "x".repeat(2 * LINE_BYTES);
        for n in 0..2 * KEPT_BYTES / LINE_BYTES {
            (&ring).write_all(format!("{n} {long}\n").as_bytes()).unwrap();
        }
        let lines = ring.lines();
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES));
        assert_eq!(lines.len(), KEPT_BYTES / LINE_BYTES);
        assert!(lines[0].starts_with("256 "));
        assert!(lines.last().unwrap().starts_with("511 "));
    }
}
