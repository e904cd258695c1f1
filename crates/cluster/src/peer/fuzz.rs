//! What a peer sends, for a fuzzer.

use api::v1;
use prost::Message;

use super::wire;
use crate::machine::Frame;

/// Reads a message; the first byte chooses which.
pub(crate) fn message(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 14 {
        0 => read(bytes, wire::read_append),
        1 => read(bytes, wire::read_appended),
        2 => read(bytes, wire::read_vote),
        3 => read(bytes, wire::read_voted),
        4 => read(bytes, wire::read_transfer),
        5 => read(bytes, wire::read_transferred),
        6 => read(bytes, wire::read_head),
        7 => read(bytes, wire::read_frame),
        8 => read(bytes, wire::read_answer),
        9 => read(bytes, wire::read_description),
        10 => read(bytes, wire::read_rejoined),
        11 => read(bytes, |message: v1::PeerSteerRequest| wire::read_order(&message)),
        12 => read(bytes, |message: v1::PeerRejoinRequest| wire::read_storage(&message.storage)),
        _ => read(bytes, |message: v1::PeerSnapshotFrame| Frame::check(message.body, &message.checksum)),
    }
}

fn read<M: Message + Default, T>(bytes: &[u8], convert: impl Fn(M) -> T) {
    if let Ok(message) = M::decode(bytes) {
        drop(convert(message));
    }
}
