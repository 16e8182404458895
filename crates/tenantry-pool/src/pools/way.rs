//! A call's way to a connection: where its tenant lives, and what stands in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::TenantDatabaseId;

use super::{Caller, Pools};
use crate::{
    Error,
    database::DatabasePool,
    member::Lease,
    placements::{Entered, Located},
};

/// How long a call waits before it tries a refused password, or what has taken its place by then, once more.
const PASSWORD_WAIT: Duration = Duration::from_millis(200);
/// How often a call asks anew because the way to its database changed while it waited.
const READDRESSED_MAX: u32 = 8;

/// What a caller has been through while it asked for a connection.
#[derive(Default)]
pub(crate) struct Refresh {
    done: bool,
    readdressed: u32,
}

impl Refresh {
    /// Whether the source may know another way after this failure to get a connection. It is asked once, but for a way that changed.
    fn is_worth_it(&mut self, error: &Error) -> bool {
        let readdressed = matches!(error, Error::Readdressed);
        if !readdressed && !error.is_about_the_way_in() {
            return false;
        }
        if std::mem::replace(&mut self.done, true) && !readdressed || self.readdressed > READDRESSED_MAX {
            return false;
        }
        self.readdressed += u32::from(readdressed);
        true
    }
}

/// One of many asks; the others find what it found.
fn asks(error: &Error, pool: &DatabasePool) -> bool {
    matches!(error, Error::Readdressed) || pool.may_refresh()
}

/// `Ok` when the source has named another way.
async fn other_way(error: Error, before: &Arc<DatabasePool>, now: &Arc<DatabasePool>) -> Result<(), Error> {
    if !Arc::ptr_eq(now, before) {
        return Ok(());
    }
    // A new password is written to the catalog and told to the server one after the other: this may be in between.
    if error.database().is_some_and(|error| error.code() == "28P01") {
        tokio::time::sleep(PASSWORD_WAIT).await;
        return Ok(());
    }
    Err(error)
}

impl Pools {
    pub(crate) fn remembered(&self, caller: &Caller) -> Option<Arc<Located>> {
        self.shared.placements.remembered(caller, Instant::now())
    }

    /// Where the caller's tenant lives.
    pub(crate) async fn locate(&self, caller: &Caller) -> Result<Arc<Located>, Error> {
        match self.shared.placements.remembered(caller, Instant::now()) {
            Some(located) => Ok(located),
            None => self.shared.placements.locate(caller).await,
        }
    }

    pub(crate) async fn lease(&self, caller: &Caller) -> Result<(Arc<Located>, Lease), Error> {
        let (located, mut lease) = self.lease_to_read(caller).await?;
        located.note_writes(caller, &mut lease);
        Ok((located, lease))
    }

    /// For what can't write.
    pub(crate) async fn lease_to_read(&self, caller: &Caller) -> Result<(Arc<Located>, Lease), Error> {
        let mut refresh = Refresh::default();
        loop {
            let located = self.locate(caller).await?;
            match located.pool.lease(&located.binding(caller)).await {
                Ok(lease) => return Ok((located, lease)),
                Err(error) => Box::pin(self.refresh(error, caller, &located, &mut refresh)).await?,
            }
        }
    }

    /// Where nothing has to be asked or waited for, as usual.
    pub(super) fn lease_at_once(&self, caller: &Caller, now: Instant) -> Option<(Arc<Located>, Lease)> {
        let located = self.shared.placements.remembered(caller, now)?;
        let mut lease = located.pool.lease_idle(&located.binding(caller), now)?;
        located.note_writes(caller, &mut lease);
        Some((located, lease))
    }

    /// After a failure to get a connection: `Ok` when the database is reached in another way by now, as the catalog says, which is
    /// asked once.
    pub(crate) async fn refresh(
        &self,
        error: Error,
        caller: &Caller,
        located: &Arc<Located>,
        refresh: &mut Refresh,
    ) -> Result<(), Error> {
        if !refresh.is_worth_it(&error) {
            return Err(error);
        }
        if asks(&error, &located.pool) {
            self.shared.placements.invalidate(caller.tenant).await;
        }
        let now = self.locate(caller).await?;
        other_way(error, &located.pool, &now.pool).await
    }

    /// A connection to this database, lent to nobody.
    pub(crate) async fn lease_to_nobody(&self, database: TenantDatabaseId) -> Result<(Arc<Entered>, Lease), Error> {
        let placements = &self.shared.placements;
        let mut refresh = Refresh::default();
        loop {
            let entered = placements.enter(database).await?;
            let error = match entered.pool.lease_untouched(&entered.binding()).await {
                Ok(lease) => return Ok((entered, lease)),
                Err(error) => error,
            };
            if !refresh.is_worth_it(&error) {
                return Err(error);
            }
            if asks(&error, &entered.pool) {
                placements.forget_entrance(database).await;
            }
            let now = placements.enter(database).await?;
            other_way(error, &entered.pool, &now.pool).await?;
        }
    }
}
