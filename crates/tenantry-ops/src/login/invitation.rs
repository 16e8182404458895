//! Accepting an invitation.

use serde_json::json;
use tenantry_catalog::{
    Db, account, change,
    membership::{self, Place},
    session,
};
use tenantry_core::{AccountId, Actor, Change, Context, MembershipStatus, TenantId};

use super::{AccountSession, LoginError, place::find};
use crate::{
    Authority, Ops, Origin,
    audit::{self, Act},
};

impl Ops {
    /// Accepts an invitation: the membership is active from now on.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn accept(&self, who: AccountSession, tenant: &str, origin: &Origin) -> Result<Place, LoginError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if session::lock_live(&transaction, who.session, who.account)
            .await?
            .is_none()
        {
            return Err(LoginError::Ended);
        }
        let place = accept_in(&transaction, who.account, tenant, None, origin).await?;
        transaction.commit().await?;
        Ok(place)
    }

    /// Accepts an invitation for a person whose log-in is at another issuer. Where that issuer's token names a tenant,
    /// it speaks `only_in` that one: a customer's own provider must not act for its people elsewhere.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn accept_from_outside(
        &self,
        account: AccountId,
        only_in: Option<TenantId>,
        tenant: &str,
        origin: &Origin,
    ) -> Result<Place, LoginError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        let account = account::get(&transaction, account)
            .await?
            .filter(|account| account.active)
            .ok_or(LoginError::Ended)?;
        let place = accept_in(&transaction, account.id, tenant, only_in, origin).await?;
        transaction.commit().await?;
        Ok(place)
    }
}

/// Makes an invited membership active, and writes it down.
async fn accept_in(
    db: &impl Db,
    account: AccountId,
    tenant: &str,
    only_in: Option<TenantId>,
    origin: &Origin,
) -> Result<Place, LoginError> {
    let memberships = membership::of_account(db, account).await?;
    let place = find(&memberships, tenant)
        .filter(|place| only_in.is_none_or(|tenant| tenant == place.tenant))
        .ok_or(LoginError::NotInvited)?
        .clone();
    if !membership::accept(db, place.tenant, account).await? {
        return Err(LoginError::NotInvited);
    }
    change::announce(db, Change::Account(account)).await?;
    let authority = Authority::Member {
        context: Context {
            tenant: place.tenant,
            actor: Actor::Account(account),
            role: place.role,
        },
        origin: origin.clone(),
    };
    let act = Act {
        action: "member.accept",
        tenant: Some(place.tenant),
        target: account.to_string(),
        before: None,
        after: Some(json!({ "role": place.role })),
    };
    audit::record(db, &authority, act).await?;
    Ok(Place {
        status: MembershipStatus::Active,
        ..place
    })
}
