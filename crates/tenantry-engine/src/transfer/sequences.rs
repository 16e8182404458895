//! Sequences: where the new home goes on counting.
//!
//! In shared tables a sequence goes on past the greatest number in the tenant's rows too, since one may have been written without being
//! drawn. Where no index leads to it, all of the tenant's rows are read for that. So it is looked for while the tenant works, once the applier
//! keeps which rows it writes: behind the fence a row has another number than it had then only where it is one of these, and they are looked up by
//! their keys. A number that has gone since counts all the same, which only leaves a gap.

use std::collections::BTreeMap;

use tenantry_core::TenantId;
use tenantry_sql::Identifier;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use super::{
    End, Table, TransferError,
    end::of,
    lasting::LIGHTLY,
    recheck::{self, AT_ONCE, Keys},
    stream::{Touched, TouchedTable},
    tables,
};
use crate::sql_error::{Doing, SqlError};

/// As many numbers are drawn one by one rather than that the sequence is locked against everybody who draws from it.
const DRAWN_MAX: i64 = 10_000;

/// Whether other tenants draw from the target's sequences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shared {
    /// They do: a sequence goes on, and never back.
    Yes,
    /// Only the tenant does: a sequence stands where the source's does.
    No,
}

struct Sequence {
    quoted: String,
    /// Where it stands; nothing where no number was drawn yet.
    last: Option<i64>,
    start: i64,
    increment: i64,
}

impl Sequence {
    /// Whether the number is behind this one in the order in which it counts.
    fn is_before(&self, number: i64) -> bool {
        self.last.is_none_or(|last| {
            if self.increment > 0 {
                last < number
            } else {
                last > number
            }
        })
    }

    /// The one of two numbers that it reaches later.
    fn later(&self, one: Option<i64>, other: Option<i64>) -> Option<i64> {
        match (one, other) {
            (Some(one), Some(other)) if self.increment > 0 => Some(one.max(other)),
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// How many numbers it gives until this one.
    fn steps_to(&self, number: i64) -> Option<i64> {
        let distance = (i128::from(number) - i128::from(self.last?)).unsigned_abs();
        i64::try_from(distance.div_ceil(u128::from(self.increment.unsigned_abs()))).ok()
    }
}

/// What is known of the numbers in a tenant's rows before its fence closes.
#[derive(Debug)]
pub struct SequencesAhead {
    numbered: Vec<Numbered>,
    /// By the sequence's name, the number that is furthest in its order.
    greatest: BTreeMap<String, i64>,
}

/// A column whose numbers a sequence gives.
#[derive(Debug)]
struct Numbered {
    table: Table,
    /// Quoted.
    column: String,
    sequence: String,
}

impl Numbered {
    /// What tells the number of a row `o` that is furthest.
    fn furthest(&self, sequence: &Sequence) -> String {
        let furthest = if sequence.increment > 0 { "max" } else { "min" };
        format!("pg_catalog.{furthest}(o.{})::pg_catalog.int8", self.column)
    }
}

impl SequencesAhead {
    /// Looks at the rows as they are. An applier keeps already which rows it writes ([`Applier::track`](super::stream::Applier::track)), and
    /// goes on with it.
    ///
    /// # Errors
    ///
    /// Where a statement fails; drop the connection then.
    ///
    /// # Cancel safety
    ///
    /// It only reads; drop the connection.
    pub async fn look(source: End<'_>, tenant: TenantId) -> Result<Self, SqlError> {
        let numbered = numbered(source).await?;
        let mut greatest = BTreeMap::new();
        if !numbered.is_empty() {
            let sequences = sequences(source.client, source.schema).await?;
            source.begin_reading(None).await?;
            for one in &numbered {
                let Some(sequence) = sequences.get(&one.sequence) else {
                    continue;
                };
                let (furthest, table) = (one.furthest(sequence), &one.table.quoted);
                let ask = format!("select {furthest} from {table} as o where o.{}", of(tenant));
                let row = source.client.query_typed_one(&ask, &[]).await;
                let number = row.doing("look for the greatest number")?.get(0);
                note(&mut greatest, one, sequence, number);
            }
            source.roll_back().await;
        }
        Ok(Self { numbered, greatest })
    }

    /// As it is now: with the numbers in the rows that were written since.
    async fn now(
        &self,
        source: End<'_>,
        tenant: TenantId,
        sequences: &BTreeMap<String, Sequence>,
        touched: &Touched,
    ) -> Result<BTreeMap<String, i64>, TransferError> {
        let mut greatest = self.greatest.clone();
        let written: Vec<(&Numbered, &TouchedTable, &Sequence)> = self
            .numbered
            .iter()
            .filter_map(|one| {
                let touched = touched.tables().get(&one.table.name)?;
                Some((one, touched, sequences.get(&one.sequence)?))
            })
            .collect();
        if written.is_empty() {
            return Ok(greatest);
        }
        recheck::begin(source).await?;
        for (one, touched, sequence) in written {
            let keys = Keys::of(&one.table, &touched.key)?;
            let ask = format!(
                "select {} from {} join {} as o on {} where o.{}",
                one.furthest(sequence),
                keys.from,
                one.table.quoted,
                keys.is_one("o"),
                of(tenant)
            );
            let all: Vec<_> = touched.keys.iter().collect();
            for some in all.chunks(AT_ONCE) {
                let columns = recheck::columns(some, touched.key.len());
                let parameters: Vec<_> = columns
                    .iter()
                    .map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY))
                    .collect();
                let row = source.client.query_typed_one(&ask, &parameters).await;
                let number = row
                    .doing("look for the greatest number that was written lately")?
                    .get(0);
                note(&mut greatest, one, sequence, number);
            }
        }
        source.roll_back().await;
        Ok(greatest)
    }
}

