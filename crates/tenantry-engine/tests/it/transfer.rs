//! A tenant's rows in another home: the same, all of them, and nobody else's.

use std::time::Duration;

use tenantry_core::TenantId;
use tenantry_engine::{
    isolate::Derived,
    transfer::{
        End, HistoryAhead, Levelled, RowsAhead, Shared, TransferError, Verified, carry_history, carry_jobs,
        carry_sequences, copy, foreign_rows, verify,
    },
};
use tenantry_sql::Identifier;
use tokio_postgres::Client;

use crate::support::{World, derived, files, tenant};

const TABLES: &str = "
create type mood as enum ('fine', 'low');
create type place as (street text, mood mood);
create domain short as text check (length(value) < 20);
create table zones (id uuid primary key default gen_random_uuid(), name short not null unique);
create table everything (
  id bigint generated always as identity primary key,
  zone uuid references zones,
  boss bigint references everything,
  small smallint, whole integer, large bigint, real real, double double precision, exact numeric(30, 10), any_numeric numeric,
  money money, flag boolean, bits bit(5), varbits bit varying,
  text text, name name, fixed char(5), short short, bytes bytea,
  day date, clock time, clock_zone timetz, at timestamp, at_zone timestamptz, span interval,
  json json, jsonb jsonb, xml xml,
  numbers integer[], texts text[], nested integer[][], moods mood[], mood mood, place place, places place[],
  net inet, block cidr, mac macaddr, vector tsvector, query tsquery,
  range int4range, many int4multirange, spans tstzrange, path point, shape polygon,
  twice integer generated always as (whole * 2) stored);
create table \"Odd \"\"Name\"\"\" (\"a b\" serial primary key, \"select\" text);
create table parts (id bigint, part int, primary key (id, part)) partition by list (part);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
create table heap (word text);
create table hashes (hash bigint primary key, rows text);
";

const ROWS: &str = r#"
insert into zones (name) values ('north'), ('süd''s');
insert into everything (zone, small, whole, large, real, double, exact, any_numeric, money, flag, bits, varbits, text, name, fixed,
    short, bytes, day, clock, clock_zone, at, at_zone, span, json, jsonb, xml, numbers, texts, nested, moods, mood, place, places, net,
    block, mac, vector, query, range, many, spans, path, shape)
  select (select id from zones where name = 'north'), -32768, 2147483647 / 2, 9223372036854775807, 'NaN', 'Infinity', 12345678901234567890.0123456789,
    'NaN', 12.34, true, '10101', '1', E'tab\tnew\nline \\ quote''s', 'a name', 'ab', 'short', '\x00ff5c0a', 'infinity', '24:00',
    '12:00:00.123456+15:59', '-infinity', '4713-01-01 00:00:00 BC', '1 year 2 mons -3 days 04:05:06.789', '{"b": 1, "b":  2}', '{"b": [1, null, "x"]}',
    '<a>b</a>', '{1,NULL,3}', '{"","NULL",NULL,"a\"b,c"}', '[0:1][2:3]={{1,2},{3,4}}', '{fine,low}', 'low', '("a,b ""c""",fine)',
    '{"(x,low)","(,)"}', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', 'a:1A fat:2', 'a & !b',
    '[1,5)', '{[1,2),[5,)}', '(,2020-01-01 00:00:00+00]', '(1.5,-2)', '((0,0),(1,1),(2,0))';
insert into everything (boss, text) select (select min(id) from everything), (select string_agg(md5(n::text), '') from generate_series(1, 4000) n);
insert into everything (boss, any_numeric, double, real) select id, '-Infinity', '-0', '-Infinity' from everything where zone is not null;
insert into everything (whole) select n from generate_series(1, 3000) n;
insert into "Odd ""Name""" ("select") values ('x'), (null);
insert into parts values (1, 1), (1, 2), (2, 1);
insert into heap values ('same'), ('same'), (null);
"#;

const SCHEMA: &str = "t_own";

struct Homes {
    one: World,
    other: World,
}

/// A schema of a world, with the world's mover.
struct Side<'a> {
    world: &'a World,
    schema: Identifier,
    mover: Identifier,
}

