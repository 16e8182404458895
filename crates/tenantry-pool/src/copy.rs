//! Data in bulk, out of a tenant.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Pools, member::Lease, placements::Located};

/// The data of `copy … to stdout`, read from the socket when it is asked for.
///
/// Dropping it before its end cancels the statement and closes the connection.
pub struct CopyOut {
    pools: Pools,
    located: Arc<Located>,
    lease: Option<Lease>,
    first: Option<Bytes>,
}

impl CopyOut {
    pub(crate) fn new(pools: Pools, located: Arc<Located>, lease: Lease, first: Option<Bytes>) -> Self {
        let lease = first.is_some().then_some(lease);
        Self {
            pools,
            located,
            lease,
            first,
        }
    }

    /// The next piece, as PostgreSQL cut it: one row each; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Pools::query`].
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
                let error = self.pools.conclude(error, lease);
                self.lease = None;
                Err(error)
            }
        }
    }
}
