//! Persons' places in tenants.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, MembershipStatus, Role, TenantId, TenantState};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{CatalogError, Db};

/// A member of a tenant, as the tenant may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Its e-mail.
    pub email: String,
    /// The account's name, or what the inviter wrote while the person is awaited.
    pub name: String,
    /// What the member may do.
    pub role: Role,
    /// `invited` while the person is awaited, whether the account existed or not.
    pub status: MembershipStatus,
    /// When the membership began.
    pub created_at: DateTime<Utc>,
}

/// A membership, as its person may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The tenant.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: TenantState,
    /// What the person may do there.
    pub role: Role,
    /// Whether the person has accepted.
    pub status: MembershipStatus,
}

/// A new membership.
#[derive(Clone, Debug)]
pub struct NewMembership<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// Whether it opens the tenant at once.
    pub status: MembershipStatus,
    /// Whether it is shown as invited until the person shows up.
    pub awaited: bool,
    /// What the inviter calls the person.
    pub invited_name: &'a str,
}

/// What is stored about one membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What the member may do.
    pub role: Role,
    /// Whether it opens the tenant.
    pub status: MembershipStatus,
    /// Whether the person has still to show up: to accept, or to log in to an account made with the membership.
    pub awaited: bool,
}

/// Which members a list shows. Newest first.
#[derive(Clone, Debug, Default)]
pub struct MemberFilter<'a> {
    /// Part of the e-mail or the name, in any case.
    pub q: Option<&'a str>,
    /// Exactly this e-mail.
    pub email: Option<&'a str>,
    /// Exactly this role.
    pub role: Option<Role>,
    /// Exactly this status, as shown.
    pub status: Option<MembershipStatus>,
    /// Only what comes after this member in the list.
    pub after: Option<(DateTime<Utc>, AccountId)>,
}

const SHOWN_STATUS: &str = "case when m.awaited then 'invited' else m.status end";
const SHOWN_NAME: &str = "case when m.awaited then m.invited_name else a.name end";

fn role(row: &Row, column: usize) -> Result<Role, CatalogError> {
    row.get::<_, &str>(column).parse().map_err(|_| CatalogError::Unknown {
        column: "membership.role",
    })
}

fn status(row: &Row, column: usize) -> Result<MembershipStatus, CatalogError> {
    match row.get(column) {
        "invited" => Ok(MembershipStatus::Invited),
        "active" => Ok(MembershipStatus::Active),
        _ => Err(CatalogError::Unknown {
            column: "membership.status",
        }),
    }
}

impl Member {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            account: AccountId::from_uuid(row.get(0)),
            email: row.get(1),
            name: row.get(2),
            role: role(row, 3)?,
            status: status(row, 4)?,
            created_at: row.get(5),
        })
    }
}

/// Makes every other change of this tenant's members wait until the transaction ends, so that a count of its owners
/// stays true; gives the tenant's state, nothing if there is no such tenant.
///
/// # Errors
/// When the catalog fails.
pub async fn lock_tenant(db: &impl Db, tenant: TenantId) -> Result<Option<TenantState>, CatalogError> {
    let row = db
        .query_opt(
            "select state from tenant where id = $1 for no key update",
            &[tenant.as_uuid()],
        )
        .await?;
    row.map(|row| {
        row.get::<_, &str>(0)
            .parse()
            .map_err(|_| CatalogError::Unknown { column: "tenant.state" })
    })
    .transpose()
}

