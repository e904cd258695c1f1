//! Stores.

use model::{command::PutStore, store::Store};

use crate::{Malformed, parse, v1};

impl TryFrom<v1::Store> for PutStore {
    type Error = Malformed;

    /// Leaves the access out: the server seals it.
    fn try_from(wire: v1::Store) -> Result<Self, Malformed> {
        Ok(Self { name: parse("name", &wire.name)?, kind: wire.kind, params: wire.params, access: None })
    }
}

impl From<&Store> for v1::Store {
    fn from(row: &Store) -> Self {
        Self {
            name: row.name.to_string(),
            kind: row.kind.clone(),
            params: row.params.clone(),
            access: std::collections::BTreeMap::new(),
            has_access: row.access.is_some(),
        }
    }
}
