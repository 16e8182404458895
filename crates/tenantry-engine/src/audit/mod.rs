//! The audit: what in a database lets one tenant reach another's rows.
//!
//! It reads the system catalogs of any PostgreSQL from 15 on, of ours and of others, by a constant number of set-based
//! queries in a read-only transaction. Checks are plain functions over what was read; the registry says what each is, why
//! it matters and how it is mended, and the pages in `docs/audit/` are made from it.
//!
//! *Critical* is kept for what lets the application role read or change a row of another tenant. [`prove`](prove()) tries it, in
//! a transaction that is rolled back, and takes the word back where the exploit shows nothing.

mod accept;
mod catalog;
mod check;
mod data;
mod expression;
mod family;
mod finding;
mod ours;
mod page;
mod placements;
pub mod pooler;
mod prove;
mod registry;

use tokio_postgres::{Client, GenericClient};

pub use self::{
    accept::{Acceptances, Accepted, AcceptedError, Leftover},
    check::{Check, Severity, UnknownSeverity},
    finding::Finding,
    ours::Identity,
    page::{index_page, page},
    placements::{Placed, placements},
    prove::Proof,
    registry::{check, checks},
};
use self::{catalog::Catalog, prove::Prover};
use crate::sql_error::{Doing, SqlError};

/// Column names that most often name the tenant.
pub const USUAL_TENANT_COLUMNS: [&str; 4] = ["tenant_id", "org_id", "organization_id", "tenant"];

/// What is audited, and against whom.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The roles that the application logs in as.
    pub app_roles: Vec<String>,
    /// Names of the tenant column; a table's is the first of them that it has.
    pub tenant_columns: Vec<String>,
    /// SQL from outside the application runs here, so what PostgreSQL gives everybody by default counts as well.
    pub raw_sql: bool,
    /// A `like` pattern of schemas that belong to one tenant each.
    pub tenant_schemas: Option<String>,
    /// How a session is put into a tenant's context, with `{tenant}` for its id; found out from the policies where it is
    /// left out. Run by the administrator before the role is taken on.
    pub enter: Option<String>,
}

impl Subject {
    /// A database with this application role and the usual names of the tenant column.
    pub fn of(app_role: impl Into<String>) -> Self {
        Self {
            app_roles: vec![app_role.into()],
            tenant_columns: USUAL_TENANT_COLUMNS.map(str::to_owned).into(),
            raw_sql: false,
            tenant_schemas: None,
            enter: None,
        }
    }
}

