//! The history of a tenant's rows: all but the last of it while the tenant works, so that its length is not what the tenant waits for.
//!
//! Entries are never changed, only added and taken out. An entry's id begins with the moment at which it was written, and an entry that
//! nobody sees yet is of a transaction that is open: so none that is older than all of these can still come.

use tenantry_core::TenantId;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    TransferError,
    beside::{columns, stream},
};
use crate::sql_error::{Doing, SqlError};

/// How many entries are taken at a time.
const PIECE: u64 = 5_000;

/// What was brought of a history while its tenant works.
#[derive(Debug)]
pub struct HistoryAhead {
    /// Before this id none is added any more.
    until: Uuid,
    /// Up to this one they were brought.
    last: Uuid,
}

impl HistoryAhead {
    /// Throws away what the target has of the tenant's history, and looks how much of it can be brought while the tenant works. `None` where
    /// that can't be told: the administrator does not see who is at work, or a prepared transaction waits for its end.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections; done again, it begins anew.
    pub async fn begin(source: &Client, target: &Client, tenant: TenantId) -> Result<Option<Self>, TransferError> {
        target
            .execute(
                "delete from tenantry_private.history where tenant = $1",
                &[tenant.as_uuid()],
            )
            .await
            .doing("make room for the history")?;
        // A minute for a clock that is set back meanwhile. Its own transaction is among those that are open.
        let row = source
            .query_one(
                "select case when pg_catalog.pg_has_role('pg_read_all_stats', 'usage')
                              and not exists (select from pg_catalog.pg_prepared_xacts p where p.database = pg_catalog.current_database())
                             then tenantry_private.history_id(least(min(a.xact_start), now()) - interval '1 min',
                                                              decode(repeat('00', 8), 'hex')) end
                   from pg_catalog.pg_stat_activity a
                  where a.datname = pg_catalog.current_database()",
                &[],
            )
            .await
            .doing("look from when on history is written")?;
        Ok(row.get::<_, Option<Uuid>>(0).map(|until| Self {
            until,
            last: Uuid::nil(),
        }))
    }

    /// Brings some more. Tells whether there may be more than that.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop both connections then.
    ///
    /// # Cancel safety
    ///
    /// Drop both connections; begin anew.
    pub async fn bring(&mut self, source: &Client, target: &Client, tenant: TenantId) -> Result<bool, TransferError> {
        let (columns, id) = (columns(target, "history").await?, tenant.as_uuid());
        let read = format!(
            "copy (select {columns} from tenantry_private.history
                    where tenant = '{id}' and id > '{}' and id < '{}' order by id limit {PIECE}) to stdout",
            self.last, self.until
        );
        let write = format!("copy tenantry_private.history ({columns}) from stdin");
        let brought = stream(source, &read, target, &write).await.map_err(failed)?;
        let last = target
            .query_opt(
                "select id from tenantry_private.history where tenant = $1 order by id desc limit 1",
                &[id],
            )
            .await
            .doing("look how far the history is")?;
        self.last = last.map_or(self.last, |row| row.get(0));
        Ok(brought == PIECE)
    }
}

/// Takes the history of a tenant's rows from one database to another: what is left of it where some was brought before, else all. What the
/// target has beside that is thrown away: it can be done again. Tells how many entries were taken now.
///
/// Both fences are closed: nobody adds to it or takes out of it.
///
/// # Errors
///
/// Where a statement fails; drop both connections then.
///
/// # Cancel safety
///
/// As [`super::carry_jobs`].
pub async fn carry_history(
    source: &Client,
    target: &Client,
    tenant: TenantId,
    ahead: Option<&HistoryAhead>,
) -> Result<u64, TransferError> {
    // Some may have been taken out of the source since: then they are not as many, and all of it is taken anew.
    let from = match ahead {
        Some(ahead) if count(source, tenant, ahead.until).await? == count(target, tenant, ahead.until).await? => {
            ahead.until
        }
        _ => Uuid::nil(),
    };
    let (columns, id) = (columns(target, "history").await?, tenant.as_uuid());
    target
        .batch_execute(&format!(
            "begin; delete from tenantry_private.history where tenant = '{id}' and id >= '{from}'"
        ))
        .await
        .doing("make room for the history")?;
    let read = format!(
        "copy (select {columns} from tenantry_private.history where tenant = '{id}' and id >= '{from}') to stdout"
    );
    let write = format!("copy tenantry_private.history ({columns}) from stdin");
    let entries = stream(source, &read, target, &write).await.map_err(failed)?;
    target.batch_execute("commit").await.doing("commit the history")?;
    Ok(entries)
}

async fn count(client: &Client, tenant: TenantId, before: Uuid) -> Result<i64, SqlError> {
    let row = client
        .query_one(
            "select count(*) from tenantry_private.history where tenant = $1 and id < $2",
            &[tenant.as_uuid(), &before],
        )
        .await
        .doing("count the history")?;
    Ok(row.get(0))
}

fn failed(source: tokio_postgres::Error) -> TransferError {
    TransferError::Copy {
        table: "history".to_owned(),
        source,
    }
}
