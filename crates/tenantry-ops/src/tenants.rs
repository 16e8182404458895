//! Tenants: create, list, read, change, suspend, resume, delete, purge.

use serde_json::{Value, json};
use tenantry_catalog::{
    CatalogError, Db, Transaction, change,
    operation::{self, NewOperation, Operation, OperationKind},
    plan_excess::{self, Whose},
    tenant::{self, Changed, Profile, SlugClash, Tenant, TenantFilter, TenantPatch},
};
use tenantry_core::{
    Change, Email, Isolation, OperationId, OperatorScope, PersonName, Plan, Slug, TenantId, TenantName, TenantState,
};

use crate::{
    Authority, Forbidden, MemberError, Ops, Password, Unfinished,
    audit::{self, Act},
    idempotency::KeyError,
    placing::PlaceError,
};

mod create;
mod legal_hold;
mod lifecycle;

pub use legal_hold::HOLD_REASON_LEN_MAX;

/// The most a tenant's settings may take, as JSON.
pub const SETTINGS_LEN_MAX: usize = 64 * 1024;

/// A tenant that shall be created.
#[derive(Clone, Debug)]
pub struct TenantRequest {
    /// Its label.
    pub slug: Slug,
    /// What people call it.
    pub name: TenantName,
    /// How its rows are kept apart; its plan decides if this is left out.
    pub isolation: Option<Isolation>,
    /// On the server of this name.
    pub server: Option<String>,
    /// In this region.
    pub region: Option<String>,
    /// The plan it pays for; `free` if left out.
    pub plan: Option<Plan>,
    /// Its settings, an object.
    pub settings: Option<Value>,
    /// How to reach it.
    pub profile: Profile,
    /// Its first owner.
    pub admin: Option<FirstOwner>,
}

impl TenantRequest {
    /// A tenant of which nothing but slug and name is said.
    pub fn new(slug: Slug, name: TenantName) -> Self {
        Self {
            slug,
            name,
            isolation: None,
            server: None,
            region: None,
            plan: None,
            settings: None,
            profile: Profile::default(),
            admin: None,
        }
    }
}

/// The first owner of a new tenant: active if the e-mail has no account yet, invited if it has one.
#[derive(Clone, Debug)]
pub struct FirstOwner {
    /// The log-in name.
    pub email: Email,
    /// What the person is called.
    pub name: Option<PersonName>,
    /// The first password.
    pub password: Option<Password>,
}

/// Names a tenant in a route or command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TenantRef {
    /// By its id.
    Id(TenantId),
    /// By its label; a purged tenant has none.
    Slug(String),
}

impl From<TenantId> for TenantRef {
    fn from(id: TenantId) -> Self {
        Self::Id(id)
    }
}

impl From<&Slug> for TenantRef {
    fn from(slug: &Slug) -> Self {
        Self::Slug(slug.as_str().to_owned())
    }
}

impl TenantRef {
    /// Reads an id or a slug.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Slug(text.to_owned()), Self::Id)
    }
}