/// What was looked at and found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The database.
    pub database: String,
    /// `server_version_num`.
    pub server_version: i32,
    /// Tables with the tenant column.
    pub tenant_tables: usize,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something at least this bad is not accepted.
    pub fn reaches(&self, severity: Severity) -> bool {
        self.unaccepted().any(|finding| finding.severity >= severity)
    }

    /// What nobody accepted.
    pub fn unaccepted(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.accepted.is_none())
    }

    /// Puts the worst first.
    pub fn sort(&mut self) {
        self.findings
            .sort_by(|a, b| (b.severity, a.id, &a.object).cmp(&(a.severity, b.id, &b.object)));
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The server is older than what the checks know.
    #[error("the server is PostgreSQL {0}: the audit needs 15 or newer")]
    TooOld(i32),
    /// A role that does not exist.
    #[error("there is no role {0}: name the role that the application logs in as")]
    NoSuchRole(String),
    /// The catalogs gave nothing.
    #[error("the system catalogs gave no answer")]
    Empty,
    /// The catalogs gave something else than expected.
    #[error("the system catalogs gave something unexpected: {0}")]
    Unexpected(#[from] serde_json::Error),
}

/// Audits a database, in a read-only transaction.
///
/// # Errors
///
/// Where the catalogs can't be read, or a role does not exist.
///
/// # Cancel safety
///
/// Nothing is changed; the transaction ends with the connection at the latest.
pub async fn audit(client: &mut Client, subject: &Subject) -> Result<Report, AuditError> {
    let transaction = client
        .build_transaction()
        .read_only(true)
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await
        .doing("begin")?;
    let report = inspect(&transaction, subject).await;
    transaction.rollback().await.doing("end the transaction")?;
    report
}

/// The same in the caller's transaction.
///
/// # Errors
///
/// As [`audit`].
pub async fn inspect(client: &impl GenericClient, subject: &Subject) -> Result<Report, AuditError> {
    let catalog = Catalog::read(client, subject).await?;
    if let Some(role) = catalog.facts.missing_roles.first() {
        return Err(AuditError::NoSuchRole(role.clone()));
    }
    Ok(report(&catalog, subject))
}

fn report(catalog: &Catalog, subject: &Subject) -> Report {
    let mut report = Report {
        database: catalog.facts.database.clone(),
        server_version: catalog.facts.version,
        tenant_tables: catalog.tenant_tables().count(),
        findings: family::find(catalog, subject),
    };
    report.sort();
    report
}

/// Tries each critical finding of a report, as the application role, in a transaction that is rolled back. What shows no
/// foreign row is an error from then on, with what was tried.
///
/// # Errors
///
/// Where the transaction itself fails; an exploit that fails is an answer.
///
/// # Cancel safety
///
/// Dropped, the transaction is rolled back with the connection.
pub async fn prove(client: &mut Client, subject: &Subject, report: &mut Report) -> Result<(), AuditError> {
    let transaction = client.transaction().await.doing("begin")?;
    let done = prove_in(&transaction, subject, report).await;
    transaction.rollback().await.doing("roll back what was tried")?;
    done
}

/// The same in the caller's transaction, which it leaves as it was.
///
/// # Errors
///
/// As [`prove()`].
pub async fn prove_in(client: &impl GenericClient, subject: &Subject, report: &mut Report) -> Result<(), AuditError> {
    let catalog = Catalog::read(client, subject).await?;
    let prover = Prover::new(client, &catalog, subject);
    for finding in &mut report.findings {
        if finding.severity == Severity::Critical && finding.proof.is_none() {
            let proof = prover.prove(finding).await?;
            if !proof.shown {
                finding.severity = Severity::Error;
            }
            finding.proof = Some(proof);
        }
    }
    report.sort();
    Ok(())
}

/// Looks at rows: tenants that are not there, and references across tenants. One statement a table, so it takes time on
/// large ones.
///
/// # Errors
///
/// As [`audit`].
pub async fn look_at_data(client: &mut Client, subject: &Subject, report: &mut Report) -> Result<(), AuditError> {
    let transaction = client
        .build_transaction()
        .read_only(true)
        .start()
        .await
        .doing("begin")?;
    let catalog = Catalog::read(&transaction, subject).await?;
    let found = data::find(&transaction, &catalog).await;
    transaction.rollback().await.doing("end the transaction")?;
    report.findings.extend(found?);
    report.sort();
    Ok(())
}

/// What the seal of a database of ours relies on, compared with what bootstrap makes, and tried as the application role.
/// All of it in a transaction that is rolled back: what bootstrap would make is only known by making it.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn look_at_mechanism(
    client: &mut Client,
    identity: &Identity,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), AuditError> {
    let transaction = client.transaction().await.doing("begin")?;
    let found = ours::find(&transaction, identity, subject, report).await;
    transaction.rollback().await.doing("roll back what was tried")?;
    found?;
    report.sort();
    Ok(())
}

/// Who a database says it is, where it is one of ours.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn identity(client: &Client) -> Result<Option<Identity>, SqlError> {
    ours::identity(client).await
}

/// Tries, on a connection of the application role's own, to get rows without a token and to make a context without one,
/// in a transaction that is rolled back. For administrators who may not act as that role.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn look_as_application(
    client: &mut Client,
    identity: &Identity,
    tenant: Option<uuid::Uuid>,
    report: &mut Report,
) -> Result<(), AuditError> {
    let transaction = client.transaction().await.doing("begin")?;
    let found = ours::live(&transaction, &identity.installation, tenant).await;
    transaction.rollback().await.doing("roll back what was tried")?;
    report.findings.extend(found?);
    report.sort();
    Ok(())
}
