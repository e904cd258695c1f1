//! What one log entry carries: many stamped commands, encoded once and shared from there on.

use std::{fmt, io};

use bytes::{BufMut, Bytes, BytesMut};
use model::{
    command::{DecodeError, Stamped},
    outcome::Outcome,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::Span;

/// Commands in the order they are applied: for each a 32-bit little-endian length and the encoded command.
#[derive(Clone)]
pub(crate) struct Batch {
    bytes: Bytes,
    /// Where its way is told of, on the node that proposes it; no part of what it is.
    span: Span,
}

impl Default for Batch {
    fn default() -> Self {
        Self::from_bytes(Bytes::new())
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Batch {}

/// What the commands of a batch have led to, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcomes(pub(crate) Vec<Outcome>);

/// A batch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    /// A length runs past the end.
    #[error("batch of commands is cut short")]
    CutShort,
    /// One command cannot be applied by this build.
    #[error(transparent)]
    Command(#[from] DecodeError),
}

impl From<BatchError> for io::Error {
    fn from(error: BatchError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Batch {
    /// Joins encoded commands that were stamped by the leader.
    pub(crate) fn join(commands: &[Bytes]) -> Self {
        let mut bytes = BytesMut::with_capacity(commands.iter().map(|command| 4 + command.len()).sum());
        for command in commands {
            bytes.put_u32_le(u32::try_from(command.len()).expect("a command is far smaller than 4 GiB"));
            bytes.put_slice(command);
        }
        Self::from_bytes(bytes.freeze())
    }

    /// Takes bytes that came from a log or a peer; they are looked at by [`Batch::commands`].
    pub(crate) const fn from_bytes(bytes: Bytes) -> Self {
        Self { bytes, span: Span::none() }
    }

    /// The same, its way told of in `span`.
    pub(crate) fn traced(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Where its way is told of.
    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// The encoded form.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The commands in order.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Result<Stamped, BatchError>> + '_ {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let taken = split_one(rest);
            rest = taken.map_or(&[], |(_, rest)| rest);
            Some(taken.ok_or(BatchError::CutShort).and_then(|(one, _)| Ok(Stamped::decode(one)?)))
        })
    }
}

fn split_one(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Batch {
    /// The size alone: commands may name people, and sealed secrets are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commands of {} bytes", self.bytes.len())
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self::from_bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use model::{command::Tick, time::Time};

    use super::*;

    fn tick(at: u64) -> Stamped {
        Stamped { at: Time(at), actor: "system".into(), command: Tick {}.into() }
    }

    fn join(commands: &[Stamped]) -> Batch {
        Batch::join(&commands.iter().map(|command| command.encode().into()).collect::<Vec<_>>())
    }

    #[test]
    fn commands_come_back_in_order() {
        let commands: Vec<_> = (0..5).map(tick).collect();
        let batch = join(&commands);
        let read: Vec<_> = batch.commands().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, commands);
        assert_eq!(Batch::default().commands().count(), 0);
    }

    #[test]
    fn a_cut_batch_is_an_error_and_not_a_shorter_batch() {
        let whole = join(&[tick(1), tick(2)]);
        let boundary = whole.bytes().len() / 2;
        for length in (1..whole.bytes().len()).filter(|length| *length != boundary) {
            let cut = Batch::from_bytes(whole.bytes().slice(..length));
            assert!(cut.commands().any(|command| command.is_err()), "{length}");
        }
    }
}
