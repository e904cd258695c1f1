//! The file of a backup: a header in the clear, then the state in chunks under AES-256-GCM, then SHA-256 over all of
//! it. The key of the file is its own and is wrapped by a key derived from the root key, so a backup opens wherever the
//! root key is and nowhere else.
//!
//! ```text
//! magic "RVBACKUP" | format, 2 bytes LE | header length, 4 bytes LE | header, postcard
//! chunk length, 4 bytes LE | chunk: ciphertext and tag             … as often as there are chunks
//! SHA-256 over all of the above
//! ```
//! The nonce of a chunk is the file's random prefix of 7 bytes, the chunk's number, 4 bytes BE, and 1 for the last chunk,
//! else 0 (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár 2015); SHA-256 over magic, format and header
//! is authenticated with every chunk. So chunks that were changed, swapped, left out, cut off or moved between files do
//! not open.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    path::Path,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use model::{ledger::LedgerHead, time::Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    root_key::RootKey,
    seal::{self, SealError},
};

const MAGIC: &[u8; 8] = b"RVBACKUP";
/// What is written, and the only one that is read.
const FORMAT: u16 = 1;
/// What the key that wraps the keys of backups is derived for.
const WRAPPING: &str = "backup";
/// The place that a wrapped key is bound to.
const PLACE: &[u8] = b"backup-key";
const PREFIX_BYTES: usize = 7;
const KEY_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
/// A header or a chunk longer than this is damage.
const HEADER_BYTES_MAX: usize = 64 * 1024;
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a backup says of itself without any key; whoever has the key knows that it is true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Which cluster it is of: the beginning of the hash of its first audit record.
    pub cluster: String,
    /// When it was made.
    pub created_at: Time,
    /// The last entry of the log that is in it.
    pub applied: u64,
    /// The last revision that is in it.
    pub revision: u64,
    /// The ledger's head in it: what was stated later must come from a ledger.
    pub ledger: LedgerHead,
    /// The data key that the secrets in it are sealed under.
    pub data_key: Option<u32>,
    /// The digest of the state.
    pub digest: [u8; DIGEST_BYTES],
    /// How many records are in it.
    pub records: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    about: About,
    prefix: [u8; PREFIX_BYTES],
    wrapped_key: Vec<u8>,
}

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read.
    #[error("the backup cannot be read")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is not a backup of Revolve")]
    NotABackup,
    /// A newer build wrote it, or a much older one.
    #[error("the backup has format {0}, and this build reads format {FORMAT}")]
    Format(u16),
    /// The header is damaged.
    #[error("the header of the backup is damaged")]
    Header,
    /// It is cut short or was changed.
    #[error("the backup is damaged: it does not have the checksum at its end")]
    Checksum,
    /// The root key is another one.
    #[error("the root key does not open this backup: is it the root key of that cluster, as it was then?")]
    WrongRootKey,
    /// A chunk was changed, or is not in its place.
    #[error("chunk {0} of the backup is damaged or not in its place")]
    Chunk(u32),
    /// What is in it is not what it says.
    #[error("the backup does not hold the state that its header names")]
    Content,
}

/// Writes a backup piece by piece.
pub struct Writer {
    key: LessSafeKey,
    prefix: [u8; PREFIX_BYTES],
    header_digest: [u8; DIGEST_BYTES],
    number: u32,
    digest: Sha256,
}

