//! Where data goes: stdout for data, stderr for the rest. The only place that writes to either.

mod table;
pub mod when;

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::Path,
};

use clap::ValueEnum;
use model::time::Time;
use serde::Serialize;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{LevelFilter, filter_fn},
    fmt,
    fmt::format::FmtSpan,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub use table::{Cell, Tone};

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON: one value; one line per value where it streams.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// Something that can be shown in every format.
pub trait Show: Serialize {
    /// Column heads of the table.
    const HEADS: &'static [&'static str];
    /// Further column heads of the wide table.
    const WIDE: &'static [&'static str] = &[];
    /// Whether a list in YAML is several documents rather than one sequence.
    const DOCUMENTS: bool = false;

    /// What names it.
    fn name(&self) -> String;

    /// The cells under [`Self::HEADS`].
    fn cells(&self, now: Time) -> Vec<Cell>;

    /// The cells under [`Self::WIDE`].
    fn wide(&self, _now: Time) -> Vec<Cell> {
        Vec::new()
    }
}

/// Writes data in the chosen format.
#[derive(Debug, Clone)]
pub struct Output {
    format: Format,
    colour: bool,
    live: bool,
    now: Time,
}

impl Output {
    /// Output for the streams of this process.
    pub fn new(format: Format, now: Time) -> Self {
        let plain = crate::settings::variable("NO_COLOR").is_some()
            || crate::settings::variable("TERM").is_some_and(|term| term == "dumb");
        Self {
            format,
            colour: !plain && io::stdout().is_terminal(),
            live: !plain && io::stderr().is_terminal(),
            now,
        }
    }

    /// The same, with "ago" counted from `now`.
    #[must_use]
    pub const fn counting_from(mut self, now: Time) -> Self {
        self.now = now;
        self
    }

    /// The instant that "ago" is counted from.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Whether the output is read by a program.
    pub const fn is_for_machines(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Whether stderr can show something that moves.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Writes a list.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn list<T: Show>(&self, items: &[T]) -> io::Result<()> {
        write(&self.render_list(items)?)
    }

    /// Writes one thing in full; for people, the document with times explained.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn item<T: Show>(&self, item: &T) -> io::Result<()> {
        write(&self.render_item(item)?)
    }

    /// Writes one thing in a line for people, in full for machines.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn brief<T: Show>(&self, item: &T) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => write(&table::line(&item.cells(self.now))),
            Format::Json | Format::Yaml | Format::Name => self.item(item),
        }
    }

    /// Writes one of a stream of things, on a line of its own.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn next<T: Show>(&self, item: &T) -> io::Result<()> {
        write(&match self.format {
            Format::Json => json_line(item)?,
            Format::Yaml => format!("---\n{}", yaml(item)?),
            Format::Name => item.name() + "\n",
            Format::Table => table::line(&item.cells(self.now)),
            Format::Wide => table::line(&[item.cells(self.now), item.wide(self.now)].concat()),
        })
    }

    /// Writes text that was laid out for people, or the value behind it for machines.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn screen<T: Serialize>(&self, value: &T, text: &str) -> io::Result<()> {
        write(&match self.format {
            Format::Json => json(value)?,
            Format::Yaml => yaml(value)?,
            Format::Table | Format::Wide | Format::Name => text.to_owned(),
        })
    }

    /// A table as text, for use inside a screen.
    pub fn table<T: Show>(&self, items: &[T]) -> String {
        let wide = self.format == Format::Wide;
        let heads: Vec<_> = T::HEADS.iter().chain(T::WIDE.iter().filter(|_| wide)).copied().collect();
        let rows = items.iter().map(|item| {
            let mut cells = item.cells(self.now);
            if wide {
                cells.extend(item.wide(self.now));
            }
            cells
        });
        table::render(&heads, rows, self.colour)
    }

    /// Says something that is not data.
    pub fn note(&self, text: &str) {
        complain(text);
    }

    /// Asks something, leaving the cursor behind it.
    pub fn prompt(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell when stderr is gone.
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    fn render_list<T: Show>(&self, items: &[T]) -> io::Result<String> {
        Ok(match self.format {
            Format::Json => json(&items)?,
            Format::Yaml if T::DOCUMENTS => items
                .iter()
                .map(|item| Ok(format!("---\n{}", yaml(item)?)))
                .collect::<io::Result<String>>()?,
            Format::Yaml => yaml(&items)?,
            Format::Name => items.iter().map(|item| item.name() + "\n").collect(),
            Format::Table | Format::Wide => self.table(items),
        })
    }

    fn render_item<T: Show>(&self, item: &T) -> io::Result<String> {
        Ok(match self.format {
            Format::Json => json(item)?,
            Format::Yaml => yaml(item)?,
            Format::Name => item.name() + "\n",
            Format::Table | Format::Wide => when::explain(&yaml(item)?, self.now),
        })
    }
}

/// Writes to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a line to stderr.
pub fn complain(text: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object on a line, with the spans that it stands in.
    Json,
}

/// Sends the log to stderr, if a filter is given, and to the ring from which `revolve debug bundle` takes it.
pub fn install_log(filter: Option<&str>, format: LogFormat) {
    let Some(filter) = filter else { return };
    let stderr = || fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // Spans of calls are told of when they end, with how long they took. They are off unless the filter names them.
    let traced = || filter_fn(|metadata| metadata.is_span() && metadata.target() == server::TRACE_TARGET);
    let spans = || stderr().with_span_events(FmtSpan::CLOSE);
    // What is said in detail is for whoever looks on: the ring has room for little, and looks at every line.
    let kept = fmt::layer().with_ansi(false).with_writer(server::logs::ring);
    let kept = kept.with_filter(LevelFilter::INFO).boxed();
    let layers = match format {
        LogFormat::Text => vec![kept, stderr().boxed(), spans().with_filter(traced()).boxed()],
        LogFormat::Json => vec![kept, stderr().json().boxed(), spans().json().with_filter(traced()).boxed()],
    };
    tracing_subscriber::registry().with(EnvFilter::new(filter)).with(layers).init();
}

/// The document as YAML.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn yaml<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    serde_saphyr::to_string(&value).map_err(io::Error::other)
}

fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Takes away what stands behind the last whole line of a file.
///
/// # Errors
/// When it cannot be read or written.
pub fn cut_torn_line(path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    File::options().write(true).open(path)?.set_len(end as u64)
}

/// The value in one line.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn json_line<T: Serialize>(value: &T) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

#[cfg(test)]
mod tests;
