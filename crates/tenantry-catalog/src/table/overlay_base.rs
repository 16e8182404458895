//! On top of which of the fleet's migrations single tenants' own files were written.

use tenantry_core::TenantId;
use uuid::Uuid;

use crate::{CatalogError, Db};

/// A file of one tenant's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnFile<'a> {
    /// Its number.
    pub version: i64,
    /// SHA-256 of its text, in hex.
    pub checksum: &'a str,
}

/// The fleet's version of each file, in the order of `files`: the one noted when it was first seen, also under another slug of the
/// same tenant, or `newest`, which is noted now. Without a tenant, which is not made yet, the slug alone says whose they are.
///
/// # Errors
/// When the catalog fails.
pub async fn settle(
    db: &impl Db,
    (slug, tenant): (&str, Option<TenantId>),
    files: &[OwnFile<'_>],
    newest: i64,
) -> Result<Vec<i64>, CatalogError> {
    let tenant: Option<Uuid> = tenant.map(|tenant| *tenant.as_uuid());
    let versions: Vec<i64> = files.iter().map(|file| file.version).collect();
    let checksums: Vec<&str> = files.iter().map(|file| file.checksum).collect();
    db.execute(
        "insert into overlay_base as known (slug, version, checksum, fleet_version, tenant)
         select $1, f.version, f.checksum,
                coalesce((select min(b.fleet_version) from overlay_base as b
                          where b.tenant = $5::uuid and b.version = f.version and b.checksum = f.checksum), $4::bigint),
                $5::uuid
         from unnest($2::bigint[], $3::text[]) as f (version, checksum)
         on conflict (slug, version, checksum) do update set tenant = excluded.tenant
             where excluded.tenant is not null
               and (known.tenant is null
                    or exists (select from tenant as t where t.id = known.tenant and t.state = 'purged'))",
        &[&slug, &versions, &checksums, &newest, &tenant],
    )
    .await?;
    let rows = db
        .query(
            "select b.fleet_version
             from unnest($2::bigint[], $3::text[]) with ordinality as f (version, checksum, place)
             join overlay_base as b on b.slug = $1 and b.version = f.version and b.checksum = f.checksum
             order by f.place",
            &[&slug, &versions, &checksums],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