/// Why a tenant was not shown, made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The authority does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant.
    #[error("there is no such tenant: `tenantry tenant list` shows those there are")]
    NotFound,
    /// Another tenant has the slug.
    #[error("another tenant has this slug: choose another one")]
    SlugTaken,
    /// Another tenant's slug looks the same to people.
    #[error("this slug is too easily confused with another tenant's: choose another one")]
    SlugLooksLike,
    /// The named server does not exist.
    #[error("there is no server of this name: `tenantry server list` shows those there are")]
    UnknownServer,
    /// No server stands in the named region, or the named server does not.
    #[error("there is no such server in this region: `tenantry server list` shows where each stands")]
    UnknownRegion,
    /// No server that fits takes another tenant.
    #[error("no server has room for this tenant: add a server, or raise a capacity")]
    NoRoom,
    /// The settings are no object, or too large.
    #[error("settings are a JSON object of at most {SETTINGS_LEN_MAX} bytes")]
    Settings,
    /// A field of the profile is too long.
    #[error("{field} has at most {len_max} characters, none of them control characters")]
    Profile {
        /// Which.
        field: &'static str,
        /// How many characters it may have.
        len_max: usize,
    },
    /// The tenant's state does not allow it.
    #[error("the tenant is {state}: {needs}")]
    State {
        /// The state it is in.
        state: TenantState,
        /// What it takes instead.
        needs: &'static str,
    },
    /// The reason of a legal hold has no usable form.
    #[error("the reason of a legal hold has 1 to {HOLD_REASON_LEN_MAX} characters, none of them control characters")]
    HoldReason,
    /// A legal hold keeps the tenant.
    #[error("a legal hold keeps the tenant ({reason}): end it first, if you may")]
    OnHold {
        /// Why.
        reason: String,
    },
    /// Another operation works on the tenant.
    #[error("the tenant's {kind} is still under way (operation {operation}): try again when it has ended")]
    Busy {
        /// Which.
        operation: OperationId,
        /// What it does.
        kind: OperationKind,
    },
    /// The idempotency key has no usable form.
    #[error("an idempotency key has 1 to 255 characters")]
    KeyMalformed,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The operation goes on, but takes longer than the caller waits.
    #[error("{0}")]
    StillRunning(Unfinished),
    /// The operation failed; what it had made is removed again.
    #[error("operation {operation} failed: {message}")]
    Failed {
        /// Which.
        operation: OperationId,
        /// Why, for programs.
        code: String,
        /// Why, for operators.
        message: String,
    },
    /// The first owner could not be prepared.
    #[error("the first owner can't be made: {0}")]
    Owner(#[source] MemberError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<KeyError> for TenantError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Malformed => Self::KeyMalformed,
            KeyError::Reused => Self::KeyReused,
            KeyError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl From<tokio_postgres::Error> for TenantError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<SlugClash> for TenantError {
    fn from(clash: SlugClash) -> Self {
        match clash {
            SlugClash::Taken => Self::SlugTaken,
            SlugClash::LooksLike => Self::SlugLooksLike,
        }
    }
}

impl From<PlaceError> for TenantError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::UnknownServer => Self::UnknownServer,
            PlaceError::UnknownRegion => Self::UnknownRegion,
            PlaceError::NoRoom => Self::NoRoom,
            PlaceError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl Ops {
    /// One tenant, by id or slug.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn get_tenant(&self, authority: &Authority, tenant: &TenantRef) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        find(&client, tenant).await
    }

    /// Up to `limit` tenants, newest first unless the filter says otherwise; purged ones only if it names that state.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn list_tenants(
        &self,
        authority: &Authority,
        filter: &TenantFilter,
        limit: i64,
    ) -> Result<Vec<Tenant>, TenantError> {
        authority.require_operator(OperatorScope::Read)?;
        let client = self.catalog().client().await?;
        Ok(tenant::list(&client, filter, limit).await?)
    }

    /// Changes what the patch names.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn update_tenant(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        patch: &TenantPatch,
    ) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        check_settings(patch.settings.as_ref())?;
        check_profile(
            patch.address.as_deref(),
            patch.phone.as_deref(),
            patch.website.as_deref(),
        )?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let before = find_locked(&transaction, tenant).await?;
        match tenant::update(&transaction, before.id, patch).await? {
            Changed::Yes => {}
            Changed::No => return Err(TenantError::NotFound),
            Changed::Clash(clash) => return Err(clash.into()),
        }
        let after = tenant::find(&transaction, before.id)
            .await?
            .ok_or(TenantError::NotFound)?;
        if after.plan != before.plan {
            plan_excess::settle(&transaction, Whose::Tenant(before.id)).await?;
        }
        change::announce(&transaction, Change::Tenant(before.id)).await?;
        let act = Act {
            action: "tenant.update",
            tenant: Some(before.id),
            target: before.id.to_string(),
            before: Some(shown(&before)),
            after: Some(shown(&after)),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(after)
    }
}

async fn find(db: &impl Db, tenant: &TenantRef) -> Result<Tenant, TenantError> {
    let found = match tenant {
        TenantRef::Id(id) => tenant::find(db, *id).await?,
        TenantRef::Slug(slug) => tenant::find_by_slug(db, slug).await?,
    };
    found.ok_or(TenantError::NotFound)
}

pub(crate) async fn find_locked(transaction: &Transaction<'_>, tenant: &TenantRef) -> Result<Tenant, TenantError> {
    let id = match tenant {
        TenantRef::Id(id) => *id,
        TenantRef::Slug(_) => find(transaction, tenant).await?.id,
    };
    tenant::lock(transaction, id).await?.ok_or(TenantError::NotFound)
}

/// What the audit log keeps of a tenant.
fn shown(tenant: &Tenant) -> Value {
    json!({
        "slug": tenant.slug, "name": tenant.name, "plan": tenant.plan, "state": tenant.state,
        "settings": tenant.settings, "address": tenant.profile.address, "phone": tenant.profile.phone,
        "website": tenant.profile.website,
    })
}

fn check_settings(settings: Option<&Value>) -> Result<(), TenantError> {
    match settings {
        None => Ok(()),
        // jsonb can't hold the character zero; PostgreSQL would refuse it with a sentence of its own.
        Some(Value::Object(_)) => {
            let text = settings.map(Value::to_string).unwrap_or_default();
            if text.len() > SETTINGS_LEN_MAX || text.contains("\\u0000") {
                Err(TenantError::Settings)
            } else {
                Ok(())
            }
        }
        Some(_) => Err(TenantError::Settings),
    }
}

fn check_profile(address: Option<&str>, phone: Option<&str>, website: Option<&str>) -> Result<(), TenantError> {
    for (field, text, len_max) in [
        ("address", address, 1000),
        ("phone", phone, 100),
        ("website", website, 500),
    ] {
        // An address has lines.
        let bad = |c: char| c.is_control() && c != '\n';
        if text.is_some_and(|text| text.chars().count() > len_max || text.chars().any(bad)) {
            return Err(TenantError::Profile { field, len_max });
        }
    }
    Ok(())
}
