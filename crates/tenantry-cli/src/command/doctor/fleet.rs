//! Servers, tenants, operations and how far migrations are.

use std::collections::BTreeSet;

use tenantry_core::{TENANT_DATABASE_VERSION, TenantState, protection};
use tenantry_ops::{
    DatabaseCheck, DatabaseFinding, DatabaseHardening, HardenedDatabases, Limits, Operation, OperationState, Ops,
    OutdatedDatabase, SiteStatus, TenantFilter, UpgradeError,
};

use super::Finding;
use crate::connect::authority;

/// Enough to see that something is wrong; `tenantry tenant list` shows all.
const LOOKED_AT: i64 = 1_000;

pub(super) async fn look(ops: &Ops) -> Vec<Finding> {
    let mut findings = servers(ops).await;
    findings.extend(loads(ops).await);
    findings.extend(safety(ops).await);
    // After it, which notices databases that were restored.
    findings.push(versions(ops).await);
    findings.push(hardening(ops).await);
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
                let tier = check.tier.map_or("unknown", |tier| protection(tier, false, false));
                let replicas: Vec<String> = check
                    .replicas
                    .iter()
                    .filter_map(|replica| {
                        let behind = replica.behind_bytes?;
                        Some(format!(", replica {} {behind} bytes behind", replica.address))
                    })
                    .collect();
                let replicas = replicas.concat();
                Finding::well(
                    CHECK,
                    format!("{name}: tier {tier}, {} tenants{replicas}", server.tenants),
                )
            }
            Ok(check) => {
                let found = format!("{name}: {}", check.problems.join("; "));
                let take_off = check.replicas.iter().find_map(|replica| replica.take_off.as_ref());
                let mend = match take_off {
                    Some(command) => format!(
                        "start the replica or mend what is said of it, or take it off the list: `{command}`; then `tenantry server check {name}`"
                    ),
                    None => format!("mend it on the server, then `tenantry server check {name}`"),
                };
                Finding::wrong(CHECK, found, mend)
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

/// How near the servers are to where it begins to hurt. One that can't be asked stands under `server`.
async fn loads(ops: &Ops) -> Vec<Finding> {
    const CHECK: &str = "load";
    let servers = match ops.server_loads(&authority()).await {
        Ok(servers) => servers,
        Err(error) => return vec![Finding::failed(CHECK, error)],
    };
    let mut findings = Vec::new();
    for (server, found) in servers
        .into_iter()
        .filter_map(|server| Some((server.server, server.found.ok()?)))
    {
        let strains = found.strains(&Limits::default());
        if strains.is_empty() {
            let load = &found.load;
            let tables: i64 = found.tables.iter().map(|(_, tables)| tables).sum();
            findings.push(Finding::well(
                CHECK,
                format!(
                    "{server}: {} of {} connections, {} databases, {tables} tables in shared ones",
                    load.connections, load.connections_max, load.databases
                ),
            ));
        }
        let strains = strains.into_iter();
        findings
            .extend(strains.map(|strain| Finding::warning(CHECK, format!("{server}: {}", strain.found), strain.mend)));
    }
    findings
}

/// Whether this program may use every tenant database as it is.
async fn versions(ops: &Ops) -> Finding {
    const CHECK: &str = "tenant databases";
    match ops.outdated_databases(&authority()).await {
        Ok(outdated) if outdated.is_empty() => Finding::well(
            CHECK,
            format!("all have version {TENANT_DATABASE_VERSION}, as this program"),
        ),
        Ok(outdated) => Finding::wrong(
            CHECK,
            outdated.iter().map(behind).collect::<Vec<_>>().join("\n"),
            "`tenantry migrate apply` brings them up to date; `tenantry serve` does when it starts, and refuses their tenants before",
        ),
        Err(error @ UpgradeError::Newer { .. }) => Finding::wrong(
            CHECK,
            error.to_string(),
            "use the release of tenantry that the servers use",
        ),
        Err(error) => Finding::failed(CHECK, error),
    }
}

fn behind(outdated: &OutdatedDatabase) -> String {
    let version = outdated.version.map_or_else(
        || "was restored or cloned".to_owned(),
        |version| format!("has version {version}"),
    );
    format!(
        "{} on {} {version}, this program needs {TENANT_DATABASE_VERSION}",
        outdated.database, outdated.server
    )
}

async fn safety(ops: &Ops) -> Vec<Finding> {
    match ops.check_databases(&authority()).await {
        Ok(checks) => vec![row_security(&checks), other_databases(&checks)],
        Err(error) => vec![Finding::failed(ROW_SECURITY, error)],
    }
}

const ROW_SECURITY: &str = "row security";

fn row_security(checks: &[DatabaseCheck]) -> Finding {
    let mut troubles = Vec::new();
    for check in checks {
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
            ROW_SECURITY,
            format!("no application role gets past it, in {} databases", checks.len()),
        );
    }
    Finding::wrong(
        ROW_SECURITY,
        troubles.join("\n"),
        "do what each sentence says; `tenantry serve` does not start before",
    )
}

