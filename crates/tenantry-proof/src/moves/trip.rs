//! Tenants with tables and rows that nobody has thought of go round all homes, are written to meanwhile, and are the same in each.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use tenantry_catalog::placement;
use tenantry_core::{Isolation, TenantId};
use tenantry_ops::{MoveRequest, Operation, OperationState, Ops};

use super::{
    along::{Along, WRITTEN},
    matrix::{Home, Server},
    site::{Site, operator, ops_with},
};
use crate::rng::Rng;

/// Out of shared tables, through everything, and back.
const WAY: [(Isolation, Server); 7] = [
    (Isolation::Schema, Server::One),
    (Isolation::Database, Server::One),
    (Isolation::Database, Server::Two),
    (Isolation::Schema, Server::Two),
    (Isolation::Shared, Server::Two),
    (Isolation::Database, Server::One),
    (Isolation::Shared, Server::One),
];

/// A type with values that are hard on whoever copies them.
const TYPES: [(&str, &[&str]); 31] = [
    ("smallint", &["'-32768'", "32767", "0"]),
    ("int", &["'-2147483648'", "2147483647"]),
    ("bigint", &["'-9223372036854775808'", "9223372036854775807"]),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1.10",
            "12345678901234567890.000100",
        ],
    ),
    ("numeric(12, 3)", &["'NaN'", "'-0.001'", "999999999.999"]),
    ("real", &["'NaN'", "'-Infinity'", "1.17549435e-38", "'-0'"]),
    ("double precision", &["'NaN'", "'Infinity'", "1e-300", "0.1"]),
    ("text", &["''", r"E'a\t\n\\ '' b'", "'äöü 漢字 🦀'", "LARGE"]),
    ("varchar(20)", &["'ab'", "' padded '"]),
    ("char(5)", &["'ab'", "'     '"]),
    (
        "bytea",
        &[r"'\x00ff5c0a'", "''", "decode(repeat(md5(random()::text), 100), 'hex')"],
    ),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'2024-02-29 23:59:59.999999'",
        ],
    ),
    (
        "timestamptz",
        &["'infinity'", "'4713-01-01 00:00:00 BC'", "'2024-02-29 23:59:59+05:30'"],
    ),
    (
        "date",
        &["'infinity'", "'-infinity'", "'2024-02-29'", "'0044-03-15 BC'"],
    ),
    ("time", &["'24:00'", "'00:00:00.000001'"]),
    ("timetz", &["'12:00:00.123456+15:59'"]),
    ("interval", &["'-1 year 2 mons -3 days 04:05:06.789'", "'0'"]),
    ("boolean", &["true", "false"]),
    ("uuid", &["gen_random_uuid()"]),
    ("json", &[r#"'{"b": 1, "b":  2}'"#, "'null'"]),
    ("jsonb", &[r#"'{"b": [1, null, "x"], "n": 1.10}'"#, "'null'"]),
    (
        "int[]",
        &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1][2:3]={{1,2},{3,4}}'"],
    ),
    ("text[]", &[r#"'{"","NULL",NULL,"a\"b,c"}'"#, "array['x', null]"]),
    ("mood", &["'fine'", "'so so'"]),
    ("mood[]", &[r#"'{fine,"so so"}'"#, "'{}'"]),
    ("place", &[r#"'("a,b ""c""",fine)'"#, "'(,)'"]),
    ("percent", &["0", "100"]),
    ("inet", &["'::1/64'", "'10.1.2.3'"]),
    ("bit varying", &["b''", "b'101'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    ("tsvector", &["'a:1A fat:2'", "''"]),
];

/// Too random to be compressed, so that it is stored beside the row.
const LARGE: &str = "(select string_agg(md5(random()::text || n), '') from generate_series(1, 400) n)";

/// A table: what makes it, and how its rows are written. Each row has a stamp.
pub(super) struct Table {
    pub(super) name: String,
    ddl: String,
    rows: String,
    /// Writes the row of the stamp that it is given.
    pub(super) write: String,
    /// How many of its rows others may refer to by their number.
    referable: u64,
}

/// Some tables, each with a key of its own kind, and a few rows.
fn tables(rng: &mut Rng) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for position in 0..rng.between(2, 5) {
        let next = table(rng, position, tables.last());
        tables.push(next);
    }
    tables
}

fn table(rng: &mut Rng, position: u64, before: Option<&Table>) -> Table {
    let name = match rng.chance(20) {
        true => format!("\"Odd \"\"{position}\"\" Name\""),
        false => format!("things_{position}"),
    };
    let (key, key_name, key_value) = *rng.pick(&[
        ("id bigint generated always as identity primary key", "", ""),
        ("id uuid primary key default gen_random_uuid()", "", ""),
        ("id int primary key", "id", "n"),
        (
            "part text not null, id int not null, primary key (part, id)",
            "part, id",
            "'part ' || n % 3, n",
        ),
        ("\"a b\" serial primary key", "", ""),
    ]);
    let mut columns = Vec::new();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    if !key_name.is_empty() {
        names.push(key_name.to_owned());
        values.push(key_value.to_owned());
    }
    for column in 0..rng.between(2, 9) {
        let (kind, samples) = rng.pick(&TYPES);
        columns.push(format!("c{column} {kind}"));
        names.push(format!("c{column}"));
        let mut cases: Vec<String> = samples
            .iter()
            .enumerate()
            .map(|(nth, sample)| format!("when {nth} then {}::{kind}", sample.replace("LARGE", LARGE)))
            .collect();
        cases.push("else null".to_owned());
        values.push(format!(
            "case (n + {column}) % {} {} end",
            samples.len() + 1,
            cases.join(" ")
        ));
    }
    if rng.chance(40) {
        columns.push("base int not null, twice int generated always as (base * 2) stored".to_owned());
        names.push("base".to_owned());
        values.push("n".to_owned());
    }
    if rng.chance(40) {
        columns.push("code text not null unique".to_owned());
        names.push("code".to_owned());
        values.push("'code ' || n".to_owned());
    }
    if let Some(parent) = before.filter(|before| before.referable > 0)
        && rng.chance(60)
    {
        columns.push(format!("parent int references {} (id) on delete cascade", parent.name));
        names.push("parent".to_owned());
        values.push(format!("case when n % 3 > 0 then n % {} + 1 end", parent.referable));
    }
    columns.push("stamp int not null, touched int not null default 0".to_owned());
    names.push("stamp".to_owned());
    values.push("n".to_owned());
    columns.insert(0, key.to_owned());
    let insert = |range: &str| {
        format!(
            "insert into {name} ({}) select {} from generate_series({range}) n",
            names.join(", "),
            values.join(", ")
        )
    };
    let number = *rng.pick(&[0, 1, 7, 200]);
    Table {
        referable: if key_name == "id" { number } else { 0 },
        ddl: format!("create table {name} ({});", columns.join(", ")),
        rows: insert(&format!("1, {number}")),
        write: insert("$1::int, $1::int"),
        name,
    }
}

const TYPE_DDL: &str = "create type mood as enum ('fine', 'so so');
create domain percent as int check (value between 0 and 100);
create type place as (street text, mood mood);
";

/// So many trips, each with tables of its own on one pair of servers.
pub(super) async fn run(seed: u64, trips: u64) -> Result<()> {
    // The first application is there to be replaced: each trip has a catalog database of its own.
    let site = Site::start("create table nothing (id int primary key);").await?;
    for number in 0..trips {
        let mut rng = Rng::of(seed, &[8, number]);
        let tables = tables(&mut rng);
        let online = rng.chance(50);
        let along = Rng::of(seed, &[13, number]);
        let went = trip(&site, number, &tables, online, along).await;
        let (rows, writes) =
            went.with_context(|| format!("repeat it with: cargo xtask moves --seed {seed} --trips {}", number + 1))?;
        println!(
            "{number:>4} trip: {} tables, {rows} rows and {writes} writes, the same in {} homes",
            tables.len(),
            WAY.len() + 1
        );
    }
    Ok(())
}

async fn trip(site: &Site, number: u64, tables: &[Table], online: bool, rng: Rng) -> Result<(i64, u64)> {
    let database = format!("trip_{number}");
    let admin = site.catalog.connect("postgres").await?;
    admin.batch_execute(&format!("create database {database}")).await?;
    let ddl: String = tables.iter().map(|table| table.ddl.as_str()).collect();
    let url = site.catalog.url(&database);
    let ops = ops_with(&url, online, &format!("{TYPE_DDL}{ddl}")).await?;
    ops.ensure_signing_keys().await?;
    for server in Server::ALL {
        site.add(&ops, server).await.with_context(|| ddl.clone())?;
    }
    let home = Home {
        isolation: Isolation::Shared,
        server: Server::One,
    };
    let (tenant, neighbour) = (
        site.create_with(&ops, "traveller", home).await?,
        site.create_with(&ops, "neighbour", home).await?,
    );
    for one in [tenant, neighbour] {
        fill(site, &ops, one, tables).await?;
    }
    let (first, beside) = (
        sums(site, &ops, tenant, tables).await?,
        sums(site, &ops, neighbour, tables).await?,
    );
    let application = site.application_at(&url).await?;
    let scope = application.system_context(tenant, "a trip").await?;
    let mut along = Along::new(scope, tables, rng);
    for (isolation, server) in WAY {
        let request = MoveRequest {
            to: isolation,
            server: Some(server.name().to_owned()),
            force: false,
            wait: false,
            soak: None,
        };
        let stop = AtomicBool::new(false);
        let moving = async {
            let ended = moved(&ops, tenant, &request).await;
            stop.store(true, Ordering::Relaxed);
            ended
        };
        let (ended, written) = tokio::join!(moving, along.write(&stop));
        let ended = ended?;
        ensure!(
            ended.state == OperationState::Done,
            "to {isolation}@{}: {ended:?}\n{ddl}",
            server.name()
        );
        written.with_context(|| format!("on the way to {isolation}@{}\n{ddl}", server.name()))?;
        let (admin, _) = at_home(site, &ops, tenant).await?;
        let checked = along.check(&admin, tenant).await;
        checked.with_context(|| format!("at {isolation}@{}\n{ddl}", server.name()))?;
        let now = sums(site, &ops, tenant, tables).await?;
        ensure!(
            now == first,
            "at {isolation}@{} it is another one: {first:?}, {now:?}\n{ddl}",
            server.name()
        );
        let now = sums(site, &ops, neighbour, tables).await?;
        ensure!(
            now == beside,
            "its neighbour is another one: {beside:?}, {now:?}\n{ddl}"
        );
    }
    application.close().await;
    let writes = along.acknowledged();
    ensure!(writes > 0, "nothing was written while it moved");
    Ok((first.iter().map(|(_, rows, _)| rows).sum(), writes))
}

async fn moved(ops: &Ops, tenant: TenantId, request: &MoveRequest) -> Result<Operation> {
    let begun = ops.move_tenant(&operator(), &tenant.into(), request, None).await?;
    Ok(ops.finish_move(&operator(), begun.id, &|_| ()).await?)
}

/// The administrator's connection to where a tenant lives, with its schema.
async fn at_home(site: &Site, ops: &Ops, tenant: TenantId) -> Result<(tokio_postgres::Client, String)> {
    let client = ops.catalog().client().await?;
    let located = placement::locate(ops.catalog(), &client, tenant)
        .await?
        .context("it has a home")?;
    let server = tenantry_catalog::server::find(&client, located.placement.server).await?;
    let name = server.context("the server is known")?.name;
    let server = Server::ALL
        .into_iter()
        .find(|server| server.name() == name)
        .context("it is one of ours")?;
    let admin = site.place(server).connect(&located.placement.database_name).await?;
    let schema = located.placement.schema;
    // Texts of times as of one zone, and the tables' own types by their names.
    let path = format!("set timezone = 'UTC'; set search_path = \"{schema}\"");
    admin.batch_execute(&path).await?;
    Ok((admin, schema))
}

async fn fill(site: &Site, ops: &Ops, tenant: TenantId, tables: &[Table]) -> Result<()> {
    let (admin, _) = at_home(site, ops, tenant).await?;
    for table in tables {
        let rows = table.rows.replacen(
            &format!("into {} (", table.name),
            &format!("into {} (tenant_id, ", table.name),
            1,
        );
        let rows = rows.replacen(" select ", &format!(" select '{tenant}', "), 1);
        admin.batch_execute(&rows).await.with_context(|| rows.clone())?;
    }
    Ok(())
}

/// Each table with the rows that it was filled with, and one number that stands for all of them: made here, and not by what moves them.
async fn sums(site: &Site, ops: &Ops, tenant: TenantId, tables: &[Table]) -> Result<Vec<(String, i64, String)>> {
    let (admin, _) = at_home(site, ops, tenant).await?;
    let mut sums = Vec::new();
    for Table { name, .. } in tables {
        let sql = format!(
            "select count(*), coalesce(md5(string_agg(t::text, chr(10) order by t::text collate \"C\")), '')
               from {name} t where tenant_id = '{tenant}' and stamp <= {WRITTEN}"
        );
        let row = admin.query_one(&sql, &[]).await?;
        sums.push((name.clone(), row.get(0), row.get(1)));
    }
    Ok(sums)
}
