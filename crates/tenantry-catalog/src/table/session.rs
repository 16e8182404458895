//! Log-ins and their refresh tokens.

use chrono::{DateTime, Utc};
use tenantry_core::{AccountId, SessionId, TenantId};
use uuid::Uuid;

use crate::{CatalogError, Db};

/// Why a log-in ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionEnd {
    /// Its person logged out.
    Logout,
    /// A refresh token was used a second time: one of the two users is a thief.
    RefreshReused,
    /// The account has logged in elsewhere too often.
    TooMany,
    /// The password was changed, or the account switched off.
    AccountChanged,
}

impl SessionEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshReused => "refresh-reused",
            Self::TooMany => "too-many",
            Self::AccountChanged => "account-changed",
        }
    }
}

/// A new log-in.
#[derive(Clone, Debug)]
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// The tenant that its access tokens name.
    pub tenant: Option<TenantId>,
    /// From where.
    pub origin: &'a str,
    /// Its end, however often it is refreshed.
    pub expires_at: DateTime<Utc>,
}

/// A refresh token together with its log-in.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The log-in.
    pub session: SessionId,
    /// Whose.
    pub account: AccountId,
    /// Whether the account opens anything at all.
    pub account_active: bool,
    /// The tenant that the log-in's access tokens name.
    pub tenant: Option<TenantId>,
    /// Whether the log-in was ended or has expired.
    pub ended: bool,
    /// Whether the token was used before.
    pub used: bool,
    /// Whether the token is too old.
    pub expired: bool,
    /// The log-in's end.
    pub expires_at: DateTime<Utc>,
}

/// Begins a log-in.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewSession<'_>) -> Result<(), CatalogError> {
    db.execute(
        "insert into session (id, account, tenant, origin, expires_at)
         values ($1, $2, $3, $4, $5)",
        &[
            new.id.as_uuid(),
            new.account.as_uuid(),
            &new.tenant.map(|tenant| *tenant.as_uuid()),
            &new.origin,
            &new.expires_at,
        ],
    )
    .await?;
    Ok(())
}

/// Ends the oldest log-ins of an account, so that `keep` are left.
///
/// # Errors
/// When the catalog fails.
pub async fn end_oldest(db: &impl Db, account: AccountId, keep: i64) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "update session
             set ended_at = now(), ended_because = $3
             where id in (
                 select id from session
                 where account = $1 and ended_at is null
                 order by created_at desc, id desc
                 offset $2
             )",
            &[account.as_uuid(), &keep, &SessionEnd::TooMany.as_str()],
        )
        .await?)
}

/// Ends a log-in; says whether it was live.
///
/// # Errors
/// When the catalog fails.
pub async fn end(db: &impl Db, id: SessionId, because: SessionEnd) -> Result<bool, CatalogError> {
    let ended = db
        .execute(
            "update session
             set ended_at = now(), ended_because = $2
             where id = $1 and ended_at is null",
            &[id.as_uuid(), &because.as_str()],
        )
        .await?;
    Ok(ended == 1)
}

/// Ends every log-in of an account but one.
///
/// # Errors
/// When the catalog fails.
pub async fn end_all(
    db: &impl Db,
    account: AccountId,
    but: Option<SessionId>,
    because: SessionEnd,
) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "update session
             set ended_at = now(), ended_because = $3
             where account = $1 and id is distinct from $2 and ended_at is null",
            &[
                account.as_uuid(),
                &but.map(|session| *session.as_uuid()),
                &because.as_str(),
            ],
        )
        .await?)
}

/// A live log-in of the account, locked until the transaction ends: the tenant that it names and its end.
///
/// # Errors
/// When the catalog fails.
pub async fn lock_live(
    db: &impl Db,
    id: SessionId,
    account: AccountId,
) -> Result<Option<(Option<TenantId>, DateTime<Utc>)>, CatalogError> {
    let row = db
        .query_opt(
            "select s.tenant, s.expires_at
             from session as s
             join account as a on a.id = s.account
             where s.id = $1 and s.account = $2 and s.ended_at is null and s.expires_at > now() and a.active
             for no key update of s",
            &[id.as_uuid(), account.as_uuid()],
        )
        .await?;
    Ok(row.map(|row| (row.get::<_, Option<Uuid>>(0).map(TenantId::from_uuid), row.get(1))))
}

/// Sets the tenant that the log-in's access tokens name.
///
/// # Errors
/// When the catalog fails.
pub async fn set_tenant(db: &impl Db, id: SessionId, tenant: Option<TenantId>) -> Result<(), CatalogError> {
    db.execute(
        "update session set tenant = $2 where id = $1",
        &[id.as_uuid(), &tenant.map(|tenant| *tenant.as_uuid())],
    )
    .await?;
    Ok(())
}

/// Stores the hash of a new refresh token.
///
/// # Errors
/// When the catalog fails.
pub async fn insert_refresh(
    db: &impl Db,
    session: SessionId,
    hash: &[u8; 32],
    expires_at: DateTime<Utc>,
) -> Result<(), CatalogError> {
    db.execute(
        "insert into refresh_token (hash, session, expires_at)
         values ($1, $2, $3)",
        &[&hash.as_slice(), session.as_uuid(), &expires_at],
    )
    .await?;
    Ok(())
}

/// The refresh token with this hash. Its log-in is locked until the transaction ends, so that of two uses at once the
/// second sees the first.
///
/// # Errors
/// When the catalog fails.
pub async fn lock_refresh(db: &impl Db, hash: &[u8; 32]) -> Result<Option<Refresh>, CatalogError> {
    let locked = db
        .query_opt(
            "select s.id
             from refresh_token as r
             join session as s on s.id = r.session
             where r.hash = $1
             for no key update of s",
            &[&hash.as_slice()],
        )
        .await?;
    if locked.is_none() {
        return Ok(None);
    }
    // A statement of its own: its snapshot is taken after the lock, so it sees the first use.
    let row = db
        .query_opt(
            "select s.id, s.account, a.active, s.tenant,
                    s.ended_at is not null or s.expires_at <= now(),
                    r.used_at is not null, r.expires_at <= now(), s.expires_at
             from refresh_token as r
             join session as s on s.id = r.session
             join account as a on a.id = s.account
             where r.hash = $1",
            &[&hash.as_slice()],
        )
        .await?;
    Ok(row.map(|row| Refresh {
        session: SessionId::from_uuid(row.get(0)),
        account: AccountId::from_uuid(row.get(1)),
        account_active: row.get(2),
        tenant: row.get::<_, Option<Uuid>>(3).map(TenantId::from_uuid),
        ended: row.get(4),
        used: row.get(5),
        expired: row.get(6),
        expires_at: row.get(7),
    }))
}

/// Marks every refresh token of a log-in as used: a new one takes their place.
///
/// # Errors
/// When the catalog fails.
pub async fn use_up_refresh(db: &impl Db, session: SessionId) -> Result<(), CatalogError> {
    db.execute(
        "update refresh_token
         set used_at = now()
         where session = $1 and used_at is null",
        &[session.as_uuid()],
    )
    .await?;
    Ok(())
}

/// Removes log-ins that ended or expired more than a day ago, with their refresh tokens.
///
/// # Errors
/// When the catalog fails.
pub async fn prune(db: &impl Db) -> Result<u64, CatalogError> {
    Ok(db
        .execute(
            "delete from session
             where least(ended_at, expires_at) < now() - interval '1 day'",
            &[],
        )
        .await?)
}
