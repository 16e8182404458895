//! Where tenants live. One row per tenant; a change is a compare-and-set on the epoch.

use std::{collections::HashMap, sync::LazyLock};

use tenantry_core::{
    Epoch, Excess, Isolation, Placement, PlanLimits, ServerId, TenantDatabaseId, TenantId, TenantState,
};

use super::{
    plan_limit::{COLUMNS as LIMITS, limits},
    replica::Replica,
    tenant_database::{Secrets, TenantDatabase, open_secrets},
};
use crate::{
    Catalog, CatalogError, Db,
    text::{parsed, parsed_opt},
};

/// A placement with everything that is needed to go there.
#[derive(Clone, Debug)]
pub struct Located {
    /// Where.
    pub placement: Placement,
    /// The tenant's state.
    pub state: TenantState,
    /// Whether provisioning has ended.
    pub ready: bool,
    /// The database.
    pub database: TenantDatabase,
    /// What opens it.
    pub secrets: Secrets,
    /// The server's address, as its administrator. The application's differs in role and password only.
    pub admin_url: secrecy::SecretString,
    /// How the application reaches the server where that is not the administrator's address.
    pub app_address: Option<String>,
    /// What stands there.
    pub pooler: Option<super::server::Pooler>,
    /// The newest of the application's migrations there, as the catalog knows it; 0 for none.
    pub schema_version: i64,
    /// The version below which the installation serves nobody; 0 for none.
    pub schema_version_min: i64,
    /// What the tenant's plan gives at most.
    pub limits: PlanLimits,
    /// What it has more of than that.
    pub excess: Vec<Excess>,
    /// The server's standbys that the application may read from.
    pub replicas: Vec<Replica>,
    /// How many spare schemas are kept on the server, where it has a number of its own.
    pub spare_schemas: Option<u16>,
}

/// Places a new tenant; nobody is routed there before [`set_ready`].
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, placement: &NewPlacement<'_>) -> Result<(), CatalogError> {
    db.execute(
        "insert into placement (tenant, isolation, tenant_database, schema_name, epoch) values ($1, $2, $3, $4, $5)",
        &[
            placement.tenant.as_uuid(),
            &placement.isolation.as_str(),
            placement.database.as_uuid(),
            &placement.schema,
            &Epoch::FIRST.0,
        ],
    )
    .await?;
    Ok(())
}

/// A first placement.
#[derive(Clone, Copy, Debug)]
pub struct NewPlacement<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// In which database.
    pub database: TenantDatabaseId,
    /// In which schema.
    pub schema: &'a str,
}

/// Everything that is needed to go to a tenant's home; `None` if there is no such tenant or it lives nowhere.
///
/// # Errors
/// When the catalog fails or a secret does not open.
pub async fn locate(catalog: &Catalog, db: &impl Db, tenant: TenantId) -> Result<Option<Located>, CatalogError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!("select t.state, p.isolation, p.schema_name, p.epoch, p.ready,
            d.app_password_sealed, d.seal_keys_sealed,
            d.id, d.server, d.name, d.kind, d.state, d.app_role, d.tier, d.bootstrap_version, d.system_identifier,
            d.database_oid, s.admin_url_sealed,
            coalesce((select max(m.version) from app_migration as m
                      where m.tenant_database = p.tenant_database and m.schema_name = p.schema_name), 0),
            (select i.schema_version_min from installation as i), s.app_address, s.pooler,
            (select jsonb_agg(jsonb_build_object('limit', e.limit_name, 'quota', e.quota, 'used', e.used) order by e.limit_name)
             from plan_excess as e where e.tenant = t.id),
            (select jsonb_agg(jsonb_build_object('id', r.id, 'address', r.address) order by r.address)
             from server_replica as r where r.server = s.id), s.spare_schemas, {LIMITS}
         from tenant as t
         join placement as p on p.tenant = t.id
         join tenant_database as d on d.id = p.tenant_database
         join server as s on s.id = d.server
         left join plan_limit as l on l.plan = t.plan
         where t.id = $1")
    });
    let Some(row) = db.query_opt(&SQL, &[tenant.as_uuid()]).await? else {
        return Ok(None);
    };
    let database = TenantDatabase::from_row(&row, 7)?;
    let placement = Placement {
        tenant,
        isolation: parsed(&row, 1, "placement.isolation")?,
        server: database.server,
        database: database.id,
        database_name: database.name.clone(),
        schema: row.get(2),
        epoch: Epoch(row.get(3)),
    };
    Ok(Some(Located {
        placement,
        state: parsed(&row, 0, "tenant.state")?,
        ready: row.get(4),
        secrets: open_secrets(catalog, database.id, row.get(5), row.get(6))?,
        admin_url: super::server::open_admin_url(catalog, database.server, row.get(17))?,
        schema_version: row.get(18),
        schema_version_min: row.get(19),
        app_address: row.get(20),
        pooler: parsed_opt(&row, 21, "server.pooler")?,
        excess: match row.get::<_, Option<serde_json::Value>>(22) {
            Some(excess) => {
                serde_json::from_value(excess).map_err(|_| CatalogError::Unknown { column: "plan_excess" })?
            }
            None => Vec::new(),
        },
        replicas: match row.get::<_, Option<serde_json::Value>>(23) {
            Some(replicas) => serde_json::from_value(replicas).map_err(|_| CatalogError::Unknown {
                column: "server_replica",
            })?,
            None => Vec::new(),
        },
        spare_schemas: super::server::spares(&row, 24, "server.spare_schemas")?,
        limits: limits(&row, 25)?,
        database,
    }))
}

