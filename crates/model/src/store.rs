//! Stores: where consumers read the current value of a credential.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{name::StoreName, sealed::Sealed, table::Row};

/// A place where consumers read the current value. The store `builtin` always exists and is not declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its name.
    pub name: StoreName,
    /// Which kind it is, such as `aws-secrets-manager`.
    pub kind: String,
    /// What the kind needs to know, such as `region`; never a secret.
    pub params: BTreeMap<String, String>,
    /// The secret that opens it, bound with [`crate::sealed::associated::store`]; ambient credentials when absent.
    pub access: Option<Sealed>,
}

impl Row for Store {
    type Key = StoreName;
    const TAG: u8 = 3;
    const STATED: bool = true;

    fn sealed(&self) -> Option<&Sealed> {
        self.access.as_ref()
    }
}
