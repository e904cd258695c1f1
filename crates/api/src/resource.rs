//! Resources of any kind: what can be declared.

use std::fmt;

use crate::{Malformed, v1};

/// The kinds of resources, in the order in which they refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Refers to nothing.
    Identity,
    /// Refers to nothing.
    Target,
    /// Refers to nothing.
    Store,
    /// Refers to an identity, a target and stores.
    Credential,
    /// Refers to credentials and targets.
    Consumer,
    /// Refers to a credential; comes last, since it sets rotations off.
    Schedule,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Target, Self::Store, Self::Credential, Self::Consumer, Self::Schedule];

    /// The kind in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Target => "target",
            Self::Store => "store",
            Self::Credential => "credential",
            Self::Consumer => "consumer",
            Self::Schedule => "schedule",
        }
    }

    /// Reads the kind a request names.
    ///
    /// # Errors
    /// [`Malformed`] when it names none.
    pub fn named(wire: i32) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|kind| v1::ResourceKind::from(*kind) as i32 == wire)
            .ok_or_else(|| Malformed::new("kind", "names no kind of resource"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Kind> for v1::ResourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Identity => Self::Identity,
            Kind::Target => Self::Target,
            Kind::Store => Self::Store,
            Kind::Credential => Self::Credential,
            Kind::Consumer => Self::Consumer,
            Kind::Schedule => Self::Schedule,
        }
    }
}

impl v1::Resource {
    /// Its kind and name, if it is of any kind.
    #[must_use]
    pub fn key(&self) -> Option<(Kind, &str)> {
        use v1::resource::Kind as Wire;
        Some(match self.kind.as_ref()? {
            Wire::Identity(row) => (Kind::Identity, &row.name),
            Wire::Target(row) => (Kind::Target, &row.name),
            Wire::Store(row) => (Kind::Store, &row.name),
            Wire::Credential(row) => (Kind::Credential, &row.name),
            Wire::Schedule(row) => (Kind::Schedule, &row.name),
            Wire::Consumer(row) => (Kind::Consumer, &row.name),
        })
    }
}

macro_rules! into_resource {
    ($($kind:ident)*) => {$(
        impl From<v1::$kind> for v1::Resource {
            fn from(row: v1::$kind) -> Self {
                Self { kind: Some(v1::resource::Kind::$kind(row)) }
            }
        }
    )*};
}

into_resource!(Identity Target Store Credential Schedule Consumer);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_the_wire_and_nothing_else_is() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(v1::ResourceKind::from(kind).into()), Ok(kind));
        }
        for other in [0, 7, -1] {
            assert!(Kind::named(other).is_err());
        }
    }
}