/// Makes a membership unless there is one; says whether it was made.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewMembership<'_>) -> Result<bool, CatalogError> {
    let inserted = db
        .execute(
            "insert into membership (tenant, account, role, status, awaited, invited_name)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (tenant, account) do nothing",
            &[
                new.tenant.as_uuid(),
                new.account.as_uuid(),
                &new.role.as_str(),
                &new.status.as_str(),
                &new.awaited,
                &new.invited_name,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// What is stored about a membership.
///
/// # Errors
/// When the catalog fails.
pub async fn get(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<Option<Stored>, CatalogError> {
    let row = db
        .query_opt(
            "select role, status, awaited
             from membership
             where tenant = $1 and account = $2",
            &[tenant.as_uuid(), account.as_uuid()],
        )
        .await?;
    row.map(|row| {
        Ok(Stored {
            role: role(&row, 0)?,
            status: status(&row, 1)?,
            awaited: row.get(2),
        })
    })
    .transpose()
}

/// A member, as the tenant may see it.
///
/// # Errors
/// When the catalog fails.
pub async fn get_member(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<Option<Member>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "select a.id, a.email, {SHOWN_NAME}, m.role, {SHOWN_STATUS}, m.created_at
                 from membership as m
                 join account as a on a.id = m.account
                 where m.tenant = $1 and m.account = $2"
            ),
            &[tenant.as_uuid(), account.as_uuid()],
        )
        .await?;
    row.as_ref().map(Member::from_row).transpose()
}

/// The members of a tenant, newest first.
///
/// # Errors
/// When the catalog fails.
pub async fn list(
    db: &impl Db,
    tenant: TenantId,
    filter: &MemberFilter<'_>,
    limit: i64,
) -> Result<Vec<Member>, CatalogError> {
    let (after_time, after_account) = filter.after.map(|(time, account)| (time, *account.as_uuid())).unzip();
    let rows = db
        .query(
            &format!(
                "select a.id, a.email, {SHOWN_NAME}, m.role, {SHOWN_STATUS}, m.created_at
                 from membership as m
                 join account as a on a.id = m.account
                 where m.tenant = $1
                   and ($2::text is null or strpos(lower(a.email), lower($2)) > 0
                        or strpos(lower({SHOWN_NAME}), lower($2)) > 0)
                   and ($3::text is null or a.email = $3)
                   and ($4::text is null or m.role = $4)
                   and ($5::text is null or {SHOWN_STATUS} = $5)
                   and ($6::timestamptz is null or (m.created_at, m.account) < ($6, $7::uuid))
                 order by m.created_at desc, m.account desc
                 limit $8"
            ),
            &[
                tenant.as_uuid(),
                &filter.q,
                &filter.email,
                &filter.role.map(Role::as_str),
                &filter.status.map(MembershipStatus::as_str),
                &after_time,
                &after_account,
                &limit,
            ],
        )
        .await?;
    rows.iter().map(Member::from_row).collect()
}

/// The memberships of an account in tenants that are not deleted, by the tenants' names.
///
/// # Errors
/// When the catalog fails.
pub async fn of_account(db: &impl Db, account: AccountId) -> Result<Vec<Place>, CatalogError> {
    let rows = db
        .query(
            "select t.id, t.slug, t.name, t.state, m.role, m.status
             from membership as m
             join tenant as t on t.id = m.tenant
             where m.account = $1 and t.state not in ('deleted', 'purged')
             order by t.name, t.id",
            &[account.as_uuid()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Place {
                tenant: TenantId::from_uuid(row.get::<_, Uuid>(0)),
                slug: row.get(1),
                name: row.get(2),
                state: row
                    .get::<_, &str>(3)
                    .parse()
                    .map_err(|_| CatalogError::Unknown { column: "tenant.state" })?,
                role: role(row, 4)?,
                status: status(row, 5)?,
            })
        })
        .collect()
}

/// How many owners the tenant has besides this account who have shown up.
///
/// # Errors
/// When the catalog fails.
pub async fn count_other_owners(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<i64, CatalogError> {
    let row = db
        .query_one(
            "select count(*)
             from membership as m
             join account as a on a.id = m.account
             where m.tenant = $1 and m.account <> $2 and m.role = 'owner' and m.status = 'active'
                   and not m.awaited and a.active",
            &[tenant.as_uuid(), account.as_uuid()],
        )
        .await?;
    Ok(row.get(0))
}

/// Changes the role; says whether there is such a membership.
///
/// # Errors
/// When the catalog fails.
pub async fn set_role(db: &impl Db, tenant: TenantId, account: AccountId, role: Role) -> Result<bool, CatalogError> {
    let changed = db
        .execute(
            "update membership
             set role = $3, updated_at = now()
             where tenant = $1 and account = $2",
            &[tenant.as_uuid(), account.as_uuid(), &role.as_str()],
        )
        .await?;
    Ok(changed == 1)
}

/// Makes an invited membership active; says whether one was invited.
///
/// # Errors
/// When the catalog fails.
pub async fn accept(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<bool, CatalogError> {
    let changed = db
        .execute(
            "update membership
             set status = 'active', awaited = false, updated_at = now()
             where tenant = $1 and account = $2 and status = 'invited'",
            &[tenant.as_uuid(), account.as_uuid()],
        )
        .await?;
    Ok(changed == 1)
}

/// Notes that the person of an account has shown up, in this tenant or in all: what was active and awaited is shown as
/// active from now on.
///
/// # Errors
/// When the catalog fails.
pub async fn note_arrival(db: &impl Db, account: AccountId, tenant: Option<TenantId>) -> Result<(), CatalogError> {
    db.execute(
        "update membership
         set awaited = false
         where account = $1 and ($2::uuid is null or tenant = $2) and status = 'active' and awaited",
        &[account.as_uuid(), &tenant.map(|tenant| *tenant.as_uuid())],
    )
    .await?;
    Ok(())
}

/// Ends a membership; says whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn delete(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<bool, CatalogError> {
    let deleted = db
        .execute(
            "delete from membership where tenant = $1 and account = $2",
            &[tenant.as_uuid(), account.as_uuid()],
        )
        .await?;
    Ok(deleted == 1)
}

/// Ends every membership of a tenant that is being purged; gives the accounts that had one.
///
/// # Errors
/// When the catalog fails.
pub async fn delete_all(db: &impl Db, tenant: TenantId) -> Result<Vec<AccountId>, CatalogError> {
    let rows = db
        .query(
            "delete from membership where tenant = $1 returning account",
            &[tenant.as_uuid()],
        )
        .await?;
    Ok(rows.iter().map(|row| AccountId::from_uuid(row.get(0))).collect())
}

/// How many memberships a tenant has, those of who is invited included.
///
/// # Errors
/// When the catalog fails.
pub async fn count(db: &impl Db, tenant: TenantId) -> Result<i64, CatalogError> {
    let row = db
        .query_one("select count(*) from membership where tenant = $1", &[tenant.as_uuid()])
        .await?;
    Ok(row.get(0))
}
