//! Durable pieces of work: who may work on one is decided here, by a lease with a fencing token.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenantry_core::{OperationId, TenantDatabaseId, TenantId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    CatalogError, Client, Db,
    db::light,
    operation_cleanup::Object,
    text::{parsed, parsed_opt, words},
};

/// Rings whenever there may be an operation to take, or one has ended.
pub const CHANNEL: &str = "tenantry_operations";

words! {
    /// What an operation does.
    OperationKind {
        /// Makes a tenant's home and activates the tenant.
        Provision = "provision",
        /// Makes a server's shared tenant database, or a spare one; called off before it begins, it removes a spare one that is not wanted
        /// any more.
        PrepareDatabase = "prepare_database",
        /// Closes the fence of a suspended or deleted tenant.
        Suspend = "suspend",
        /// Opens the fence of a tenant and activates it.
        Resume = "resume",
        /// Removes a deleted tenant's rows and home for good; begins when the retention time has ended.
        Purge = "purge",
        /// Brings the schemas of the fleet to the newest of the application's migrations.
        Migrate = "migrate",
        /// Runs what is pending on copies without rows, and says what it did there.
        PlanMigrations = "plan_migrations",
        /// Compares every schema with what its migrations make, and repairs what is safe where that is wanted.
        VerifyMigrations = "verify_migrations",
        /// Takes a tenant to another home.
        Move = "move",
        /// Puts a backup in the place of the rows that a tenant has.
        Restore = "restore",
    }
}

words! {
    /// The states of an operation. Stored; each survives restarts.
    OperationState {
        /// Set when it is made, and when a step failed in a way that may pass: begins or goes on at `run_after`.
        Pending = "pending",
        /// Set by the runner that took it. If its lease runs out, another takes over at the recorded step.
        Running = "running",
        /// Set when it failed for good: what it made is being removed. Ends as failed, however long that takes.
        Undoing = "undoing",
        /// Set for an operator who wanted it so: nothing is half done, and nobody goes on until it is resumed or called off. What it has
        /// made so far stays.
        Paused = "paused",
        /// It did what it should. Final.
        Done = "done",
        /// It did nothing: what it had made is removed again, and `error` says why. A tenant that was to be moved is served where it was. Of a migration: some schemas stayed
        /// behind, and `progress` lists them. Final.
        Failed = "failed",
        /// Called off: what it had made is removed again. A tenant that was to be moved is served where it was, also where it had moved already
        /// and was taken back, which `error_code` says (`aborted`, `rolled_back`). Of a migration: schemas keep what they have, and `progress`
        /// tells how many are left. A spare database that was not wanted any more is dropped (`not_wanted`). Final.
        Cancelled = "cancelled",
    }
}

words! {
    /// What an operator wants of an operation that is under way. Set by the operator, and gone when it was done.
    Wish {
        /// To stop where nothing is half done, and to wait.
        Pause = "pause",
        /// To remove what was made, and to end. A migration only ends: what schemas have stays. A tenant that a backup was to be put in
        /// the place of is served with the rows that it had.
        Abort = "abort",
        /// To take the tenant back to the home that it has left.
        Rollback = "rollback",
        /// To remove the home that it has left.
        Finish = "finish",
    }
}

impl OperationState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A durable piece of work.
#[derive(Clone, PartialEq, Debug)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// For which tenant.
    pub tenant: Option<TenantId>,
    /// For which tenant database.
    pub database: Option<TenantDatabaseId>,
    /// How far it is.
    pub state: OperationState,
    /// The step that was begun last.
    pub step: String,
    /// How far within the step, an object.
    pub progress: Value,
    /// What it was asked to do, an object without secrets.
    pub input: Value,
    /// Why it failed: a word for programs.
    pub error_code: Option<String>,
    /// Why it failed: a sentence for operators.
    pub error: Option<String>,
    /// How often it was taken.
    pub attempts: i32,
    /// Not before.
    pub run_after: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What an operator wants of it.
    pub wish: Option<Wish>,
}

/// The right to work on an operation, as long as nobody else has taken it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// On which.
    pub operation: OperationId,
    /// Grows with each claim; every write of a runner carries it.
    pub fencing: i64,
}

/// A new operation.
#[derive(Debug)]
pub struct NewOperation<'a> {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// For which tenant.
    pub tenant: Option<TenantId>,
    /// For which tenant database.
    pub database: Option<TenantDatabaseId>,
    /// What it is asked to do.
    pub input: &'a Value,
    /// Not before.
    pub run_after: Option<DateTime<Utc>>,
}

