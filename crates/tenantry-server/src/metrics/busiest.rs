//! Which tenants use most, and what all others use together.
//!
//! Gauges over the last whole minute and no counters: who is among the busiest changes, and a counter of all others would then
//! fall, which Prometheus takes for a restart. For the same reason they are written here and not recorded: the recorder would show
//! a tenant for ever that was busy once.

use std::{fmt::Write as _, time::Duration};

use tenantry::{RecentUse, Use};
use tenantry_core::TenantId;

use super::OTHER;

/// Tenants with series of their own.
const TENANTS_MAX: usize = 20;

/// Name, help and what it is.
type Figure = (&'static str, &'static str, fn(&Use) -> f64);

/// What is shown of a tenant, for a second each.
const FIGURES: [Figure; 4] = [
    (
        "tenantry_tenant_requests_per_second",
        "Requests a second in the last whole minute, of the busiest tenants and of all others.",
        |used| used.requests as f64,
    ),
    (
        "tenantry_tenant_limited_per_second",
        "Those of them that were refused because the tenant had used up what it has.",
        |used| used.limited as f64,
    ),
    (
        "tenantry_tenant_failed_per_second",
        "Those of them that failed through no fault of the tenant's.",
        |used| used.failed as f64,
    ),
    (
        "tenantry_tenant_busy",
        "Requests at a time in the last whole minute, on average.",
        |used| used.busy.as_secs_f64(),
    ),
];

/// The lines about the busiest tenants: those that the most time was spent for.
pub(crate) fn busiest(recent: &RecentUse) -> String {
    let mut tenants: Vec<(TenantId, Use)> = recent.tenants.to_vec();
    tenants.sort_unstable_by_key(|(id, used)| (std::cmp::Reverse((used.busy, used.requests)), *id));
    let others = tenants.split_off(tenants.len().min(TENANTS_MAX));
    let seconds = recent.over.max(Duration::from_secs(1)).as_secs_f64();
    let mut text = String::new();
    for (name, help, figure) in FIGURES {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (id, used) in &tenants {
            let _ = writeln!(text, "{name}{{tenant=\"{id}\"}} {}", figure(used) / seconds);
        }
        let rest: f64 = others.iter().map(|(_, used)| figure(used)).sum();
        let _ = writeln!(text, "{name}{{tenant=\"{OTHER}\"}} {}", rest / seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn twenty_tenants_have_series_of_their_own_and_all_others_are_one() {
        let tenant = |n: u64| TenantId::from_uuid(Uuid::from_u128(u128::from(n)));
        let mut recent = RecentUse::default();
        recent.over = Duration::from_secs(60);
        let uses = (1..=23).map(|n| {
            let mut used = Use::default();
            used.requests = 60 * n;
            used.busy = Duration::from_secs(n);
            (tenant(n), used)
        });
        recent.tenants = uses.collect();
        let text = busiest(&recent);
        for (name, _, _) in FIGURES {
            let series = format!("{name}{{");
            let shown = text.lines().filter(|line| line.starts_with(&series)).count();
            assert_eq!(shown, TENANTS_MAX + 1, "{text}");
        }
        let figure = |tenant: &str| {
            let series = format!("tenantry_tenant_requests_per_second{{tenant=\"{tenant}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series))
        };
        // The three that the least time was spent for, together.
        assert_eq!(figure(OTHER), Some("6"));
        assert_eq!(figure(&tenant(3).to_string()), None);
        assert_eq!(figure(&tenant(4).to_string()), Some("4"));
    }
}