/// The tenant databases where somebody is served: an active tenant whose tables have this version, and the one that the installation
/// requires, or a newer one.
///
/// # Errors
/// When the catalog fails.
pub async fn served_databases(db: &impl Db, schema_version_min: i64) -> Result<Vec<TenantDatabaseId>, CatalogError> {
    const SQL: &str = "select d.id
         from tenant_database as d
         where d.state = 'ready'
           and exists (select from placement as p join tenant as t on t.id = p.tenant
                       where p.tenant_database = d.id and p.ready and t.state = 'active'
                         and coalesce((select max(m.version) from app_migration as m
                                       where m.tenant_database = p.tenant_database and m.schema_name = p.schema_name), 0)
                             >= greatest($1::bigint, (select i.schema_version_min from installation as i)))
         order by d.id";
    let rows = db.query(SQL, &[&schema_version_min]).await?;
    Ok(rows.iter().map(|row| TenantDatabaseId::from_uuid(row.get(0))).collect())
}

/// The schemas in which served tenants live, by database, and how many live in each.
///
/// # Errors
/// When the catalog fails.
pub async fn served_schemas(db: &impl Db) -> Result<HashMap<TenantDatabaseId, Vec<(String, usize)>>, CatalogError> {
    const SQL: &str = "select p.tenant_database, p.schema_name, count(*)
         from placement as p join tenant as t on t.id = p.tenant
         where p.ready and t.state = 'active'
         group by p.tenant_database, p.schema_name";
    let rows = db.query(SQL, &[]).await?;
    let mut schemas: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        let tenants = usize::try_from(row.get::<_, i64>(2)).unwrap_or(0);
        let of_database = schemas.entry(TenantDatabaseId::from_uuid(row.get(0))).or_default();
        of_database.push((row.get(1), tenants));
    }
    Ok(schemas)
}

/// Routes the tenant here from now on.
///
/// # Errors
/// When the catalog fails.
pub async fn set_ready(db: &impl Db, tenant: TenantId) -> Result<(), CatalogError> {
    db.execute(
        "update placement set ready = true, changed_at = now() where tenant = $1",
        &[tenant.as_uuid()],
    )
    .await?;
    Ok(())
}

/// The tenant lives elsewhere from now on: the one moment at which a move happens. `false` where it does not live at `from` any more,
/// at that epoch.
///
/// # Errors
/// When the catalog fails.
pub async fn switch(db: &impl Db, from: &Placement, to: &Placement) -> Result<bool, CatalogError> {
    let switched = db
        .execute(
            "update placement set isolation = $5, tenant_database = $6, schema_name = $7, epoch = $8, changed_at = now()
             where tenant = $1 and epoch = $2 and tenant_database = $3 and schema_name = $4 and ready",
            &[
                from.tenant.as_uuid(),
                &from.epoch.0,
                from.database.as_uuid(),
                &from.schema,
                &to.isolation.as_str(),
                to.database.as_uuid(),
                &to.schema,
                &to.epoch.0,
            ],
        )
        .await?;
    Ok(switched == 1)
}

/// Which placement of the tenant counts now.
///
/// # Errors
/// When the catalog fails.
pub async fn epoch_of(db: &impl Db, tenant: TenantId) -> Result<Option<Epoch>, CatalogError> {
    let row = db
        .query_opt("select epoch from placement where tenant = $1", &[tenant.as_uuid()])
        .await?;
    Ok(row.map(|row| Epoch(row.get(0))))
}

/// Forgets where a purged tenant lived.
///
/// # Errors
/// When the catalog fails.
pub async fn remove(db: &impl Db, tenant: TenantId) -> Result<(), CatalogError> {
    db.execute("delete from placement where tenant = $1", &[tenant.as_uuid()])
        .await?;
    Ok(())
}

