//! Console blocks of the documentation: what is typed where, and what is answered. A line `node-1$ command` is typed at
//! the machine of that name, `$ command` wherever the reader is; a line `? 2` below it is the exit code, 0 when there is
//! none; what follows is the output, as snapbox matches it. A command goes on below a line that ends with `\`.

/// What opens a block that is typed.
const CONSOLE: &str = "```console";
/// What opens a line that is typed and not shown to the reader: what happens meanwhile.
const MEANWHILE: &str = "<!-- meanwhile ";

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// At which machine; empty where it does not matter.
    pub machine: String,
    /// The command.
    pub command: String,
    /// The exit code that is expected.
    pub code: i32,
    /// The output that is expected; nothing is said of it when it is empty.
    pub output: String,
}

/// The fenced blocks of `text` that are marked for `story`, in order.
///
/// # Panics
///
/// When there is none, or one does not end.
#[must_use]
pub fn blocks<'a>(text: &'a str, story: &str) -> Vec<&'a str> {
    let mark = format!("<!-- story: {story} -->\n```");
    let inside = |rest: &'a str| {
        let (_, rest) = rest.split_once('\n').expect("a fence is a line");
        rest.split_once("\n```").expect("the fence is closed").0
    };
    let found: Vec<&str> = text.split(mark.as_str()).skip(1).map(inside).collect();
    assert!(!found.is_empty(), "there are blocks for `{story}`");
    found
}

/// All that is typed on a page, in order: its console blocks, which may stand in lists, and what happens meanwhile.
///
/// # Panics
///
/// When a block or a comment does not end.
#[must_use]
pub fn page(text: &str) -> Vec<Typed> {
    let mut typed = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare == CONSOLE {
            let indent = line.len() - bare.len();
            let mut block = String::new();
            loop {
                let line = lines.next().expect("the fence is closed");
                if line.trim_start() == "```" {
                    break;
                }
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
            }
            typed.extend(commands(&block));
        } else if let Some(comment) = bare.strip_prefix(MEANWHILE) {
            typed.extend(commands(comment.strip_suffix(" -->").expect("the comment is closed")));
        }
    }
    typed
}

/// The commands of one block.
///
/// # Panics
///
/// When an exit code is not a number.
#[must_use]
pub fn commands(block: &str) -> Vec<Typed> {
    let mut typed: Vec<Typed> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        match (typed.last_mut(), prompt(line)) {
            (Some(last), _) if goes_on => {
                last.command.push('\n');
                last.command.push_str(line);
                goes_on = line.ends_with('\\');
            }
            (_, Some((machine, command))) => {
                goes_on = command.ends_with('\\');
                typed.push(Typed {
                    machine: machine.to_owned(),
                    command: command.to_owned(),
                    code: 0,
                    output: String::new(),
                });
            }
            (Some(last), None) => match line.strip_prefix("? ").filter(|_| last.output.is_empty()) {
                Some(code) => last.code = code.trim().parse().expect("an exit code"),
                None => {
                    last.output.push_str(line);
                    last.output.push('\n');
                }
            },
            (None, None) => {}
        }
    }
    for last in &mut typed {
        let output = last.output.trim_end_matches('\n');
        last.output = if output.is_empty() { String::new() } else { format!("{output}\n") };
    }
    typed
}

/// The machine and the command of a line that is typed.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (machine, command) = line.split_once("$ ")?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    machine.chars().all(is_name).then_some((machine, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Look:\n\n```console\nyou$ revolve status\n? 2\nleader  none\n\nnode-1$ a \\\n  b\n$ c\n```\n\
                        1. In a list:\n\n   ```console\n   node-3$ d\n   e\n   ```\n<!-- meanwhile node-2$ halt -->\n```text\n$ not typed\n```\n";

    #[test]
    fn a_page_says_what_is_typed_where_and_what_is_answered() {
        let typed = |machine: &str, command: &str, code, output: &str| Typed {
            machine: machine.to_owned(),
            command: command.to_owned(),
            code,
            output: output.to_owned(),
        };
        let expected = [
            typed("you", "revolve status", 2, "leader  none\n"),
            typed("node-1", "a \\\n  b", 0, ""),
            typed("", "c", 0, ""),
            typed("node-3", "d", 0, "e\n"),
            typed("node-2", "halt", 0, ""),
        ];
        assert_eq!(page(PAGE), expected);
    }

    #[test]
    fn blocks_of_a_story_are_found_by_their_mark() {
        let text = "<!-- story: a -->\n```console\n$ one\n```\n<!-- story: b -->\n```text\ntwo\n```\n";
        assert_eq!(blocks(text, "a"), ["$ one"]);
        assert_eq!(blocks(text, "b"), ["two"]);
    }
}
