//! When a process looks at the spare schemas of a database: that costs a log-in, and where no tenant came, none is missing.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tenantry_core::TenantDatabaseId;

/// How often it looks where nothing seems to have happened: another process may have died over its work, and what is there may be
/// older than this process's migrations.
const IDLE: Duration = Duration::from_secs(30);
/// For how long it goes on looking each time when a tenant has come: it takes its spare some time after it was recorded.
const RESTLESS: Duration = Duration::from_secs(10);

/// What this process saw of each database.
#[derive(Default)]
pub(super) struct Pace {
    seen: HashMap<TenantDatabaseId, Seen>,
    /// Those in which none is wanted, and none is.
    empty: HashSet<TenantDatabaseId>,
}

struct Seen {
    /// The schema of the tenant that came last.
    last_tenant: Option<String>,
    restless_until: Instant,
    looked: Instant,
}

impl Pace {
    /// Whether to look now; it is taken for done then.
    pub(super) fn is_due(&mut self, database: TenantDatabaseId, last_tenant: Option<&str>, now: Instant) -> bool {
        let Some(seen) = self.seen.get_mut(&database) else {
            let seen = Seen {
                last_tenant: last_tenant.map(str::to_owned),
                restless_until: now + RESTLESS,
                looked: now,
            };
            self.seen.insert(database, seen);
            return true;
        };
        if seen.last_tenant.as_deref() != last_tenant {
            seen.last_tenant = last_tenant.map(str::to_owned);
            seen.restless_until = now + RESTLESS;
        }
        let is_due = now < seen.restless_until || now >= seen.looked + IDLE;
        if is_due {
            seen.looked = now;
        }
        is_due
    }

    /// Looks again soon: there is more to do than was done.
    pub(super) fn go_on(&mut self, database: TenantDatabaseId, now: Instant) {
        if let Some(seen) = self.seen.get_mut(&database) {
            seen.restless_until = now + RESTLESS;
        }
    }

    /// None is wanted there, and none is: nobody makes one unless this process does.
    pub(super) fn settle(&mut self, database: TenantDatabaseId) {
        self.empty.insert(database);
    }

    /// Whether there is nothing to look after.
    pub(super) fn is_settled(&self, database: TenantDatabaseId) -> bool {
        self.empty.contains(&database)
    }

    /// Some are wanted there.
    pub(super) fn unsettle(&mut self, database: TenantDatabaseId) {
        self.empty.remove(&database);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn looks(pace: &mut Pace, begun: Instant, tenant: Option<&str>, seconds: std::ops::Range<u64>) -> usize {
        let database = TenantDatabaseId::from_uuid(Uuid::nil());
        seconds
            .filter(|second| pace.is_due(database, tenant, begun + Duration::from_secs(*second)))
            .count()
    }

    #[test]
    fn a_database_in_which_nothing_happens_is_looked_at_now_and_then() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        // A tenant may have been on its way when the process began.
        assert_eq!(looks(&mut pace, begun, None, 0..10), 10);
        assert_eq!(looks(&mut pace, begun, None, 10..130), 4);
        // One comes, and takes its spare a little later.
        assert_eq!(looks(&mut pace, begun, Some("t_1"), 130..140), 10);
        assert_eq!(looks(&mut pace, begun, Some("t_1"), 140..170), 1);
    }

    #[test]
    fn what_was_not_done_at_once_is_gone_on_with() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        assert_eq!(looks(&mut pace, begun, None, 0..20), 10);
        let database = TenantDatabaseId::from_uuid(Uuid::nil());
        pace.go_on(database, begun + Duration::from_secs(20));
        assert_eq!(looks(&mut pace, begun, None, 20..30), 10);
        assert!(!pace.is_settled(database));
        pace.settle(database);
        assert!(pace.is_settled(database));
        pace.unsettle(database);
        assert!(!pace.is_settled(database));
    }
}
