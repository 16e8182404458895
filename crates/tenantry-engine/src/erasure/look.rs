//! What queries see.

use tokio_postgres::{Client, types::Type};

use super::Sought;
use crate::{
    fence,
    home::{self, Acting, acting},
    roles::Roles,
    sql_error::{Doing, SqlError},
};

/// Something that names the tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Where: a table, a schema, statistics.
    pub what: String,
    /// How often.
    pub count: i64,
    /// Why it stays, where it is the record of the purge.
    pub record: Option<&'static str>,
}

/// What was looked at, and what was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    /// How many tables were looked at.
    pub tables: usize,
    /// What names the tenant.
    pub traces: Vec<Trace>,
    /// What could not be looked at, and why, as sentences.
    pub unseen: Vec<String>,
}

/// Why the fence's row stays.
const GRAVESTONE: &str =
    "the fence's gravestone: id and epoch, so that whoever still believes in the old placement is refused";

/// A table, and how it says whose its rows are.
struct Table {
    /// Quoted, with its schema.
    name: String,
    schema: String,
    /// Its columns with a tenant's id, quoted.
    columns: Vec<String>,
    readable: bool,
}

/// Looks through the connected tenant database, as its administrator: every table with a tenant's column for the id, Tenantry's own
/// tables, the tenant's schema by its name and its mark, and the planner's statistics; with [`Sought::every_row`], every column of
/// every row of every table.
///
/// # Errors
///
/// Where a statement fails. What may not be looked at is no error but part of the answer.
///
/// # Cancel safety
///
/// It only reads.
pub async fn look(client: &Client, sought: &Sought<'_>) -> Result<Looked, SqlError> {
    let mut looked = Looked::default();
    schemas(client, sought, &mut looked).await?;
    let row = client
        .query_one(
            "select rolsuper from pg_catalog.pg_roles where rolname = current_user",
            &[],
        )
        .await
        .doing("read the administrator's rights")?;
    let superuser: bool = row.get(0);
    if !superuser {
        mechanism(client, sought, &mut looked).await?;
    }
    // Row security would hide what is looked for.
    let role = match (superuser, acting(client, sought.installation).await?) {
        (true, _) => String::new(),
        (false, Acting::Mover) => format!("set local role {}", Roles::of(sought.installation).mover),
        (false, Acting::Owner) => {
            looked.unseen.push(
                "the application's tables: the administrator is no superuser and may not read past row security"
                    .to_owned(),
            );
            return Ok(looked);
        }
    };
    let read = async {
        client
            .batch_execute(&format!("begin read only; {role}"))
            .await
            .doing("begin to look")?;
        tables(client, sought, superuser, &mut looked).await?;
        if superuser {
            statistics(client, sought, &mut looked).await?;
        }
        Ok::<_, SqlError>(())
    };
    let outcome = read.await;
    // Where this fails too the connection is gone, and the transaction with it.
    let _ = client.batch_execute("rollback").await;
    outcome?;
    if !superuser {
        looked
            .unseen
            .push("statistics of columns: the administrator is no superuser".to_owned());
    }
    Ok(looked)
}

async fn schemas(client: &Client, sought: &Sought<'_>, looked: &mut Looked) -> Result<(), SqlError> {
    let name = tenantry_core::own_schema_name(sought.tenant);
    let mark = home::schema_mark(sought.installation, sought.tenant);
    let rows = client
        .query(
            "select nspname::text from pg_catalog.pg_namespace
              where nspname = $1 or pg_catalog.obj_description(oid, 'pg_namespace') = $2",
            &[&name, &mark],
        )
        .await
        .doing("look for the tenant's schema")?;
    looked.traces.extend(rows.iter().map(|row| Trace {
        what: format!("schema {}", row.get::<_, String>(0)),
        count: 1,
        record: None,
    }));
    Ok(())
}

/// Tenantry's own tables, of which an administrator who is no superuser may only ask by functions.
async fn mechanism(client: &Client, sought: &Sought<'_>, looked: &mut Looked) -> Result<(), SqlError> {
    let mut add = |what: &str, count: i64, record| {
        if count > 0 {
            let what = format!("tenantry_private.{what}");
            looked.traces.push(Trace { what, count, record });
        }
    };
    let jobs = home::count_jobs(client, sought.tenant).await?;
    add("job", jobs.jobs, None);
    add("schedule", jobs.schedules, None);
    add(
        "history",
        i64::from(home::has_history(client, sought.tenant).await?),
        None,
    );
    let stone = fence::read(client, sought.tenant).await?;
    add("fence", i64::from(stone.is_some()), Some(GRAVESTONE));
    let schema = tenantry_core::own_schema_name(sought.tenant);
    let ledgers = client
        .query_one(
            "select (select pg_catalog.count(*) from tenantry_private.migration_tenant where tenant = $1),
                    (select pg_catalog.count(*) from tenantry_private.migration where schema in ($2, $2 || '/overlay'))
                      + (select pg_catalog.count(*) from tenantry_private.migration_step where schema in ($2, $2 || '/overlay'))",
            &[sought.tenant.as_uuid(), &schema],
        )
        .await
        .doing("look through the ledger of migrations")?;
    add("migration_tenant", ledgers.get(0), None);
    add("migration", ledgers.get(1), None);
    looked.tables += 7;
    Ok(())
}

