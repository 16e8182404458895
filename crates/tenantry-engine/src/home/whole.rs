//! Whether a place has what its version makes, before anybody is let in.

use tokio_postgres::{GenericClient, types::Type};

use crate::{
    isolate::Derived,
    sql_error::{Doing, SqlError},
};

/// The application's tables that a schema lacks, and those in which row security holds nobody: none where it is whole.
///
/// Tables are made in one transaction with their ledger rows, so that none is missing where the ledger has its version. What
/// waited as a spare, or was made before a crash, somebody else may have touched.
///
/// # Errors
///
/// Where the system catalogs can't be read.
pub async fn unfit_tables(
    client: &impl GenericClient,
    schema: &str,
    derived: &Derived,
) -> Result<Vec<String>, SqlError> {
    let names: Vec<&str> = derived.tables.iter().map(|table| table.name.as_str()).collect();
    let isolated: Vec<bool> = derived.tables.iter().map(|table| !table.reference).collect();
    let rows = client
        .query_typed(
            // The schema first: else the tables of that name in all schemas are gone through.
            "select wanted.name
               from unnest($2::text[], $3::bool[]) as wanted (name, isolated)
               left join pg_catalog.pg_class c
                 on c.relname = wanted.name
                and c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1)
              where c.oid is null
                 or wanted.isolated and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)
              order by 1",
            &[
                (&schema, Type::TEXT),
                (&names, Type::TEXT_ARRAY),
                (&isolated, Type::BOOL_ARRAY),
            ],
        )
        .await
        .doing("look at a new place's tables")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Which of these schemas are not there.
///
/// # Errors
///
/// Where the system catalogs can't be read.
pub async fn missing_schemas(client: &impl GenericClient, schemas: &[&str]) -> Result<Vec<String>, SqlError> {
    let rows = client
        .query(
            "select wanted.name
               from unnest($1::text[]) as wanted (name)
              where not exists (select from pg_catalog.pg_namespace n where n.nspname = wanted.name)
              order by 1",
            &[&schemas],
        )
        .await
        .doing("look for tenants' schemas")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
