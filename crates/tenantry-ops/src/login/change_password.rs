//! A person's own password.

use secrecy::SecretString;
use tenantry_catalog::{
    account, change, login_budget,
    session::{self, SessionEnd},
};
use tenantry_core::Change;

use super::{AccountSession, LoginError, record_own};
use crate::{
    Ops, Origin,
    password::{Check, Password},
};

impl Ops {
    /// Replaces the person's own password; every other log-in of the account ends.
    ///
    /// # Errors
    /// [`LoginError::BadCredentials`] when the old password is wrong.
    pub async fn change_password(
        &self,
        who: AccountSession,
        old: &SecretString,
        new: &Password,
        origin: &Origin,
    ) -> Result<(), LoginError> {
        let client = self.catalog().client().await?;
        let account = account::get(&client, who.account).await?.ok_or(LoginError::Ended)?;
        let buckets = self.buckets(&account.email, origin);
        let window = self.identity().login_budget.window;
        if let Some(retry_after) = login_budget::spend(&client, &buckets, window).await? {
            return Err(LoginError::RateLimited { retry_after });
        }
        let login = account::find_login(&client, &account.email)
            .await?
            .ok_or(LoginError::Ended)?;
        drop(client);
        if self.check(old, Some(&login)).await? == Check::Wrong {
            return Err(LoginError::BadCredentials);
        }
        let hash = self.hasher().hash(Some(new)).await?;
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        login_budget::refund(&transaction, &buckets).await?;
        if !account::set_password(&transaction, who.account, &login.password_hash, &hash).await? {
            return Err(LoginError::BadCredentials);
        }
        session::end_all(&transaction, who.account, Some(who.session), SessionEnd::AccountChanged).await?;
        change::announce(&transaction, Change::Account(who.account)).await?;
        record_own(
            &transaction,
            who.account,
            "account.password",
            &who.account.to_string(),
            origin,
        )
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
