//! The ledger outside of a cluster: a file with one JSON object in each line, as `revolve ledger export` writes it, or the
//! data folder of a node.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use api::v1;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::ledger::LedgerEntry;
use serde::{Deserialize, Serialize};

/// One entry as it is written in a line: what binds it into the chain, and what it says for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its number.
    pub sequence: u64,
    /// When it was committed, in milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
    /// Who asked.
    #[serde(default)]
    pub actor: String,
    /// What was asked.
    #[serde(default)]
    pub action: String,
    /// What it is about.
    #[serde(default)]
    pub subject: String,
    /// What is said of it.
    #[serde(default)]
    pub statement: String,
    /// The reason code, if there is one.
    #[serde(default)]
    pub reason_code: String,
    /// Why, in words.
    #[serde(default)]
    pub why: String,
    /// The revision of its event; 0 when there is none.
    #[serde(default)]
    pub revision: u64,
    /// The hash of the entry before, base64.
    pub previous: String,
    /// Its hash, base64.
    pub hash: String,
    /// The statement as it is hashed, base64.
    pub body: String,
}

impl From<v1::LedgerEntry> for Line {
    fn from(entry: v1::LedgerEntry) -> Self {
        Self {
            sequence: entry.sequence,
            at_ms: entry.at_ms,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            statement: entry.statement,
            reason_code: entry.reason_code,
            why: entry.why,
            revision: entry.revision,
            previous: STANDARD.encode(entry.previous),
            hash: STANDARD.encode(entry.hash),
            body: STANDARD.encode(entry.body),
        }
    }
}

impl Line {
    /// The entry, whose place in a chain is still to be checked.
    fn entry(&self) -> io::Result<LedgerEntry> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(damaged);
        let hash = |text: &str| <[u8; 32]>::try_from(bytes(text)?.as_slice()).map_err(damaged);
        Ok(LedgerEntry {
            sequence: self.sequence,
            previous: hash(&self.previous)?,
            hash: hash(&self.hash)?,
            body: bytes(&self.body)?,
        })
    }
}

/// The entries of a file or folder, in order, as far as they can be read.
pub type Entries = Box<dyn Iterator<Item = io::Result<LedgerEntry>>>;

/// Reads a ledger: a file of lines, the data folder of a node, or the `ledger` folder in one.
///
/// # Errors
/// There is nothing that could be read.
pub fn read(path: &Path) -> io::Result<Entries> {
    if path.is_dir() {
        return Ok(Box::new(cluster::read_ledger(path)?));
    }
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(Box::new(lines.map(|line| {
        let line: Line = serde_json::from_str(&line?).map_err(damaged)?;
        line.entry()
    })))
}

/// Whether a ledger may be at `path` even though it holds no entry: a file, or the data folder of a node. A folder with
/// nothing in it is no ledger.
pub(crate) fn is_ledger(path: &Path) -> bool {
    path.is_file() || path.join("ledger").is_dir()
}

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