impl Writer {
    /// Begins a backup; gives the bytes that the file begins with.
    ///
    /// # Errors
    /// Nothing but a header that does not fit.
    pub fn begin(about: About, root: &RootKey) -> Result<(Self, Vec<u8>), BackupError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let mut prefix = [0; PREFIX_BYTES];
        aws_lc_rs::rand::fill(bytes.as_mut()).expect("the system's random generator answers");
        aws_lc_rs::rand::fill(&mut prefix).expect("the system's random generator answers");
        let wrapped_key = seal::encrypt(&root.derive(WRAPPING), 0, bytes.as_ref(), PLACE)
            .map_err(|_| BackupError::Header)?;
        let header = postcard::to_stdvec(&Header { about, prefix, wrapped_key })
            .expect("plain data always encodes into memory");
        let mut begin = MAGIC.to_vec();
        begin.extend_from_slice(&FORMAT.to_le_bytes());
        begin.extend_from_slice(&u32::try_from(header.len()).map_err(|_| BackupError::Header)?.to_le_bytes());
        begin.extend_from_slice(&header);
        let mut digest = Sha256::new();
        digest.update(&begin);
        let header_digest = Sha256::digest(&begin).into();
        Ok((Self { key: cipher(&bytes), prefix, header_digest, number: 0, digest }, begin))
    }

    /// Seals a chunk, the last one as such, which is followed by the checksum; gives the bytes to be written.
    ///
    /// # Errors
    /// There are more than 2^32 chunks.
    pub fn chunk(&mut self, plaintext: Zeroizing<Vec<u8>>, last: bool) -> Result<Vec<u8>, BackupError> {
        let mut body = plaintext;
        self.key
            .seal_in_place_append_tag(
                nonce(&self.prefix, self.number, last),
                Aad::from(self.header_digest),
                &mut *body,
            )
            .map_err(|_| BackupError::Chunk(self.number))?;
        self.number = self.number.checked_add(1).ok_or(BackupError::Chunk(u32::MAX))?;
        let mut bytes = Vec::with_capacity(body.len() + 4 + DIGEST_BYTES);
        bytes.extend_from_slice(&u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes());
        bytes.extend_from_slice(&body);
        self.digest.update(&bytes);
        if last {
            bytes.extend_from_slice(&self.digest.clone().finalize());
        }
        Ok(bytes)
    }
}

/// A backup that is read.
pub struct Reader {
    file: BufReader<File>,
    header: Header,
    header_digest: [u8; DIGEST_BYTES],
    /// Where the chunks begin, and where they end.
    begin: u64,
    end: u64,
}

impl Reader {
    /// Opens a backup, reads its header and checks the checksum over the whole file.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let mut file = BufReader::new(File::open(path)?);
        let size = file.get_ref().metadata()?.len();
        let mut start = [0; MAGIC.len() + 2 + 4];
        file.read_exact(&mut start).map_err(|_| BackupError::NotABackup)?;
        if !start.starts_with(MAGIC) {
            return Err(BackupError::NotABackup);
        }
        let format = u16::from_le_bytes([start[8], start[9]]);
        if format != FORMAT {
            return Err(BackupError::Format(format));
        }
        let length = u32::from_le_bytes([start[10], start[11], start[12], start[13]]) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(BackupError::Header);
        }
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(|_| BackupError::Header)?;
        let whole = [&start[..], &header].concat();
        let begin = whole.len() as u64;
        let end =
            size.checked_sub(DIGEST_BYTES as u64).filter(|end| *end >= begin).ok_or(BackupError::Checksum)?;
        let header: Header = postcard::from_bytes(&header).map_err(|_| BackupError::Header)?;
        let mut digest = Sha256::new();
        digest.update(&whole);
        io::copy(&mut (&mut file).take(end - begin), &mut DigestWriter(&mut digest))?;
        let mut written = [0; DIGEST_BYTES];
        file.read_exact(&mut written)?;
        if written != <[u8; DIGEST_BYTES]>::from(digest.finalize()) {
            return Err(BackupError::Checksum);
        }
        file.seek(SeekFrom::Start(begin))?;
        Ok(Self { file, header, header_digest: Sha256::digest(&whole).into(), begin, end })
    }

    /// What it says of itself.
    #[must_use]
    pub const fn about(&self) -> &About {
        &self.header.about
    }

    /// The content of its chunks, in order, each opened as it is read.
    ///
    /// # Errors
    /// [`BackupError::WrongRootKey`]; of each chunk, that it does not open.
    pub fn chunks(self, root: &RootKey) -> Result<Chunks, BackupError> {
        let opened = seal::decrypt(&root.derive(WRAPPING), 0, &self.header.wrapped_key, PLACE);
        let opened = opened.map_err(|error| match error {
            SealError::Altered => BackupError::WrongRootKey,
            SealError::TooLong
            | SealError::Format
            | SealError::OtherKey { .. }
            | SealError::WrongRootKey(_) => BackupError::Header,
        })?;
        let bytes: &[u8; KEY_BYTES] = opened.as_slice().try_into().map_err(|_| BackupError::Header)?;
        Ok(Chunks { key: cipher(bytes), at: self.begin, number: 0, ended: false, reader: self })
    }
}

/// The chunks of a backup.
pub struct Chunks {
    reader: Reader,
    key: LessSafeKey,
    at: u64,
    number: u32,
    ended: bool,
}

