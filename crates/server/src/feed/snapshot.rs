//! Snapshots: what a consumer needs that has lost its place.

use api::v1;
use model::{State, consumer::Subscription, credential::VersionState};

/// Every version that is valid, or may become so again, among the credentials that `subscription` covers. What is
/// not listed is not valid.
pub(super) fn snapshot(state: &State, subscription: &Subscription) -> v1::Snapshot {
    let covered =
        state.credentials().values().filter(|row| subscription.covers_credential(&row.name, &row.target));
    let versions = covered.flat_map(|row| state.versions_of(&row.name)).filter_map(|version| {
        let standing = match version.state {
            VersionState::Prepared | VersionState::Revoked | VersionState::Destroyed => return None,
            VersionState::Active | VersionState::Tainted
                if state.is_held(&version.credential, version.number) =>
            {
                "held"
            }
            VersionState::Active | VersionState::Tainted => version.state.as_str(),
        };
        Some(v1::VersionStanding {
            credential: version.credential.to_string(),
            version: version.number,
            state: standing.to_owned(),
        })
    });
    v1::Snapshot { revision: state.revision(), versions: versions.collect() }
}
