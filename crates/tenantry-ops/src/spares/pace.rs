//! When a process looks at the spare schemas of a database: that costs a log-in, and where no tenant came, none is missing.

use std::{
    collections::HashMap,
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
pub(super) struct Pace(HashMap<TenantDatabaseId, Seen>);

struct Seen {
    /// The schema of the tenant that came last.
    last_tenant: Option<String>,
    restless_until: Instant,
    looked: Instant,
}

impl Pace {
    /// Whether to look now; it is taken for done then.
    pub(super) fn is_due(&mut self, database: TenantDatabaseId, last_tenant: Option<&str>, now: Instant) -> bool {
        let Some(seen) = self.0.get_mut(&database) else {
            let seen = Seen {
                last_tenant: last_tenant.map(str::to_owned),
                restless_until: now + RESTLESS,
                looked: now,
            };
            self.0.insert(database, seen);
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
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_database_in_which_nothing_happens_is_looked_at_now_and_then() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let database = TenantDatabaseId::from_uuid(Uuid::nil());
        let looks = |pace: &mut Pace, tenant: Option<&str>, seconds: std::ops::Range<u64>| {
            let mut looks = 0;
            for second in seconds {
                looks += usize::from(pace.is_due(database, tenant, begun + Duration::from_secs(second)));
            }
            looks
        };
        // A tenant may have been on its way when the process began.
        assert_eq!(looks(&mut pace, None, 0..10), 10);
        assert_eq!(looks(&mut pace, None, 10..130), 4);
        // One comes, and takes its spare a little later.
        assert_eq!(looks(&mut pace, Some("t_1"), 130..140), 10);
        assert_eq!(looks(&mut pace, Some("t_1"), 140..170), 1);
    }
}
