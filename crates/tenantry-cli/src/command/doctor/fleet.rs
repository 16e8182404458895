//! Servers, tenants, operations and how far migrations are.

use tenantry_core::{TenantState, Tier};
use tenantry_ops::{DatabaseFinding, Operation, OperationState, Ops, SiteStatus, TenantFilter};

use super::Finding;
use crate::connect::authority;

/// Enough to see that something is wrong; `tenantry tenant list` shows all.
const LOOKED_AT: i64 = 1_000;

pub(super) async fn look(ops: &Ops) -> Vec<Finding> {
    let mut findings = servers(ops).await;
    findings.push(safety(ops).await);
    findings.push(operations(ops).await);
    findings.push(unfinished(ops).await);
    findings.push(migrations(ops).await);
    findings
}

async fn servers(ops: &Ops) -> Vec<Finding> {
    const CHECK: &str = "server";
    let servers = match ops.list_servers(&authority()).await {
        Ok(servers) if servers.is_empty() => {
            return vec![Finding::wrong(
                CHECK,
                "none: tenants have no place",
                "register one with `tenantry server add`",
            )];
        }
        Ok(servers) => servers,
        Err(error) => return vec![Finding::failed(CHECK, error)],
    };
    let mut findings = Vec::new();
    for server in servers {
        let name = &server.name;
        findings.push(match ops.check_server(&authority(), name).await {
            Ok(check) if check.problems.is_empty() => {
                let tier = check.tier.map_or("unknown", Tier::as_str);
                Finding::well(CHECK, format!("{name}: tier {tier}, {} tenants", server.tenants))
            }
            Ok(check) => {
                let found = format!("{name}: {}", check.problems.join("; "));
                Finding::wrong(
                    CHECK,
                    found,
                    format!("mend it on the server, then `tenantry server check {name}`"),
                )
            }
            Err(error) => Finding::wrong(
                CHECK,
                format!("{name}: {error}"),
                "start that PostgreSQL, or correct its address and password",
            ),
        });
    }
    findings
}

async fn safety(ops: &Ops) -> Finding {
    const CHECK: &str = "row security";
    let checks = match ops.check_databases(&authority()).await {
        Ok(checks) => checks,
        Err(error) => return Finding::failed(CHECK, error),
    };
    let mut troubles = Vec::new();
    for check in &checks {
        match &check.finding {
            DatabaseFinding::Safe => {}
            DatabaseFinding::Unsafe(reason) => {
                troubles.push(format!("{} on {}: {}", check.database, check.server, reason));
            }
            DatabaseFinding::Unknown(error) => {
                troubles.push(format!(
                    "{} on {} can't be asked: {error}",
                    check.database, check.server
                ));
            }
        }
    }
    if troubles.is_empty() {
        return Finding::well(
            CHECK,
            format!("no application role gets past it, in {} databases", checks.len()),
        );
    }
    Finding::wrong(
        CHECK,
        troubles.join("\n"),
        "do what each sentence says; `tenantry serve` does not start before",
    )
}

async fn operations(ops: &Ops) -> Finding {
    const CHECK: &str = "operations";
    let mut live: Vec<Operation> = Vec::new();
    for state in [
        OperationState::Pending,
        OperationState::Running,
        OperationState::Undoing,
    ] {
        match ops.list_operations(&authority(), None, Some(state), LOOKED_AT).await {
            Ok(operations) => live.extend(operations),
            Err(error) => return Finding::failed(CHECK, error),
        }
    }
    let troubled: Vec<String> = live
        .iter()
        .filter(|operation| operation.error.is_some())
        .map(|operation| {
            let error = operation.error.as_deref().unwrap_or_default();
            format!("{} {} at {}: {error}", operation.kind, operation.id, operation.step)
        })
        .collect();
    if troubled.is_empty() {
        return Finding::well(CHECK, format!("{} under way or waiting", live.len()));
    }
    Finding::warning(
        CHECK,
        troubled.join("\n"),
        "they are tried again as long as a `tenantry serve` runs; mend what the error names",
    )
}

async fn unfinished(ops: &Ops) -> Finding {
    const CHECK: &str = "tenants";
    let filter = TenantFilter {
        state: Some(TenantState::Provisioning),
        ..TenantFilter::default()
    };
    match ops.list_tenants(&authority(), &filter, LOOKED_AT).await {
        Err(error) => Finding::failed(CHECK, error),
        Ok(tenants) if tenants.is_empty() => Finding::well(CHECK, "none is half made"),
        Ok(tenants) => {
            let slugs: Vec<&str> = tenants.iter().map(|tenant| tenant.slug.as_str()).collect();
            Finding::warning(
                CHECK,
                format!("being provisioned: {}", slugs.join(", ")),
                "a `tenantry serve` that runs goes on with them; `operations` says what is in the way",
            )
        }
    }
}

async fn migrations(ops: &Ops) -> Finding {
    const CHECK: &str = "placements";
    let sites = match ops.migration_status(&authority()).await {
        Ok(sites) => sites,
        Err(error) => return Finding::failed(CHECK, error),
    };
    let behind: Vec<String> = sites
        .iter()
        .filter(|site| !site.pending.is_empty() || site.error.is_some())
        .map(straggler)
        .collect();
    if behind.is_empty() {
        return Finding::well(CHECK, format!("all {} have the newest migration", sites.len()));
    }
    Finding::wrong(
        CHECK,
        behind.join("\n"),
        "`tenantry migrate apply`, after mending what the errors name",
    )
}

fn straggler(site: &SiteStatus) -> String {
    let place = site
        .slug
        .clone()
        .unwrap_or_else(|| format!("{} {}", site.server, site.database));
    match &site.error {
        Some(error) => format!("{place}: {error}"),
        None => format!("{place} lacks {}", site.pending.join(", ")),
    }
}
