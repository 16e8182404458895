//! Slots: what keeps the source's log until the target has it, and the snapshots that go with them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry_core::{InstallationId, OperationId};
use tenantry_sql::Literal;
use tenantry_wire::{
    Endpoint,
    replication::{Lsn, Replication, SlotRequest},
};
use tokio_postgres::Client;

use super::{StreamError, StreamName, error::AtSource, name};
use crate::{
    home::Outcome,
    sql_error::{Doing, SqlError},
};

/// How long a walsender may take to go after it was told to.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A slot of this installation's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OurSlot {
    /// The stream.
    pub stream: StreamName,
    /// The move it was made for.
    pub operation: OperationId,
    /// Its database.
    pub database: String,
    /// Somebody reads it.
    pub active: bool,
    /// How much of the log the server keeps for it, in bytes.
    pub retained_bytes: i64,
}

/// The source's rows at the moment a slot was made. It can be taken for as long as this value lives.
#[derive(Debug)]
pub struct Snapshot {
    /// The snapshot holds what was committed before this position; the slot gives what was committed from it on.
    pub position: Lsn,
    name: String,
    _held_by: Replication,
}

impl Snapshot {
    /// Its name, for `set transaction snapshot`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a transaction that reads exactly this, without row security cutting anything off. Several may.
    ///
    /// # Errors
    ///
    /// 42704 where the connection that held it is gone.
    pub async fn take(&self, client: &Client) -> Result<(), SqlError> {
        let name = Literal::new(self.name.as_str()).expect("the server gave this name");
        client
            .batch_execute(&format!(
                "begin isolation level repeatable read, read only; set transaction snapshot {name}; set local row_security = off"
            ))
            .await
            .doing("take the slot's snapshot")
    }
}

/// Makes a stream's slot, as the mover. One of that name that is there is dropped first: its snapshot is lost, so nothing can
/// be copied that goes with it.
///
/// `admin` is connected to the same server as the administrator or the mover.
///
/// # Errors
///
/// [`StreamError::Impatient`] where older transactions did not end within `patience`, [`StreamError::Source`] where the server
/// refuses.
///
/// # Cancel safety
///
/// Dropped, the slot may be there: ask again, or [`drop_slot`].
pub async fn make_slot(
    endpoint: Arc<Endpoint>,
    admin: &Client,
    name: &StreamName,
    patience: Duration,
) -> Result<Snapshot, StreamError> {
    drop_slot(admin, name).await?;
    let text = name.text();
    let request = SlotRequest {
        name: &text,
        temporary: false,
        failover: true,
    };
    create(endpoint, &request, patience).await
}

/// A snapshot with its position and no slot that stays: for a look at both sides while a stream goes on.
///
/// # Errors
///
/// As [`make_slot`].
///
/// # Cancel safety
///
/// Dropped, nothing is left.
pub async fn snapshot_beside(
    endpoint: Arc<Endpoint>,
    name: &StreamName,
    patience: Duration,
) -> Result<Snapshot, StreamError> {
    let text = name.beside();
    let request = SlotRequest {
        name: &text,
        temporary: true,
        failover: false,
    };
    create(endpoint, &request, patience).await
}

async fn create(
    endpoint: Arc<Endpoint>,
    request: &SlotRequest<'_>,
    patience: Duration,
) -> Result<Snapshot, StreamError> {
    let mut replication = Replication::connect(endpoint, "tenantry move")
        .await
        .at_source("open a replication connection")?;
    let cancel = replication.cancel_token();
    match tokio::time::timeout(patience, replication.create_slot(request)).await {
        Ok(made) => {
            let made = made.at_source("make a slot")?;
            Ok(Snapshot {
                position: made.position,
                name: made.snapshot,
                _held_by: replication,
            })
        }
        Err(_) => {
            // The server does not notice that nobody waits any more.
            let _ = cancel.cancel().await;
            Err(StreamError::Impatient {
                seconds: patience.as_secs(),
            })
        }
    }
}

/// Drops a stream's slot, and the temporary one beside it. Who still reads it is ended: the mover may end its own sessions, the
/// administrator all.
///
/// # Errors
///
/// Where the server can't be asked, or a reader does not end.
///
/// # Cancel safety
///
/// Dropped, it is there or not; ask again.
pub async fn drop_slot(client: &Client, name: &StreamName) -> Result<Outcome, StreamError> {
    let began = Instant::now();
    let mut outcome = Outcome::AlreadySo;
    loop {
        let dropped = client
            .query(
                "select case when s.active then pg_catalog.pg_terminate_backend(s.active_pid)
                             else pg_catalog.pg_drop_replication_slot(s.slot_name) is not null end
                   from pg_catalog.pg_replication_slots s
                  where s.slot_name in ($1, $2) and s.slot_type = 'logical'",
                &[&name.text(), &name.beside()],
            )
            .await
            .doing("drop the move's slot");
        match dropped {
            Ok(rows) if rows.is_empty() => return Ok(outcome),
            Ok(_) => outcome = Outcome::Done,
            // Somebody took it, or dropped it, in between.
            Err(error) if matches!(error.code(), Some("55006" | "42704")) && began.elapsed() < RELEASE_DEADLINE => {}
            Err(error) => return Err(error.into()),
        }
        if began.elapsed() >= RELEASE_DEADLINE {
            return Err(StreamError::Impatient {
                seconds: RELEASE_DEADLINE.as_secs(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// This installation's slots on the connected server, in all its databases.
///
/// # Errors
///
/// Where the server can't be asked.
pub async fn list_slots(client: &Client, installation: &InstallationId) -> Result<Vec<OurSlot>, StreamError> {
    let rows = client
        .query(
            "select slot_name::text, database::text, active,
                    coalesce(pg_catalog.pg_wal_lsn_diff(
                      case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                           else pg_catalog.pg_current_wal_lsn() end, restart_lsn), 0)::int8
               from pg_catalog.pg_replication_slots
              where slot_type = 'logical' and pg_catalog.starts_with(slot_name::text, $1)
              order by 1",
            &[&name::prefix(installation)],
        )
        .await
        .doing("list the slots of moves")?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let stream = StreamName::parse(installation, row.get(0))?;
            Some(OurSlot {
                operation: stream.operation(),
                stream,
                database: row.get(1),
                active: row.get(2),
                retained_bytes: row.get(3),
            })
        })
        .collect())
}
