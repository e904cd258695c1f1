//! Cuts a damaged log before its first record that cannot be read. What remains is a log that this node once had;
//! whether it had promised more since is for the other nodes to say.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use raft_log::{ChunkId, Config, Dump, DumpApi as _, RaftLogAction, RaftLogRecord, codeq::Span as _};

use super::codec::{Ballot, LogTypes};
use crate::{
    disk::{make_folder, sync_folder},
    promise::Stand,
};

/// Where the damage begins.
struct Damage {
    chunk: ChunkId,
    /// Bytes of the chunk that can be read.
    sound: u64,
    /// Where the log stands before the damage.
    stand: Stand,
    reason: io::Error,
}

/// Cuts the log under `config` when it is damaged, and says why. The chunks as they were are copied to `aside` first.
///
/// `None` when every record can be read, for then something else is wrong with it; and when the log would end before
/// `keep`.
pub(super) fn cut(config: &Arc<Config>, aside: &Path, keep: Option<Stand>) -> io::Result<Option<io::Error>> {
    let Some(Damage { chunk, sound, stand, reason }) = find(config)? else { return Ok(None) };
    if keep.is_some_and(|keep| (stand.term, stand.last) < (keep.term, keep.last)) {
        return Ok(None);
    }
    let folder = PathBuf::from(&config.wal.dir);
    make_folder(aside)?;
    for path in chunks_from(&folder, config.wal.chunk_path(chunk).as_ref())? {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        fs::copy(&path, aside.join(name))?;
    }
    sync_folder(aside)?;
    // From the end, so that a crash half way leaves a log that ends in the same damage.
    for path in chunks_from(&folder, config.wal.chunk_path(chunk).as_ref())?.into_iter().skip(1).rev() {
        fs::remove_file(path)?;
    }
    let path = config.wal.chunk_path(chunk);
    if sound == 0 {
        fs::remove_file(path)?;
    } else {
        let file = File::options().write(true).open(path)?;
        file.set_len(sound)?;
        file.sync_all()?;
    }
    sync_folder(&folder)?;
    Ok(Some(reason))
}

fn find(config: &Arc<Config>) -> io::Result<Option<Damage>> {
    let mut sound: Option<(ChunkId, u64)> = None;
    let mut stand = Stand::default();
    let mut damage = None;
    let dump = Dump::<LogTypes>::new(Arc::clone(config))?;
    let read = dump.write_with(|chunk, _, record| {
        let gap =
            sound.is_some_and(|(before, end)| before != chunk && before.offset() + end != chunk.offset());
        let reason = match record {
            Ok((segment, record)) if !gap => {
                sound = Some((chunk, segment.end().0));
                follow(&mut stand, &record);
                return Ok(());
            }
            Ok(_) => {
                io::Error::new(io::ErrorKind::InvalidData, "the chunk before it is missing or too short")
            }
            Err(error) => error,
        };
        let sound = sound.filter(|(before, _)| *before == chunk && !gap).map_or(0, |(_, end)| end);
        damage = Some(Damage { chunk, sound, stand, reason });
        Err(io::Error::other("stop"))
    });
    match (damage, read) {
        (Some(damage), _) if is_damage(&damage.reason) => Ok(Some(damage)),
        (Some(damage), _) => Err(damage.reason),
        (None, read) => read.map(|()| None),
    }
}

/// Where the log stands after a record.
fn follow(stand: &mut Stand, record: &RaftLogRecord<LogTypes>) {
    match record {
        RaftLogRecord::Checkpoint(state) => {
            stand.term = state.vote().map_or(0, Ballot::term);
            stand.last = state.last().copied();
        }
        RaftLogRecord::Action(action) => match action {
            RaftLogAction::SaveVote(ballot) => stand.term = ballot.term(),
            RaftLogAction::Append(id, _) => stand.last = Some(*id),
            RaftLogAction::TruncateAfter(last) => stand.last = *last,
            RaftLogAction::PurgeUpto(upto) => stand.last = stand.last.max(Some(*upto)),
            RaftLogAction::Commit(_) => {}
        },
    }
}

/// A disk that cannot be read is another matter: what it holds may be sound.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}

/// The chunk files from `first` on, in order: their names are the offsets, padded.
fn chunks_from(folder: &Path, first: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension() == first.extension() && path.as_path() >= first);
    paths.sort();
    Ok(paths)
}