impl<'a> Side<'a> {
    fn new(world: &'a World, schema: &str) -> Self {
        Self {
            world,
            schema: Identifier::new(schema).unwrap(),
            mover: world.target(schema).mover,
        }
    }

    fn end(&self) -> End<'_> {
        End {
            client: &self.world.admin,
            schema: &self.schema,
            mover: &self.mover,
        }
    }
}

async fn derive_all() -> Derived {
    derived(&files(&[("0001_all.sql", TABLES)])).await.unwrap()
}

async fn fill(world: &World, schema: &str, tenant: TenantId) {
    world.as_tenant_in(schema, tenant, ROWS).await.unwrap();
}

impl Homes {
    /// Two databases with shared tables and an own schema each, and two tenants in the first one's shared tables.
    async fn new() -> Self {
        let derived = derive_all().await;
        let homes = Self {
            one: World::new().await,
            other: World::new().await,
        };
        for world in [&homes.one, &homes.other] {
            world.apply(&derived).await.unwrap();
            world.make_schema(SCHEMA).await;
            world.apply_to(SCHEMA, &derived, &[]).await.unwrap();
        }
        fill(&homes.one, "app", tenant(1)).await;
        fill(&homes.one, "app", tenant(2)).await;
        homes
    }
}

/// As a move within a database does, which reads and writes by two connections.
async fn within(world: &World, from: &str, to: &str) -> Result<Vec<Verified>, TransferError> {
    let reader = world.database.connect().await;
    let (from, to) = (Side::new(world, from), Side::new(world, to));
    let from = End {
        client: &reader,
        ..from.end()
    };
    let rows = RowsAhead::bring(from, to.end(), tenant(1), &mut |_| ()).await?;
    let levelled = rows.level(from, to.end()).await?;
    assert_eq!(levelled.brought, 0, "nobody has written");
    Ok(levelled.tables)
}

async fn between(from: (&World, &str), to: (&World, &str)) -> Result<Vec<Verified>, TransferError> {
    let (from, to) = (Side::new(from.0, from.1), Side::new(to.0, to.1));
    copy(from.end(), to.end(), tenant(1), None, &mut |_| ()).await?;
    foreign_rows(to.end(), tenant(1)).await?;
    verify(from.end(), to.end(), tenant(1), None).await
}

/// Everything a tenant sees, as text.
async fn seen(world: &World, schema: &str, tenant: TenantId) -> String {
    let mut all = String::new();
    for table in ["zones", "everything", "\"Odd \"\"Name\"\"\"", "parts", "heap"] {
        all += &world
            .ask_in(
                schema,
                tenant,
                &format!("select string_agg(t::text, chr(10) order by t::text) from {table} t"),
            )
            .await;
    }
    all
}

#[tokio::test]
async fn a_tenant_goes_round_all_homes_and_is_the_same() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    let before = seen(one, "app", tenant(1)).await;
    let neighbour = seen(one, "app", tenant(2)).await;
    assert!(before.contains("NaN") && before.len() > 100_000);

    let to_own = within(one, "app", SCHEMA).await.unwrap();
    assert_eq!(
        to_own.iter().find(|table| table.table == "everything").unwrap().rows,
        3003
    );
    assert_eq!(seen(one, SCHEMA, tenant(1)).await, before);
    let to_other_own = between((one, SCHEMA), (other, SCHEMA)).await.unwrap();
    let to_other_shared = within(other, SCHEMA, "app").await.unwrap();
    // Back to where it came from, whose rows are thrown away first.
    let back = between((other, "app"), (one, "app")).await.unwrap();
    for way in [&to_other_own, &to_other_shared, &back] {
        assert_eq!(way, &to_own, "the same rows and checksums");
    }
    for (world, schema) in [(one, "app"), (other, "app"), (other, SCHEMA)] {
        assert_eq!(seen(world, schema, tenant(1)).await, before);
    }
    assert_eq!(
        seen(one, "app", tenant(2)).await,
        neighbour,
        "nobody else's rows were touched"
    );
    assert_eq!(
        other
            .all("select count(*) from app.everything where tenant_id <> '00000000-0000-0000-0000-000000000001'")
            .await,
        "0"
    );
    assert_eq!(
        one.all(
            "select count(*) from pg_stat_activity where state = 'idle in transaction' and datname = current_database()"
        )
        .await,
        "0"
    );
}

