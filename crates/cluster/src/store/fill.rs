//! A new generation of the store while it is written. Until it is finished the old one stays, and a node that starts
//! meanwhile finds that one, and removes this.

use std::{fs, io, path::Path};

use model::table::Record;

use super::{Store, io_error, path};
use crate::machine::Position;

/// A generation that is not complete.
pub(crate) struct Fill(Store);

impl Fill {
    /// Begins an empty generation.
    pub(super) fn begin(folder: &Path, generation: u64) -> io::Result<Self> {
        Store::create(folder, generation).map(Self)
    }

    /// Writes some rows, or removes them. Audit records come in the order of their numbers, in whatever calls.
    pub(crate) fn add(&mut self, records: Vec<Record>) -> io::Result<()> {
        self.0.write_rows(records, None)
    }

    /// Makes it durable, and then complete: a generation without a position is unfinished.
    pub(crate) fn finish(mut self, position: &Position) -> io::Result<Store> {
        self.0.checkpoint()?;
        self.0.write(Vec::new(), position)?;
        self.0.checkpoint()?;
        self.0.fresh_bytes = self.0.db.size_on_disk().map_err(io_error)?;
        Ok(self.0)
    }

    /// Gives it up.
    pub(crate) fn abandon(self) -> io::Result<()> {
        let folder = path(&self.0.folder, self.0.generation);
        drop(self.0);
        fs::remove_dir_all(folder)
    }
}

impl Store {
    /// Begins the generation that is to follow this one.
    pub(crate) fn begin_next(&self) -> io::Result<Fill> {
        Fill::begin(&self.folder, self.generation + 1)
    }

    /// Puts the generation that was finished in the place of this one.
    pub(crate) fn give_way(&mut self, next: Self) -> io::Result<()> {
        let old = path(&self.folder, self.generation);
        let bloated_bytes = self.bloated_bytes;
        *self = Self { bloated_bytes, ..next };
        fs::remove_dir_all(old)
    }
}
