//! The users of a tenant.

use serde_json::json;
use tenantry_catalog::{
    CatalogError, Db, account, change,
    membership::{self, Member, MemberFilter, NewMembership},
    plan_limit, tenant,
};
use tenantry_core::{
    AccountId, Actor, Change, Email, MembershipStatus, OperatorScope, PersonName, Role, TenantId, TenantState,
};

use crate::{
    Authority, Forbidden, Ops, TenantRef,
    audit::{self, Act},
    idempotency::{KeyError, Keyed},
    password::{Busy, Password},
    secret,
};

/// A person who shall become a member.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The log-in name.
    pub email: Email,
    /// What the person is called; ignored if the e-mail has an account.
    pub name: Option<PersonName>,
    /// The first password; ignored if the e-mail has an account.
    pub password: Option<Password>,
    /// What the member may do.
    pub role: Role,
}

/// The first owner of a tenant that is being created; see [`Ops::prepare_owner`].
#[derive(Clone, Debug)]
pub struct PreparedOwner {
    email: Email,
    name: Option<PersonName>,
    password_hash: String,
}

/// Why members were not shown or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The authority does not allow it: too low a role, or a role handed out above the own one.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such tenant or member that the authority may know of.
    #[error(
        "there is no such tenant or member: `tenantry tenant list` and `tenantry member list` show those there are"
    )]
    NotFound,
    /// The person has a membership already.
    #[error("this person is a member already")]
    AlreadyMember,
    /// The tenant would be left without an owner.
    #[error("a tenant keeps at least one owner: make another member an owner first, who has accepted or logged in")]
    LastOwner,
    /// The tenant has as many members as its plan gives.
    #[error("the tenant's plan gives {quota} members: remove one, or ask for a larger plan")]
    PlanLimit {
        /// How many that is.
        quota: u32,
        /// How many it has.
        used: u32,
    },
    /// Too many passwords are being hashed.
    #[error("too many requests that set passwords at once")]
    Busy,
    /// The idempotency key has no usable form.
    #[error("an idempotency key has 1 to 255 characters")]
    KeyMalformed,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<KeyError> for MemberError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Malformed => Self::KeyMalformed,
            KeyError::Reused => Self::KeyReused,
            KeyError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl From<Busy> for MemberError {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

impl From<tokio_postgres::Error> for MemberError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Ops {
    /// Makes a person a member: at once if the e-mail had no account, else by an invitation that the person accepts.
    ///
    /// The answer is the same in both cases, and takes as long: nobody learns which e-mails have accounts.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn add_member(
        &self,
        authority: &Authority,
        tenant: TenantId,
        new: &NewMember,
    ) -> Result<Member, MemberError> {
        self.add_member_once(authority, tenant, new, None).await
    }

    /// The same. With an idempotency key, the same request again is the same request: it answers with the member that the
    /// first one made.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn add_member_once(
        &self,
        authority: &Authority,
        tenant: TenantId,
        new: &NewMember,
        idempotency_key: Option<&str>,
    ) -> Result<Member, MemberError> {
        let sameness = json!(["member.add", tenant, new.email, new.name, new.role]);
        let keyed = Keyed::new(authority, idempotency_key, &sameness)?;
        let acting = acting_role(authority, tenant)?;
        if !acting.may_manage(new.role) {
            return Err(Forbidden.into());
        }
        // Hashed before it is known whether it is needed, and outside of the transaction: it takes tens of milliseconds.
        let password_hash = self.hasher().hash(new.password.as_ref()).await?;
        let owner = PreparedOwner {
            email: new.email.clone(),
            name: new.name.clone(),
            password_hash,
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        lock_live_tenant(&transaction, tenant).await?;
        recheck(&transaction, authority, tenant, new.role).await?;
        if keyed.claim(&transaction).await?.is_some() {
            let account = account::find(&transaction, new.email.as_str()).await?;
            return get(&transaction, tenant, account.ok_or(MemberError::NotFound)?.id).await;
        }
        let (account, added) = join(&transaction, tenant, &owner, new.role, true).await?;
        if !added {
            return Err(MemberError::AlreadyMember);
        }
        // Members are locked: nobody else counts meanwhile.
        if let Some(quota) = plan_limit::of_tenant(&transaction, tenant).await?.members {
            let members = u32::try_from(membership::count(&transaction, tenant).await?).unwrap_or(u32::MAX);
            if members > quota.get() {
                return Err(MemberError::PlanLimit {
                    quota: quota.get(),
                    used: members - 1,
                });
            }
        }
        let member = get(&transaction, tenant, account).await?;
        keyed.record(&transaction, tenant, None).await?;
        change::announce(&transaction, Change::Account(account)).await?;
        let act = Act {
            action: "member.add",
            tenant: Some(tenant),
            target: account.to_string(),
            before: None,
            after: Some(json!({ "email": member.email, "role": member.role })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(member)
    }

    /// The id of a tenant whose members or keys are asked for: operators may name any, a member only the own.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn find_tenant_id(&self, authority: &Authority, tenant: &TenantRef) -> Result<TenantId, MemberError> {
        let slug = match tenant {
            TenantRef::Id(id) => return Ok(*id),
            TenantRef::Slug(slug) => slug,
        };
        let client = self.catalog().client().await?;
        let found = tenant::find_by_slug(&client, slug).await?.map(|tenant| tenant.id);
        match authority {
            Authority::Member { context, .. } => found.filter(|id| *id == context.tenant),
            Authority::Operator { .. } | Authority::System { .. } => {
                may_read_members(authority)?;
                found
            }
        }
        .ok_or(MemberError::NotFound)
    }

    /// The members of a tenant, newest first, at most `limit`.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn list_members(
        &self,
        authority: &Authority,
        tenant: TenantId,
        filter: &MemberFilter<'_>,
        limit: i64,
    ) -> Result<Vec<Member>, MemberError> {
        may_read(authority, tenant)?;
        let client = self.catalog().client().await?;
        let members = membership::list(&client, tenant, filter, limit).await?;
        if members.is_empty() && tenantry_catalog::directory::tenant(&client, tenant).await?.is_none() {
            return Err(MemberError::NotFound);
        }
        Ok(members)
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn set_member_role(
        &self,
        authority: &Authority,
        tenant: TenantId,
        account: AccountId,
        role: Role,
    ) -> Result<Member, MemberError> {
        let acting = acting_role(authority, tenant)?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        lock_live_tenant(&transaction, tenant).await?;
        let before = membership::get(&transaction, tenant, account)
            .await?
            .ok_or(MemberError::NotFound)?;
        if !(acting.may_manage(before.role) && acting.may_manage(role)) {
            return Err(Forbidden.into());
        }
        if before.role == Role::Owner && role != Role::Owner {
            keep_an_owner(&transaction, tenant, account, before).await?;
        }
        recheck(&transaction, authority, tenant, before.role.max(role)).await?;
        membership::set_role(&transaction, tenant, account, role).await?;
        let member = get(&transaction, tenant, account).await?;
        change::announce(&transaction, Change::Account(account)).await?;
        let act = Act {
            action: "member.set-role",
            tenant: Some(tenant),
            target: account.to_string(),
            before: Some(json!({ "role": before.role })),
            after: Some(json!({ "role": role })),
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(member)
    }

    /// Ends a membership. A member may end the own one, whatever its role.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn remove_member(
        &self,
        authority: &Authority,
        tenant: TenantId,
        account: AccountId,
    ) -> Result<(), MemberError> {
        let leaving = acting_account(authority) == Some(account);
        let acting = if leaving {
            authority
                .role_in(tenant, OperatorScope::Members)
                .map_err(|_| MemberError::NotFound)?
        } else {
            acting_role(authority, tenant)?
        };
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        lock_live_tenant(&transaction, tenant).await?;
        let before = membership::get(&transaction, tenant, account)
            .await?
            .ok_or(MemberError::NotFound)?;
        if !leaving && !acting.may_manage(before.role) {
            return Err(Forbidden.into());
        }
        if before.role == Role::Owner {
            keep_an_owner(&transaction, tenant, account, before).await?;
        }
        if !leaving {
            recheck(&transaction, authority, tenant, before.role).await?;
        }
        membership::delete(&transaction, tenant, account).await?;
        change::announce(&transaction, Change::Account(account)).await?;
        let act = Act {
            action: "member.remove",
            tenant: Some(tenant),
            target: account.to_string(),
            before: Some(json!({ "role": before.role })),
            after: None,
        };
        audit::record(&transaction, authority, act).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Hashes the password of a new tenant's first owner, before the transaction that creates the tenant.
    ///
    /// # Errors
    /// [`MemberError::Busy`] when too many passwords are being hashed.
    pub async fn prepare_owner(
        &self,
        email: Email,
        name: Option<PersonName>,
        password: Option<&Password>,
    ) -> Result<PreparedOwner, MemberError> {
        let password_hash = self.hasher().hash(password).await?;
        Ok(PreparedOwner {
            email,
            name,
            password_hash,
        })
    }
}

/// Makes the first owner of a tenant, in the transaction that creates it: active if the account is new, invited if not.
/// Doing it twice changes nothing.
///
/// # Errors
/// When the catalog fails.
pub async fn add_first_owner(db: &impl Db, tenant: TenantId, owner: &PreparedOwner) -> Result<AccountId, CatalogError> {
    let (account, _) = join(db, tenant, owner, Role::Owner, false).await?;
    change::announce(db, Change::Account(account)).await?;
    Ok(account)
}

/// Finds or makes the account and its membership; says whether the membership was made.
///
/// `awaited` shows an active membership of a new account as invited until its person logs in.
async fn join(
    db: &impl Db,
    tenant: TenantId,
    person: &PreparedOwner,
    role: Role,
    awaited: bool,
) -> Result<(AccountId, bool), CatalogError> {
    let name = person.name.as_ref().map_or("", PersonName::as_str);
    let new_id = secret::account_id();
    let is_new = account::insert(db, new_id, person.email.as_str(), name, &person.password_hash).await?;
    let account = match account::find(db, person.email.as_str()).await? {
        Some(account) => account.id,
        None => {
            return Err(CatalogError::Unknown {
                column: "account.email",
            });
        }
    };
    let membership = NewMembership {
        tenant,
        account,
        role,
        status: if is_new {
            MembershipStatus::Active
        } else {
            MembershipStatus::Invited
        },
        awaited: awaited || !is_new,
        invited_name: name,
    };
    let added = membership::insert(db, &membership).await?;
    Ok((account, added))
}

/// The role with which the authority manages this tenant's members. Another tenant's member learns nothing of it.
pub(crate) fn acting_role(authority: &Authority, tenant: TenantId) -> Result<Role, MemberError> {
    let role = match (authority, authority.role_in(tenant, OperatorScope::Members)) {
        (Authority::Member { .. }, Err(Forbidden)) => return Err(MemberError::NotFound),
        (_, role) => role?,
    };
    if role.may_manage_members() {
        Ok(role)
    } else {
        Err(Forbidden.into())
    }
}

pub(crate) fn may_read(authority: &Authority, tenant: TenantId) -> Result<(), MemberError> {
    match authority {
        Authority::Member { .. } => acting_role(authority, tenant).map(|_| ()),
        Authority::Operator { .. } | Authority::System { .. } => Ok(may_read_members(authority)?),
    }
}

fn may_read_members(authority: &Authority) -> Result<(), Forbidden> {
    authority
        .require_operator(OperatorScope::Read)
        .or_else(|Forbidden| authority.require_operator(OperatorScope::Members))
}

fn acting_account(authority: &Authority) -> Option<AccountId> {
    match authority {
        Authority::Member { context, .. } => context.account(),
        Authority::Operator { .. } | Authority::System { .. } => None,
    }
}

/// Checks once more, with the members locked, that the acting member may manage `role`: the context can be a second old.
pub(crate) async fn recheck(
    db: &impl Db,
    authority: &Authority,
    tenant: TenantId,
    role: Role,
) -> Result<(), MemberError> {
    let Authority::Member { context, .. } = authority else {
        return Ok(());
    };
    let Actor::Account(actor) = context.actor else {
        return Ok(());
    };
    let acting = membership::get(db, tenant, actor).await?;
    let allowed = acting.is_some_and(|acting| {
        acting.status == MembershipStatus::Active && acting.role.min(context.role).may_manage(role)
    });
    if allowed { Ok(()) } else { Err(Forbidden.into()) }
}

async fn lock_live_tenant(db: &impl Db, tenant: TenantId) -> Result<(), MemberError> {
    match membership::lock_tenant(db, tenant).await? {
        None | Some(TenantState::Deleted | TenantState::Purged) => Err(MemberError::NotFound),
        Some(TenantState::Provisioning | TenantState::Active | TenantState::Suspended) => Ok(()),
    }
}

/// An owner who has not shown up yet does not keep a tenant: the person may never come. It makes no difference whether the
/// account was there before the invitation, or the answer would tell.
async fn keep_an_owner(
    db: &impl Db,
    tenant: TenantId,
    account: AccountId,
    before: membership::Stored,
) -> Result<(), MemberError> {
    if !before.awaited && membership::count_other_owners(db, tenant, account).await? == 0 {
        return Err(MemberError::LastOwner);
    }
    Ok(())
}

async fn get(db: &impl Db, tenant: TenantId, account: AccountId) -> Result<Member, MemberError> {
    membership::get_member(db, tenant, account)
        .await?
        .ok_or(MemberError::NotFound)
}
