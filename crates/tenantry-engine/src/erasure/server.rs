//! What stands on a server beside the databases that are known.

use tenantry_core::own_database_name;
use tokio_postgres::Client;

use super::{Looked, Sought, Trace};
use crate::sql_error::{Doing, SqlError};

/// Looks for a database of the tenant's own on the server, by the name that such a one has.
///
/// # Errors
///
/// Where the server can't be asked.
///
/// # Cancel safety
///
/// It only reads.
pub async fn look_at_server(client: &Client, sought: &Sought<'_>) -> Result<Looked, SqlError> {
    let name = own_database_name(sought.installation, sought.tenant);
    let simple = sought.tenant.as_uuid().simple().to_string();
    let rows = client
        .query(
            "select 'database ' || datname::text from pg_catalog.pg_database where datname = $1 or pg_catalog.strpos(datname::text, $2) > 0
             union all
             select 'role ' || rolname::text from pg_catalog.pg_roles where pg_catalog.strpos(rolname::text, $2) > 0
             order by 1",
            &[&name, &simple],
        )
        .await
        .doing("look for the tenant's database")?;
    let trace = |row: &tokio_postgres::Row| Trace {
        what: row.get(0),
        count: 1,
        record: None,
    };
    Ok(Looked {
        tables: 0,
        traces: rows.iter().map(trace).collect(),
        unseen: Vec::new(),
    })
}
