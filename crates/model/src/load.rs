//! Loading a state in parts: rows are decoded and hashed part by part, which may be done beside each other, and taken in
//! one part after the other.

use crate::{
    State,
    table::{LoadError, RecordRef},
};

/// Rows that are decoded and hashed, and not yet taken in.
#[derive(Default)]
pub struct Part(State);

impl Part {
    /// Decodes and hashes a row.
    ///
    /// # Errors
    /// A record of an unknown table, or one that does not decode.
    pub fn add(&mut self, record: RecordRef<'_>) -> Result<(), LoadError> {
        self.0.load_record(record)
    }

    /// How many rows there are.
    #[must_use]
    pub fn count_records(&self) -> u64 {
        self.0.count_records()
    }
}

/// A state that is being loaded.
#[derive(Default)]
pub struct Loading {
    state: State,
    /// Whether a row came more than once: then what was derived from the earlier one is wrong.
    has_replaced: bool,
}

impl Loading {
    /// Takes in rows. They derive what follows from them as they come, beside the decoding of those behind them.
    pub fn take(&mut self, Part(rows): Part) {
        self.state.derive_from(&rows);
        self.has_replaced |= !self.state.absorb(rows);
    }

    /// The state, when all of it was taken in.
    #[must_use]
    pub fn finish(mut self) -> State {
        // While nothing may fire, what follows from a row depends on another one, which came with another part.
        if self.has_replaced || self.state.is_observing() {
            self.state.derive();
        }
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::{
        identity::Identity,
        table::{Record, Row as _},
        time::Time,
    };

    fn record(name: &str, review_by: u64) -> Record {
        let identity = Identity {
            name: name.parse().unwrap(),
            owner: "team".into(),
            purpose: String::new(),
            workload: String::new(),
            environment: String::new(),
            review_by: Time(review_by),
        };
        Record {
            table: Identity::TAG,
            key: postcard::to_stdvec(&identity.name).unwrap(),
            value: Some(postcard::to_stdvec(&identity).unwrap()),
        }
    }

    fn part(records: &[Record]) -> Result<Part, LoadError> {
        let mut part = Part::default();
        records.iter().try_for_each(|record| part.add(record.into()))?;
        assert_eq!(part.count_records(), records.len() as u64);
        Ok(part)
    }

    fn load(parts: &[&[Record]]) -> State {
        let mut loading = Loading::default();
        for records in parts {
            loading.take(part(records).unwrap());
        }
        loading.finish()
    }

    #[test]
    fn parts_make_the_same_state_as_the_whole() {
        let records: Vec<_> = (0..50).map(|number| record(&format!("row-{number:02}"), number)).collect();
        let whole = State::load::<LoadError>(records.iter().cloned().map(Ok)).unwrap();
        for size in [1, 7, 50] {
            let loaded = load(&records.chunks(size).collect::<Vec<_>>());
            assert_eq!(loaded.digest(), whole.digest());
            assert_eq!(loaded.count_records(), 50);
            loaded.assert_derived();
        }
    }

    #[test]
    fn of_a_row_that_comes_again_only_the_later_one_counts() {
        let (early, late) = (record("row", 1), record("row", 2));
        let loaded = load(&[&[early], slice::from_ref(&late)]);
        assert_eq!(loaded.digest(), load(&[slice::from_ref(&late)]).digest());
        loaded.assert_derived();
    }

    #[test]
    fn a_record_that_does_not_decode_is_an_error() {
        let unknown = Record { table: 200, ..record("row", 1) };
        assert_eq!(part(&[unknown]).err(), Some(LoadError::UnknownTable(200)));
        let cut = Record { value: Some(vec![3]), ..record("row", 1) };
        assert_eq!(part(&[cut]).err(), Some(LoadError::Undecodable { table: Identity::TAG }));
    }
}
