//! What the audit answers.

use std::fmt::Write as _;

use serde::Serialize;
use tenantry_engine::audit::{Finding, Leftover, Severity};
use tenantry_ops::{AuditedDatabase, NotAudited};

use crate::output::{Answer, table};

/// A database with its findings.
#[derive(Debug, Serialize)]
pub(crate) struct Audited {
    pub(crate) server: String,
    pub(crate) database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_tables: Option<usize>,
    pub(crate) findings: Vec<Finding>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_words")]
    pub(crate) error: Option<NotAudited>,
}

fn in_words<S: serde::Serializer>(error: &Option<NotAudited>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error.as_ref().map_or(&"" as &dyn std::fmt::Display, |error| error))
}

impl From<AuditedDatabase> for Audited {
    fn from(audited: AuditedDatabase) -> Self {
        let AuditedDatabase {
            server,
            database,
            report,
        } = audited;
        match report {
            Ok(report) => Self {
                server,
                database,
                server_version: Some(report.server_version),
                tenant_tables: Some(report.tenant_tables),
                findings: report.findings,
                error: None,
            },
            Err(error) => Self {
                server,
                database,
                server_version: None,
                tenant_tables: None,
                findings: Vec::new(),
                error: Some(error),
            },
        }
    }
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Answered {
    pub(super) databases: Vec<Audited>,
    /// Acceptances that expired or cover nothing.
    pub(super) leftovers: Vec<Leftover>,
}

impl Answered {
    pub(super) fn new(databases: Vec<AuditedDatabase>, leftovers: Vec<Leftover>) -> Self {
        Self {
            databases: databases.into_iter().map(Audited::from).collect(),
            leftovers,
        }
    }

    /// How many findings at least this bad nobody accepted.
    pub(super) fn unaccepted(&self, threshold: Severity) -> usize {
        let findings = self.databases.iter().flat_map(|database| &database.findings);
        findings
            .filter(|finding| finding.severity >= threshold && finding.accepted.is_none())
            .count()
    }
}

impl Answer for Answered {
    fn text(&self) -> String {
        let mut text = String::new();
        for database in &self.databases {
            let title = format!("{} on {}", database.database, database.server);
            if let Some(error) = &database.error {
                writeln!(text, "{title}: can't be asked: {error}\n").expect("a string takes all");
                continue;
            }
            let rows = database.findings.iter().map(|finding| {
                let mut found = format!("{}\n  {}\n→ {}", finding.message, finding.why, finding.mend);
                if let Some(proof) = &finding.proof {
                    let tried = if proof.shown { "proved" } else { "not proved" };
                    write!(found, "\n  {tried}: {}", proof.summary).expect("a string takes all");
                    if proof.shown {
                        write!(found, "\n{}", proof.script).expect("a string takes all");
                    }
                }
                if let Some(reason) = &finding.accepted {
                    write!(found, "\n  accepted: {reason}").expect("a string takes all");
                }
                [
                    finding.severity.to_string(),
                    finding.id.to_owned(),
                    finding.object.clone(),
                    found,
                ]
            });
            let tables = database.tenant_tables.unwrap_or_default();
            writeln!(
                text,
                "{title}, {tables} tenant tables\n{}\n",
                table(
                    [
                        "severity",
                        "check",
                        "object",
                        "what is wrong, why it matters, how to mend it"
                    ],
                    rows
                )
            )
            .expect("a string takes all");
        }
        for leftover in &self.leftovers {
            writeln!(text, "{leftover}").expect("a string takes all");
        }
        text
    }
}
