//! The fence: which placement of a tenant may still read or write in a database.
//!
//! A row per tenant that `tenantry.enter` reads, and, for connections that are bound already, the closed tenants compiled
//! into `tenantry.tenant_id()`. Closing is two steps: [`close`] commits the fence, [`wait_for_older`] waits for the
//! application's transactions that began before; once that is through, nothing reads or writes the tenant here.
//!
//! All of it needs a connection of the administrator or the mover that is in no transaction, under read committed.

mod older;
mod pause;
mod replica;
mod wait;

pub use older::{Ended, end_older};
pub use replica::{Followed, follow};
pub use wait::{Behind, Drained, Wait, wait_behind, wait_for_older};

use tenantry_core::{Epoch, TenantId};
use tokio_postgres::{Client, types::Type};

use crate::sql_error::{Doing, SqlError};

/// Whether a tenant may be entered in a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum State {
    /// It may.
    Open = 0,
    /// It is being moved away, or a backup's rows have just come in the place of its own: wait (TN003).
    Moving = 1,
    /// It lives elsewhere: look it up again (TN001).
    Gone = 2,
    /// It is suspended (TN002).
    Suspended = 3,
    /// It is on its way here: wait (TN003).
    NotOpenYet = 4,
}

/// Why a fence is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// As [`State::Moving`].
    Moving,
    /// As [`State::Gone`].
    Gone,
    /// As [`State::Suspended`].
    Suspended,
}

impl From<Closed> for State {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Moving => Self::Moving,
            Closed::Gone => Self::Gone,
            Closed::Suspended => Self::Suspended,
        }
    }
}

impl State {
    fn from_number(number: i16) -> Option<Self> {
        [Self::Open, Self::Moving, Self::Gone, Self::Suspended, Self::NotOpenYet]
            .into_iter()
            .find(|state| *state as i16 == number)
    }
}

/// What a database holds of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    /// The placement.
    pub epoch: Epoch,
    /// Whether it may be entered.
    pub state: State,
    /// Whether bound connections are refused by the compiled form; not so long after the close ([`forget`]).
    pub compiled: bool,
}

/// Makes a tenant known to the database: open, or not open yet. Doing it again changes nothing.
///
/// # Errors
///
/// TN001 where the database holds a placement of it that is as new and differs.
pub async fn register(
    client: &impl tokio_postgres::GenericClient,
    tenant: TenantId,
    epoch: Epoch,
    open: bool,
) -> Result<(), SqlError> {
    let state = if open { State::Open } else { State::NotOpenYet };
    client
        .execute_typed(
            "select tenantry.fence_register($1, $2, $3)",
            &[
                (tenant.as_uuid(), Type::UUID),
                (&epoch.0, Type::INT8),
                (&(state as i16), Type::INT2),
            ],
        )
        .await
        .doing("register the tenant in its database")?;
    Ok(())
}

/// The same as a text, for a message that does more.
pub(crate) fn register_text(tenant: TenantId, epoch: Epoch, open: bool) -> String {
    let state = if open { State::Open } else { State::NotOpenYet };
    format!(
        "select tenantry.fence_register('{}', {}::int8, {}::int2)",
        tenant.as_uuid(),
        epoch.0,
        state as i16
    )
}

/// Opens a tenant at a placement, and opens it again after it was closed.
///
/// # Errors
///
/// TN001 where the database knows no such tenant or a later placement; 55000 where the placement is a later one and
/// connections that may be bound at the earlier one are still there.
pub async fn open(client: &impl tokio_postgres::GenericClient, tenant: TenantId, epoch: Epoch) -> Result<(), SqlError> {
    client
        .execute_typed(
            "select tenantry.fence_open($1, $2)",
            &[(tenant.as_uuid(), Type::UUID), (&epoch.0, Type::INT8)],
        )
        .await
        .doing("open the tenant in its database")?;
    Ok(())
}

/// Closes a tenant: no connection can be bound to it, and each transaction that begins after this on a connection that is
/// bound already is refused. Those that began before go on: [`wait_for_older`].
///
/// Takes a client and no transaction, since it counts only once it is committed.
///
/// # Errors
///
/// TN001 where the database has no such placement of the tenant.
pub async fn close(client: &Client, tenant: TenantId, epoch: Epoch, why: Closed) -> Result<(), SqlError> {
    client
        .execute_typed(
            "select tenantry.fence_close($1, $2, $3)",
            &[
                (tenant.as_uuid(), Type::UUID),
                (&epoch.0, Type::INT8),
                (&(State::from(why) as i16), Type::INT2),
            ],
        )
        .await
        .doing("close the tenant's fence")?;
    settle(client, tenant).await
}

/// Says of a tenant that is closed and settled that it is closed for another reason, from this transaction's commit on.
///
/// # Errors
///
/// TN001 where the database has no such placement of the tenant.
pub(crate) async fn restate(client: &Client, tenant: TenantId, epoch: Epoch, why: Closed) -> Result<(), SqlError> {
    client
        .execute_typed(
            "select tenantry.fence_close($1, $2, $3)",
            &[
                (tenant.as_uuid(), Type::UUID),
                (&epoch.0, Type::INT8),
                (&(State::from(why) as i16), Type::INT2),
            ],
        )
        .await
        .doing("say why the tenant's fence is closed")?;
    Ok(())
}

/// Notes the moment after which a new connection can't be bound to the tenant; in a transaction after the closing one.
async fn settle(client: &Client, tenant: TenantId) -> Result<(), SqlError> {
    client
        .execute_typed("select tenantry.fence_settle($1)", &[(tenant.as_uuid(), Type::UUID)])
        .await
        .doing("note that the fence is closed")?;
    Ok(())
}

/// What the database holds of a tenant, if it knows it.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn read(client: &impl tokio_postgres::GenericClient, tenant: TenantId) -> Result<Option<Fence>, SqlError> {
    let row = client
        .query_typed_one(
            "select epoch, state, compiled from tenantry.fence_state($1)",
            &[(tenant.as_uuid(), Type::UUID)],
        )
        .await
        .doing("read the tenant's fence")?;
    let (epoch, state): (Option<i64>, Option<i16>) = (row.get(0), row.get(1));
    Ok(epoch
        .zip(state.and_then(State::from_number))
        .map(|(epoch, state)| Fence {
            epoch: Epoch(epoch),
            state,
            compiled: row.get(2),
        }))
}

/// Takes closed tenants out of the compiled form where no connection can be bound from before: each has a life-time cap.
/// Their rows go on refusing. Tells how many were taken out.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn forget(client: &Client) -> Result<u32, SqlError> {
    let row = client
        .query_one("select tenantry.fence_forget()", &[])
        .await
        .doing("forget old fences")?;
    Ok(u32::try_from(row.get::<_, i32>(0)).unwrap_or(0))
}
