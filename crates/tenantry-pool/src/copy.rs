//! Data in bulk, out of a tenant.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{Error, Pools, member::Lease, placements::Located};

/// The data of `copy … to stdout`, read from the socket when it is asked for.
///
/// Like a [`RowStream`](crate::RowStream) it lasts for no longer than a transaction may. Dropping it before its end cancels the
/// statement and closes the connection.
pub struct CopyOut {
    pools: Pools,
    located: Arc<Located>,
    lease: Option<Lease>,
    first: Option<Bytes>,
    /// When it has to have ended.
    until: Instant,
}

impl CopyOut {
    pub(crate) fn new(pools: Pools, located: Arc<Located>, lease: Lease, first: Option<Bytes>) -> Self {
        let limit = pools.config().transaction_timeout;
        let until = Instant::now() + limit;
        lease.seat_for(limit);
        let lease = first.is_some().then_some(lease);
        Self {
            pools,
            located,
            lease,
            first,
            until,
        }
    }

    /// The next piece, as PostgreSQL cut it: one row each; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Pools::query`]; [`Error::TransactionTimeout`] where all of it together took longer than a transaction may.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped: the next call goes on where this one was.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(lease) = &mut self.lease else { return Ok(None) };
        let (session, timer) = lease.parts();
        let next = session.next_chunk();
        match self.pools.in_plan_time(&self.located, timer, next).await {
            Ok(Some(chunk)) => Ok(Some(chunk)),
            Ok(None) => {
                self.lease = None;
                Ok(None)
            }
            Err(error) => {
                let error = self.pools.conclude_by(self.until, error, lease);
                self.lease = None;
                Err(error)
            }
        }
    }
}
