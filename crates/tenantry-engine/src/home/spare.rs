//! Schemas made in advance: the next tenant that wants one of its own gets it by a rename.
//!
//! A spare belongs to nobody: it has our mark, a name of its own and the application's tables, and no tenant's fence. All that is
//! known of it stands in its database, so that handing it out is one transaction there, and a process that dies leaves a
//! spare or a tenant's schema and nothing in between.

use std::time::Duration;

use tenantry_core::{Epoch, InstallationId, TenantDatabaseId, TenantId, own_schema_name};
use tenantry_sql::{Identifier, Literal};
use tokio_postgres::{Client, GenericClient, SimpleQueryMessage, types::Type};
use uuid::Uuid;

use super::{HomeError, schema};
use crate::{
    fence::State,
    migrate::turn_key_of,
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// How the names of spares begin.
pub const SPARE_PREFIX: &str = "spare_";

/// Whoever makes spares in a database holds this advisory lock there; the number is arbitrary and never changes.
const MAKING: i64 = 0x7370_6172_655f_6d61;

/// A schema that waits for its tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spare {
    /// Its name.
    pub schema: String,
    /// The migrations it has, as [`ledger_text`](crate::migrate::ledger_text) writes them.
    pub ledger: String,
    /// How long ago it got the last of them.
    pub unchanged: Duration,
}

impl Spare {
    /// The number of the newest migration that it has; 0 for none.
    #[must_use]
    pub fn version(&self) -> i64 {
        let last = self.ledger.rsplit(',').next().unwrap_or_default();
        let number = last.split(' ').next().unwrap_or_default();
        number.parse().unwrap_or(0)
    }
}

/// Whether this session may make and drop spares in the connected database: one does at a time, for as long as it lives.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn may_make_spares(client: &Client) -> Result<bool, SqlError> {
    let row = client
        .query_typed("select pg_catalog.pg_try_advisory_lock($1)", &[(&MAKING, Type::INT8)])
        .await
        .doing("ask for the turn to make spares")?;
    Ok(row.first().is_some_and(|row| row.get(0)))
}

/// The spares of the connected database, the oldest first.
///
/// # Errors
///
/// Where the database can't be asked.
pub async fn list_spares(client: &impl GenericClient, installation: &InstallationId) -> Result<Vec<Spare>, SqlError> {
    let rows = client
        .query_typed(
            &format!(
                "select l.spare, {},
                        coalesce((select pg_catalog.floor(extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.max(m.applied_at)))::int8
                                    from tenantry_private.migration m where m.schema = l.spare), 0)
                   from ({}) l order by 1",
                ledger_of("l.spare"),
                listed("$1")
            ),
            &[(&mark(installation), Type::TEXT)],
        )
        .await
        .doing("list the spare schemas")?;
    Ok(rows
        .into_iter()
        .map(|row| Spare {
            schema: row.get(0),
            ledger: row.get(1),
            unchanged: Duration::from_secs(u64::try_from(row.get::<_, i64>(2)).unwrap_or(0)),
        })
        .collect())
}

/// The query of the names of spares with that mark, which is an expression. Their names tell when they were made.
fn listed(mark: &str) -> String {
    format!(
        "select n.nspname::text as spare
           from pg_catalog.pg_namespace n
          where n.nspname >= 'spare_' and n.nspname < 'spare`' and pg_catalog.obj_description(n.oid, 'pg_namespace') = {mark}
          order by 1"
    )
}

/// The migrations of a schema, as [`ledger_text`](crate::migrate::ledger_text) writes them; both are expressions.
fn ledger_of(schema: &str) -> String {
    format!(
        "coalesce((select pg_catalog.string_agg(m.version || ' ' || m.checksum, ',' order by m.version)
                     from tenantry_private.migration m where m.schema = {schema}), '')"
    )
}

/// Makes an empty one and gives its name; migrations bring its tables.
///
/// # Errors
///
/// Where a statement fails.
///
/// # Cancel safety
///
/// Dropping the future may leave a spare that nobody has heard of; it is among those that are listed next.
pub async fn create_spare(
    client: &impl GenericClient,
    installation: &InstallationId,
    database: TenantDatabaseId,
) -> Result<Identifier, HomeError> {
    let name = Identifier::new(format!("{SPARE_PREFIX}{}", Uuid::now_v7().simple()))?;
    schema::make(client, installation, database, &name, &mark(installation)).await?;
    Ok(name)
}

