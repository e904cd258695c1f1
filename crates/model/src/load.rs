//! Loading a state in parts: rows are decoded and hashed part by part, which may be done beside each other, and taken in
//! one part after the other.

use crate::{
    State,
    table::{LoadError, Record},
};

/// Rows that are decoded and hashed, and not yet taken in.
pub struct Part(State);

impl Part {
    /// Decodes and hashes rows.
    ///
    /// # Errors
    /// A record of an unknown table, or one that does not decode.
    pub fn decode(records: &[Record]) -> Result<Self, LoadError> {
        let mut rows = State::default();
        records.iter().try_for_each(|record| rows.load_record(record))?;
        Ok(Self(rows))
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
        if self.has_replaced {
            self.state.derive();
        }
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Identity, table::Row as _, time::Time};

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

    fn load(parts: &[&[Record]]) -> State {
        let mut loading = Loading::default();
        for part in parts {
            loading.take(Part::decode(part).unwrap());
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
        let loaded = load(&[&[early], &[late.clone()]]);
        assert_eq!(loaded.digest(), load(&[&[late]]).digest());
        loaded.assert_derived();
    }

    #[test]
    fn a_record_that_does_not_decode_is_an_error() {
        let unknown = Record { table: 200, ..record("row", 1) };
        assert_eq!(Part::decode(&[unknown]).err(), Some(LoadError::UnknownTable(200)));
        let cut = Record { value: Some(vec![3]), ..record("row", 1) };
        assert_eq!(Part::decode(&[cut]).err(), Some(LoadError::Undecodable { table: Identity::TAG }));
    }
}
