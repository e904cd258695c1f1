//! Beside the log, a note of how far it is durable, written after every flush and never synced itself: it may lag, and
//! never leads. A log that ends before it has lost what was acknowledged; one that is torn behind it has lost nothing.
//!
//! The file `log.durable` is 64 bytes: term of the vote, term of the last entry, its index plus one, little-endian;
//! zeros; and the first 32 bytes' SHA-256.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use sha2::{Digest as _, Sha256};

use crate::promise::Stand;

const BODY_BYTES: usize = 32;
pub(crate) const BYTES: usize = 2 * BODY_BYTES;

/// The note.
pub(super) struct Mark(File);

impl Mark {
    /// Opens the note of the log under `folder`, or makes one, and gives what it says. One that is damaged says
    /// nothing.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Option<Stand>)> {
        let path = folder.with_extension("durable");
        let is_new = !path.try_exists()?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = [0; BYTES];
        let stand = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        if stand.is_none() && !is_new {
            tracing::warn!(
                "the note of how far the log was durable is damaged: the other nodes are asked alone"
            );
        }
        Ok((Self(file), stand))
    }

    /// Notes that the log is durable up to here.
    pub(super) fn write(&self, stand: Stand) -> io::Result<()> {
        self.0.write_all_at(&encode(stand), 0)
    }
}

fn encode(stand: Stand) -> [u8; BYTES] {
    let (term, after) = stand.last.map_or((0, 0), |(term, index)| (term, index + 1));
    let mut bytes = [0; BYTES];
    let (body, checksum) = bytes.split_at_mut(BODY_BYTES);
    for (place, number) in body.chunks_exact_mut(8).zip([stand.term, term, after]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    checksum.copy_from_slice(&Sha256::digest(&*body));
    bytes
}

/// What a note says; a damaged one says nothing.
pub(crate) fn decode(bytes: &[u8; BYTES]) -> Option<Stand> {
    let (body, checksum) = bytes.split_at(BODY_BYTES);
    if Sha256::digest(body)[..] != *checksum {
        return None;
    }
    let mut numbers = body.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
    let mut number = || numbers.next()?.ok();
    let (vote, term, after) = (number()?, number()?, number()?);
    Some(Stand { term: vote, last: after.checked_sub(1).map(|index| (term, index)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_a_damaged_one_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(Mark::open(&log).unwrap().1, None);
        for stand in [Stand::default(), Stand { term: 7, last: Some((6, 0)) }] {
            Mark::open(&log).unwrap().0.write(stand).unwrap();
            assert_eq!(Mark::open(&log).unwrap().1, Some(stand));
        }
        let whole = encode(Stand { term: 7, last: Some((7, 9)) });
        for place in 0..BYTES {
            let mut damaged = whole;
            damaged[place] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }
}