/// Gives a spare with exactly these migrations to a tenant that has no schema yet, and opens the tenant's fence at this epoch; `false`
/// where there is no such spare or the tenant has a schema, and nothing is done. One that somebody migrates at this moment is none.
///
/// `caught_up`: of the migrations, those that changed the data of each tenant there was. It is noted that this one has them, as it has no
/// rows that they could have changed.
///
/// Where it does, the transaction is left open, and nothing of it counts before [`turn::commit`](crate::turn::commit): until it ends, nobody
/// else gets that spare. `client` is in none before.
///
/// # Errors
///
/// Where a statement fails; the connection has to be dropped then.
///
/// # Cancel safety
///
/// Drop the connection, which rolls it back.
pub async fn hand_out_spare(
    client: &Client,
    installation: &InstallationId,
    tenant: TenantId,
    epoch: Epoch,
    ledger: &str,
    caught_up: &[i64],
) -> Result<bool, HomeError> {
    let literal =
        |text: &str| Literal::new(text).expect("neither a mark, a name nor a ledger of ours holds a zero byte");
    let text = format!(
        "begin;
         do $spare$
         declare
           c_own constant text := {own};
           c_ledger constant text := {ledger};
           v_spare text;
         begin
           if pg_catalog.to_regnamespace(c_own) is not null then
             return;
           end if;
           for v_spare in {LISTED} loop
             continue when c_ledger is distinct from {LEDGER};
             -- One after the other: whether the name is still there is asked under the lock, and of the table, since what the
             -- session remembers of names may be of a moment ago.
             continue when not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(v_spare, 0));
             -- Whoever migrates it would go on in the tenant's schema, and note that under the name that it had. What the ledger
             -- holds is asked again in the appliers' turn: they may have ended just now.
             continue when not pg_catalog.pg_try_advisory_xact_lock({TURN});
             perform from pg_catalog.pg_namespace n where n.nspname = v_spare;
             continue when not found or c_ledger is distinct from {LEDGER};
             execute pg_catalog.format('alter schema %I rename to %I', v_spare, c_own);
             execute pg_catalog.format('comment on schema %I is %L', c_own, {own_mark});
             update tenantry_private.migration set schema = c_own where schema = v_spare;
             update tenantry_private.migration_step set schema = c_own where schema = v_spare;
             update tenantry_private.migration_tenant set schema = c_own where schema = v_spare;
             insert into tenantry_private.migration_tenant (schema, version, tenant)
             select c_own, v, '{tenant}'::uuid from pg_catalog.unnest('{{{caught_up}}}'::int8[]) as v
             on conflict do nothing;
             perform tenantry.fence_register('{tenant}', {epoch}::int8, {open}::int2);
             perform pg_catalog.set_config('tenantry.spare', v_spare, true);
             return;
           end loop;
         end $spare$;
         select 1 where pg_catalog.current_setting('tenantry.spare', true) <> ''",
        own = literal(&own_schema_name(tenant)),
        own_mark = literal(&schema::mark(installation, tenant)),
        ledger = literal(ledger),
        LISTED = listed(&literal(&mark(installation)).to_string()),
        LEDGER = ledger_of("v_spare"),
        TURN = turn_key_of("v_spare"),
        caught_up = caught_up.iter().map(i64::to_string).collect::<Vec<_>>().join(","),
        tenant = tenant.as_uuid(),
        epoch = epoch.0,
        open = State::Open as i16,
    );
    let answers = client.simple_query(&text).await.doing("hand a spare schema out")?;
    let is_handed_out = answers
        .iter()
        .any(|answer| matches!(answer, SimpleQueryMessage::Row(_)));
    if !is_handed_out {
        client.batch_execute("rollback").await.doing("roll back")?;
    }
    Ok(is_handed_out)
}

/// Keeps others from a spare until the transaction ends, unless another has it or had it.
async fn hold(client: &impl GenericClient, spare: &str) -> Result<bool, SqlError> {
    // One after the other: whether the name is still there is asked under the lock.
    for question in [
        "select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))",
        // Of the table, since what the session remembers of names may be of a moment ago.
        "select exists (select from pg_catalog.pg_namespace n where n.nspname = $1)",
    ] {
        let row = client
            .query_typed(question, &[(&spare, Type::TEXT)])
            .await
            .doing("hold a spare schema")?;
        if !row.first().is_some_and(|row| row.get(0)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Drops one that nobody takes at this moment; whether it did.
///
/// # Errors
///
/// Where a statement fails.
///
/// # Cancel safety
///
/// Dropping the future rolls it back, unless it had committed.
pub async fn drop_spare(client: &mut Client, installation: &InstallationId, spare: &str) -> Result<bool, HomeError> {
    let transaction = client.transaction().await.doing("begin")?;
    let is_there = list_spares(&transaction, installation).await?;
    if !is_there.iter().any(|there| there.schema == spare) || !hold(&transaction, spare).await? {
        return Ok(false);
    }
    let name = Identifier::new(spare)?;
    transaction
        .batch_execute(&format!("drop schema {name} cascade"))
        .await
        .doing("drop a spare schema")?;
    for table in ["migration", "migration_step", "migration_tenant"] {
        let statement = format!("delete from tenantry_private.{table} where schema = $1");
        transaction
            .execute_typed(&statement, &[(&spare, Type::TEXT)])
            .await
            .doing("forget a spare schema's migrations")?;
    }
    transaction.commit().await.doing("commit")?;
    Ok(true)
}

fn mark(installation: &InstallationId) -> String {
    format!("{} spare", Roles::mark(installation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_migration_of_a_spare_is_the_last_of_its_ledger() {
        for (ledger, version) in [("", 0), ("1 ab", 1), ("1 ab,2 cd,30 ef", 30)] {
            let spare = Spare {
                schema: "spare_x".to_owned(),
                ledger: ledger.to_owned(),
                unchanged: Duration::ZERO,
            };
            assert_eq!(spare.version(), version, "{ledger}");
        }
    }
}
