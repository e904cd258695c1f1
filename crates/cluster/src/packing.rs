//! Rows as they are stored and sent: compressed.
//!
//! What was written before there was compression is read as it is: packed bytes begin with a mark, which what is packed
//! never begins with.

use std::{borrow::Cow, io};

/// Longest content: a frame of a snapshot, or a group of audit records, is far shorter.
const UNPACKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How hard it is tried: more costs several times as much for a few hundredths.
const LEVEL: i32 = 1;
/// Stands in the length when a Zstandard frame follows; before there were those, an LZ4 block did.
const ZSTANDARD: u32 = 1 << 31;

/// Packs bytes: the mark, their length with [`ZSTANDARD`], 32-bit little-endian, and a Zstandard frame.
///
/// # Errors
/// They are longer than anything that is packed.
pub(crate) fn pack(mark: u8, bytes: &[u8]) -> io::Result<Vec<u8>> {
    if bytes.len() > UNPACKED_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "rows are too long to be packed"));
    }
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut packed = vec![mark];
    packed.extend((length | ZSTANDARD).to_le_bytes());
    packed.extend(zstd::bulk::compress(bytes, LEVEL)?);
    Ok(packed)
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
    let length = u32::from_le_bytes(*length);
    let is_zstandard = length & ZSTANDARD != 0;
    let length = usize::try_from(length & !ZSTANDARD).map_err(|error| damaged(&error.to_string()))?;
    if length > UNPACKED_BYTES_MAX {
        return Err(damaged("they are too long"));
    }
    let unpacked = if is_zstandard {
        zstd::bulk::decompress(block, length).map_err(|error| damaged(&error.to_string()))?
    } else {
        lz4_flex::block::decompress(block, length).map_err(|error| damaged(&error.to_string()))?
    };
    if unpacked.len() == length { Ok(Cow::Owned(unpacked)) } else { Err(damaged("they are cut short")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_what_was_not_stays_as_it_is() {
        let long = b"credential/orders ".repeat(1_000);
        for bytes in [&long[..], b"x", b""] {
            assert_eq!(&*unpack(0, &pack(0, bytes).unwrap()).unwrap(), bytes);
        }
        assert!(pack(0, &long).unwrap().len() < long.len() / 20);
        assert_eq!(&*unpack(0, b"\x01 not packed").unwrap(), b"\x01 not packed");
    }

    #[test]
    fn what_an_earlier_build_packed_is_read() {
        let long = b"credential/orders ".repeat(1_000);
        let packed = [&[0][..], &lz4_flex::block::compress_prepend_size(&long)].concat();
        assert_eq!(&*unpack(0, &packed).unwrap(), long);
    }

    #[test]
    fn damage_is_an_error_and_takes_no_room() {
        let packed = pack(0, &b"credential/orders ".repeat(100)).unwrap();
        for length in 1..packed.len() {
            assert!(unpack(0, &packed[..length]).is_err(), "{length}");
        }
        for (length, what) in
            [(u32::MAX, "too long"), (5 | ZSTANDARD, ""), (2_000_000 | ZSTANDARD, "cut short")]
        {
            let mut wrong = packed.clone();
            wrong[1..5].copy_from_slice(&length.to_le_bytes());
            assert!(unpack(0, &wrong).unwrap_err().to_string().contains(what), "{length}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(pack(0, &vec![0; UNPACKED_BYTES_MAX + 1]).is_err());
    }
}
