//! The audit when a server starts, and from time to time while it runs.

use std::collections::BTreeMap;

use chrono::Utc;
use tenantry_engine::audit::Severity;
use tenantry_ops::{AuditOptions, AuditedDatabase, NotAudited, Ops};

use crate::{
    command::audit::{acceptances, audited},
    config::Config,
    connect::authority,
    failure::Failure,
};

/// So many findings of a check are told of each database: what is wrong with one tenant may be wrong with all of a hundred thousand.
const TOLD_MAX: usize = 20;
/// And so many in the sentence that says why nothing is served.
const NAMED_MAX: usize = 5;

/// Nothing is served while the application role of a database can reach other tenants' rows, or where that can't be found out on a server
/// that answers, unless that is said in so many words.
///
/// # Errors
///
/// Names each critical finding with its mend, and each database that can't be audited.
pub(super) async fn refuse_critical_findings(ops: &Ops, config: &Config, accept: bool) -> Result<(), Failure> {
    let reasons = look(ops, config).await?;
    if reasons.is_empty() {
        return Ok(());
    }
    let first = reasons.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    let told = match reasons.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first}; and {more} more"),
    };
    if accept {
        tracing::error!(
            findings = reasons.len(),
            "SERVING ALTHOUGH TENANTS CAN REACH EACH OTHER'S ROWS, as --accept-critical-findings asks: {told}"
        );
        return Ok(());
    }
    Err(Failure::failed(format!(
        "not started, since an application role could reach other tenants' rows or it is not known whether it could: {told}. \
         `tenantry audit --prove` shows how; mend it, accept it in tenantry-audit.toml, or start with --accept-critical-findings"
    )))
}

/// Audits every tenant database and logs what is wrong; gives what is critical, and where that is not known.
async fn look(ops: &Ops, config: &Config) -> Result<Vec<String>, Failure> {
    let mut acceptances = acceptances(config)?;
    let mut databases = audit(ops).await?;
    let doubtful: Vec<_> = databases.iter().filter(|database| is_doubtful(database)).collect();
    if !doubtful.is_empty() {
        let names: Vec<_> = doubtful
            .iter()
            .map(|database| (database.server.clone(), database.database.clone()))
            .collect();
        tracing::warn!(databases = ?names, "making tenant databases ready again: their application role was changed, or can't be judged");
        for failed in ops.mend_databases(&authority(), &names).await? {
            tracing::warn!(failed, "a tenant database can't be made ready again");
        }
        databases = audit(ops).await?;
    }
    let today = Utc::now().date_naive();
    for report in databases
        .iter_mut()
        .filter_map(|database| database.report.as_mut().ok())
    {
        acceptances.apply(report, today);
    }
    for leftover in acceptances.leftovers(today) {
        tracing::warn!("{leftover}");
    }
    let mut reasons = Vec::new();
    for database in audited(databases) {
        let (server, name) = (&database.server, &database.database);
        match &database.error {
            Some(NotAudited::Unreachable(error)) => {
                tracing::warn!(
                    server,
                    database = name,
                    error,
                    "a tenant database can't be audited: it does not answer"
                );
            }
            Some(NotAudited::Failed(error)) => {
                tracing::error!(
                    server,
                    database = name,
                    error,
                    "a tenant database can't be audited although it answers"
                );
                reasons.push(format!("{name} on {server} can't be audited: {error}"));
            }
            None => {}
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for finding in database.findings.iter().filter(|finding| finding.accepted.is_none()) {
            let (id, object, message, mend) = (finding.id, &finding.object, &finding.message, &finding.mend);
            if finding.severity < Severity::Error {
                continue;
            }
            let count = counts.entry(id).or_default();
            *count += 1;
            if *count > TOLD_MAX {
                continue;
            }
            if finding.severity == Severity::Critical {
                tracing::error!(server, database = name, id, object, mend, "audit: {message}");
                reasons.push(format!("{name} on {server}: {id} {object}: {message} ({mend})"));
            } else {
                tracing::warn!(server, database = name, id, object, mend, "audit: {message}");
            }
        }
        for (id, count) in counts.iter().filter(|(_, count)| **count > TOLD_MAX) {
            let more = count - TOLD_MAX;
            tracing::warn!(
                server,
                database = name,
                id,
                "audit: and {more} more of this kind: tenantry audit lists them"
            );
        }
    }
    Ok(reasons)
}

async fn audit(ops: &Ops) -> Result<Vec<AuditedDatabase>, Failure> {
    let everything = AuditOptions::default();
    Ok(ops.audit_databases(&authority(), None, everything, &|_| {}).await?)
}

/// Where one bootstrap more may help: the application role can change its own password and settings, by which it keeps itself out, is
/// refused at the start, or makes the audit fail.
fn is_doubtful(database: &AuditedDatabase) -> bool {
    const ROLE_REFUSED: &str = "MT116";
    match &database.report {
        Ok(report) => report.findings.iter().any(|finding| finding.id == ROLE_REFUSED),
        Err(NotAudited::Failed(_)) => true,
        Err(NotAudited::Unreachable(_)) => false,
    }
}

/// Audits again and again until it is dropped.
pub(super) struct Watch(Option<tokio::task::JoinHandle<()>>);

impl Watch {
    pub(super) fn start(ops: Ops, config: Config) -> Self {
        let Some(interval) = config.audit_interval else {
            return Self(None);
        };
        Self(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                // What is found is logged where it is found; a server that runs is not stopped by it.
                if let Err(failure) = look(&ops, &config).await {
                    tracing::warn!(error = %failure, "the tenant databases could not be audited");
                }
            }
        })))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
