//! Tenants, and where they live as far as people want to know.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_core::{Epoch, Isolation, Plan, Slug, TenantId, TenantName, TenantState};
use tokio_postgres::Row;

use crate::{CatalogError, ConstraintName as _, Db, text::parsed};

/// How to reach the tenant's organisation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    /// Postal address.
    pub address: String,
    /// Telephone number.
    pub phone: String,
    /// Website.
    pub website: String,
}

/// A tenant with its placement.
#[derive(Clone, PartialEq, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its label.
    pub slug: Slug,
    /// What people call it.
    pub name: TenantName,
    /// The plan it pays for.
    pub plan: Plan,
    /// Its state.
    pub state: TenantState,
    /// How to reach it.
    pub profile: Profile,
    /// Its settings, an object.
    pub settings: Value,
    /// Grows with every change.
    pub version: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// When it is purged.
    pub purge_after: Option<DateTime<Utc>>,
    /// Why it is not purged all the same.
    pub legal_hold: Option<String>,
    /// Where it lives; a purged one lives nowhere.
    pub placement: Option<TenantPlacement>,
}

/// Where a tenant lives, in names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantPlacement {
    /// How its rows are kept apart.
    pub isolation: Isolation,
    /// The server's name.
    pub server: String,
    /// The server's region.
    pub region: String,
    /// The database's name.
    pub database: String,
    /// The schema with the application's tables.
    pub schema: String,
    /// Which placement of the tenant it is.
    pub epoch: Epoch,
}

/// A tenant that is about to be provisioned.
#[derive(Debug)]
pub struct NewTenant<'a> {
    /// Its id.
    pub id: TenantId,
    /// Its label.
    pub slug: &'a Slug,
    /// What people call it.
    pub name: &'a TenantName,
    /// The plan it pays for.
    pub plan: &'a Plan,
    /// How to reach it.
    pub profile: &'a Profile,
    /// Its settings, an object.
    pub settings: &'a Value,
}

/// What to change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct TenantPatch {
    /// The label.
    pub slug: Option<Slug>,
    /// The name.
    pub name: Option<TenantName>,
    /// The plan.
    pub plan: Option<Plan>,
    /// The settings as a whole.
    pub settings: Option<Value>,
    /// Postal address.
    pub address: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Website.
    pub website: Option<String>,
}

/// Which tenants to list.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    /// Slug or name contains this, whatever the case.
    pub q: Option<String>,
    /// In this state; without it, all but purged ones.
    pub state: Option<TenantState>,
    /// Kept apart in this way.
    pub isolation: Option<Isolation>,
    /// On this plan.
    pub plan: Option<String>,
    /// With exactly this slug.
    pub slug: Option<String>,
    /// With exactly this name.
    pub name: Option<String>,
    /// On the server of this name.
    pub server: Option<String>,
    /// In this region.
    pub region: Option<String>,
    /// Oldest first instead of newest first.
    pub oldest_first: bool,
    /// Only what follows this one.
    pub after: Option<TenantCursor>,
}

/// A place in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct TenantCursor {
    /// The last tenant's time.
    pub created_at: DateTime<Utc>,
    /// And its id.
    pub id: TenantId,
}

/// A slug can't be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlugClash {
    /// Another tenant has it.
    Taken,
    /// Another tenant's looks the same to people.
    LooksLike,
}

/// The outcome of a change that may clash or come too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Changed {
    /// It is done.
    Yes,
    /// There is no such tenant, or it is in another state than the change needs.
    No,
    /// The new slug can't be had.
    Clash(SlugClash),
}

const SELECT: &str =
    "select t.id, t.slug, t.name, t.plan, t.state, t.address, t.phone, t.website, t.settings, t.version,
        t.created_at, t.updated_at, t.deleted_at, t.purge_after,
        p.isolation, s.name, s.region, d.name, p.schema_name, p.epoch, t.legal_hold
 from tenant as t
 left join placement as p on p.tenant = t.id
 left join tenant_database as d on d.id = p.tenant_database
 left join server as s on s.id = d.server";