/// Keeps a number where it is further than the one that is known.
fn note(greatest: &mut BTreeMap<String, i64>, one: &Numbered, sequence: &Sequence, number: Option<i64>) {
    let known = greatest.get(&one.sequence).copied();
    let later = sequence.later(known, number);
    greatest.extend(later.map(|number| (one.sequence.clone(), number)));
}

async fn numbered(source: End<'_>) -> Result<Vec<Numbered>, SqlError> {
    let mut numbered = Vec::new();
    for table in tables(source.client, source.schema).await? {
        for column in &table.columns {
            let is_number = matches!(column.kind.as_str(), "smallint" | "integer" | "bigint");
            if let Some(sequence) = column.sequence.clone().filter(|_| is_number) {
                numbered.push(Numbered {
                    table: table.clone(),
                    column: column.quoted.clone(),
                    sequence,
                });
            }
        }
    }
    Ok(numbered)
}

/// Lets each sequence of the target go on where the source's stands: past it, and past the greatest number in the tenant's rows, where
/// others draw from the target's too; exactly there where only the tenant does. `owner` owns the tables. The commits are not waited for:
/// [`make_lasting`](super::make_lasting) has to follow.
///
/// `known` is what was found out before the fence closed, with the rows that were written since an earlier moment; without it all of the tenant's
/// rows are looked through where others draw too.
///
/// # Errors
///
/// Where a statement fails: SQLSTATE 55P03 where somebody who drew from a shared sequence does not end. Done again, it goes on.
///
/// # Cancel safety
///
/// Drop both connections; what was advanced stays so.
pub async fn carry_sequences(
    source: End<'_>,
    target: End<'_>,
    owner: &Identifier,
    tenant: TenantId,
    shared: Shared,
    known: Option<(&SequencesAhead, &Touched)>,
) -> Result<(), TransferError> {
    let (from, to) = tokio::try_join!(
        sequences(source.client, source.schema),
        sequences(target.client, target.schema)
    )?;
    let greatest = match (shared, known) {
        (Shared::No, _) => BTreeMap::new(),
        (Shared::Yes, Some((ahead, touched))) => ahead.now(source, tenant, &from, touched).await?,
        (Shared::Yes, None) => SequencesAhead::look(source, tenant).await?.greatest,
    };
    let pairs: Vec<_> = from
        .iter()
        .filter_map(|(name, from)| Some((name, from, to.get(name)?)))
        .collect();
    match shared {
        Shared::No => put(target.client, &pairs).await?,
        Shared::Yes => {
            for (name, from, to) in pairs {
                if let Some(number) = from.later(from.last, greatest.get(name).copied()) {
                    advance(target.client, owner, to, number).await?;
                }
            }
        }
    }
    Ok(())
}