/// Whether a runner still has its lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Held {
    /// The write counts.
    Yes,
    /// Another runner has taken over, or the time is up: stop at once.
    Lost,
}

impl Held {
    fn from_rows(rows: u64) -> Self {
        if rows == 0 { Self::Lost } else { Self::Yes }
    }
}

const COLUMNS: &str = "id, kind, tenant, tenant_database, state, step, progress, input, error_code, error, attempts, run_after, created_at, updated_at, finished_at, wish";
const LIVE: &str = "state in ('pending', 'running', 'undoing', 'paused')";
const TAKEN_UP: &str = "state in ('pending', 'running', 'undoing')";

impl Operation {
    fn from_row(row: &Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: OperationId::from_uuid(row.get(0)),
            kind: parsed(row, 1, "operation.kind")?,
            tenant: row.get::<_, Option<Uuid>>(2).map(TenantId::from_uuid),
            database: row.get::<_, Option<Uuid>>(3).map(TenantDatabaseId::from_uuid),
            state: parsed(row, 4, "operation.state")?,
            step: row.get(5),
            progress: row.get(6),
            input: row.get(7),
            error_code: row.get(8),
            error: row.get(9),
            attempts: row.get(10),
            run_after: row.get(11),
            created_at: row.get(12),
            updated_at: row.get(13),
            finished_at: row.get(14),
            wish: parsed_opt(row, 15, "operation.wish")?,
        })
    }
}

/// Makes an operation and rings for runners; `false` if the tenant or database has a live one already, or the fleet one of that kind. One
/// that is paused lives.
///
/// # Errors
/// When the catalog fails.
pub async fn insert(db: &impl Db, new: &NewOperation<'_>) -> Result<bool, CatalogError> {
    let inserted = db
        .execute(
            "with made as (
                 insert into operation (id, kind, tenant, tenant_database, input, run_after)
                 values ($1, $2, $3, $4, $5, coalesce($6, now()))
                 on conflict do nothing
                 returning id
             )
             select pg_notify($7, id::text) from made",
            &[
                new.id.as_uuid(),
                &new.kind.as_str(),
                &new.tenant.map(|tenant| *tenant.as_uuid()),
                &new.database.map(|database| *database.as_uuid()),
                new.input,
                &new.run_after,
                &CHANNEL,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Makes an operation that this runner has from the beginning, and records what it makes first; `None` if the tenant or database has a
/// live one already. Rings for nobody: there is nothing to take before the lease has run out.
///
/// # Errors
/// When the catalog fails.
pub async fn insert_taken(
    db: &impl Db,
    new: &NewOperation<'_>,
    owner: Uuid,
    lease: Duration,
    object: &Object,
) -> Result<Option<(Operation, Lease)>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "with made as (
                     insert into operation (id, kind, tenant, tenant_database, input, run_after,
                                            state, lease_owner, lease_until, fencing, attempts)
                     values ($1, $2, $3, $4, $5, coalesce($6, now()), 'running', $7, now() + make_interval(secs => $8), 1, 1)
                     on conflict do nothing
                     returning {COLUMNS}, fencing
                 ), recorded as (
                     insert into operation_cleanup (operation, kind, server, database_name, name)
                     select id, $9, $10, $11, $12 from made
                 )
                 select {COLUMNS}, fencing from made"
            ),
            &[
                new.id.as_uuid(),
                &new.kind.as_str(),
                &new.tenant.map(|tenant| *tenant.as_uuid()),
                &new.database.map(|database| *database.as_uuid()),
                new.input,
                &new.run_after,
                &owner,
                &lease.as_secs_f64(),
                &object.kind.as_str(),
                object.server.as_uuid(),
                &object.database_name,
                &object.name,
            ],
        )
        .await?;
    row.as_ref().map(claimed).transpose()
}

/// One operation.
///
/// # Errors
/// When the catalog fails.
pub async fn find(db: &impl Db, id: OperationId) -> Result<Option<Operation>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from operation where id = $1"),
            &[id.as_uuid()],
        )
        .await?;
    row.as_ref().map(Operation::from_row).transpose()
}

/// The tenant's live operation, if it has one.
///
/// # Errors
/// When the catalog fails.
pub async fn find_live(db: &impl Db, tenant: TenantId) -> Result<Option<Operation>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from operation where tenant = $1 and {LIVE}"),
            &[tenant.as_uuid()],
        )
        .await?;
    row.as_ref().map(Operation::from_row).transpose()
}

