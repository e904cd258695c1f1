//! Reading what `strace -f -ttt -T -y` writes: which bytes went into which file, and when each file was synced.
//!
//! The stamps err on the safe side: a call is stamped before it begins and after it has ended.

use std::collections::BTreeMap;

/// A call that has ended well, on a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<'a> {
    /// Its name.
    pub name: &'a str,
    /// The file.
    pub path: &'a str,
    /// Everything that was handed over, as strace shows it.
    pub text: &'a str,
    /// When it began, in seconds since 1970.
    pub start: f64,
    /// When it had ended.
    pub end: f64,
}

/// The calls on files of a trace, in the order of their ends. Calls on anything else, failed ones, and those that had
/// not ended are left out.
pub fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut begun = BTreeMap::new();
    trace.lines().filter_map(|line| read(line, &mut begun)).collect()
}

/// A call that another thread's line has come between.
struct Begun<'a> {
    text: &'a str,
    start: f64,
}

fn read<'a>(line: &'a str, begun: &mut BTreeMap<&'a str, Begun<'a>>) -> Option<Call<'a>> {
    let (thread, rest) = line.split_once(' ')?;
    let (stamp, text) = rest.trim_start().split_once(' ')?;
    let start: f64 = stamp.parse().ok()?;
    if let Some(text) = text.strip_suffix("<unfinished ...>") {
        begun.insert(thread, Begun { text, start });
        return None;
    }
    let took = took(text)?;
    if text.starts_with("<... ") {
        let begun = begun.remove(thread)?;
        return call(begun.text, begun.start, begun.start + took);
    }
    call(text, start, start + took)
}

/// The seconds at the end of the line, when the call did not fail.
fn took(text: &str) -> Option<f64> {
    let (rest, took) = text.strip_suffix('>')?.rsplit_once('<')?;
    let (_, result) = rest.rsplit_once(" = ")?;
    let succeeded = result.trim().parse::<i64>().is_ok_and(|result| result >= 0);
    succeeded.then(|| took.parse().ok())?
}

fn call(text: &str, start: f64, end: f64) -> Option<Call<'_>> {
    let (name, arguments) = text.split_once('(')?;
    let (_, path) = arguments.split_once('<')?;
    let (path, _) = path.split_once('>')?;
    path.starts_with('/').then_some(Call { name, path, text: arguments, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = concat!(
        "7 100.000001 write(9</data/log/1>, \"\\1\\0write-1.abc\", 12) = 12 <0.000100>\n",
        "7 100.000200 fdatasync(9</data/log/1> <unfinished ...>\n",
        "8 100.000300 write(5<socket:[77]>, \"write-1.\", 8) = 8 <0.000010>\n",
        "8 100.000400 fdatasync(9</data/log/2>) = -1 EIO (Input/output error) <0.000010>\n",
        "7 100.001200 <... fdatasync resumed>) = 0 <0.001000>\n",
        "8 100.002000 fdatasync(9</data/log/1> <unfinished ...>\n",
    );

    #[test]
    fn calls_on_files_are_read_with_both_their_ends() {
        let calls = calls(TRACE);
        assert_eq!(calls.iter().map(|call| call.name).collect::<Vec<_>>(), ["write", "fdatasync"]);
        assert!(calls[0].text.contains("write-1.abc") && calls[0].path == "/data/log/1");
        let sync = &calls[1];
        assert_eq!(sync.path, "/data/log/1");
        assert!((sync.start - 100.0002).abs() < 1e-9 && (sync.end - 100.0012).abs() < 1e-9, "{sync:?}");
    }
}
