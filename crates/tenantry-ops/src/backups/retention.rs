//! Which backups are kept.

use std::{collections::BTreeSet, time::Duration};

use chrono::{Datelike as _, NaiveDate};
use tenantry_catalog::backup::{self, Backup};
use tenantry_core::{OperatorScope, TenantId};
use uuid::Uuid;

use super::BackupError;
use crate::{Authority, Ops};

/// After this long, a backup that is still being written belongs to a process that has ended.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Which backups of a tenant are kept: the last ones, and the newest of each of the last days and weeks that have one. The newest of all
/// is always kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// How many of the last ones.
    pub last: usize,
    /// Of how many days.
    pub daily: usize,
    /// Of how many weeks.
    pub weekly: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            last: 3,
            daily: 7,
            weekly: 5,
        }
    }
}

impl Retention {
    /// Those that are not kept of a tenant's, which come newest first.
    fn surplus(self, backups: &[Backup]) -> Vec<Uuid> {
        let (mut days, mut weeks): (BTreeSet<NaiveDate>, BTreeSet<(i32, u32)>) = Default::default();
        let mut surplus = Vec::new();
        for (number, backup) in backups.iter().enumerate() {
            let day = backup.taken_at.date_naive();
            let week = (day.iso_week().year(), day.iso_week().week());
            let of_day = days.len() < self.daily && days.insert(day);
            let of_week = weeks.len() < self.weekly && weeks.insert(week);
            if !(number < self.last.max(1) || of_day || of_week) {
                surplus.push(backup.id);
            }
        }
        surplus
    }
}

impl Ops {
    /// Removes the backups that the retention keeps no more, of every tenant, and what failed ones left; not one that is being put in its
    /// tenant's place. How many it removed.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn remove_old_backups(&self, authority: &Authority) -> Result<usize, BackupError> {
        authority.require_operator(OperatorScope::Tenants)?;
        self.prune_backups(None).await
    }

    pub(super) async fn prune_backups(&self, tenant: Option<TenantId>) -> Result<usize, BackupError> {
        let (store, client) = (self.backup_store()?, self.catalog().client().await?);
        let mut backups = backup::list(&client, tenant).await?;
        backups.sort_by_key(|backup| backup.tenant);
        let mut gone = Vec::new();
        for of_one in backups.chunk_by(|a, b| a.tenant == b.tenant) {
            let surplus = self.fleet().backup_retention.surplus(of_one);
            gone.extend(surplus.into_iter().map(|id| (id, of_one[0].tenant)));
        }
        gone.extend(backup::list_abandoned(&client, ABANDONED).await?);
        drop(client);
        let mut removed = 0;
        for (id, tenant) in &gone {
            // Each time: to remove those before may have taken minutes.
            let client = self.catalog().client().await?;
            if backup::list_wanted(&client).await?.contains(id) {
                continue;
            }
            drop(client);
            // The object first: one that is forgotten before it is gone would stay for ever.
            store.remove(*tenant, *id).await?;
            let client = self.catalog().client().await?;
            backup::forget(&client, *id).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Duration as Span, TimeZone as _, Utc};

    use super::*;

    #[test]
    fn the_last_ones_and_one_a_day_and_a_week_are_kept() {
        let newest = Utc.with_ymd_and_hms(2026, 3, 29, 12, 0, 0).unwrap();
        // Four a day for forty days, the newest first.
        let backups: Vec<Backup> = (0..160)
            .map(|number| Backup {
                id: Uuid::from_u128(number),
                tenant: TenantId::from_uuid(Uuid::nil()),
                taken_at: newest - Span::hours(6 * number as i64),
                bytes: 0,
                rows: 0,
                digest: String::new(),
                drilled_at: None,
            })
            .collect();
        let kept = |retention: Retention| {
            let surplus = retention.surplus(&backups);
            let kept = backups.iter().filter(|backup| !surplus.contains(&backup.id));
            kept.map(|backup| (newest - backup.taken_at).num_hours() / 6)
                .collect::<Vec<_>>()
        };
        let of = |last, daily, weekly| Retention { last, daily, weekly };
        assert_eq!(kept(of(3, 0, 0)), [0, 1, 2]);
        assert_eq!(kept(of(0, 0, 0)), [0], "one is always kept");
        // At 12, 6 and 0 of the 29th, a Sunday; then at 18 of each day before.
        assert_eq!(kept(of(1, 4, 0)), [0, 3, 7, 11]);
        assert_eq!(kept(of(1, 0, 3)), [0, 27, 55]);
    }
}
