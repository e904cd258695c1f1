//! The cut: which of the things that were not durable a disk happens to have written.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::disk::{Change, Disk, File, Image};

/// What a page cache writes at once.
const PAGE_BYTES: usize = 4096;
/// What a disk writes at once; a page may be torn between two of these.
const SECTOR_BYTES: usize = 512;

/// What becomes of that which was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// It was written in order, up to some moment.
    Ordered,
    /// Every page and every change of a name for itself: kept, kept as it was at an earlier moment, lost, or torn.
    Scattered,
    /// All of it was written: the same as when the program alone was killed.
    Kept,
}

impl Fate {
    /// The fate that belongs to a seed. Scattered pages are what finds most.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        match StdRng::seed_from_u64(seed).random_range(0..10) {
            0..3 => Self::Lost,
            3..5 => Self::Ordered,
            5..9 => Self::Scattered,
            _ => Self::Kept,
        }
    }
}

impl Disk {
    /// What the disk holds after a power cut. The same disk, fate and seed give the same image.
    #[must_use]
    pub fn cut(mut self, fate: Fate, seed: u64) -> Image {
        let mut random = StdRng::seed_from_u64(seed);
        let moment = match fate {
            Fate::Lost => 0,
            Fate::Ordered => random.random_range(0..=self.records),
            Fate::Scattered | Fate::Kept => self.records,
        };
        let survives = |at: u64, random: &mut StdRng| {
            if fate == Fate::Scattered { random.random_bool(0.5) } else { at < moment }
        };
        for naming in std::mem::take(&mut self.namings) {
            if survives(naming.at, &mut random) {
                self.settle(naming);
            }
        }
        self.image(
            |(durable, _)| durable,
            |file| if fate == Fate::Scattered { scattered(file, &mut random) } else { file.as_of(moment) },
        )
    }
}

fn scattered(file: &File, random: &mut StdRng) -> Vec<u8> {
    let changes: Vec<&Change> = file.changes.iter().map(|(_, change)| change).collect();
    let mut content = file.durable.clone();
    content.resize(length_after(file, drawn(changes.len(), random)), 0);
    for page in touched(&changes, file.durable.len()) {
        let first = drawn(changes.len(), random);
        let second = if random.random_bool(0.25) { drawn(changes.len(), random) } else { first };
        let (first, second) = (page_after(file, page, first), page_after(file, page, second));
        for (sector, start) in
            (page * PAGE_BYTES..).step_by(SECTOR_BYTES).take(PAGE_BYTES / SECTOR_BYTES).enumerate()
        {
            let end = (start + SECTOR_BYTES).min(content.len());
            if start < end {
                let from = if random.random_bool(0.5) { &first } else { &second };
                let within = sector * SECTOR_BYTES;
                content[start..end].copy_from_slice(&from[within..within + end - start]);
            }
        }
    }
    content
}

/// How many of so many changes there were when something was written: often none or all of them.
fn drawn(changes: usize, random: &mut StdRng) -> usize {
    match random.random_range(0..4) {
        0 => 0,
        1 | 2 => changes,
        _ => random.random_range(0..=changes),
    }
}

fn length_after(file: &File, changes: usize) -> usize {
    file.changes.iter().take(changes).fold(file.durable.len(), |length, (_, change)| match change {
        Change::Write { offset, data } => length.max(offset + data.len()),
        Change::Resize(length) => *length,
    })
}

/// The pages that any change has touched.
fn touched(changes: &[&Change], durable: usize) -> BTreeSet<usize> {
    let pages = |start: usize, end: usize| start / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    let mut length = durable;
    let mut touched = BTreeSet::new();
    for change in changes {
        match change {
            Change::Write { offset, data } => {
                touched.extend(pages(*offset, offset + data.len()));
                length = length.max(offset + data.len());
            }
            Change::Resize(to) => {
                touched.extend(pages((*to).min(length), length));
                length = *to;
            }
        }
    }
    touched
}

/// A page of the file after so many changes; beyond the end of the file it is zero.
fn page_after(file: &File, page: usize, changes: usize) -> [u8; PAGE_BYTES] {
    let start = page * PAGE_BYTES;
    let mut content = [0; PAGE_BYTES];
    if let Some(durable) = file.durable.get(start..) {
        let held = durable.len().min(PAGE_BYTES);
        content[..held].copy_from_slice(&durable[..held]);
    }
    for (_, change) in file.changes.iter().take(changes) {
        match change {
            Change::Write { offset, data } => {
                let (from, to) = ((*offset).max(start), (offset + data.len()).min(start + PAGE_BYTES));
                if from < to {
                    content[from - start..to - start].copy_from_slice(&data[from - offset..to - offset]);
                }
            }
            Change::Resize(length) => {
                if let Some(gone) = content.get_mut(length.saturating_sub(start)..) {
                    gone.fill(0);
                }
            }
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::Record;

    #[test]
    fn scattered_pages_are_each_of_some_moment_and_torn_between_sectors() {
        let mut kinds = BTreeSet::new();
        for seed in 0..40 {
            let left = done_pages().cut(Fate::Scattered, seed);
            let content = left.file("pages").unwrap();
            assert!([4 * 4096, 6 * 4096].contains(&content.len()));
            for page in content.chunks(4096) {
                for sector in page.chunks(512) {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is not torn");
                }
                let sectors: Vec<u8> = page.chunks(512).map(|sector| sector[0]).collect();
                assert!(sectors.iter().all(|byte| b"\x000ab".contains(byte)), "{sectors:?}");
                kinds.insert(match sectors[..] {
                    [first, ..] if sectors.iter().all(|sector| *sector == first) => first,
                    _ => b'?',
                });
            }
        }
        assert_eq!(kinds, b"\x000ab?".iter().copied().collect(), "lost, old, earlier, last and torn");
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let path = Path::new("/disk/file");
        let records = [
            Record::Open { inode: 1, created: true, path },
            Record::Open { inode: 2, created: false, path: Path::new("/disk") },
            Record::Sync { inode: 2, covered: 1 },
            Record::Write { inode: 1, offset: 0, data: b"before" },
            // Written by another thread while the call was under way.
            Record::Write { inode: 1, offset: 6, data: b" during" },
            Record::Sync { inode: 1, covered: 4 },
        ];
        let mut disk = Disk::new(Path::new("/disk"), Image::default());
        disk.replay(&records.iter().flat_map(Record::encode).collect::<Vec<u8>>());
        assert_eq!(disk.cut(Fate::Lost, 0).file("file").unwrap(), b"before");
    }

    /// Four durable pages of `0`, then `a` and then `b` written over all of them and two more.
    fn done_pages() -> Disk {
        let path = Path::new("/disk/pages");
        let records = [
            Record::Open { inode: 1, created: true, path },
            Record::Write { inode: 1, offset: 0, data: &[b'0'; 4 * 4096] },
            Record::Open { inode: 2, created: false, path: Path::new("/disk") },
            Record::Sync { inode: 1, covered: 2 },
            Record::Sync { inode: 2, covered: 2 },
            Record::Write { inode: 1, offset: 0, data: &[b'a'; 6 * 4096] },
            Record::Write { inode: 1, offset: 0, data: &[b'b'; 6 * 4096] },
        ];
        let mut disk = Disk::new(Path::new("/disk"), Image::default());
        disk.replay(&records.iter().flat_map(Record::encode).collect::<Vec<u8>>());
        disk
    }
}