/// A schema with the application's tables, of one tenant or of many: what a migration is applied to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// In which database.
    pub database: TenantDatabase,
    /// The server's name.
    pub server: String,
    /// The schema.
    pub schema: String,
    /// The tenant, unless the tables are shared.
    pub tenant: Option<TenantId>,
    /// Its slug.
    pub slug: Option<String>,
}

/// Every schema with the application's tables: the shared ones, and those of tenants that are neither being made nor
/// purged (those get or need no migrations). `$3` is the schema of shared tables.
pub(super) const SITES: &str = "
    select id as tenant_database, $3::text as schema_name, null::uuid as tenant, null::text as slug, null::text as plan,
           null::jsonb as labels
    from tenant_database where kind = 'shared'
    union all
    select p.tenant_database, p.schema_name, t.id, t.slug, t.plan, t.settings -> 'labels'
    from placement as p
    join tenant as t on t.id = p.tenant
    where p.isolation <> 'shared' and p.ready and t.state <> 'purged'";

/// Every schema with the application's tables.
///
/// # Errors
/// When the catalog fails.
pub async fn list_sites(db: &impl Db) -> Result<Vec<Site>, CatalogError> {
    let states = super::fleet_state::list(db, &[]).await?;
    Ok(states.into_iter().map(|state| state.site).collect())
}

/// The last of the tenants' own schemas in each shared tenant database. Their names tell when the tenants were made: it is another
/// one where a tenant has come since.
///
/// # Errors
/// When the catalog fails.
pub async fn newest_own_schemas(db: &impl Db) -> Result<HashMap<TenantDatabaseId, Option<String>>, CatalogError> {
    let rows = db
        .query(
            "select d.id, (select p.schema_name from placement as p
                           where p.tenant_database = d.id and p.isolation <> 'shared'
                           order by p.schema_name desc limit 1)
             from tenant_database as d
             where d.kind = 'shared' and d.state = 'ready'",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (TenantDatabaseId::from_uuid(row.get(0)), row.get(1)))
        .collect())
}

/// Which of these tenants, by slug, live in shared tables.
///
/// # Errors
/// When the catalog fails.
pub async fn in_shared_tables(db: &impl Db, slugs: &[&str]) -> Result<Vec<String>, CatalogError> {
    let rows = db
        .query(
            "select t.slug from tenant as t join placement as p on p.tenant = t.id
             where t.slug = any($1) and p.isolation = 'shared' and t.state <> 'purged'
             order by t.slug desc",
            &[&slugs],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The tenants whose rows stand in one schema.
///
/// # Errors
/// When the catalog fails.
pub async fn list_tenants(
    db: &impl Db,
    database: TenantDatabaseId,
    schema: &str,
) -> Result<Vec<(TenantId, Epoch)>, CatalogError> {
    let rows = db
        .query(
            "select p.tenant, p.epoch from placement as p
             join tenant as t on t.id = p.tenant
             where p.tenant_database = $1 and p.schema_name = $2 and p.ready and t.state <> 'purged'
             order by p.tenant",
            &[database.as_uuid(), &schema],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (TenantId::from_uuid(row.get(0)), Epoch(row.get(1))))
        .collect())
}

/// The server that a tenant lives on.
///
/// # Errors
/// When the catalog fails.
pub async fn server_of(db: &impl Db, tenant: TenantId) -> Result<Option<ServerId>, CatalogError> {
    let row = db
        .query_opt(
            "select d.server from placement as p join tenant_database as d on d.id = p.tenant_database where p.tenant = $1",
            &[tenant.as_uuid()],
        )
        .await?;
    Ok(row.map(|row| ServerId::from_uuid(row.get(0))))
}

/// A tenant that lives on a server, and how much it was used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dweller {
    /// Who.
    pub tenant: TenantId,
    /// As it is called.
    pub slug: String,
    /// Its state.
    pub state: TenantState,
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// Its requests in the last seven days.
    pub calls: i64,
}

/// Every tenant that has its place on a server, whatever its state.
///
/// # Errors
/// When the catalog fails.
pub async fn list_on_server(db: &impl Db, server: ServerId) -> Result<Vec<Dweller>, CatalogError> {
    let rows = db
        .query(
            "select t.id, t.slug, t.state, p.isolation,
                    coalesce((select sum(u.requests) from usage_day as u
                               where u.tenant = t.id and u.day > (now() at time zone 'UTC')::date - 7), 0)::bigint
             from placement as p
             join tenant as t on t.id = p.tenant
             join tenant_database as d on d.id = p.tenant_database
             where d.server = $1
             order by t.id",
            &[server.as_uuid()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Dweller {
                tenant: TenantId::from_uuid(row.get(0)),
                slug: row.get(1),
                state: parsed(row, 2, "tenant.state")?,
                isolation: parsed(row, 3, "placement.isolation")?,
                calls: row.get(4),
            })
        })
        .collect()
}
