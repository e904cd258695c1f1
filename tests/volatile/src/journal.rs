//! The journal: what a program did to its folder, in the order in which the kernel saw it.
//!
//! A record is a 32-bit little-endian length and so many bytes: one byte that says what it is, its numbers in little
//! endian, and last its path or data. Each record is appended by one call, so that only the last one can be cut short
//! when the program is killed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const OPEN: u8 = 1;
const WRITE: u8 = 2;
const RESIZE: u8 = 3;
const SYNC: u8 = 4;
const RENAME: u8 = 5;
const UNLINK: u8 = 6;
const MAKE_FOLDER: u8 = 7;

/// One thing that was done. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A file or folder was opened; from here on its inode stands for it.
    Open {
        /// Its inode.
        inode: u64,
        /// Whether it did not exist before.
        created: bool,
        /// Where it is.
        path: &'a Path,
    },
    /// Bytes were written to a file.
    Write {
        /// Its inode.
        inode: u64,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// A file was given a length.
    Resize {
        /// Its inode.
        inode: u64,
        /// The length in bytes.
        length: u64,
    },
    /// `fsync` or `fdatasync` of a file or folder has succeeded.
    Sync {
        /// Its inode.
        inode: u64,
        /// How many records there were when the call began: those are covered, later ones are not.
        covered: u64,
    },
    /// A name was changed; what had the new name before has none.
    Rename {
        /// The old path.
        from: &'a Path,
        /// The new path.
        to: &'a Path,
    },
    /// A file, or an empty folder, has lost its name.
    Unlink {
        /// Its path.
        path: &'a Path,
    },
    /// A folder was made.
    MakeFolder {
        /// Its path.
        path: &'a Path,
    },
}

impl<'a> Record<'a> {
    /// The bytes of the record.
    ///
    /// # Panics
    ///
    /// When it does not fit into 4 GiB.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |kind: u8, numbers: &[u64], rest: &[u8]| {
            body.push(kind);
            body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            body.extend_from_slice(rest);
        };
        match self {
            Record::Open { inode, created, path } => put(OPEN, &[*inode, u64::from(*created)], bytes(path)),
            Record::Write { inode, offset, data } => put(WRITE, &[*inode, *offset], data),
            Record::Resize { inode, length } => put(RESIZE, &[*inode, *length], &[]),
            Record::Sync { inode, covered } => put(SYNC, &[*inode, *covered], &[]),
            Record::Rename { from, to } => {
                put(RENAME, &[bytes(from).len() as u64], &[bytes(from), bytes(to)].concat());
            }
            Record::Unlink { path } => put(UNLINK, &[], bytes(path)),
            Record::MakeFolder { path } => put(MAKE_FOLDER, &[], bytes(path)),
        }
        let length = u32::try_from(body.len()).expect("a write is far smaller than 4 GiB");
        [&length.to_le_bytes()[..], &body].concat()
    }

    fn decode(body: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = body.split_first()?;
        let mut number = || {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*bytes))
        };
        Some(match *kind {
            OPEN => Record::Open { inode: number()?, created: number()? == 1, path: path(rest) },
            WRITE => Record::Write { inode: number()?, offset: number()?, data: rest },
            RESIZE => Record::Resize { inode: number()?, length: number()? },
            SYNC => Record::Sync { inode: number()?, covered: number()? },
            RENAME => {
                let (from, to) = rest.split_at_checked(8).and_then(|(length, paths)| {
                    let length = u64::from_le_bytes(length.try_into().ok()?);
                    paths.split_at_checked(usize::try_from(length).ok()?)
                })?;
                Record::Rename { from: path(from), to: path(to) }
            }
            UNLINK => Record::Unlink { path: path(rest) },
            MAKE_FOLDER => Record::MakeFolder { path: path(rest) },
            _ => return None,
        })
    }

    /// The records of a journal; one that was cut short at the end was never complete and is left out.
    ///
    /// # Panics
    ///
    /// When a complete record is not one of ours.
    pub fn all(journal: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut rest = journal;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (body, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(Self::decode(body).unwrap_or_else(|| panic!("not a record of the layer: {body:?}")))
        })
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Record<'static>> {
        vec![
            Record::Open { inode: 7, created: true, path: Path::new("/a/b") },
            Record::Write { inode: 7, offset: 1 << 40, data: b"bytes" },
            Record::Resize { inode: 7, length: 3 },
            Record::Sync { inode: 7, covered: 3 },
            Record::Rename { from: Path::new("/a/b"), to: Path::new("/a/longer") },
            Record::Unlink { path: Path::new("/a/longer") },
            Record::MakeFolder { path: Path::new("/a/c") },
        ]
    }

    #[test]
    fn records_come_back_in_order() {
        let journal: Vec<u8> = one_of_each().iter().flat_map(Record::encode).collect();
        assert_eq!(Record::all(&journal).collect::<Vec<_>>(), one_of_each());
    }

    #[test]
    fn a_record_cut_short_is_left_out() {
        let whole: Vec<u8> = one_of_each().iter().flat_map(Record::encode).collect();
        let last = one_of_each().last().unwrap().encode().len();
        for missing in 1..=last {
            let cut = &whole[..whole.len() - missing];
            assert_eq!(Record::all(cut).count(), one_of_each().len() - 1, "{missing}");
        }
    }
}