/// The tenant database to which a move takes the tenant, there or back: that of its two homes in which it does not live. `None` where nothing
/// moves it, or only within its database.
///
/// # Errors
/// When the catalog fails.
pub async fn destination(db: &impl Db, tenant: TenantId) -> Result<Option<TenantDatabaseId>, CatalogError> {
    let row = db
        .query_opt(
            "select home.id::uuid
             from operation as o
             join placement as p on p.tenant = o.tenant
             cross join lateral (values (o.input -> 'from' ->> 'database'), (o.input -> 'to' ->> 'database')) as home (id)
             where o.tenant = $1 and o.kind = 'move' and o.state in ('pending', 'running')
               and home.id <> p.tenant_database::text",
            &[tenant.as_uuid()],
        )
        .await?;
    Ok(row.map(|row| TenantDatabaseId::from_uuid(row.get(0))))
}

/// The live operation of a kind that concerns the whole fleet, if there is one.
///
/// # Errors
/// When the catalog fails.
pub async fn find_live_of_fleet(db: &impl Db, kind: OperationKind) -> Result<Option<Operation>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from operation where kind = $1 and tenant is null and tenant_database is null and {LIVE}"),
            &[&kind.as_str()],
        )
        .await?;
    row.as_ref().map(Operation::from_row).transpose()
}

/// The tenant's latest operation of a kind.
///
/// # Errors
/// When the catalog fails.
pub async fn find_latest(
    db: &impl Db,
    tenant: TenantId,
    kind: OperationKind,
) -> Result<Option<Operation>, CatalogError> {
    let row = db
        .query_opt(
            &format!(
                "select {COLUMNS} from operation where tenant = $1 and kind = $2 order by created_at desc, id desc limit 1"
            ),
            &[tenant.as_uuid(), &kind.as_str()],
        )
        .await?;
    row.as_ref().map(Operation::from_row).transpose()
}

/// The newest operations, of one tenant or of all.
///
/// # Errors
/// When the catalog fails.
pub async fn list(
    db: &impl Db,
    tenant: Option<TenantId>,
    state: Option<OperationState>,
    after: Option<&Operation>,
    limit: i64,
) -> Result<Vec<Operation>, CatalogError> {
    let rows = db
        .query(
            &format!(
                "select {COLUMNS} from operation
                 where ($1::uuid is null or tenant = $1) and ($2::text is null or state = $2)
                   and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
                 order by created_at desc, id desc
                 limit $5"
            ),
            &[
                &tenant.map(|tenant| *tenant.as_uuid()),
                &state.map(OperationState::as_str),
                &after.map(|operation| operation.created_at),
                &after.map(|operation| *operation.id.as_uuid()),
                &limit,
            ],
        )
        .await?;
    rows.iter().map(Operation::from_row).collect()
}

/// Takes one operation that is due and that nobody works on: any, or the given one. Two runners never take the same.
///
/// # Errors
/// When the catalog fails.
pub async fn claim(
    db: &impl Db,
    only: Option<OperationId>,
    owner: Uuid,
    lease: Duration,
) -> Result<Option<(Operation, Lease)>, CatalogError> {
    let only = only.map(|id| *id.as_uuid());
    let sql = claiming("($3::uuid is null or o.id = $3)");
    let row = db
        .query_opt(sql.as_str(), &[&owner, &lease.as_secs_f64(), &only])
        .await?;
    row.as_ref().map(claimed).transpose()
}

/// How many moves work on one source at once.
#[derive(Clone, Copy, Debug)]
pub struct MoveBound<'a> {
    /// So many.
    pub per_source: i64,
    /// The steps at which a move can wait for others: its tenant works meanwhile. The empty one is that of a move which was never taken.
    pub may_wait: &'a [&'a str],
    /// The steps that are work for the source.
    pub counted: &'a [&'a str],
}