async fn sequences(client: &Client, schema: &Identifier) -> Result<BTreeMap<String, Sequence>, SqlError> {
    let rows = client
        .query_typed(
            "select c.relname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname),
                    pg_catalog.pg_sequence_last_value(c.oid), s.seqstart, s.seqincrement
               from pg_catalog.pg_sequence s
               join pg_catalog.pg_class c on c.oid = s.seqrelid
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname = $1",
            &[(&schema.as_str(), Type::TEXT)],
        )
        .await
        .doing("read the sequences")?;
    let sequence = |row: &tokio_postgres::Row| Sequence {
        quoted: row.get(1),
        last: row.get(2),
        start: row.get(3),
        increment: row.get(4),
    };
    Ok(rows.iter().map(|row| (row.get(0), sequence(row))).collect())
}

/// All of them by one statement: each by itself would be a round trip that the tenant waits for. The commit is not waited for.
async fn put(client: &Client, pairs: &[(&String, &Sequence, &Sequence)]) -> Result<(), SqlError> {
    let names: Vec<&str> = pairs.iter().map(|(_, _, to)| to.quoted.as_str()).collect();
    let numbers: Vec<i64> = pairs
        .iter()
        .map(|(_, from, _)| from.last.unwrap_or(from.start))
        .collect();
    let drawn: Vec<bool> = pairs.iter().map(|(_, from, _)| from.last.is_some()).collect();
    client
        .execute_typed(
            "select pg_catalog.setval(s.name::pg_catalog.regclass, s.number, s.is_drawn),
                    pg_catalog.set_config('synchronous_commit', 'off', true)
               from unnest($1, $2, $3) as s (name, number, is_drawn)",
            &[
                (&names, Type::TEXT_ARRAY),
                (&numbers, Type::INT8_ARRAY),
                (&drawn, Type::BOOL_ARRAY),
            ],
        )
        .await
        .doing("set the sequences")?;
    Ok(())
}

/// `setval` alone would take it back where somebody draws between the look and it. So a few numbers are drawn, as anybody may, and for
/// many the sequence is locked: `alter sequence` waits for whoever has drawn in a transaction that is open, and holds up the next.
async fn advance(client: &Client, owner: &Identifier, to: &Sequence, number: i64) -> Result<(), SqlError> {
    if !to.is_before(number) {
        return Ok(());
    }
    if let Some(steps) = to.steps_to(number).filter(|steps| *steps <= DRAWN_MAX) {
        client
            .execute(
                "select pg_catalog.nextval($1::pg_catalog.text::pg_catalog.regclass),
                        pg_catalog.set_config('synchronous_commit', 'off', true)
                   from pg_catalog.generate_series(1, $2::pg_catalog.int8)",
                &[&to.quoted, &steps],
            )
            .await
            .doing("draw from a sequence")?;
        return Ok(());
    }
    let order = if to.increment > 0 { "<" } else { ">" };
    let text = format!(
        "begin; set local lock_timeout = '2s'; {LIGHTLY}; set local role {owner};
         alter sequence {name} increment by {increment};
         select pg_catalog.setval('{literal}'::pg_catalog.regclass, {number}) from {name} where last_value {order} {number} or not is_called;
         commit",
        name = to.quoted,
        increment = to.increment,
        literal = to.quoted.replace('\'', "''"),
    );
    let done = client.batch_execute(&text).await;
    if done.is_err() {
        // Where this fails the connection is gone, and the transaction with it.
        let _ = client.batch_execute("rollback").await;
    }
    done.doing("advance a sequence that others draw from")
}
