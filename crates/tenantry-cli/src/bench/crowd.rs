//! Many tenants of very different sizes, put where provisioning would put them.
//!
//! Sizes follow Zipf's law, as customers do: the largest has more rows than the next two together, and most have a handful.

use std::time::Duration;

use anyhow::{Result, ensure};
use tenantry_core::TenantId;
use tenantry_wire::Connection;
use uuid::Uuid;

use super::world::World;

/// How many there are of everything.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Tenants in shared tables, their contacts, and those that somebody asks for.
    pub(super) million: i64,
    pub(super) contacts: i64,
    pub(super) active: usize,
    /// Schemas of twenty tables, and those that one backend goes through.
    pub(super) schemas: usize,
    pub(super) touched: usize,
    /// Tenant databases, tenants in all of them, connections to all of them, and the databases that are asked for most.
    pub(super) databases: usize,
    pub(super) tenants: usize,
    pub(super) budget: usize,
    pub(super) hot: usize,
    /// How long calls arrive in each round.
    pub(super) round: Duration,
}

impl Sizes {
    /// What is promised.
    pub(super) const PROMISED: Self = Self {
        million: 1_000_000,
        contacts: 2_000_000,
        active: 1_000,
        schemas: 2_000,
        touched: 200,
        databases: 300,
        tenants: 5_000,
        budget: 60,
        hot: 60,
        round: Duration::from_secs(4),
    };
    /// So that a test can go the same ways.
    pub(super) const SMALL: Self = Self {
        million: 2_000,
        contacts: 4_000,
        active: 20,
        schemas: 4,
        touched: 2,
        databases: 3,
        tenants: 30,
        budget: 6,
        hot: 1,
        round: Duration::from_millis(300),
    };
}

/// A tenant database that takes a crowd.
pub(super) struct Place {
    /// Its id in the catalog.
    pub(super) id: Uuid,
    pub(super) database: String,
}

/// So many tenants.
#[derive(Clone, Copy)]
pub(super) struct Crowd<'a> {
    /// Begins their slugs, and tells one crowd from another.
    pub(super) name: &'a str,
    pub(super) tenants: i64,
    /// Rows of all of them together.
    pub(super) rows: i64,
    /// How skewed the sizes are: 0 for equal ones, 1 as word frequencies are.
    pub(super) exponent: f64,
}

/// Puts the crowd into the shared tables of this database: catalog, fences, and contacts by Zipf's law. The tenants, the
/// largest first.
pub(super) async fn settle(world: &World, place: &Place, crowd: Crowd<'_>) -> Result<Vec<TenantId>> {
    let admin = world.admin(&place.database).await?;
    settle_by(world, place, crowd, admin).await
}

/// The same in a database of another server than the world's, by a connection of its superuser.
pub(super) async fn settle_by(
    world: &World,
    place: &Place,
    crowd: Crowd<'_>,
    mut admin: Connection,
) -> Result<Vec<TenantId>> {
    let client = world.ops.catalog().client().await?;
    client
        .execute(
            "insert into tenant (id, slug, slug_skeleton, name, plan, state)
             select gen_random_uuid(), $1 || '-' || n, $1 || '-' || n, 'One of many', 'free', 'active'
             from generate_series(1, $2::int8) n",
            &[&crowd.name, &crowd.tenants],
        )
        .await?;
    let rows = client
        .query(
            "with placed as (
                 insert into placement (tenant, isolation, tenant_database, schema_name, ready)
                 select t.id, 'shared', $2, 'app', true from tenant as t where t.slug like $1 || '-%'
                 returning tenant)
             select t.id from placed as p join tenant as t on t.id = p.tenant
             order by substring(t.slug from '[0-9]+$')::int8",
            &[&crowd.name, &place.id],
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(
        i64::try_from(ids.len())? == crowd.tenants,
        "the catalog has other tenants"
    );
    admin
        .query(
            "select count(tenantry.fence_register(id, 1, 0::int2)) from unnest($1::uuid[]) id",
            &[&ids],
        )
        .await?;
    let weights: f64 = (1..=crowd.tenants)
        .map(|rank| (rank as f64).powf(-crowd.exponent))
        .sum();
    let first = crowd.rows as f64 / weights;
    // Without the words of the search, which nobody asks for here.
    admin.batch("set session_replication_role = replica").await?;
    admin
        .query(
            "with made as (
                 insert into app.contacts (tenant_id, name, email)
                 select t.id, 'Person ' || n, 'person-' || n || '@example.com'
                 from unnest($1::uuid[]) with ordinality as t (id, rank),
                      generate_series(1, greatest(1, floor($2::float8 * power(t.rank::float8, -$3::float8))::int8)) as n
                 returning 1)
             select count(*) from made",
            &[&ids, &first, &crowd.exponent],
        )
        .await?;
    admin.batch("analyze app.contacts").await?;
    Ok(ids.into_iter().map(TenantId::from_uuid).collect())
}

/// A tenant database by its name.
pub(super) async fn place(world: &World, database: &str) -> Result<Place> {
    let client = world.ops.catalog().client().await?;
    let sql = "select id from tenant_database where name = $1";
    Ok(Place {
        id: client.query_one(sql, &[&database]).await?.get(0),
        database: database.to_owned(),
    })
}