/// Takes any operation that is due and that nobody works on; a move that can wait only where fewer than so many are at work on its source,
/// and where nothing else is due. One that somebody wants to stop does not wait.
///
/// # Errors
/// When the catalog fails.
///
/// # Cancel safety
/// What was taken and not given back is due again when the lease has run out.
pub async fn claim_due(
    client: &mut Client,
    owner: Uuid,
    lease: Duration,
    moves: MoveBound<'_>,
) -> Result<Option<(Operation, Lease)>, CatalogError> {
    const CAN_WAIT: &str = "(o.kind = 'move' and o.state <> 'undoing' and o.wish is null and o.step = any ($3))";
    let seconds = lease.as_secs_f64();
    let sql = claiming(&format!("not {CAN_WAIT}"));
    let row = client
        .query_opt(sql.as_str(), &[&owner, &seconds, &moves.may_wait])
        .await?;
    if let Some(row) = row {
        return claimed(&row).map(Some);
    }
    let transaction = client.transaction().await?;
    // Who is cut off while it holds the lock must not keep every other process from its operations: the server ends its session.
    let idle_ms = (lease / 3).as_millis().max(100).to_string();
    // One after the other, and each in a statement that begins when the one before is committed: else two of them would count the same.
    transaction
        .execute(
            "select set_config('idle_in_transaction_session_timeout', $1, true),
                    pg_advisory_xact_lock(hashtextextended('tenantry moves per source', 0))",
            &[&idle_ms],
        )
        .await?;
    // Counted once for each source: a drain asks for thousands of moves, and for each that waits all of them would be gone through.
    let sql = format!(
        "with at_work as materialized (
             select other.input -> 'from' ->> 'server' as source, count(*) as moves
             from operation as other
             where other.kind = 'move' and other.state in ('running', 'undoing') and other.lease_until >= now()
               and other.step = any ($4)
             group by 1)
         {}",
        claiming(&format!(
            "{CAN_WAIT}
             and not exists (select from at_work as w
                              where w.source = o.input -> 'from' ->> 'server' and w.moves >= $5)"
        ))
    );
    let row = transaction
        .query_opt(
            sql.as_str(),
            &[&owner, &seconds, &moves.may_wait, &moves.counted, &moves.per_source],
        )
        .await?;
    let taken = row.as_ref().map(claimed).transpose()?;
    transaction.commit().await?;
    Ok(taken)
}

/// Of the operations that are due and that nobody works on, the one `as o` that has waited longest, for $1 and as many seconds as $2 says.
fn claiming(condition: &str) -> String {
    format!(
        "update operation
         set state = case when state = 'undoing' then 'undoing' else 'running' end,
             lease_owner = $1, lease_until = now() + make_interval(secs => $2), fencing = fencing + 1,
             attempts = attempts + 1, updated_at = now()
         where id = (
             select o.id from operation as o
             where {TAKEN_UP} and o.run_after <= now() and (o.lease_until is null or o.lease_until < now())
               and {condition}
             order by o.run_after, o.id
             limit 1
             for update of o skip locked)
         returning {COLUMNS}, fencing"
    )
}

fn claimed(row: &Row) -> Result<(Operation, Lease), CatalogError> {
    let operation = Operation::from_row(row)?;
    let lease = Lease {
        operation: operation.id,
        fencing: row.get(16),
    };
    Ok((operation, lease))
}

/// Extends a lease that has not run out.
///
/// # Errors
/// When the catalog fails.
pub async fn extend(db: &impl Db, lease: Lease, by: Duration) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            &light(
                "update operation set lease_until = now() + make_interval(secs => $3) from light
                 where id = $1 and fencing = $2 and lease_until >= now()",
            ),
            &[lease.operation.as_uuid(), &lease.fencing, &by.as_secs_f64()],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Checks a lease and holds the operation's row until the transaction ends, so that what the transaction writes counts
/// only if nobody has taken over.
///
/// # Errors
/// When the catalog fails.
pub async fn hold(db: &impl Db, lease: Lease) -> Result<Held, CatalogError> {
    let row = db
        .query_opt(
            "select from operation where id = $1 and fencing = $2 and lease_until >= now() for update",
            &[lease.operation.as_uuid(), &lease.fencing],
        )
        .await?;
    Ok(if row.is_some() { Held::Yes } else { Held::Lost })
}

/// Records that a step begins, and extends the lease.
///
/// # Errors
/// When the catalog fails.
pub async fn begin_step(db: &impl Db, lease: Lease, step: &str, by: Duration) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            &light(
                "update operation
                 set step = $3, attempts = case when step = $3 then attempts else 1 end,
                     lease_until = now() + make_interval(secs => $4), updated_at = now()
                 from light
                 where id = $1 and fencing = $2 and lease_until >= now()",
            ),
            &[lease.operation.as_uuid(), &lease.fencing, &step, &by.as_secs_f64()],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// The same as [`hold`] for the transaction that is the step: it is recorded with it.