/// Writes all that a comparison has to find.
const MEANWHILE: &str = r#"
update everything set text = 'changed' where id in (select id from everything where whole = 7);
delete from everything where whole between 20 and 40;
insert into everything (whole) select -n from generate_series(1, 30) n;
update "Odd ""Name""" set "select" = 'it''s "a" \ {b}';
insert into "Odd ""Name""" ("select") values (null);
update parts set id = 5 where id = 2;
insert into heap values ('new');
delete from heap where word = 'same';
"#;

#[tokio::test]
async fn what_was_written_since_the_copy_is_levelled_and_only_that() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    let neighbour = seen(one, "app", tenant(2)).await;
    let reader = one.database.connect().await;
    let at_home = Side::new(one, "app");
    for to in [Side::new(one, SCHEMA), Side::new(other, "app")] {
        let from = End {
            client: &reader,
            ..at_home.end()
        };
        let rows = RowsAhead::bring(from, to.end(), tenant(1), &mut |_| ()).await.unwrap();
        one.as_tenant_in("app", tenant(1), MEANWHILE).await.unwrap();
        // Who is no application has written there, too.
        to.world
            .run(&format!(
                "delete from {schema}.everything where tenant_id = '{tenant}' and whole = 500;
                 update {schema}.everything set text = 'never written' where tenant_id = '{tenant}' and whole = 501;
                 insert into {schema}.zones (tenant_id, name) values ('{tenant}', 'too many')",
                schema = to.schema,
                tenant = tenant(1).as_uuid()
            ))
            .await;
        let Levelled { tables, brought } = rows.level(from, to.end()).await.unwrap();
        assert!((30..100).contains(&brought), "{brought}");
        let now = seen(one, "app", tenant(1)).await;
        assert!(now.contains("changed") && now.contains("{b}"));
        assert_eq!(seen(to.world, to.schema.as_str(), tenant(1)).await, now);
        let again = rows.level(from, to.end()).await.unwrap();
        assert_eq!((&again.tables, again.brought), (&tables, 0));
        let verified = verify(from, to.end(), tenant(1), None).await.unwrap();
        assert_eq!(verified, tables);
        one.as_tenant_in("app", tenant(1), "delete from parts where id = 5")
            .await
            .unwrap();
    }
    assert_eq!(seen(one, "app", tenant(2)).await, neighbour);
}

#[tokio::test]
async fn of_a_large_table_only_parts_that_differ_are_looked_into() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    let many = "insert into everything (whole, text) select n, md5(n::text) from generate_series(10000, 40000) n";
    one.as_tenant_in("app", tenant(1), many).await.unwrap();
    let hashes = "insert into hashes select n, n::text from generate_series(1, 20001) n";
    one.as_tenant_in("app", tenant(1), hashes).await.unwrap();
    let (from, to) = (Side::new(one, "app"), Side::new(other, SCHEMA));
    let rows = RowsAhead::bring(from.end(), to.end(), tenant(1), &mut |_| ())
        .await
        .unwrap();
    one.as_tenant_in("app", tenant(1), MEANWHILE).await.unwrap();
    one.as_tenant_in(
        "app",
        tenant(1),
        "update everything set text = 'x' where whole between 20000 and 22000",
    )
    .await
    .unwrap();
    one.as_tenant_in(
        "app",
        tenant(1),
        "update hashes set rows = 'x' where hash = 77; delete from hashes where hash > 20000",
    )
    .await
    .unwrap();
    let levelled = rows.level(from.end(), to.end()).await.unwrap();
    assert!((2031..2100).contains(&levelled.brought), "{}", levelled.brought);
    assert_eq!(seen(other, SCHEMA, tenant(1)).await, seen(one, "app", tenant(1)).await);
    let verified = verify(from.end(), to.end(), tenant(1), None).await.unwrap();
    assert_eq!(verified, levelled.tables);
}

