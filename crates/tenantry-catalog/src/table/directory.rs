//! What the resolver needs to know about an account, a tenant or a key: one query each, made to be cached.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, ApiKeyId, Operator, OperatorKeyId, Role, SessionId, TenantId, TenantState};
use uuid::Uuid;

use super::operator_key::scopes;
use crate::{CatalogError, Db};

/// An account: whether it opens anything, what, and by which log-ins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Whether it opens anything at all.
    pub active: bool,
    /// Its memberships.
    pub memberships: Vec<Membership>,
    /// Its live log-ins, bounded by how many an account may have.
    pub sessions: Vec<SessionId>,
}

/// An account's place in a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// With which rights.
    pub role: Role,
    /// Whether it was accepted; opens nothing before.
    pub active: bool,
}

impl Account {
    /// The membership in this tenant.
    pub fn membership(&self, tenant: TenantId) -> Option<Membership> {
        self.memberships.iter().find(|place| place.tenant == tenant).copied()
    }

    /// The role in this tenant, if the membership opens it.
    pub fn active_role(&self, tenant: TenantId) -> Option<Role> {
        self.membership(tenant)
            .filter(|place| place.active)
            .map(|place| place.role)
    }
}

/// A tenant: whether it is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its label.
    pub slug: String,
    /// Its name, for public pages.
    pub name: String,
    /// Its state.
    pub state: TenantState,
}

/// An API key that is live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Where it acts.
    pub tenant: TenantId,
    /// With which rights.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An operator key that is live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperatorKey {
    /// The operator.
    pub operator: Operator,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

fn role(text: &str) -> Result<Role, CatalogError> {
    text.parse().map_err(|_| CatalogError::Unknown {
        column: "membership.role",
    })
}

/// An account by its id.
///
/// # Errors
/// When the catalog fails.
pub async fn account(db: &impl Db, id: AccountId) -> Result<Option<Account>, CatalogError> {
    let statement = "select a.active,
                    array(select m.tenant from membership as m where m.account = a.id order by m.tenant),
                    array(select m.role from membership as m where m.account = a.id order by m.tenant),
                    array(select m.status = 'active' from membership as m where m.account = a.id order by m.tenant),
                    array(select s.id from session as s
                          where s.account = a.id and s.ended_at is null and s.expires_at > now())
             from account as a
             where a.id = $1";
    let Some(row) = db.query_opt(statement, &[id.as_uuid()]).await? else {
        return Ok(None);
    };
    let tenants: Vec<Uuid> = row.get(1);
    let roles: Vec<&str> = row.get(2);
    let active: Vec<bool> = row.get(3);
    let memberships = tenants
        .into_iter()
        .zip(roles)
        .zip(active)
        .map(|((tenant, text), active)| {
            Ok(Membership {
                tenant: TenantId::from_uuid(tenant),
                role: role(text)?,
                active,
            })
        })
        .collect::<Result<_, CatalogError>>()?;
    let sessions: Vec<Uuid> = row.get(4);
    Ok(Some(Account {
        active: row.get(0),
        memberships,
        sessions: sessions.into_iter().map(SessionId::from_uuid).collect(),
    }))
}

/// The account with this e-mail.
///
/// # Errors
/// When the catalog fails.
pub async fn account_by_email(db: &impl Db, email: &str) -> Result<Option<AccountId>, CatalogError> {
    let statement = "select id from account where email = $1";
    let row = db.query_opt(statement, &[&email]).await?;
    Ok(row.map(|row| AccountId::from_uuid(row.get(0))))
}

fn tenant_from(row: &tokio_postgres::Row) -> Result<Tenant, CatalogError> {
    Ok(Tenant {
        id: TenantId::from_uuid(row.get(0)),
        slug: row.get(1),
        name: row.get(2),
        state: row
            .get::<_, &str>(3)
            .parse()
            .map_err(|_| CatalogError::Unknown { column: "tenant.state" })?,
    })
}

/// A tenant by its id.
///
/// # Errors
/// When the catalog fails.
pub async fn tenant(db: &impl Db, id: TenantId) -> Result<Option<Tenant>, CatalogError> {
    let statement = "select id, slug, name, state from tenant where id = $1";
    let row = db.query_opt(statement, &[id.as_uuid()]).await?;
    row.as_ref().map(tenant_from).transpose()
}

/// A tenant by its slug, unless it is purged: then the slug is free.
///
/// # Errors
/// When the catalog fails.
pub async fn tenant_by_slug(db: &impl Db, slug: &str) -> Result<Option<Tenant>, CatalogError> {
    let statement = "select id, slug, name, state from tenant where slug = $1 and state <> 'purged'";
    let row = db.query_opt(statement, &[&slug]).await?;
    row.as_ref().map(tenant_from).transpose()
}

/// An API key by the hash of its text, and its tenant, which whoever shows it asks for next.
///
/// # Errors
/// When the catalog fails.
pub async fn api_key(db: &impl Db, hash: &[u8; 32]) -> Result<Option<(ApiKey, Tenant)>, CatalogError> {
    let statement = "select t.id, t.slug, t.name, t.state, k.id, k.role, k.expires_at
             from api_key as k join tenant as t on t.id = k.tenant
             where k.hash = $1 and (k.expires_at is null or k.expires_at > now())";
    let Some(row) = db.query_opt(statement, &[&hash.as_slice()]).await? else {
        return Ok(None);
    };
    let tenant = tenant_from(&row)?;
    let key = ApiKey {
        id: ApiKeyId::from_uuid(row.get(4)),
        tenant: tenant.id,
        role: role(row.get(5))?,
        expires_at: row.get(6),
    };
    Ok(Some((key, tenant)))
}

/// An operator key by the hash of its text.
///
/// # Errors
/// When the catalog fails.
pub async fn operator_key(db: &impl Db, hash: &[u8; 32]) -> Result<Option<OperatorKey>, CatalogError> {
    let statement = "select id, name, scopes, expires_at
             from operator_key
             where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())";
    let row = db.query_opt(statement, &[&hash.as_slice()]).await?;
    Ok(row.map(|row| OperatorKey {
        operator: Operator {
            key: OperatorKeyId::from_uuid(row.get(0)),
            name: row.get(1),
            scopes: scopes(&row, 2),
        },
        expires_at: row.get(3),
    }))
}
