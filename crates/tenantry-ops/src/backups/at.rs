//! Which of a tenant's backups is meant.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use tenantry_catalog::backup::{self, Backup};
use tenantry_core::OperatorScope;
use uuid::Uuid;

use super::BackupError;
use crate::{Authority, Ops, Tenant, TenantRef};

/// One of a tenant's backups. As text: `latest`, an id, or a time as `2026-11-29T10:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupAt {
    /// The newest one.
    Latest,
    /// The newest one that is of this moment, or of an earlier one.
    Time(DateTime<Utc>),
    /// The one with this id.
    Id(Uuid),
}

/// A text that names no backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a backup is named by `latest`, by a time with its zone as 2026-11-29T10:00:00Z, or by its id")]
pub struct BackupAtError;

impl FromStr for BackupAt {
    type Err = BackupAtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        // With seconds and zone: a time that was rounded down on its way here would miss the backup that it was read from.
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| BackupAtError)?;
        Ok(Self::Time(time.to_utc()))
    }
}

impl Ops {
    /// The backup of a tenant that is meant. One of another tenant is not found.
    ///
    /// # Errors
    /// See [`BackupError`].
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn find_backup_at(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        at: BackupAt,
    ) -> Result<Backup, BackupError> {
        authority.require_operator(OperatorScope::Read)?;
        let tenant = self.get_tenant(authority, tenant).await?.id;
        let client = self.catalog().client().await?;
        let mut newest_first = backup::list(&client, Some(tenant)).await?.into_iter();
        match at {
            BackupAt::Latest => newest_first.next().ok_or(BackupError::None),
            BackupAt::Time(time) => newest_first
                .find(|backup| backup.taken_at <= time)
                .ok_or(BackupError::NoneBefore { time }),
            BackupAt::Id(id) => newest_first.find(|backup| backup.id == id).ok_or(BackupError::NotFound),
        }
    }

    /// Puts the rows of a tenant's own backup in the place of those that it has, as [`Ops::restore_backup_in_place`] does.
    ///
    /// # Errors
    /// See [`BackupError`]; the rows are then as they were, and the tenant is served as before.
    ///
    /// # Cancel safety
    /// Once begun it goes on by itself.
    pub async fn restore_tenant_in_place(
        &self,
        authority: &Authority,
        tenant: &TenantRef,
        at: BackupAt,
    ) -> Result<Tenant, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        let found = self.find_backup_at(authority, tenant, at).await?;
        self.restore_backup_in_place(authority, found.id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_by_latest_a_time_or_its_id() {
        assert_eq!("latest".parse::<BackupAt>(), Ok(BackupAt::Latest));
        let id = "01a227dd-8968-72b2-8274-340314d5afcc";
        assert_eq!(id.parse::<BackupAt>(), Ok(BackupAt::Id(id.parse().unwrap())));
        let time = "2026-11-29T10:00:00Z".parse::<DateTime<Utc>>().unwrap();
        for text in ["2026-11-29T10:00:00Z", "2026-11-29T12:00:00.000+02:00"] {
            assert_eq!(text.parse::<BackupAt>(), Ok(BackupAt::Time(time)), "{text}");
        }
        for text in [
            "",
            "newest",
            "2026-11-29",
            "2026-11-29 10:00",
            "2026-11-29T10:00:00",
            "7",
        ] {
            assert_eq!(text.parse::<BackupAt>(), Err(BackupAtError), "{text}");
        }
    }
}
