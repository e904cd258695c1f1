//! Tables without borders: columns two spaces apart.

use comfy_table::{Attribute, Cell as Drawn, Color, ContentArrangement, Table, presets::NOTHING};

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// How a cell is meant; shown as colour, never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Do something.
    Bad,
}

impl Cell {
    /// A cell that is meant in a certain way.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    fn shown(&self) -> &str {
        if self.text.is_empty() { "-" } else { &self.text }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// The whole table, heads first; nothing but heads when there are no rows.
pub fn render(heads: &[&str], rows: impl Iterator<Item = Vec<Cell>>, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(heads.iter().map(|head| {
        let head = Drawn::new(head.to_uppercase());
        if colour { head.add_attribute(Attribute::Bold) } else { head }
    }));
    for row in rows {
        table.add_row(row.iter().map(|cell| drawn(cell, colour)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One row on a line, for streams.
pub fn line(cells: &[Cell]) -> String {
    let texts: Vec<_> = cells.iter().map(Cell::shown).collect();
    texts.join("  ") + "\n"
}

fn drawn(cell: &Cell, colour: bool) -> Drawn {
    let drawn = Drawn::new(cell.shown());
    if !colour {
        return drawn;
    }
    match cell.tone {
        Tone::Plain => drawn,
        Tone::Good => drawn.fg(Color::Green),
        Tone::Warn => drawn.fg(Color::Yellow),
        Tone::Bad => drawn.fg(Color::Red),
    }
}
