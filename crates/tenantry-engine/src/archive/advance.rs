//! Sequences past the numbers that were loaded.

use tenantry_sql::Identifier;
use tokio_postgres::{Client, types::Oid};

use crate::sql_error::{Doing as _, SqlError};

/// As many numbers are drawn one by one, in a second or so, rather than that a sequence is locked against everybody who draws from it.
const DRAWN_MAX: i64 = 1_000_000;

/// A sequence that has not come to a number yet.
struct Behind {
    quoted: String,
    increment: i64,
    /// How many numbers it gives until then.
    steps: i64,
}

/// The sequence, where it has not come to this number and can.
async fn behind(client: &Client, sequence: Oid, number: i64) -> Result<Option<Behind>, SqlError> {
    // One of which nothing was drawn gives its start next.
    let row = client
        .query_opt(
            "select s.name, s.increment,
                    least(pg_catalog.ceil(pg_catalog.abs($2::pg_catalog.int8 - s.last) / pg_catalog.abs(s.increment)), 9e18)::pg_catalog.int8
               from (select pg_catalog.format('%I.%I', n.nspname, c.relname) as name, q.seqincrement as increment,
                            coalesce(pg_catalog.pg_sequence_last_value(c.oid)::numeric, q.seqstart::numeric - q.seqincrement) as last,
                            q.seqmin, q.seqmax
                       from pg_catalog.pg_sequence as q
                       join pg_catalog.pg_class as c on c.oid = q.seqrelid
                       join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
                      where q.seqrelid = $1) as s
              where $2::pg_catalog.int8 between s.seqmin and s.seqmax
                and case when s.increment > 0 then s.last < $2::pg_catalog.int8 else s.last > $2::pg_catalog.int8 end",
            &[&sequence, &number],
        )
        .await
        .doing("look where a sequence stands")?;
    Ok(row.map(|row| Behind {
        quoted: row.get(0),
        increment: row.get(1),
        steps: row.get(2),
    }))
}

/// Lets a sequence go on after this number, from which nobody else draws.
pub(super) async fn past(client: &Client, sequence: Oid, number: i64) -> Result<(), SqlError> {
    let Some(behind) = behind(client, sequence, number).await? else {
        return Ok(());
    };
    set(client, &behind, number).await
}

/// Lets a sequence go on after this number while others draw from it: `setval` takes it back where somebody draws between the look and it, and
/// a number is given twice. `owner` owns it. The role of the transaction is the same afterwards.
pub(super) async fn past_shared(
    client: &Client,
    owner: &Identifier,
    sequence: Oid,
    number: i64,
) -> Result<(), SqlError> {
    let Some(found) = behind(client, sequence, number).await? else {
        return Ok(());
    };
    if found.steps <= DRAWN_MAX {
        client
            .execute(
                "select pg_catalog.nextval($1::pg_catalog.oid::pg_catalog.regclass) from pg_catalog.generate_series(1, $2::pg_catalog.int8)",
                &[&sequence, &found.steps],
            )
            .await
            .doing("draw from a sequence")?;
        return Ok(());
    }
    let role: String = client
        .query_one("select current_user::text", &[])
        .await
        .doing("ask for the role")?
        .get(0);
    let role = Identifier::new(role).expect("the server gave this name");
    // Holds up who draws until the transaction ends, which it is about to.
    client
        .batch_execute(&format!(
            "set local role {owner}; alter sequence {} increment by {}; set local role {role}",
            found.quoted, found.increment
        ))
        .await
        .doing("lock a sequence")?;
    match behind(client, sequence, number).await? {
        Some(found) => set(client, &found, number).await,
        None => Ok(()),
    }
}

async fn set(client: &Client, found: &Behind, number: i64) -> Result<(), SqlError> {
    client
        .execute(
            "select pg_catalog.setval($1::pg_catalog.text::pg_catalog.regclass, $2)",
            &[&found.quoted, &number],
        )
        .await
        .doing("advance a sequence")?;
    Ok(())
}