///
/// # Errors
/// When the catalog fails.
pub async fn hold_step(db: &impl Db, lease: Lease, step: &str) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            "update operation
             set step = $3, attempts = case when step = $3 then attempts else 1 end, updated_at = now()
             where id = $1 and fencing = $2 and lease_until >= now()",
            &[lease.operation.as_uuid(), &lease.fencing, &step],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Lets the server end the session where its transaction is left alone for so long: who is cut off while it holds an operation's row must
/// not keep everybody else from it.
///
/// # Errors
/// When the catalog fails.
pub async fn let_go_when_idle(db: &impl Db, after: Duration) -> Result<(), CatalogError> {
    let idle_ms = after.as_millis().max(100).to_string();
    db.execute(
        "select set_config('idle_in_transaction_session_timeout', $1, true)",
        &[&idle_ms],
    )
    .await?;
    Ok(())
}

/// Records how far it is within a step.
///
/// # Errors
/// When the catalog fails.
pub async fn note_progress(db: &impl Db, lease: Lease, progress: &Value) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            &light(
                "update operation set progress = $3, updated_at = now() from light
                 where id = $1 and fencing = $2 and lease_until >= now()",
            ),
            &[lease.operation.as_uuid(), &lease.fencing, progress],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Ends an operation, frees it and rings for whoever waits for it.
///
/// # Errors
/// When the catalog fails.
pub async fn finish(
    db: &impl Db,
    lease: Lease,
    state: OperationState,
    error: Option<(&str, &str)>,
) -> Result<Held, CatalogError> {
    debug_assert!(state.is_final(), "{state} is not final");
    let rows = db
        .execute(
            "with ended as (
                 update operation
                 set state = $3, error_code = coalesce($4, error_code), error = coalesce($5, error),
                     lease_owner = null, lease_until = null, wish = null, finished_at = now(), updated_at = now()
                 where id = $1 and fencing = $2 and lease_until >= now()
                 returning id
             )
             select pg_notify($6, id::text) from ended",
            &[
                lease.operation.as_uuid(),
                &lease.fencing,
                &state.as_str(),
                &error.map(|(code, _)| code),
                &error.map(|(_, text)| text),
                &CHANNEL,
            ],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// From now on the operation only removes what it made.
///
/// # Errors
/// When the catalog fails.
pub async fn begin_undo(db: &impl Db, lease: Lease, code: &str, error: &str) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            "update operation set state = 'undoing', error_code = $3, error = $4, updated_at = now()
             where id = $1 and fencing = $2 and lease_until >= now()",
            &[lease.operation.as_uuid(), &lease.fencing, &code, &error],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Calls an operation off that nobody has begun, in the transaction that makes it: whoever takes it only removes what was handed over to it.
///
/// # Errors
/// When the catalog fails.
pub async fn call_off(db: &impl Db, id: OperationId, code: &str, error: &str) -> Result<(), CatalogError> {
    db.execute(
        "update operation set state = 'undoing', error_code = $2, error = $3, updated_at = now()
         where id = $1 and state = 'pending'",
        &[id.as_uuid(), &code, &error],
    )
    .await?;
    Ok(())
}

/// Frees an operation to be taken again after a pause.
///
/// # Errors
/// When the catalog fails.
pub async fn retry_later(
    db: &impl Db,
    lease: Lease,
    pause: Duration,
    code: &str,
    error: &str,
) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            "update operation
             set state = case when state = 'undoing' then 'undoing' else 'pending' end,
                 run_after = now() + make_interval(secs => $3), lease_owner = null, lease_until = null,
                 error_code = case when state = 'undoing' then error_code else $4 end,
                 error = case when state = 'undoing' then error else $5 end, updated_at = now()
             where id = $1 and fencing = $2",
            &[
                lease.operation.as_uuid(),
                &lease.fencing,
                &pause.as_secs_f64(),
                &code,
                &error,
            ],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Frees an operation to be taken again at a time, without anything having failed; at once where an operator wants something of it.
///
/// # Errors
/// When the catalog fails.
pub async fn park(db: &impl Db, lease: Lease, until: DateTime<Utc>) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            "update operation
             set state = 'pending', run_after = case when wish is null then $3 else now() end,
                 lease_owner = null, lease_until = null, attempts = 0, updated_at = now()
             where id = $1 and fencing = $2 and lease_until >= now()",
            &[lease.operation.as_uuid(), &lease.fencing, &until],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// One operation, whose row is held until the transaction ends.
///
/// # Errors
/// When the catalog fails.
pub async fn hold_any(db: &impl Db, id: OperationId) -> Result<Option<Operation>, CatalogError> {
    let row = db
        .query_opt(
            &format!("select {COLUMNS} from operation where id = $1 for update"),
            &[id.as_uuid()],
        )
        .await?;
    row.as_ref().map(Operation::from_row).transpose()
}

/// What an operator wants of the operation.
///
/// # Errors
/// When the catalog fails.
pub async fn wish_of(db: &impl Db, id: OperationId) -> Result<Option<Wish>, CatalogError> {
    Ok(find(db, id).await?.and_then(|operation| operation.wish))
}

/// Records what an operator wants of an operation, and lets whoever works on it or takes it know; `None` for nothing any more. One that
/// is paused goes on with that.
///
/// # Errors
/// When the catalog fails.
pub async fn wish(db: &impl Db, id: OperationId, wish: Option<Wish>) -> Result<(), CatalogError> {
    db.execute(
        "with wished as (
             update operation
             set wish = $2, updated_at = now(),
                 attempts = case when state = 'paused' then 0 else attempts end,
                 run_after = case when state in ('paused', 'pending') then now() else run_after end,
                 state = case when state = 'paused' then 'pending' else state end
             where id = $1
             returning id
         )
         select pg_notify($3, id::text) from wished",
        &[id.as_uuid(), &wish.map(Wish::as_str), &CHANNEL],
    )
    .await?;
    Ok(())
}