#[tokio::test]
async fn what_does_not_become_the_same_is_named_and_nothing_is_changed() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    let (from, to) = (Side::new(one, "app"), Side::new(other, "app"));
    let rows = RowsAhead::bring(from.end(), to.end(), tenant(1), &mut |_| ())
        .await
        .unwrap();
    let before = seen(other, "app", tenant(1)).await;
    one.as_tenant_in(
        "app",
        tenant(1),
        "update zones set name = 'south' where name = 'north'; insert into heap values ('new')",
    )
    .await
    .unwrap();
    // Triggers are off where tenants are moved, but for those that somebody wants always.
    other
        .run(
            "create function public.shout() returns trigger language plpgsql as $$ begin new.name := upper(new.name); return new; end $$;
             grant execute on function public.shout() to public;
             create trigger shout before insert on app.zones for each row execute function public.shout();
             alter table app.zones enable always trigger shout;",
        )
        .await;
    let error = rows.level(from.end(), to.end()).await.unwrap_err();
    let TransferError::Differs(tables) = &error else {
        panic!("{error}")
    };
    assert_eq!(tables.len(), 1, "{error}");
    assert_eq!(
        (&*tables[0].table, tables[0].source_rows, tables[0].keys.len()),
        ("zones", 2, 1)
    );
    assert_eq!(seen(other, "app", tenant(1)).await, before);
}

#[tokio::test]
async fn rows_that_differ_are_named() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    between((one, "app"), (other, "app")).await.unwrap();
    other
        .run(
            "update app.everything set text = 'another' where id = 7;
             delete from app.everything where id = 9;
             delete from app.heap where ctid = (select min(ctid) from app.heap)",
        )
        .await;
    let (from, to) = (Side::new(one, "app"), Side::new(other, "app"));
    let differs = verify(from.end(), to.end(), tenant(1), None).await;
    let Err(TransferError::Differs(tables)) = &differs else {
        panic!("{differs:?}");
    };
    let found: Vec<_> = tables
        .iter()
        .map(|table| (&*table.table, table.source_rows, table.target_rows))
        .collect();
    assert_eq!(found, [("heap", 3, 2), ("everything", 3003, 3002)]);
    assert_eq!(tables[1].keys, ["(7)", "(9)"]);
    assert_eq!(tables[0].keys.len(), 1);
}

#[tokio::test]
async fn homes_of_another_structure_are_refused_and_nothing_is_copied() {
    let homes = Homes::new().await;
    homes
        .one
        .run(&format!("alter table {SCHEMA}.heap add column more int"))
        .await;
    let refused = within(&homes.one, "app", SCHEMA).await.unwrap_err();
    assert!(matches!(refused, TransferError::Structure { .. }), "{refused}");
    assert!(refused.to_string().contains("more of heap"), "{refused}");
    homes.one.run(&format!("drop table {SCHEMA}.heap")).await;
    let refused = within(&homes.one, "app", SCHEMA).await.unwrap_err();
    assert!(refused.to_string().contains("lacks the table heap"), "{refused}");
    assert_eq!(
        homes.one.all(&format!("select count(*) from {SCHEMA}.zones")).await,
        "0"
    );
}