async fn list(client: &Client) -> Result<Vec<Table>, SqlError> {
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname::text,
                    array(select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a
                           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                             and a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype and a.attname in ('tenant_id', 'tenant')),
                    pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
                and n.nspname !~ '^pg_(toast|temp)'
              order by 1",
            &[],
        )
        .await
        .doing("list the tables")?;
    let table = |row: &tokio_postgres::Row| Table {
        name: row.get(0),
        schema: row.get(1),
        columns: row.get(2),
        readable: row.get(3),
    };
    Ok(rows.iter().map(table).collect())
}

async fn tables(client: &Client, sought: &Sought<'_>, superuser: bool, looked: &mut Looked) -> Result<(), SqlError> {
    for table in list(client).await? {
        let is_ours = table.schema.starts_with("tenantry");
        if !table.readable {
            // Those that functions answered for are not unseen.
            let answered = !superuser && table.schema == "tenantry_private";
            if !answered {
                looked
                    .unseen
                    .push(format!("{}: the administrator may not read it", table.name));
            }
            continue;
        }
        // Its keys are no tenant's, and nobody has a use for them here.
        if table.name == "tenantry_private.mac_key" {
            continue;
        }
        looked.tables += 1;
        let by_column = !table.columns.is_empty() && !sought.every_row;
        let count = match (by_column, sought.every_row || is_ours) {
            (true, _) => by_columns(client, sought, &table).await?,
            (false, true) => by_text(client, sought, &table).await?,
            // A reference table, or another application's: only a look at every row says something of it.
            (false, false) => continue,
        };
        if count > 0 {
            let record = (table.name == "tenantry_private.fence").then_some(GRAVESTONE);
            looked.traces.push(Trace {
                what: table.name,
                count,
                record,
            });
        }
    }
    Ok(())
}

async fn by_columns(client: &Client, sought: &Sought<'_>, table: &Table) -> Result<i64, SqlError> {
    let any: Vec<String> = table.columns.iter().map(|column| format!("{column} = $1")).collect();
    let sql = format!(
        "select pg_catalog.count(*) from {} where {}",
        table.name,
        any.join(" or ")
    );
    let row = client
        .query_typed_one(&sql, &[(sought.tenant.as_uuid(), Type::UUID)])
        .await
        .doing("look for the tenant's rows")?;
    Ok(row.get(0))
}

async fn by_text(client: &Client, sought: &Sought<'_>, table: &Table) -> Result<i64, SqlError> {
    let texts: Vec<&str> = sought.texts.iter().map(String::as_str).collect();
    let ids = sought.id_texts();
    let wanted: Vec<&str> = ids.iter().map(String::as_str).chain(texts).collect();
    let sql = format!(
        "select pg_catalog.count(*) from (select (x.*)::pg_catalog.text as r from {} as x) as rows
          where exists (select from pg_catalog.unnest($1::pg_catalog.text[]) as t where pg_catalog.strpos(r, t) > 0)",
        table.name
    );
    let row = client
        .query_typed_one(&sql, &[(&wanted, Type::TEXT_ARRAY)])
        .await
        .doing("look through the rows of a table")?;
    Ok(row.get(0))
}

/// Samples of values, which stay until the next analyze.
async fn statistics(client: &Client, sought: &Sought<'_>, looked: &mut Looked) -> Result<(), SqlError> {
    let ids = sought.id_texts();
    let wanted: Vec<&str> = ids.iter().chain(sought.texts).map(String::as_str).collect();
    let rows = client
        .query(
            "select pg_catalog.format('%I.%I', s.schemaname, s.tablename) as t, pg_catalog.count(*)
               from pg_catalog.pg_stats s
              where s.schemaname not in ('pg_catalog', 'information_schema')
                and exists (select from pg_catalog.unnest($1::pg_catalog.text[]) as t
                             where pg_catalog.strpos(pg_catalog.concat(s.most_common_vals::pg_catalog.text,
                                     s.histogram_bounds::pg_catalog.text, s.most_common_elems::pg_catalog.text), t) > 0)
              group by 1 order by 1",
            &[&wanted],
        )
        .await
        .doing("look through the statistics")?;
    looked.traces.extend(rows.iter().map(|row| {
        let table: String = row.get(0);
        Trace {
            record: (table == "tenantry_private.fence").then_some(GRAVESTONE),
            what: format!("statistics of {table}"),
            count: row.get(1),
        }
    }));
    Ok(())
}
