//! The source's rows into an empty tenant, in one transaction: all of them, verified, or none.

use futures_util::{SinkExt, TryStreamExt, pin_mut};
use tenantry_core::TenantId;
use tokio_postgres::{Client, Transaction};

use super::{AdoptError, Source, verify};

/// The tenant that receives the rows.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose rows they become.
    pub tenant: TenantId,
    /// The schema with the tenant's tables, by its plain name.
    pub schema: String,
}

/// What arrived, as verified before the commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Every table of the source, in the order of its creation.
    pub tables: Vec<CopiedTable>,
}

/// One table's copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopiedTable {
    /// The table's plain name.
    pub table: String,
    /// How many rows it has on both sides.
    pub rows: i64,
}

/// Told after each table: its name, its rows, how many tables are done and how many there are.
pub type Progress<'a> = &'a mut (dyn FnMut(&CopiedTable, usize, usize) + Send);

/// A table of the source, with its names quoted for SQL.
pub(super) struct SourceTable {
    pub(super) name: String,
    pub(super) quoted: String,
    /// The columns that take values: all but generated ones.
    pub(super) columns: String,
    /// The same, by their plain names.
    pub(super) column_names: Vec<String>,
}

/// A sequence of the source that a column draws from, and where it stands.
struct Counter {
    table: String,
    column: String,
    last_value: i64,
}

/// Copies every row of the source into the tenant and verifies each table by count and checksum before it commits.
///
/// `client` is connected to the tenant database as the administrator or the mover: it must bypass row security and may
/// set `session_replication_role`, so that triggers, whose effects the rows already show, don't run twice.
///
/// # Errors
///
/// Any [`AdoptError`]; the tenant is then as empty as it was.
///
/// # Cancel safety
///
/// Dropping the future ends the connection's transaction; nothing is kept.
pub async fn copy(
    source: &Source,
    client: &mut Client,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Copied, AdoptError> {
    let tables = tables(source).await?;
    let transaction = client.transaction().await.map_err(AdoptError::target("begin"))?;
    prepare(&transaction, target).await?;
    one_at_a_time(&transaction, target).await?;
    let mut copied = Copied::default();
    for table in &tables {
        refuse_filled(&transaction, target, table).await?;
    }
    for table in &tables {
        copy_table(source, &transaction, target, table).await?;
        let rows = verify::same_rows(source, &transaction, target, table).await?;
        copied.tables.push(CopiedTable {
            table: table.name.clone(),
            rows,
        });
        if let Some(last) = copied.tables.last() {
            progress(last, copied.tables.len(), tables.len());
        }
    }
    verify::foreign_keys(&transaction, target).await?;
    for counter in counters(source).await? {
        advance(&transaction, &counter).await?;
    }
    transaction.commit().await.map_err(AdoptError::target("commit"))?;
    Ok(copied)
}

pub(super) async fn tables(source: &Source) -> Result<Vec<SourceTable>, AdoptError> {
    // Rows of partitions are read through their table, and land in the right partition again.
    const TABLES: &str = "
        select c.relname, quote_ident(c.relname),
               coalesce(string_agg(quote_ident(a.attname), ', ' order by a.attnum), ''),
               coalesce(array_agg(a.attname::text order by a.attnum) filter (where a.attnum is not null), '{}')
        from pg_class c
        left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = quote_ident($1)::regnamespace
          and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
        group by c.oid, c.relname
        order by c.oid";
    let rows = source
        .client
        .query(TABLES, &[&source.schema])
        .await
        .map_err(AdoptError::read("tables"))?;
    Ok(rows
        .iter()
        .map(|row| SourceTable {
            name: row.get(0),
            quoted: row.get(1),
            columns: row.get(2),
            column_names: row.get(3),
        })
        .collect())
}

async fn prepare(transaction: &Transaction<'_>, target: &Target) -> Result<(), AdoptError> {
    const FORMATS: &str = "
        set local datestyle = 'iso, ymd';
        set local intervalstyle = 'postgres';
        set local timezone = 'UTC';
        set local extra_float_digits = 1;
        set local bytea_output = 'hex';
        set local row_security = off;
        set local statement_timeout = 0";
    transaction
        .batch_execute(FORMATS)
        .await
        .map_err(AdoptError::target("set the formats of values"))?;
    transaction
        .batch_execute("set local session_replication_role = replica")
        .await
        .map_err(AdoptError::target(
            "turn triggers off (its administrator has to be a superuser for this)",
        ))?;
    transaction
        .execute(
            "select set_config('search_path', quote_ident($1) || ', tenantry_ext', true)",
            &[&target.schema],
        )
        .await
        .map_err(AdoptError::target("set the search path"))?;
    Ok(())
}

/// Two copies at once would both find the tenant empty.
async fn one_at_a_time(transaction: &Transaction<'_>, target: &Target) -> Result<(), AdoptError> {
    transaction
        .execute(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))",
            &[&format!("tenantry adopt {}", target.tenant)],
        )
        .await
        .map_err(AdoptError::target("wait for another copy"))?;
    Ok(())
}

