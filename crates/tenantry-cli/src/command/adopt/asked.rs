//! A tenant that is there already keeps what it has: asking for something else is refused, not passed over.

use tenantry_ops::Tenant;

use super::Arguments;
use crate::failure::Failure;

/// Refuses where the tenant has something else than the call asks for.
pub(super) fn is_as_asked(arguments: &Arguments, tenant: &Tenant) -> Result<(), Failure> {
    let place = tenant.placement.as_ref();
    let asked = [
        ("isolation", arguments.isolation.map(|isolation| isolation.to_string())),
        ("server", arguments.server.clone()),
        ("plan", arguments.plan.as_ref().map(ToString::to_string)),
        ("name", arguments.name.as_ref().map(ToString::to_string)),
    ];
    let has = [
        place.map(|place| place.isolation.to_string()),
        place.map(|place| place.server.clone()),
        Some(tenant.plan.to_string()),
        Some(tenant.name.to_string()),
    ];
    let differing: Vec<String> = asked
        .into_iter()
        .zip(has)
        .filter_map(|((what, asked), has)| {
            let (asked, has) = (asked?, has.unwrap_or_else(|| "none".to_owned()));
            (asked != has).then(|| format!("--{what} {asked}, but it has {has}"))
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the tenant {} is there already, and you ask for {}: leave that out to adopt into it as it is, or name another --slug",
        tenant.slug,
        differing.join("; ")
    )))
}
