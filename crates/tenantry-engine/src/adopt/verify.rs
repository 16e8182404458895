//! Whether the copy is the source, row for row, and keeps its own rules.

use tokio_postgres::Transaction;

use super::{
    AdoptError, Source,
    copy::{SourceTable, Target},
};

/// Compares count and checksum of one table and returns the count.
///
/// The checksum is the sum over all rows of 60 bits of the MD5 of the row's text: independent of the order of rows, and the
/// same on every version of PostgreSQL, which its internal hash functions do not promise.
pub(super) async fn same_rows(
    source: &Source,
    transaction: &Transaction<'_>,
    target: &Target,
    table: &SourceTable,
) -> Result<i64, AdoptError> {
    let digest = |filter: &str| {
        format!(
            "select count(*), coalesce(sum(('x' || left(md5(t::text), 15))::bit(60)::bigint), 0)::text
             from (select {} from {}{filter}) t",
            table.columns, table.quoted
        )
    };
    let here = source
        .client
        .query_one(&digest(""), &[])
        .await
        .map_err(AdoptError::read("checksums"))?;
    let there = transaction
        .query_one(&digest(" where tenant_id = $1"), &[target.tenant.as_uuid()])
        .await
        .map_err(AdoptError::target("compare the copy"))?;
    let (source_rows, source_sum): (i64, String) = (here.get(0), here.get(1));
    let (target_rows, target_sum): (i64, String) = (there.get(0), there.get(1));
    if (source_rows, source_sum) != (target_rows, target_sum) {
        return Err(AdoptError::Differs {
            table: table.name.clone(),
            source_rows,
            target_rows,
        });
    }
    Ok(target_rows)
}

/// Counts rows that break a foreign key: the copy ran without its triggers, so what the source let through is found here.
pub(super) async fn foreign_keys(transaction: &Transaction<'_>, target: &Target) -> Result<(), AdoptError> {
    const CHECKS: &str = "
        select c.relname, k.conname,
               format('select count(*) from %s child where child.tenant_id = $1 and %s and not exists (select from %s parent where %s)',
                      k.conrelid::regclass,
                      (select string_agg(format('child.%I is not null', a.attname), ' and ')
                       from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)),
                      k.confrelid::regclass,
                      (select string_agg(format('parent.%I = child.%I', p.attname, a.attname), ' and ')
                       from unnest(k.conkey, k.confkey) u (child, parent)
                       join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.child
                       join pg_attribute p on p.attrelid = k.confrelid and p.attnum = u.parent))
        from pg_constraint k
        join pg_class c on c.oid = k.conrelid
        where k.contype = 'f' and k.conparentid = 0 and c.relnamespace = quote_ident($1)::regnamespace
        order by k.oid";
    let checks = transaction
        .query(CHECKS, &[&target.schema])
        .await
        .map_err(AdoptError::target("list the foreign keys"))?;
    for check in checks {
        let query: String = check.get(2);
        let row = transaction
            .query_one(&query, &[target.tenant.as_uuid()])
            .await
            .map_err(AdoptError::target("check a foreign key"))?;
        let violations: i64 = row.get(0);
        if violations > 0 {
            return Err(AdoptError::Orphans {
                table: check.get(0),
                constraint: check.get(1),
                violations,
            });
        }
    }
    Ok(())
}