async fn refuse_filled(transaction: &Transaction<'_>, target: &Target, table: &SourceTable) -> Result<(), AdoptError> {
    let filled = format!("select exists (select from {} where tenant_id = $1)", table.quoted);
    let row = transaction
        .query_one(&filled, &[target.tenant.as_uuid()])
        .await
        .map_err(AdoptError::target("look for rows of the tenant"))?;
    if row.get(0) {
        Err(AdoptError::NotEmpty {
            table: table.name.clone(),
        })
    } else {
        Ok(())
    }
}

async fn copy_table(
    source: &Source,
    transaction: &Transaction<'_>,
    target: &Target,
    table: &SourceTable,
) -> Result<(), AdoptError> {
    let failed = |source| AdoptError::Copy {
        table: table.name.clone(),
        source,
    };
    let columns = if table.columns.is_empty() {
        String::new()
    } else {
        format!(", {}", table.columns)
    };
    let read = format!(
        "copy (select '{}'::uuid{columns} from {}) to stdout",
        target.tenant, table.quoted
    );
    let write = format!("copy {} (tenant_id{columns}) from stdin", table.quoted);
    let rows = source.client.copy_out(&read).await.map_err(failed)?;
    let sink = transaction.copy_in(&write).await.map_err(failed)?;
    pin_mut!(rows, sink);
    // One chunk at a time: the sink's back-pressure bounds what is in memory.
    while let Some(chunk) = rows.try_next().await.map_err(failed)? {
        sink.send(chunk).await.map_err(failed)?;
    }
    sink.finish().await.map_err(failed)?;
    Ok(())
}

async fn counters(source: &Source) -> Result<Vec<Counter>, AdoptError> {
    const COUNTERS: &str = "
        select quote_ident(c.relname), a.attname,
               coalesce(pg_sequence_last_value(s.oid), q.seqstart - q.seqincrement)
        from pg_class s
        join pg_sequence q on q.seqrelid = s.oid
        join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        join pg_class c on c.oid = d.refobjid
        join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
        where s.relkind = 'S' and c.relnamespace = quote_ident($1)::regnamespace
        order by s.oid";
    let rows = source
        .client
        .query(COUNTERS, &[&source.schema])
        .await
        .map_err(AdoptError::read("sequences"))?;
    Ok(rows
        .iter()
        .map(|row| Counter {
            table: row.get(0),
            column: row.get(1),
            last_value: row.get(2),
        })
        .collect())
}

/// Moves the target's sequence past the source's. Never back: in shared tables other tenants draw from it too.
async fn advance(transaction: &Transaction<'_>, counter: &Counter) -> Result<(), AdoptError> {
    const ADVANCE: &str = "
        select setval(s.seq, greatest($3, coalesce(pg_sequence_last_value(s.seq), $3)))
        from (select pg_get_serial_sequence($1, $2)::regclass as seq) s
        join pg_sequence q on q.seqrelid = s.seq
        where $3 between q.seqmin and q.seqmax";
    transaction
        .execute(ADVANCE, &[&counter.table, &counter.column, &counter.last_value])
        .await
        .map_err(AdoptError::target("advance a sequence"))?;
    Ok(())
}
