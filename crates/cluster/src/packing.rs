//! Rows as they are stored and sent: compressed. Of an audit record, which is kept for ever, most is said by the one before
//! it: two of its four hashes, who acted and on what.
//!
//! What was written before there was compression is read as it is: packed bytes begin with a mark, which what is packed
//! never begins with.

use std::{borrow::Cow, io};

/// Longest content: a frame of a snapshot, or a group of audit records, is far shorter.
const UNPACKED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Packs bytes: the mark, their length, 32-bit little-endian, and an LZ4 block.
pub(crate) fn pack(mark: u8, bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![mark];
    packed.extend(lz4_flex::block::compress_prepend_size(bytes));
    packed
}

/// The bytes that were packed, or those that never were.
///
/// # Errors
/// They are damaged, or longer than anything that is packed.
pub(crate) fn unpack(mark: u8, bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    let Some(packed) = bytes.strip_prefix(&[mark]) else { return Ok(Cow::Borrowed(bytes)) };
    let damaged =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("packed rows are damaged: {what}"));
    let (length, block) = packed.split_first_chunk::<4>().ok_or_else(|| damaged("they have no length"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|error| damaged(&error.to_string()))?;
    if length > UNPACKED_BYTES_MAX {
        return Err(damaged("they are too long"));
    }
    let unpacked = lz4_flex::block::decompress(block, length).map_err(|error| damaged(&error.to_string()))?;
    if unpacked.len() == length { Ok(Cow::Owned(unpacked)) } else { Err(damaged("they are cut short")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_what_was_not_stays_as_it_is() {
        let long = b"credential/orders ".repeat(1_000);
        for bytes in [&long[..], b"x", b""] {
            assert_eq!(&*unpack(0, &pack(0, bytes)).unwrap(), bytes);
        }
        assert!(pack(0, &long).len() < long.len() / 20);
        assert_eq!(&*unpack(0, b"\x01 not packed").unwrap(), b"\x01 not packed");
    }

    #[test]
    fn damage_is_an_error_and_takes_no_room() {
        let packed = pack(0, &b"credential/orders ".repeat(100));
        for length in 1..packed.len() {
            assert!(unpack(0, &packed[..length]).is_err(), "{length}");
        }
        let mut endless = packed;
        endless[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(0, &endless).unwrap_err().to_string().contains("too long"));
    }
}
