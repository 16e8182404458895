//! Who the administrator is and what it may do.

use tokio_postgres::{Client, GenericClient, Transaction};

use super::{BootstrapError, OLDEST_SERVER_VERSION};
use crate::sql_error::{Doing, SqlError};

/// The administrator's standing on a server.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Its role.
    pub(super) role: String,
    /// It needs no memberships.
    pub(super) superuser: bool,
    /// `server_version_num`.
    pub(super) version: i32,
}

impl Standing {
    pub(super) async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let row = client
            .query_one(
                "select current_user::text, rolsuper, current_setting('server_version_num')::int4, current_setting('server_version')
                   from pg_catalog.pg_roles where rolname = current_user",
                &[],
            )
            .await
            .doing("read the administrator's rights")?;
        let standing = Self {
            role: row.get(0),
            superuser: row.get(1),
            version: row.get(2),
        };
        if standing.version < OLDEST_SERVER_VERSION {
            return Err(BootstrapError::TooOld(row.get(3)));
        }
        Ok(standing)
    }

    /// What `grant … to` needs so that the administrator may act as the role: from PostgreSQL 16 on, who makes a role
    /// gets it without inheriting or setting it.
    pub(super) fn membership_options(&self) -> &'static str {
        if self.version >= 160_000 {
            " with inherit true, set true"
        } else {
            ""
        }
    }
}

/// Names mean the system's objects, whatever the administrator's search path is.
pub(super) async fn pin_search_path(client: &impl GenericClient) -> Result<(), SqlError> {
    client
        .batch_execute("set local search_path = pg_catalog, pg_temp")
        .await
        .doing("set the search path")
}

/// Commits what was done, or rolls back at once what failed: a transaction that is merely dropped keeps its locks until
/// its connection has noticed.
pub(super) async fn end<T>(transaction: Transaction<'_>, done: Result<T, BootstrapError>) -> Result<T, BootstrapError> {
    match done {
        Ok(value) => {
            transaction.commit().await.doing("commit")?;
            Ok(value)
        }
        Err(error) => {
            // Why it failed is the news; the connection ends either way.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

/// Whether a role exists.
pub(super) async fn role_exists(client: &impl GenericClient, role: &str) -> Result<bool, SqlError> {
    let row = client
        .query_one(
            "select exists (select from pg_catalog.pg_roles where rolname = $1)",
            &[&role],
        )
        .await
        .doing("look for a role")?;
    Ok(row.get(0))
}
