//! What the catalog's copy of a ledger says about a schema.

use tenantry_catalog::fleet_state::{Expected, SiteState};
use tenantry_engine::isolate::Derived;

/// The newest version there is; 0 for none.
pub(super) fn newest(derived: &Derived) -> i64 {
    derived.versions.last().map_or(0, |version| version.version)
}

/// What every ledger should hold.
pub(super) fn expected(derived: &Derived) -> Vec<Expected<'_>> {
    let expected = derived.versions.iter().map(|version| Expected {
        version: version.version,
        checksum: &version.checksum,
    });
    expected.collect()
}

/// The same with names, as rows.
pub(crate) fn rows(derived: &Derived) -> Vec<(i64, &str, &str)> {
    let rows = derived
        .versions
        .iter()
        .map(|version| (version.version, version.name.as_str(), version.checksum.as_str()));
    rows.collect()
}

/// How many versions, from the first on and without a gap, the schema has, where it has no other ones.
pub(super) fn prefix(state: &SiteState, derived: &Derived) -> Option<usize> {
    let had = state.expected;
    let newest = had
        .checked_sub(1)
        .map_or(Some(0), |last| Some(derived.versions.get(last)?.version));
    (state.versions == had && newest == Some(state.version)).then_some(had)
}

/// Whether the schema has everything and nothing else.
pub(super) fn is_current(state: &SiteState, derived: &Derived) -> bool {
    prefix(state, derived) == Some(derived.versions.len())
}

/// The names of the migrations that the schema lacks, as far as the catalog can tell.
pub(super) fn pending(state: &SiteState, derived: &Derived) -> Vec<String> {
    let lacking = derived.versions.iter().filter(|version| match prefix(state, derived) {
        Some(_) => version.version > state.version,
        None => false,
    });
    lacking.map(|version| version.name.clone()).collect()
}

/// What is wrong with a ledger that is no beginning of the expected one.
pub(super) fn oddity(state: &SiteState, derived: &Derived) -> Option<String> {
    prefix(state, derived)
        .is_none()
        .then(|| "its ledger differs from these migrations: `tenantry migrate apply` says in which file".to_owned())
}
