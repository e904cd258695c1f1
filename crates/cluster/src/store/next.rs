//! A new generation of the store while a snapshot is made: it takes what is applied behind that. Until the snapshot is
//! there the old one stays, which holds everything up to it; a node that starts meanwhile finds that one, and removes this.

use std::{fs, io, path::Path};

use model::table::Record;

use super::{Base, Store, generations, path};
use crate::machine::Position;

/// A generation that is not complete.
pub(crate) struct Next(Store);

impl Next {
    /// Begins an empty generation behind all that are under `folder`, on a snapshot of the state at `position`.
    pub(crate) fn begin(folder: &Path, position: &Position) -> io::Result<Self> {
        let last = generations(folder)?.into_iter().max().unwrap_or(0);
        let store = Store::create(folder, last + 1)?;
        Ok(Self(Store { base: Some(Base::at(position)), ..store }))
    }

    /// Whether it was begun for a snapshot of the state at `position`.
    pub(crate) fn is_on(&self, position: &Position) -> bool {
        self.0.base == Some(Base::at(position))
    }

    /// Writes some rows, or that they are gone.
    pub(crate) fn add(&mut self, records: Vec<Record>) -> io::Result<()> {
        self.0.write_rows(records, None)
    }

    /// How many bytes its files take.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    /// Makes it durable, and then complete: a generation without a position is unfinished. All others are removed, of
    /// which none may be open.
    pub(crate) fn finish(mut self, position: &Position) -> io::Result<Store> {
        self.0.checkpoint()?;
        self.0.write(Vec::new(), position)?;
        self.0.checkpoint()?;
        for other in generations(&self.0.folder)? {
            if other != self.0.generation {
                fs::remove_dir_all(path(&self.0.folder, other))?;
            }
        }
        Ok(self.0)
    }
}

impl Store {
    /// Begins another on a snapshot of all that it holds, which is the state at `position`.
    pub(crate) fn start_over(self, position: &Position) -> io::Result<Self> {
        let next = Next::begin(&self.folder, position)?;
        drop(self);
        next.finish(position)
    }

    /// Removes all generations under `folder`, of which none may be open: what they held has become useless.
    pub(crate) fn give_up(folder: &Path) -> io::Result<()> {
        generations(folder)?
            .into_iter()
            .try_for_each(|generation| fs::remove_dir_all(path(folder, generation)))
    }
}
