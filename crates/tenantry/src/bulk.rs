//! Many rows in one statement.

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, Kind, ToSql, Type, to_sql_checked};
use tenantry_pool::{Caller, Pools};
use tenantry_wire::encode_value;

use crate::{Error, ErrorKind, Params};

/// Rows in one statement; more go in several, in one transaction. Some megabytes, as rows usually are.
const ROWS_PER_STATEMENT: usize = 10_000;

/// Inserts rows by `unnest`: PostgreSQL refuses COPY FROM under row security.
pub(crate) async fn insert_many(
    pools: &Pools,
    caller: &std::sync::Arc<Caller>,
    table: &str,
    columns: &[&str],
    rows: &[Params<'_>],
) -> Result<u64, Error> {
    if let Some(row) = rows.iter().find(|row| row.len() != columns.len()) {
        let message = format!("a row has {} values for {} columns", row.len(), columns.len());
        return Err(Error::new(ErrorKind::Parameter, message));
    }
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = statement(pools, caller, table, columns).await?;
    if rows.len() <= ROWS_PER_STATEMENT {
        let arrays = arrays(columns.len(), rows);
        return Ok(pools.query(caller, &sql, &parameters(&arrays)).await?.affected);
    }
    let mut transaction = pools.begin(caller.clone()).await?;
    let mut inserted = 0;
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let arrays = arrays(columns.len(), rows);
        inserted += transaction.query(&sql, &parameters(&arrays)).await?.affected;
    }
    transaction.commit().await?;
    Ok(inserted)
}

/// The insert, with the columns' types: `unnest` can't infer them.
async fn statement(pools: &Pools, caller: &Caller, table: &str, columns: &[&str]) -> Result<String, Error> {
    let table = quoted(table);
    let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let names = names.join(", ");
    // Refuses what is no table or column of the tenant's, by PostgreSQL's own words.
    let probe = format!("select {names} from {table} where false");
    let sql = "select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.unnest($2::text[]) with ordinality c (name, n) \
               join pg_catalog.pg_attribute a on a.attname = c.name and a.attrelid = $1::text::regclass order by c.n";
    pools.query(caller, &probe, &[]).await?;
    let types = pools.query(caller, sql, &[&table, &columns]).await?;
    let mut arrays = Vec::with_capacity(columns.len());
    for (n, row) in types.rows.iter().enumerate() {
        let type_: &str = row
            .get(0)
            .map_err(|error| Error::new(ErrorKind::Column, error.to_string()))?;
        arrays.push(format!("pg_catalog.unnest(${}::{type_}[])", n + 1));
    }
    Ok(format!(
        "insert into {table} ({names}) select * from rows from ({})",
        arrays.join(", ")
    ))
}

/// An identifier of the application's: whatever it holds, it names one thing.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn arrays<'a>(columns: usize, rows: &'a [Params<'a>]) -> Vec<ColumnOf<'a>> {
    (0..columns).map(|column| ColumnOf { rows, column }).collect()
}

fn parameters<'a>(arrays: &'a [ColumnOf<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    arrays.iter().map(|array| array as _).collect()
}

/// One column of the rows, sent as an array.
#[derive(Debug)]
struct ColumnOf<'a> {
    rows: &'a [Params<'a>],
    column: usize,
}

impl ToSql for ColumnOf<'_> {
    fn to_sql(&self, type_: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Kind::Array(element) = type_.kind() else {
            return Err("not an array".into());
        };
        // One dimension; nulls may occur; the element type; how many; counted from 1.
        out.put_i32(1);
        out.put_i32(1);
        out.put_u32(element.oid());
        out.put_i32(i32::try_from(self.rows.len())?);
        out.put_i32(1);
        for row in self.rows {
            let start = out.len();
            out.put_i32(-1);
            if let IsNull::No = encode_value(row[self.column], element, out)? {
                let length = i32::try_from(out.len() - start - 4)?;
                out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(type_: &Type) -> bool {
        matches!(type_.kind(), Kind::Array(_))
    }

    to_sql_checked!();
}