async fn last(client: &Client, sequence: &str) -> Option<i64> {
    let ask = format!("select pg_sequence_last_value('{sequence}'::regclass)");
    client.query_one(&ask, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn shared_sequences_only_go_on_and_own_ones_stand_where_the_old_did() {
    let homes = Homes::new().await;
    let (one, other) = (&homes.one, &homes.other);
    let (app, own) = (Side::new(other, "app"), Side::new(other, SCHEMA));
    let (from, owner) = (Side::new(one, "app"), other.target("app").owner);
    let shared = "app.everything_id_seq";
    let stands = last(&one.admin, shared).await.unwrap();
    let carry = async |from: &Side<'_>, to: &Side<'_>, shared| {
        let carried = carry_sequences(from.end(), to.end(), &owner, tenant(1), shared, None).await;
        carried.unwrap();
    };
    carry(&from, &own, Shared::No).await;
    let stood = last(&other.admin, &format!("{SCHEMA}.everything_id_seq")).await;
    assert_eq!(stood, Some(stands));
    // Nobody has drawn: it is taken far on under a lock, past a number that was written by hand.
    let by_hand = format!(
        "insert into app.everything (tenant_id, id) overriding system value values ('{}', {})",
        tenant(1).as_uuid(),
        stands + 500_000
    );
    one.run(&by_hand).await;
    carry(&from, &app, Shared::Yes).await;
    assert_eq!(last(&other.admin, shared).await, Some(stands + 500_000));
    // A little behind, while somebody has drawn in a transaction that is open: it is drawn on.
    one.run(&format!("select setval('{shared}', {})", stands + 500_009))
        .await;
    let busy = other.connect().await;
    let draw = format!("begin; select nextval('{shared}')");
    busy.batch_execute(&draw).await.unwrap();
    carry(&from, &app, Shared::Yes).await;
    assert_eq!(last(&other.admin, shared).await, Some(stands + 500_009));
    // And never back.
    carry(&own, &app, Shared::Yes).await;
    assert_eq!(last(&other.admin, shared).await, Some(stands + 500_009));
}

#[tokio::test]
async fn rows_that_lead_to_no_row_of_a_reference_table_are_told() {
    let reference = "-- tenantry: reference\ncreate table countries (code text primary key);";
    let derived = derived(&files(&[
        ("0001_countries.sql", reference),
        (
            "0002_people.sql",
            "create table people (id int primary key, country text references countries (code));",
        ),
    ]))
    .await
    .unwrap();
    let (one, other) = (World::new().await, World::new().await);
    for world in [&one, &other] {
        world.apply(&derived).await.unwrap();
        world.run("insert into app.countries values ('ch')").await;
    }
    one.run("insert into app.countries values ('at')").await;
    one.as_tenant(tenant(1), "insert into people values (1, 'ch'), (2, 'at'), (3, null)")
        .await
        .unwrap();
    let orphans = between((&one, "app"), (&other, "app")).await.unwrap_err();
    assert!(
        orphans.to_string().starts_with("1 rows of people refer by"),
        "{orphans}"
    );
    other.run("insert into app.countries values ('at')").await;
    between((&one, "app"), (&other, "app")).await.unwrap();
}

#[tokio::test]
async fn jobs_are_signed_by_their_new_database_unless_they_were_changed_by_hand() {
    let (one, other) = (World::new().await, World::new().await);
    let enqueue = |kind: &str| {
        format!("select tenantry.enqueue(gen_random_uuid(), '{kind}', '{{}}', '0', 0::int2, 5::int2, null)")
    };
    for (who, kind) in [(1, "kept"), (1, "running"), (1, "changed"), (2, "other")] {
        one.as_tenant(tenant(who), &enqueue(kind)).await.unwrap();
    }
    one.as_tenant(
        tenant(1),
        "select tenantry.schedule_set('nightly', '0 3 * * *', 'UTC', 0::int2, 'kept', '{}', 0::int2, 5::int2)",
    )
    .await
    .unwrap();
    one.run(
        "update tenantry_private.job set payload = '[]' where kind = 'changed';
         update tenantry_private.job set state = 1, attempt = 1, lease = 7, leased_until = now() + '1 h', worker = 'w' where kind = 'running'",
    )
    .await;
    for _ in 0..2 {
        assert_eq!(carry_jobs(&one.admin, &other.admin, tenant(1), None).await.unwrap(), 4);
    }
    let genuine = "select string_agg(kind || ' ' || state || ' ' || attempt || ' ' || (mac is not distinct from tenantry_private.job_mac(kid, j)), ', ' order by kind)
                     from tenantry_private.job j";
    assert_eq!(
        other.all(genuine).await,
        "changed 0 0 false, kept 0 0 true, running 0 0 true"
    );
    let schedules = "select string_agg(name || ' ' || (mac is not distinct from tenantry_private.schedule_mac(kid, s)), ', ') from tenantry_private.schedule s";
    assert_eq!(other.all(schedules).await, "nightly true");
    assert_eq!(
        one.all("select count(*) from tenantry_private.job").await,
        "4",
        "the old home's stay until it is removed"
    );
    // All of them were done since: what an earlier try has brought goes.
    one.run("delete from tenantry_private.job; delete from tenantry_private.schedule")
        .await;
    for _ in 0..2 {
        assert_eq!(carry_jobs(&one.admin, &other.admin, tenant(1), None).await.unwrap(), 0);
        assert_eq!(other.all("select count(*) from tenantry_private.job").await, "0");
        assert_eq!(other.all("select count(*) from tenantry_private.schedule").await, "0");
    }
}

#[tokio::test]
async fn the_history_of_rows_goes_along_whole_and_no_other_tenants() {
    let (one, other) = (World::new().await, World::new().await);
    let asked = "-- tenantry: history notes\ncreate table notes (id int primary key, text text);\n";
    let asked = derived(&files(&[("0001_notes.sql", asked)])).await.unwrap();
    for world in [&one, &other] {
        world.apply(&asked).await.unwrap();
    }
    for who in [1, 2] {
        let acts = "insert into notes values (1, 'a'), (2, 'b'); update notes set text = 'c' where id = 1; delete from notes where id = 2";
        one.as_tenant(tenant(who), acts).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(
            carry_history(&one.admin, &other.admin, tenant(1), None).await.unwrap(),
            4
        );
    }
    let whole = "select string_agg(h::text, chr(10) order by h.id) from tenantry_private.history h";
    let first = format!("{whole} where h.tenant = '{}'", tenant(1));
    assert_eq!(other.all(whole).await, one.all(&first).await);
    assert_eq!(
        one.all("select count(*) from tenantry_private.history").await,
        "8",
        "the old home's stay until it is removed"
    );
}

/// All but the last of it goes while the tenant works; what comes late, and what is taken out meanwhile, is not lost or kept.
#[tokio::test]
async fn a_long_history_is_brought_before_the_fence_closes() {
    let (one, other) = (World::new().await, World::new().await);
    let asked = "-- tenantry: history notes\ncreate table notes (id int primary key, text text);\n";
    let asked = derived(&files(&[("0001_notes.sql", asked)])).await.unwrap();
    for world in [&one, &other] {
        world.apply(&asked).await.unwrap();
    }
    let write = "insert into notes select n, 'a' from generate_series(1, 5500) as n";
    one.as_tenant(tenant(1), write).await.unwrap();
    one.as_tenant(tenant(2), "insert into notes values (1, 'b')")
        .await
        .unwrap();
    // An hour old.
    one.run(
        "update tenantry_private.history
            set at = at - interval '1 h', id = tenantry_private.history_id(at - interval '1 h', substr(uuid_send(id), 9))",
    )
    .await;
    let bring = async || {
        let mut ahead = HistoryAhead::begin(&one.admin, &other.admin, tenant(1), Duration::from_secs(10))
            .await
            .unwrap()
            .unwrap();
        assert!(ahead.bring(&one.admin, &other.admin, tenant(1)).await.unwrap());
        assert!(!ahead.bring(&one.admin, &other.admin, tenant(1)).await.unwrap());
        ahead
    };
    let carry = async |ahead| {
        carry_history(&one.admin, &other.admin, tenant(1), Some(ahead))
            .await
            .unwrap()
    };
    let whole = "select count(*) || ' ' || coalesce(md5(string_agg(h::text, chr(10) order by h.id)), '') from tenantry_private.history h";
    let first = format!("{whole} where h.tenant = '{}'", tenant(1));

    let ahead = bring().await;
    one.as_tenant(tenant(1), "update notes set text = 'late' where id <= 3")
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(carry(&ahead).await, 3, "what came since");
    }
    assert_eq!(other.all(whole).await, one.all(&first).await);

    let ahead = bring().await;
    one.run(
        "delete from tenantry_private.history where id in (select id from tenantry_private.history order by id limit 5)",
    )
    .await;
    assert_eq!(carry(&ahead).await, 3, "what was forgotten meanwhile is not taken anew");
    assert_eq!(other.all(whole).await, one.all(&first).await);

    // By hand, and not the oldest.
    let ahead = bring().await;
    one.run(&format!(
        "delete from tenantry_private.history where id = (select id from tenantry_private.history
          where tenant = '{}' and at < now() - interval '30 min' order by id desc limit 1)",
        tenant(1).as_uuid()
    ))
    .await;
    assert!(carry(&ahead).await > 5000, "all of it is taken anew");
    assert_eq!(other.all(whole).await, one.all(&first).await);

    // All of it was forgotten.
    let ahead = bring().await;
    one.run("delete from tenantry_private.history").await;
    assert_eq!(carry(&ahead).await, 0);
    assert_eq!(other.all(whole).await, "0 ");
}
