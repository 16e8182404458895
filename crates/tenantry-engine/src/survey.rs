//! What a server is and what its administrator may do there: asked before anything is made.

use tokio_postgres::Client;

use crate::sql_error::{Doing, SqlError};

/// A server as its administrator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// `server_version_num`.
    pub version: i32,
    /// What PostgreSQL calls the cluster.
    pub system_identifier: i64,
    /// The administrator's role.
    pub admin: String,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Whether it may make roles.
    pub creates_roles: bool,
    /// Whether it may make databases.
    pub creates_databases: bool,
    /// Whether the server takes changes: no standby, not read-only.
    pub writable: bool,
    /// Whether it follows another server.
    pub standby: bool,
}

/// Looks at the connected server.
///
/// # Errors
///
/// Where the server can't be asked.
pub async fn survey(client: &Client) -> Result<Survey, SqlError> {
    let row = client
        .query_one(
            "select current_setting('server_version_num')::int4,
                    (select system_identifier from pg_catalog.pg_control_system()),
                    r.rolname::text, r.rolsuper, r.rolcreaterole, r.rolcreatedb,
                    not pg_catalog.pg_is_in_recovery() and current_setting('transaction_read_only') = 'off',
                    pg_catalog.pg_is_in_recovery()
               from pg_catalog.pg_roles as r where r.rolname = current_user",
            &[],
        )
        .await
        .doing("look at the server")?;
    let superuser: bool = row.get(3);
    Ok(Survey {
        version: row.get(0),
        system_identifier: row.get(1),
        admin: row.get(2),
        superuser,
        creates_roles: superuser || row.get(4),
        creates_databases: superuser || row.get(5),
        writable: row.get(6),
        standby: row.get(7),
    })
}
