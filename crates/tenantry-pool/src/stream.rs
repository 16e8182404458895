//! Rows read one by one.

use std::{sync::Arc, time::Instant};

use tenantry_wire::{Row, RowReader};

use crate::{Error, Pools, member::Lease, placements::Located};

/// Rows of a statement, read from the socket when they are asked for: memory stays bounded by the largest row.
///
/// The statement's transaction stays open meanwhile, and what it reads stays locked: it lasts for no longer than a transaction may
/// ([`transaction_timeout`](crate::PoolConfig::transaction_timeout)), however slowly the rows are asked for. Dropping the stream
/// before its end cancels the statement and closes the connection.
pub struct RowStream {
    pools: Pools,
    located: Arc<Located>,
    /// Given back at the end of the rows.
    lease: Option<Lease>,
    reader: RowReader,
    /// When it has to have ended.
    until: Instant,
}

impl RowStream {
    pub(crate) fn new(pools: Pools, located: Arc<Located>, lease: Lease, reader: RowReader) -> Self {
        let limit = pools.config().transaction_timeout;
        let until = Instant::now() + limit;
        lease.seat_for(limit);
        Self {
            pools,
            located,
            lease: Some(lease),
            reader,
            until,
        }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Pools::query`]. The time-out of statements is for each row; [`Error::TransactionTimeout`] where all of them together took
    /// longer than a transaction may.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped: the next call goes on where this one was.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        let Some(lease) = &mut self.lease else { return Ok(None) };
        let (session, timer) = lease.parts();
        let next = session.next_row(&mut self.reader);
        match self.pools.in_plan_time(&self.located, timer, next).await {
            Ok(Some(row)) => Ok(Some(row)),
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