/// Changes what an operation is asked to do, in the fields that are named. To be said under the row that its runner reads it under.
///
/// # Errors
/// When the catalog fails.
pub async fn amend_input(db: &impl Db, id: OperationId, fields: &Value) -> Result<(), CatalogError> {
    db.execute(
        "update operation set input = input || $2, updated_at = now() where id = $1",
        &[id.as_uuid(), fields],
    )
    .await?;
    Ok(())
}

/// Lets the operation wait until somebody resumes it, as was wished.
///
/// # Errors
/// When the catalog fails.
pub async fn pause(db: &impl Db, lease: Lease) -> Result<Held, CatalogError> {
    let rows = db
        .execute(
            "with paused as (
                 update operation
                 set state = 'paused', wish = null, lease_owner = null, lease_until = null, attempts = 0,
                     error_code = null, error = null, updated_at = now()
                 where id = $1 and fencing = $2 and lease_until >= now()
                 returning id
             )
             select pg_notify($3, id::text) from paused",
            &[lease.operation.as_uuid(), &lease.fencing, &CHANNEL],
        )
        .await?;
    Ok(Held::from_rows(rows))
}

/// Calls off a pending operation; `false` if it has begun or ended.
///
/// # Errors
/// When the catalog fails.
pub async fn cancel(db: &impl Db, id: OperationId) -> Result<bool, CatalogError> {
    let rows = db
        .execute(
            "update operation set state = 'cancelled', finished_at = now(), updated_at = now()
             where id = $1 and state = 'pending'",
            &[id.as_uuid()],
        )
        .await?;
    Ok(rows == 1)
}

/// Lets a pending operation begin now; holds its row until the transaction ends in any case, so that a runner which is
/// about to put it to sleep looks again.
///
/// # Errors
/// When the catalog fails.
pub async fn run_now(db: &impl Db, id: OperationId) -> Result<bool, CatalogError> {
    db.query_opt("select from operation where id = $1 for update", &[id.as_uuid()])
        .await?;
    let rows = db
        .execute(
            "with due as (
                 update operation set run_after = now(), updated_at = now() where id = $1 and state = 'pending'
                 returning id
             )
             select pg_notify($2, id::text) from due",
            &[id.as_uuid(), &CHANNEL],
        )
        .await?;
    Ok(rows == 1)
}

/// How many operations of each kind are under way or wait, and how many failed within the last day; kinds of which there are none
/// are left out.
///
/// # Errors
/// When the catalog fails.
pub async fn count_by_kind(db: &impl Db) -> Result<Vec<(OperationKind, i64, i64)>, CatalogError> {
    const SQL: &str = "select kind, count(*) filter (where state in ('pending', 'running', 'undoing', 'paused')),
                count(*) filter (where state = 'failed')
         from operation
         where state in ('pending', 'running', 'undoing', 'paused')
            or state = 'failed' and finished_at > now() - interval '1 day'
         group by kind";
    let rows = db.query(SQL, &[]).await?;
    rows.iter()
        .map(|row| Ok((parsed(row, 0, "operation.kind")?, row.get(1), row.get(2))))
        .collect()
}