impl Tenant {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: TenantId::from_uuid(row.get(0)),
            slug: parsed(row, 1, "tenant.slug")?,
            name: parsed(row, 2, "tenant.name")?,
            plan: parsed(row, 3, "tenant.plan")?,
            state: parsed(row, 4, "tenant.state")?,
            profile: Profile {
                address: row.get(5),
                phone: row.get(6),
                website: row.get(7),
            },
            settings: row.get(8),
            version: row.get(9),
            created_at: row.get(10),
            updated_at: row.get(11),
            deleted_at: row.get(12),
            purge_after: row.get(13),
            legal_hold: row.get(20),
            placement: match row.get::<_, Option<&str>>(14) {
                None => None,
                Some(_) => Some(TenantPlacement {
                    isolation: parsed(row, 14, "placement.isolation")?,
                    server: row.get(15),
                    region: row.get(16),
                    database: row.get(17),
                    schema: row.get(18),
                    epoch: Epoch(row.get(19)),
                }),
            },
        })
    }

    /// Its place in a list.
    pub fn cursor(&self) -> TenantCursor {
        TenantCursor {
            created_at: self.created_at,
            id: self.id,
        }
    }
}

fn clash(error: &tokio_postgres::Error) -> Option<SlugClash> {
    match error.constraint()? {
        "tenant_slug_taken" => Some(SlugClash::Taken),
        "tenant_slug_looks_like" => Some(SlugClash::LooksLike),
        _ => None,
    }
}

/// Makes the tenant's row. After a clash the transaction is lost.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewTenant<'_>) -> Result<Result<(), SlugClash>, CatalogError> {
    let inserted = db
        .execute(
            "insert into tenant (id, slug, slug_skeleton, name, plan, address, phone, website, settings)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                new.id.as_uuid(),
                &new.slug.as_str(),
                &new.slug.skeleton(),
                &new.name.as_str(),
                &new.plan.as_str(),
                &new.profile.address,
                &new.profile.phone,
                &new.profile.website,
                new.settings,
            ],
        )
        .await;
    match inserted {
        Ok(_) => Ok(Ok(())),
        Err(error) => clash(&error).map(Err).ok_or(CatalogError::Database(error)),
    }
}

/// One tenant by its id.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, id: TenantId) -> Result<Option<Tenant>, CatalogError> {
    let row = db
        .query_opt(&format!("{SELECT} where t.id = $1"), &[id.as_uuid()])
        .await?;
    row.as_ref().map(Tenant::from_row).transpose()
}

/// One tenant by its slug, unless it is purged.
///
/// # Errors
/// When the catalog fails.
pub async fn find_by_slug(db: &impl Db, slug: &str) -> Result<Option<Tenant>, CatalogError> {
    let row = db
        .query_opt(&format!("{SELECT} where t.slug = $1 and t.state <> 'purged'"), &[&slug])
        .await?;
    row.as_ref().map(Tenant::from_row).transpose()
}

/// The tenant's row, held until the transaction ends.
///
/// # Errors
/// When the catalog fails.
pub async fn lock(db: &impl Db, id: TenantId) -> Result<Option<Tenant>, CatalogError> {
    hold(db, id).await?;
    find(db, id).await
}

/// Holds the tenant's row until the transaction ends. Whoever also holds an operation's row takes this one first.
///
/// # Errors
/// When the catalog fails.
pub async fn hold(db: &impl Db, id: TenantId) -> Result<(), CatalogError> {
    db.query_opt("select from tenant where id = $1 for update", &[id.as_uuid()])
        .await?;
    Ok(())
}

/// Up to `limit` tenants, newest first unless the filter says otherwise.
///
/// # Errors
/// When the catalog fails.
pub async fn list(db: &impl Db, filter: &TenantFilter, limit: i64) -> Result<Vec<Tenant>, CatalogError> {
    let (compare, order) = if filter.oldest_first {
        (">", "asc")
    } else {
        ("<", "desc")
    };
    let after = filter.after.map(|cursor| (cursor.created_at, *cursor.id.as_uuid()));
    let rows = db
        .query(
            &format!(
                "{SELECT}
                 where ($1::text is null or strpos(lower(t.slug), lower($1)) > 0 or strpos(lower(t.name), lower($1)) > 0)
                   and case when $2::text is null then t.state <> 'purged' else t.state = $2 end
                   and ($3::text is null or p.isolation = $3)
                   and ($4::text is null or t.plan = $4)
                   and ($5::text is null or t.slug = $5)
                   and ($6::text is null or t.name = $6)
                   and ($7::text is null or s.name = $7)
                   and ($8::text is null or s.region = $8)
                   and ($9::timestamptz is null or (t.created_at, t.id) {compare} ($9, $10::uuid))
                 order by t.created_at {order}, t.id {order}
                 limit $11"
            ),
            &[
                &filter.q,
                &filter.state.map(TenantState::as_str),
                &filter.isolation.map(Isolation::as_str),
                &filter.plan,
                &filter.slug,
                &filter.name,
                &filter.server,
                &filter.region,
                &after.map(|(created_at, _)| created_at),
                &after.map(|(_, id)| id),
                &limit,
            ],
        )
        .await?;
    rows.iter().map(Tenant::from_row).collect()
}