/// A database that somebody made later lets everybody in, as PostgreSQL has it: what an application's SQL may read there is
/// not bounded by any seal.
fn other_databases(checks: &[DatabaseCheck]) -> Finding {
    const CHECK: &str = "other databases";
    let open: BTreeSet<(&str, &str)> = checks
        .iter()
        .flat_map(|check| {
            check
                .other_databases
                .iter()
                .map(|other| (check.server.as_str(), other.as_str()))
        })
        .collect();
    if open.is_empty() {
        return Finding::well(CHECK, "closed to the application roles");
    }
    let lines: Vec<String> = open
        .iter()
        .map(|(server, other)| format!("the application roles may connect to {other} on {server}"))
        .collect();
    Finding::warning(
        CHECK,
        lines.join("\n"),
        "`revoke connect on database … from public` there, after `grant connect` to the roles that need it",
    )
}

/// Which databases are hardened, and those that should be and are not.
async fn hardening(ops: &Ops) -> Finding {
    const CHECK: &str = "hardening";
    let databases = match ops.check_hardening(&authority()).await {
        Ok(databases) => databases,
        Err(error) => return Finding::failed(CHECK, error),
    };
    let wanted: HardenedDatabases = ops.fleet().hardening;
    let mut lines = Vec::new();
    let mut lacking = false;
    for database in &databases {
        let should = wanted.covers(database.kind);
        match &database.found {
            // Those that can't be asked stand under `row security`.
            Err(_) => {}
            Ok(found) if found.is_none() && !should => {}
            Ok(found) if found.is_whole() => {}
            Ok(found) => {
                lacking |= should;
                lines.push(format!(
                    "{} on {} leaves to PUBLIC: {}",
                    database.database,
                    database.server,
                    found.left_names()
                ));
            }
        }
    }
    let counted = count_protections(&databases);
    if lacking {
        lines.insert(0, counted);
        return Finding::warning(
            CHECK,
            lines.join("\n"),
            "with a superuser's address, `tenantry server harden NAME`; what an application needs is told in docs/hardening.md",
        );
    }
    lines.insert(0, counted);
    Finding::well(CHECK, lines.join("\n"))
}

/// `2 T4, own and hardened, sealed; 1 T2, sealed`.
fn count_protections(databases: &[DatabaseHardening]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for database in databases {
        *counts.entry(database.protection()).or_insert(0_u32) += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .rev()
        .map(|(protection, count)| format!("{count} × {protection}"))
        .collect();
    counts.join("; ")
}

async fn operations(ops: &Ops) -> Finding {
    const CHECK: &str = "operations";
    let mut live: Vec<Operation> = Vec::new();
    for state in [
        OperationState::Pending,
        OperationState::Running,
        OperationState::Undoing,
        OperationState::Paused,
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
                "a `tenantry serve` that runs goes on with them; `tenantry operation list` says what is in the way",
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
