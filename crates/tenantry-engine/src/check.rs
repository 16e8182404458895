//! Whether the application role could bypass row security, or reach what keeps tenants apart.
//!
//! Asked at start-up, before a database serves. Everything here is in the system catalogs that any role may read, so the
//! application's own connection can ask as well.

use std::fmt;

use tokio_postgres::GenericClient;

use crate::sql_error::{Doing, SqlError};

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// A short stable name.
    pub code: String,
    /// A sentence: what, and how to mend it.
    pub sentence: String,
}

/// What was found; nothing, on a database that may serve.
#[must_use = "a finding means that the database may not serve"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Findings {
    role: String,
    /// Each of them is a reason not to serve.
    pub found: Vec<Finding>,
}

/// The application role could bypass row security.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the application role `{}` could reach other tenants' rows, so this database may not serve: {}", .0.role, .0)]
pub struct Refused(pub Findings);

impl Findings {
    /// The findings as a refusal.
    ///
    /// # Errors
    ///
    /// Where there are any.
    pub fn accept(self) -> Result<(), Refused> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(Refused(self))
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, finding) in self.found.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{}", finding.sentence)?;
        }
        Ok(())
    }
}

/// Looks at the application role in the connected tenant database.
///
/// # Errors
///
/// Where the catalogs can't be read.
pub async fn application_role(client: &impl GenericClient, role: &str) -> Result<Findings, SqlError> {
    let carrier = crate::seal::CARRIER;
    let rows = client
        .query(include_str!("check.sql"), &[&role, &carrier])
        .await
        .doing("check the application role")?;
    let found = rows
        .iter()
        .map(|row| Finding {
            code: row.get(0),
            sentence: row.get(1),
        })
        .collect();
    Ok(Findings {
        role: role.to_owned(),
        found,
    })
}

/// The databases of the server that the role may connect to: with the tenant database's own, those where PUBLIC may.
///
/// # Errors
///
/// Where the catalogs can't be read.
pub async fn reachable_databases(client: &impl GenericClient, role: &str) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "select datname::text from pg_catalog.pg_database
              where datallowconn and pg_catalog.has_database_privilege($1, oid, 'connect') order by datname",
            &[&role],
        )
        .await
        .doing("list the databases that the role may connect to")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
