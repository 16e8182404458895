//! From a token to a checked context.

use anyhow::{Result, ensure};
use tenantry::{Credentials, HeaderField};

use super::{
    measure::Spread,
    report::{Finding, Target},
    run::Run,
};

/// Calls in each measurement.
const CALLS: u32 = 20_000;

/// A token that was seen before: no query, and no signature either.
pub(super) async fn resolve(run: &Run) -> Result<Finding> {
    let world = &run.world;
    let authorization = format!("Bearer {}", world.token(&world.shared[0]).await?);
    let credentials = Credentials {
        authorization: HeaderField::Once(&authorization),
        ..Credentials::default()
    };
    let resolver = world.tenantry.resolver()?;
    let mut times_us = Vec::new();
    for _ in 0..run.plan.rounds {
        let measured = resolver.measure(&credentials, CALLS).await?;
        ensure!(measured.catalog_lookups == 0, "the catalog was asked");
        times_us.push(measured.per_call.as_secs_f64() * 1e6);
    }
    let finding = Finding::new(
        "resolve",
        "resolving tenant and membership of a token seen before",
        "–",
        Spread::of(times_us),
        Target::AtMost(3.0),
    );
    Ok(finding.unit("µs").detail("no query to any database"))
}
