//! What was measured, as a table on the terminal, a JSON file, and a part of a page.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use crate::machine::Machine;

const BEGIN: &str = "<!-- written by `cargo xtask bench raft`: begin -->";
const END: &str = "<!-- written by `cargo xtask bench raft`: end -->";

/// One part of the run.
#[derive(Debug, Serialize)]
pub struct Section {
    /// What was measured.
    pub title: String,
    /// How, and what else was seen.
    pub notes: Vec<String>,
    /// The names of the columns.
    pub header: Vec<String>,
    /// The figures as they are shown.
    pub rows: Vec<Vec<String>>,
    /// The figures themselves.
    pub data: serde_json::Value,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it was started, UTC.
    pub date: String,
    /// What was typed.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// How both systems were set up.
    pub settings: String,
    /// The parts that were measured.
    pub sections: Vec<Section>,
    /// The parts that could not be measured, and why.
    pub failures: Vec<String>,
}

impl Section {
    /// A section without rows yet.
    pub fn new(title: &str, header: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            notes: Vec::new(),
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
            data: serde_json::Value::Null,
        }
    }

    /// The section as text that is Markdown as well.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(&self.header).add_rows(&self.rows);
        let notes: String = self.notes.iter().map(|note| format!("\n{note}\n")).collect();
        format!("### {}\n\n{}\n{notes}", self.title, table.trim_fmt())
    }
}

impl Report {
    /// Writes everything to a JSON file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Replaces the marked part of a page.
    pub fn publish(&self, page: &Path) -> Result<()> {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read `{}`", page.display()))?;
        let (before, rest) = text.split_once(BEGIN).context("the page has no mark for the beginning")?;
        let (_, after) = rest.split_once(END).context("the page has no mark for the end")?;
        let text = format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.text());
        fs::write(page, text).with_context(|| format!("cannot write `{}`", page.display()))
    }

    fn text(&self) -> String {
        let sections: Vec<_> = self.sections.iter().map(Section::text).collect();
        let failures: String =
            self.failures.iter().map(|failure| format!("\nNot measured: {failure}\n")).collect();
        format!(
            "{}, by `{}`.\n\nMachine: {}.\n\n{}\n\n{}{failures}",
            self.date,
            self.command,
            self.machine,
            self.settings,
            sections.join("\n"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marked_part_of_a_page_is_replaced() {
        let page = tempfile::NamedTempFile::new().unwrap();
        fs::write(page.path(), format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).unwrap();
        let mut section = Section::new("Writes", &["clients", "ratio"]);
        section.rows.push(vec!["1".into(), "2.0".into()]);
        let report = Report {
            date: "2026-11-23".into(),
            command: "x".into(),
            machine: Machine::default(),
            settings: String::new(),
            sections: vec![section],
            failures: Vec::new(),
        };
        report.publish(page.path()).unwrap();
        let text = fs::read_to_string(page.path()).unwrap();
        assert!(
            text.starts_with("above\n") && text.ends_with("\nbelow\n") && !text.contains("old"),
            "{text}"
        );
        assert!(text.contains("| clients | ratio |"), "{text}");
    }
}