/// How many tenants there are in each state.
///
/// # Errors
/// When the catalog fails.
pub async fn count_by_state(db: &impl Db) -> Result<Vec<(TenantState, i64)>, CatalogError> {
    let rows = db
        .query("select state, count(*) from tenant group by state", &[])
        .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, 0, "tenant.state")?, row.get(1))))
        .collect()
}

/// Changes what the patch names. After a clash the transaction is lost.
///
/// # Errors
/// When the catalog fails.
pub async fn update(db: &impl Db, id: TenantId, patch: &TenantPatch) -> Result<Changed, CatalogError> {
    let updated = db
        .execute(
            "update tenant
             set slug = coalesce($2, slug), slug_skeleton = coalesce($3, slug_skeleton), name = coalesce($4, name),
                 plan = coalesce($5, plan), settings = coalesce($6, settings), address = coalesce($7, address),
                 phone = coalesce($8, phone), website = coalesce($9, website),
                 version = version + 1, updated_at = now()
             where id = $1 and state <> 'purged'",
            &[
                id.as_uuid(),
                &patch.slug.as_ref().map(Slug::as_str),
                &patch.slug.as_ref().map(Slug::skeleton),
                &patch.name.as_ref().map(TenantName::as_str),
                &patch.plan.as_ref().map(Plan::as_str),
                &patch.settings,
                &patch.address,
                &patch.phone,
                &patch.website,
            ],
        )
        .await;
    match updated {
        Ok(0) => Ok(Changed::No),
        Ok(_) => Ok(Changed::Yes),
        Err(error) => match clash(&error) {
            Some(clash) => Ok(Changed::Clash(clash)),
            None => Err(error.into()),
        },
    }
}

/// Moves the tenant from one state to another, if it is in the first.
///
/// # Errors
/// When the catalog fails.
pub async fn set_state(
    db: &impl Db,
    id: TenantId,
    from: TenantState,
    to: TenantState,
) -> Result<Changed, CatalogError> {
    debug_assert!(from.may_become(to), "{from} never becomes {to}");
    let updated = db
        .execute(
            "update tenant
             set state = $3, deleted_at = case when $3 in ('deleted', 'purged') then deleted_at end,
                 purge_after = case when $3 in ('deleted', 'purged') then purge_after end,
                 version = version + 1, updated_at = now()
             where id = $1 and state = $2",
            &[id.as_uuid(), &from.as_str(), &to.as_str()],
        )
        .await?;
    Ok(if updated == 0 { Changed::No } else { Changed::Yes })
}

/// Marks the tenant deleted until `purge_after`.
///
/// # Errors
/// When the catalog fails.
pub async fn set_deleted(
    db: &impl Db,
    id: TenantId,
    from: TenantState,
    purge_after: DateTime<Utc>,
) -> Result<Changed, CatalogError> {
    debug_assert!(from.may_become(TenantState::Deleted), "{from} is never deleted");
    let updated = db
        .execute(
            "update tenant
             set state = 'deleted', deleted_at = now(), purge_after = $3, version = version + 1, updated_at = now()
             where id = $1 and state = $2",
            &[id.as_uuid(), &from.as_str(), &purge_after],
        )
        .await?;
    Ok(if updated == 0 { Changed::No } else { Changed::Yes })
}

/// Sets or, without a reason, ends what keeps the tenant from being purged.
///
/// # Errors
/// When the catalog fails.
pub async fn set_legal_hold(db: &impl Db, id: TenantId, reason: Option<&str>) -> Result<(), CatalogError> {
    db.execute(
        "update tenant set legal_hold = $2, version = version + 1, updated_at = now() where id = $1",
        &[id.as_uuid(), &reason],
    )
    .await?;
    Ok(())
}

/// Ends the retention time of a deleted tenant.
///
/// # Errors
/// When the catalog fails.
pub async fn set_purge_now(db: &impl Db, id: TenantId) -> Result<(), CatalogError> {
    db.execute(
        "update tenant set purge_after = least(purge_after, now()), version = version + 1, updated_at = now()
         where id = $1 and state = 'deleted'",
        &[id.as_uuid()],
    )
    .await?;
    Ok(())
}
