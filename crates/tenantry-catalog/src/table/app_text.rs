//! The application's migrations as they were written, by their checksums.

use tenantry_core::TenantDatabaseId;

use crate::{CatalogError, Db};

/// Keeps the texts of these files: checksum and text.
///
/// # Errors
/// When the catalog fails.
pub async fn keep(db: &impl Db, files: &[(&str, &str)]) -> Result<(), CatalogError> {
    let (checksums, texts): (Vec<&str>, Vec<&str>) = files.iter().copied().unzip();
    db.execute(
        "insert into app_text (checksum, text)
         select f.checksum, f.text from unnest($1::text[], $2::text[]) as f (checksum, text)
         where not exists (select from app_text as kept where kept.checksum = f.checksum)
         on conflict do nothing",
        &[&checksums, &texts],
    )
    .await?;
    Ok(())
}

/// What was applied to a schema, by the catalog's copy of its ledger, and is none of these files, which are version and checksum: the version,
/// and the text where it was kept. The texts of the others, which are most of them, are not read: thousands of schemas ask.
///
/// # Errors
/// When the catalog fails.
pub async fn list_others(
    db: &impl Db,
    database: TenantDatabaseId,
    schema: &str,
    files: &[(i64, &str)],
) -> Result<Vec<(i64, Option<String>)>, CatalogError> {
    let (versions, checksums): (Vec<i64>, Vec<&str>) = files.iter().copied().unzip();
    let rows = db
        .query(
            "select m.version, t.text
             from app_migration as m left join app_text as t on t.checksum = m.checksum
             where m.tenant_database = $1 and m.schema_name = $2
               and not exists (select from unnest($3::bigint[], $4::text[]) as f (version, checksum)
                               where f.version = m.version and f.checksum = m.checksum)
             order by m.version",
            &[database.as_uuid(), &schema, &versions, &checksums],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
