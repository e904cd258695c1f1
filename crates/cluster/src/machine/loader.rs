//! Builds a state from batches of its rows. Rows are decoded and hashed on threads of their own, and taken in on
//! another, in order, while whoever has the batches reads on.

use std::{
    io,
    num::NonZero,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use model::{Loading, Part, State, table::RecordRef};

use super::{RestoreError, snapshot::PACKED};
use crate::{
    packing,
    raft::damaged,
    store::{Shadow, Stored, groups},
};

/// Threads that decode, at most; fewer when there are fewer cores.
const DECODERS_MAX: usize = 4;
/// Batches that wait for a thread, and for being taken in.
const WAITING: usize = 2;

/// Some rows.
pub(crate) enum Batch {
    /// The body of a frame of a snapshot.
    Frame(Bytes),
    /// Rows as the store keeps them.
    Rows(Vec<Stored>),
}

impl Batch {
    fn decode(self, shadow: &Shadow) -> Result<Part, RestoreError> {
        match self {
            Self::Frame(body) => {
                let unpacked = packing::unpack(PACKED, &body)?;
                let mut part = Part::default();
                for record in postcard::from_bytes::<Vec<RecordRef<'_>>>(&unpacked).map_err(damaged)? {
                    if !shadow.covers(record.table, record.key) {
                        groups::add(&mut part, record)?;
                    }
                }
                Ok(part)
            }
            Self::Rows(rows) => Stored::decode(&rows),
        }
    }
}

/// A state that is being built.
#[derive(Debug)]
pub(crate) struct Loader {
    /// The batches go to the decoders in turn, and are taken from them in turn.
    decoders: Vec<SyncSender<Batch>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    taking: JoinHandle<Result<(State, u64), RestoreError>>,
}

impl Loader {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_below(Shadow::default())
    }

    /// Starts the threads; of the rows in frames, those in the shadow do not count.
    pub(crate) fn start_below(shadow: Shadow) -> io::Result<Self> {
        let shadow = Arc::new(shadow);
        let count = thread::available_parallelism().map_or(1, NonZero::get).min(DECODERS_MAX);
        let (mut decoders, mut threads, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let (batches, waiting) = sync_channel::<Batch>(WAITING);
            let (parts, out) = sync_channel(WAITING);
            let shadow = Arc::clone(&shadow);
            let work = move || {
                for batch in waiting {
                    // Nobody takes it in when another batch was an error.
                    if parts.send(batch.decode(&shadow)).is_err() {
                        return;
                    }
                }
            };
            threads.push(thread::Builder::new().name("state-decoder".into()).spawn(work)?);
            decoders.push(batches);
            decoded.push(out);
        }
        let taking = thread::Builder::new().name("state-loader".into()).spawn(move || take_in(&decoded))?;
        Ok(Self { decoders, threads, next: 0, taking })
    }

    /// Hands a batch over, and waits while too many are under way; says whether more is wanted. [`Self::finish`] says
    /// why not.
    pub(crate) fn push(&mut self, batch: Batch) -> bool {
        let decoder = &self.decoders[self.next];
        self.next = (self.next + 1) % self.decoders.len();
        decoder.send(batch).is_ok()
    }

    /// The state, and how many records it was built from.
    pub(crate) fn finish(self) -> Result<(State, u64), RestoreError> {
        drop(self.decoders);
        let loaded = self.taking.join().unwrap_or(Err(RestoreError::Panicked));
        // One that has panicked looks as if it had come to its end.
        let sound = self.threads.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok());
        if sound { loaded } else { Err(RestoreError::Panicked) }
    }
}

/// Takes the parts in order, until whose turn it is has no more.
fn take_in(decoded: &[Receiver<Result<Part, RestoreError>>]) -> Result<(State, u64), RestoreError> {
    let mut loading = Loading::default();
    let mut records = 0;
    for decoder in decoded.iter().cycle() {
        let Ok(next) = decoder.recv() else { break };
        let part = next?;
        records += part.count_records();
        loading.take(part);
    }
    Ok((loading.finish(), records))
}

#[cfg(test)]
mod tests {
    use model::{
        identity::Identity,
        table::{Record, Row as _},
        time::Time,
    };

    use super::*;

    fn row(number: u64) -> Record {
        let identity = Identity {
            name: format!("row-{number:05}").parse().unwrap(),
            owner: "team".into(),
            purpose: String::new(),
            workload: String::new(),
            environment: String::new(),
            review_by: Time(number),
        };
        Record {
            table: Identity::TAG,
            key: postcard::to_stdvec(&identity.name).unwrap(),
            value: Some(postcard::to_stdvec(&identity).unwrap()),
        }
    }

    #[test]
    fn batches_make_the_state_that_their_rows_make() {
        let rows: Vec<_> = (0..3_000).map(row).collect();
        let whole = State::load::<RestoreError>(rows.iter().cloned().map(Ok)).unwrap();
        for size in [13, 1_000, 5_000] {
            let mut loader = Loader::start().unwrap();
            for (number, some) in rows.chunks(size).enumerate() {
                let frame = || Batch::Frame(postcard::to_stdvec(some).unwrap().into());
                let rows = || Batch::Rows(some.iter().cloned().map(Stored::Long).collect());
                assert!(loader.push(if number % 2 == 0 { frame() } else { rows() }));
            }
            let (state, records) = loader.finish().unwrap();
            assert_eq!((state.digest(), records), (whole.digest(), 3_000), "{size} in a batch");
        }
    }

    #[test]
    fn nothing_makes_an_empty_state() {
        let (state, records) = Loader::start().unwrap().finish().unwrap();
        assert_eq!((state.digest(), records), (State::default().digest(), 0));
    }

    #[test]
    fn a_batch_that_does_not_decode_ends_it() {
        let mut loader = Loader::start().unwrap();
        loader.push(Batch::Rows(vec![Stored::Long(row(1))]));
        loader.push(Batch::Frame(vec![9, 9, 9].into()));
        while loader.push(Batch::Rows(vec![Stored::Long(row(2))])) {}
        assert!(matches!(loader.finish(), Err(RestoreError::Io(_))));
    }
}