impl Chunks {
    fn read(&mut self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let damaged = BackupError::Chunk(self.number);
        let mut length = [0; 4];
        if self.at + 4 > self.reader.end {
            return Err(damaged);
        }
        self.reader.file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        self.at += 4 + length as u64;
        if length > CHUNK_BYTES_MAX || self.at > self.reader.end {
            return Err(damaged);
        }
        let mut body = Zeroizing::new(vec![0; length]);
        self.reader.file.read_exact(&mut body)?;
        let last = self.at == self.reader.end;
        let nonce = nonce(&self.reader.header.prefix, self.number, last);
        let plain = self.key.open_in_place(nonce, Aad::from(self.reader.header_digest), &mut body);
        let plain = plain.map_err(|_| damaged)?.len();
        body.truncate(plain);
        self.number += 1;
        self.ended = last;
        Ok(body)
    }
}

impl Iterator for Chunks {
    type Item = Result<Zeroizing<Vec<u8>>, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let chunk = self.read();
        self.ended |= chunk.is_err();
        Some(chunk)
    }
}

struct DigestWriter<'a>(&'a mut Sha256);

impl io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nonce(prefix: &[u8; PREFIX_BYTES], number: u32, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..PREFIX_BYTES].copy_from_slice(prefix);
    bytes[PREFIX_BYTES..NONCE_LEN - 1].copy_from_slice(&number.to_be_bytes());
    bytes[NONCE_LEN - 1] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the length of the algorithm"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn about() -> About {
        About {
            cluster: "c".into(),
            created_at: Time(1),
            applied: 2,
            revision: 3,
            ledger: LedgerHead { sequence: 4, hash: [4; 32] },
            data_key: Some(1),
            digest: [5; 32],
            records: 3,
        }
    }

    fn written(root: &RootKey) -> Vec<u8> {
        let (mut writer, mut bytes) = Writer::begin(about(), root).unwrap();
        for (number, last) in [(1_u8, false), (2, false), (3, true)] {
            bytes.extend(writer.chunk(Zeroizing::new(vec![number; 100]), last).unwrap());
        }
        bytes
    }

    /// What is read of a file with these bytes; nothing when anything was found wrong with it.
    fn read(bytes: &[u8], root: &RootKey) -> Option<Vec<Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        fs::write(&path, bytes).unwrap();
        let chunks = Reader::open(&path).ok()?.chunks(root).ok()?;
        chunks.map(|chunk| chunk.ok().map(|chunk| chunk.to_vec())).collect()
    }

    /// The same bytes with a checksum that fits, as who changes a file with care would leave them.
    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - DIGEST_BYTES);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    #[test]
    fn a_backup_is_read_back_with_its_root_key_alone() {
        let root = RootKey::generate();
        let bytes = written(&root);
        assert_eq!(read(&bytes, &root).unwrap(), [vec![1; 100], vec![2; 100], vec![3; 100]]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(*Reader::open(&path).unwrap().about(), about());
        let other = Reader::open(&path).unwrap().chunks(&RootKey::generate());
        assert!(matches!(other, Err(BackupError::WrongRootKey)));
        assert!(!bytes.windows(20).any(|window| window == [2; 20]), "nothing of the content is in the clear");
    }

    #[test]
    fn every_flipped_bit_is_found_also_under_a_checksum_that_fits() {
        let root = RootKey::generate();
        let bytes = written(&root);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(read(&changed, &root).is_none(), "byte {place}");
            if place < bytes.len() - DIGEST_BYTES {
                assert!(read(&with_checksum(changed), &root).is_none(), "byte {place}, checksum made anew");
            }
        }
    }

    #[test]
    fn a_backup_that_was_cut_or_whose_chunks_were_swapped_or_left_out_is_found() {
        let root = RootKey::generate();
        let bytes = written(&root);
        let chunk = 4 + 100 + AES_256_GCM.tag_len();
        let begin = bytes.len() - DIGEST_BYTES - 3 * chunk;
        for length in (0..bytes.len()).step_by(3) {
            assert!(read(&bytes[..length], &root).is_none(), "cut at {length}");
        }
        let (head, rest) = bytes.split_at(begin);
        let (one, two, three, digest) =
            (&rest[..chunk], &rest[chunk..2 * chunk], &rest[2 * chunk..3 * chunk], &rest[3 * chunk..]);
        for order in
            [&[two, one, three][..], &[one, three], &[one, two], &[two, three], &[one, one, two, three]]
        {
            let changed = [&[head], order, &[digest]].concat().concat();
            assert!(read(&with_checksum(changed), &root).is_none());
        }
        let other = written(&root);
        let moved = [head, one, &other[begin + chunk..]].concat();
        assert!(read(&with_checksum(moved), &root).is_none(), "chunks of another backup");
    }
}
