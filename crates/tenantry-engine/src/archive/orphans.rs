//! Rows that point at nothing: what is written without its triggers was not looked at by PostgreSQL.

use tenantry_core::TenantId;
use tokio_postgres::Client;

use super::ArchiveError;
use crate::sql_error::Doing as _;

/// Counts the tenant's rows that break a foreign key, of each table in the schema.
pub(super) async fn refuse(client: &Client, schema: &str, tenant: TenantId) -> Result<(), ArchiveError> {
    let checks = client
        .query(
            "select c.relname::text, k.conname::text,
                    pg_catalog.format(
                      'select count(*) from %s as child where child.tenant_id = $1 and %s and not exists (select from %s as parent where %s)',
                      k.conrelid::regclass,
                      (select string_agg(pg_catalog.format('child.%I is not null', a.attname), ' and ')
                         from pg_catalog.pg_attribute as a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)),
                      k.confrelid::regclass,
                      (select string_agg(pg_catalog.format('parent.%I = child.%I', p.attname, a.attname), ' and ')
                         from unnest(k.conkey, k.confkey) as u (child, parent)
                         join pg_catalog.pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.child
                         join pg_catalog.pg_attribute as p on p.attrelid = k.confrelid and p.attnum = u.parent))
               from pg_catalog.pg_constraint as k
               join pg_catalog.pg_class as c on c.oid = k.conrelid
               join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
              where k.contype = 'f' and k.conparentid = 0 and n.nspname = $1
              order by k.oid",
            &[&schema],
        )
        .await
        .doing("list the foreign keys")?;
    for check in checks {
        let query: String = check.get(2);
        let row = client
            .query_one(&query, &[tenant.as_uuid()])
            .await
            .doing("check a foreign key")?;
        let violations: i64 = row.get(0);
        if violations > 0 {
            return Err(ArchiveError::Orphans {
                table: check.get(0),
                constraint: check.get(1),
                violations,
            });
        }
    }
    Ok(())
}
