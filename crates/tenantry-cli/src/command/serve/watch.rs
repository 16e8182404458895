//! The audit when a server starts, and from time to time while it runs.

use chrono::Utc;
use tenantry_engine::audit::Severity;
use tenantry_ops::{AuditOptions, Ops};

use crate::{
    command::audit::{acceptances, audited},
    config::Config,
    connect::authority,
    failure::Failure,
};

/// Nothing is served while the application role of a database can reach other tenants' rows, unless that is said in so
/// many words.
///
/// # Errors
///
/// Names each critical finding with its mend.
pub(super) async fn refuse_critical_findings(ops: &Ops, config: &Config, accept: bool) -> Result<(), Failure> {
    let reasons = look(ops, config).await?;
    if reasons.is_empty() {
        return Ok(());
    }
    if accept {
        tracing::error!(
            findings = reasons.len(),
            "SERVING ALTHOUGH TENANTS CAN REACH EACH OTHER'S ROWS, as --accept-critical-findings asks: {}",
            reasons.join("; ")
        );
        return Ok(());
    }
    Err(Failure::failed(format!(
        "not started, since an application role could reach other tenants' rows: {}. \
         `tenantry audit --prove` shows how; mend it, accept it in tenantry-audit.toml, or start with --accept-critical-findings",
        reasons.join("; ")
    )))
}

/// Audits every tenant database and logs what is wrong; gives the critical findings.
async fn look(ops: &Ops, config: &Config) -> Result<Vec<String>, Failure> {
    let mut acceptances = acceptances(config)?;
    let mut databases = ops
        .audit_databases(&authority(), None, AuditOptions::default(), &|_| {})
        .await?;
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
    let mut critical = Vec::new();
    for database in audited(databases) {
        let (server, name) = (&database.server, &database.database);
        if let Some(error) = &database.error {
            tracing::warn!(server, database = name, error, "a tenant database can't be audited");
        }
        for finding in database.findings.iter().filter(|finding| finding.accepted.is_none()) {
            let (id, object, message, mend) = (finding.id, &finding.object, &finding.message, &finding.mend);
            match finding.severity {
                Severity::Critical => {
                    tracing::error!(server, database = name, id, object, mend, "audit: {message}");
                    critical.push(format!("{name} on {server}: {id} {object}: {message} ({mend})"));
                }
                Severity::Error => tracing::warn!(server, database = name, id, object, mend, "audit: {message}"),
                Severity::Warn | Severity::Info => {}
            }
        }
    }
    Ok(critical)
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
