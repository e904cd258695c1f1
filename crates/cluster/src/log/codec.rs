//! How votes and entries stand in the log files. The log itself frames and checksums each record.

use std::{io, io::Read as _};

use raft_log::{
    Types,
    codeq::{Decode, Encode},
};

use super::flusher::Flushed;
use crate::raft::{Packed, Vote};

/// The types that raft-log is used with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogTypes;

impl Types for LogTypes {
    /// Term and index.
    type LogId = (u64, u64);
    type LogPayload = Packed;
    type Vote = Ballot;
    type Callback = Flushed;
    type UserData = ();

    fn log_index(log_id: &Self::LogId) -> u64 {
        log_id.1
    }

    fn payload_size(payload: &Self::LogPayload) -> u64 {
        payload.len() as u64
    }
}

/// A vote. In one term a leader's vote comes after every candidate's, hence the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ballot {
    term: u64,
    committed: bool,
    node: u64,
}

impl Ballot {
    /// The term it was given in.
    pub(super) const fn term(&self) -> u64 {
        self.term
    }
}

impl From<&Vote> for Ballot {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, committed: vote.committed, node: vote.leader_id.voted_for }
    }
}

impl From<&Ballot> for Vote {
    fn from(ballot: &Ballot) -> Self {
        if ballot.committed {
            Self::new_committed(ballot.term, ballot.node)
        } else {
            Self::new(ballot.term, ballot.node)
        }
    }
}

impl Encode for Ballot {
    fn encode<W: io::Write>(&self, mut writer: W) -> io::Result<usize> {
        let mut written = self.term.encode(&mut writer)?;
        written += u8::from(self.committed).encode(&mut writer)?;
        written += self.node.encode(&mut writer)?;
        Ok(written)
    }
}

impl Decode for Ballot {
    fn decode<R: io::Read>(mut reader: R) -> io::Result<Self> {
        let term = u64::decode(&mut reader)?;
        let committed = match u8::decode(&mut reader)? {
            0 => false,
            1 => true,
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{other} is not a truth value"),
                ));
            }
        };
        Ok(Self { term, committed, node: u64::decode(&mut reader)? })
    }
}

impl Encode for Packed {
    fn encode<W: io::Write>(&self, mut writer: W) -> io::Result<usize> {
        let length = u32::try_from(self.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "a log entry is bounded far below 4 GiB")
        })?;
        let prefix = length.encode(&mut writer)?;
        self.write(&mut writer)?;
        Ok(prefix + self.len())
    }
}

impl Decode for Packed {
    fn decode<R: io::Read>(mut reader: R) -> io::Result<Self> {
        let length = u32::decode(&mut reader)?;
        // Not allocated up front: a damaged length must not cost memory before the checksum is looked at.
        let mut bytes = Vec::new();
        reader.take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::read(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_survives_its_encoding() {
        for vote in [Vote::new(3, 7), Vote::new_committed(u64::MAX, 1)] {
            let ballot = Ballot::from(&vote);
            let mut bytes = Vec::new();
            assert_eq!(ballot.encode(&mut bytes).unwrap(), bytes.len());
            assert_eq!(Vote::from(&Ballot::decode(&bytes[..]).unwrap()), vote);
        }
    }

    #[test]
    fn a_leaders_vote_overrides_a_candidates_in_its_term() {
        let ballot = |vote: Vote| Ballot::from(&vote);
        assert!(ballot(Vote::new_committed(2, 1)) > ballot(Vote::new(2, 9)));
        assert!(ballot(Vote::new(3, 1)) > ballot(Vote::new_committed(2, 9)));
    }
}
