//! The seal's SQL: what makes a context in a database session unforgeable.
//!
//! Two tiers with functions of the same names and meanings, so that policies and readers need not know which one a
//! server allows ([`tenantry_core::Tier`]).

use tenantry_core::Tier;

/// The parameter that carries the seal: only a superuser, or who was granted it, may set it; everybody may read it; and a
/// value that names no C function does nothing. It must accept letters and digits.
///
/// The one place that names it: should a later PostgreSQL change it, another parameter goes here.
pub const CARRIER: &str = "backtrace_functions";

/// What the carrier holds of a session that is bound by this seal: the tenant's 32 digits, and then the seal.
///
/// Only `tenantry.enter` has to write it. A superuser may, to look as an application would.
///
/// ```
/// let seal = format!("{}000000000000000130", "5".repeat(32));
/// assert_eq!(tenantry_engine::seal::carried(&seal), format!("{}{seal}", "5".repeat(32)));
/// ```
pub fn carried(seal: &str) -> String {
    let tenant = seal.get(..32).unwrap_or_default();
    format!("{tenant}{seal}")
}

/// The tables and functions, as statements for the owner of the schemas.
pub(crate) fn statements(tier: Tier) -> String {
    let of_tier = match tier {
        Tier::Sealed => include_str!("sealed.sql"),
        Tier::Signed => include_str!("signed.sql"),
    };
    // The grants at the end of the last are of all functions.
    [
        include_str!("private.sql"),
        of_tier,
        include_str!("jobs.sql"),
        include_str!("job_backlog.sql"),
        include_str!("schedules.sql"),
        include_str!("history.sql"),
        include_str!("common.sql"),
    ]
    .join("\n")
    .replace("{carrier}", CARRIER)
}
