//! The raw lane: SQL from outside the application's own code, and what it leaves for others: nothing.

use std::{collections::HashSet, time::Duration};

use tenantry::{ErrorKind, PoolConfig, Role, Scope};

use crate::{dropped::dropped_after, world::World};

/// So few that a connection which changed lanes or tenants would be met at once.
fn few() -> PoolConfig {
    PoolConfig {
        connections_max: 2,
        raw_connections_max: 1,
        ..PoolConfig::default()
    }
}

/// In both tiers.
async fn worlds() -> [World; 2] {
    [World::with(few()).await, World::signed(few()).await]
}

/// In both tiers, and on another version of PostgreSQL, which reports more settings.
async fn everywhere() -> Vec<World> {
    let mut worlds = Vec::from(worlds().await);
    worlds.push(World::on(tenantry_testing::second_cluster().await, few()).await);
    worlds
}

async fn only(scope: &Scope, sql: &str) -> String {
    let rows = scope.raw().query(sql, &[]).await.unwrap().rows;
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
    rows[0][0].clone().unwrap_or_default()
}

/// What is left after something was tried by tenant `n`: every tenant sees its own rows, in both lanes.
async fn nobody_is_touched(world: &World, what: &str) {
    for n in 0..6 {
        let expected = format!("contact of {n}");
        assert_eq!(world.names(n).await, std::slice::from_ref(&expected), "{what}");
        let scope = world.scope(n).await;
        assert_eq!(
            only(&scope, "select string_agg(name, ',') from contact").await,
            expected,
            "{what}"
        );
    }
    for (_, status) in world.tenantry.pool_status() {
        assert!(status.open <= 2 && status.waiting == 0, "{what}: {status:?}");
    }
}

#[tokio::test]
async fn a_script_sees_its_tenant_in_every_isolation_and_tier() {
    for world in everywhere().await {
        for n in 0..6 {
            let scope = world.scope(n).await;
            let results = scope
                .raw()
                .script(
                    "-- two; statements\n insert into contact (id, name) values (2, 'of the script; ''quoted''');
                     select id, name, email from contact order by id;",
                )
                .await
                .unwrap();
            assert_eq!(results.len(), 2);
            assert_eq!((results[0].affected, results[0].rows.len()), (1, 0));
            assert_eq!(results[1].columns, ["id", "name", "email"]);
            let text = |text: &str| Some(text.to_owned());
            assert_eq!(
                results[1].rows,
                [
                    [text("1"), Some(format!("contact of {n}")), text("a@b.c")],
                    [text("2"), text("of the script; 'quoted'"), None],
                ]
            );
            let deleted = scope
                .raw()
                .query(
                    "delete from contact where id = $1 and email is not distinct from $2",
                    &[Some("2"), None],
                )
                .await
                .unwrap();
            assert_eq!(deleted.affected, 1);
        }
        nobody_is_touched(&world, "plain use").await;
    }
}

/// 50 to 54 of the list of pitfalls, and the attacks on a session that is used again.
const POISON: &[&str] = &[
    "deallocate all; prepare s1(int) as select name from contact; prepare a(text) as select 1; execute s1(1)",
    "declare held cursor with hold for select * from contact; fetch all held",
    "set search_path = pg_catalog; set row_security = off",
    "select set_config('search_path', 'tenantry', false), set_config('tenantry.expect', 'x', false)",
    "set statement_timeout = 1; set transaction_timeout_of_nobody.x = 1; set default_transaction_read_only = on",
    "set client_min_messages = log; set debug_print_plan = on; set work_mem = 64",
    "set session characteristics as transaction read only, isolation level serializable",
    "set datestyle = 'SQL, DMY'; set intervalstyle = 'iso_8601'; set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'",
    "select tenantry.leave()",
    "reset all",
    "set role none; set session authorization default",
    "select pg_advisory_lock(1)",
    "select setseed(0.5)",
    "set standard_conforming_strings = off",
    "set client_encoding = 'LATIN1'",
];

/// What the poison is after.
const STATE: &str = "
    select concat_ws(', ', (select count(*) from contact), current_setting('row_security'),
        current_setting('statement_timeout'), current_setting('default_transaction_read_only'), current_setting('DateStyle'),
        current_setting('standard_conforming_strings'), current_setting('client_min_messages'))";

#[tokio::test]
async fn nothing_that_a_script_leaves_in_its_session_reaches_anybody() {
    for world in everywhere().await {
        for (round, poison) in POISON.iter().enumerate() {
            // Another isolation each time.
            let n = 2 * (round % 3);
            // Some are refused, by PostgreSQL or because the connection relies on the setting; none may reach others.
            let _ = world.scope(n).await.raw().script(poison).await;
            for other in [n ^ 1, n] {
                let expected = [format!("contact of {other}")];
                assert_eq!(world.names(other).await, expected, "{poison}");
                let scope = world.scope(other).await;
                let expected = "1, on, 0, off, ISO, MDY, on, notice";
                assert_eq!(only(&scope, STATE).await, expected, "{poison}");
                let code_lane = scope.query_one(STATE, &[]).await.unwrap();
                assert_eq!(code_lane.get::<&str>(0).unwrap(), expected, "{poison}");
            }
        }
        nobody_is_touched(&world, "poisoned sessions").await;
    }
}

#[tokio::test]
async fn a_session_of_the_raw_lane_holds_no_statement_that_could_be_replaced() {
    let world = World::with(few()).await;
    // Shared tables are not hardened by default, so that the view can be read.
    if !tenantry_testing::hardened() {
        let sql = "select count(*) from pg_prepared_statements";
        assert_eq!(only(&world.scope(0).await, sql).await, "0");
    }
}

#[tokio::test]
async fn the_lanes_never_share_a_connection_and_a_raw_one_serves_once() {
    for world in worlds().await {
        let pid = "select pg_backend_pid()::text";
        let (mut raw, mut code) = (HashSet::new(), HashSet::new());
        for round in 0..6 {
            for n in [0, 1, 2, 3] {
                let scope = world.scope(n).await;
                assert!(
                    raw.insert(only(&scope, pid).await),
                    "a connection of the raw lane served twice"
                );
                let row = scope.query_one(pid, &[]).await.unwrap();
                code.insert(row.get::<String>(0).unwrap());
                assert!(raw.is_disjoint(&code), "round {round}");
            }
        }
        // The last one counts until the server has ended it.
        let raw = || {
            world
                .tenantry
                .pool_status()
                .iter()
                .map(|(_, status)| status.raw)
                .sum::<usize>()
        };
        for _ in 0..400 {
            if raw() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(raw(), 0);
    }
}

#[tokio::test]
async fn what_would_end_the_transaction_or_act_beyond_it_is_refused() {
    for world in worlds().await {
        for n in [0, 2, 4] {
            let scope = world.scope(n).await;
            for script in [
                "delete from contact; commit",
                "delete from contact; /* ; */ end",
                "delete from contact; rollback",
                "delete from contact; abort; begin",
                "delete from contact; prepare transaction 'stolen'",
                "delete from contact; do $$ begin commit; end $$",
                "delete from contact; savepoint x; rollback to x",
                "delete from contact; copy contact from stdin",
                "delete from contact; copy contact to stdout",
                "delete from contact; create temp table contact (id int)",
                "delete from contact; alter role current_user set search_path = x",
                "delete from contact; lock table contact",
                "delete from contact; notify x; listen x",
                "delete from contact; discard all",
                "delete from contact; truncate contact",
                "delete from contact; grant all on contact to public",
            ] {
                let error = scope.raw().script(script).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused, "{script}: {error}");
            }
            // More than one in a text for one: PostgreSQL takes none of them.
            let error = scope.raw().query("delete from contact; commit", &[]).await.unwrap_err();
            assert_eq!(error.database().unwrap().code(), "42601");
            // Not by a procedure of the application's either: there is none, and the transaction is a block.
            assert!(scope.raw().query("call commit_it()", &[]).await.is_err());
        }
        nobody_is_touched(&world, "refused").await;
    }
}

#[tokio::test]
async fn a_script_is_kept_whole_or_not_at_all() {
    let world = World::with(few()).await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        for script in [
            "update contact set name = 'x'; insert into contact (id, name) values (1, 'again')",
            "update contact set name = 'x'; select 1 / 0",
            "update contact set name = 'x'; select from",
        ] {
            let error = scope.raw().script(script).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Database, "{script}");
        }
    }
    nobody_is_touched(&world, "failed scripts").await;
}

#[tokio::test]
async fn a_viewer_or_a_reader_writes_nothing() {
    for world in everywhere().await {
        for n in [0, 2, 4] {
            let viewer = world.scope(n).await.at_most(Role::Viewer);
            let owner = world.scope(n).await;
            for script in [
                "insert into contact (id, name) values (9, 'x')",
                "update contact set name = 'x'",
                "delete from contact",
                "set transaction read write; update contact set name = 'x'",
                "set transaction_read_only = off; update contact set name = 'x'",
                "select set_config('transaction_read_only', 'off', true); update contact set name = 'x'",
                "reset all; update contact set name = 'x'",
                "explain analyze delete from contact",
                "with gone as (delete from contact returning 1) select * from gone",
                "select nextval('pg_catalog.nothing')",
            ] {
                assert!(viewer.raw().script(script).await.is_err(), "{script}");
                assert!(owner.raw().read_only().script(script).await.is_err(), "{script}");
            }
            assert_eq!(only(&viewer, "select count(*) from contact").await, "1");
        }
        nobody_is_touched(&world, "viewers").await;
    }
}

#[tokio::test]
async fn naming_another_tenant_gets_nothing() {
    for world in worlds().await {
        for n in 0..6 {
            let (own, other) = (world.scope(n).await, world.tenants[n ^ 1]);
            let other_hex = other.as_uuid().simple();
            let seal = format!("{other_hex}{:016x}30", 9);
            for script in [
                format!("select name from contact where tenant_id = '{other}'"),
                format!("select name from app.contact where tenant_id = '{other}'"),
                format!("set tenantry.expect = '{seal}'; select name from contact"),
                format!("select set_config('tenantry.expect', '{seal}', true); select name from contact"),
                format!("set local backtrace_functions = '{other_hex}{seal}'; select name from contact"),
                "select tenantry.enter('\\x00', '\\x00'); select name from contact".to_owned(),
                format!("update contact set tenant_id = '{other}'"),
                format!("insert into contact (tenant_id, id, name) values ('{other}', 7, 'planted')"),
                "select tenantry_private.act_for(null)".to_owned(),
            ] {
                if let Ok(results) = own.raw().script(&script).await {
                    let rows = &results.last().unwrap().rows;
                    assert!(rows.is_empty(), "{script}: {rows:?}");
                }
            }
        }
        nobody_is_touched(&world, "other tenants").await;
    }
}

#[tokio::test]
async fn time_and_size_are_bounded_whatever_the_sql_sets() {
    let world = World::with(few()).await;
    let scope = world.scope(0).await;
    let raw = scope.raw().timeout(Duration::from_millis(300));
    // Not by `pg_sleep`, which hardening takes.
    let endless = "set statement_timeout = 0; select count(*) from generate_series(1, 100000000000)";
    let error = raw.script(endless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let raw = scope.raw().result_bytes_max(100_000);
    for large in [
        "select repeat('x', 1000) from generate_series(1, 1000)",
        "select repeat('x', 50000000)",
        "select from generate_series(1, 1000000)",
        "select 1; select repeat('x', 60000); select repeat('x', 60000)",
    ] {
        let error = raw.script(large).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResultTooLarge, "{large}");
    }
    assert_eq!(raw.query("select repeat('x', 60000)", &[]).await.unwrap().rows.len(), 1);
    nobody_is_touched(&world, "bounds").await;
}

#[tokio::test]
async fn neither_lane_keeps_the_other_waiting() {
    let world = World::with(few()).await;
    let mut raw = Vec::new();
    let mut code = Vec::new();
    for task in 0..24 {
        let scope = world.scope(task % 4).await;
        raw.push(tokio::spawn({
            let scope = scope.clone();
            async move { only(&scope, "select name from contact").await }
        }));
        code.push(tokio::spawn(async move {
            let row = scope.query_one("select name from contact", &[]).await.unwrap();
            row.get::<String>(0).unwrap()
        }));
    }
    let watch = async {
        loop {
            for (_, status) in world.tenantry.pool_status() {
                assert!(status.open <= 2 && status.raw <= 1, "{status:?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let all = async {
        for (task, (raw, code)) in raw.into_iter().zip(code).enumerate() {
            let expected = format!("contact of {}", task % 4);
            assert_eq!((raw.await.unwrap(), code.await.unwrap()), (expected.clone(), expected));
        }
    };
    tokio::select! { () = watch => {}, () = all => {} }
    nobody_is_touched(&world, "both lanes").await;
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_in_the_raw_lane_too() {
    use tenantry_core::Epoch;
    use tenantry_engine::fence::{self, Closed};
    for world in worlds().await {
        let tenant = world.tenants[0];
        let scope = world.scope(0).await;
        let admin = &world.databases[0].admin;
        fence::close(admin, tenant, Epoch::FIRST, Closed::Suspended)
            .await
            .unwrap();
        let error = scope.raw().query("select 1", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantSuspended);
        fence::open(admin, tenant, Epoch::FIRST).await.unwrap();
        nobody_is_touched(&world, "suspended").await;
    }
}

#[tokio::test]
async fn a_script_dropped_at_any_await_leaves_nothing() {
    for world in worlds().await {
        for n in [0, 2, 4] {
            let scope = world.scope(n).await;
            let mut ended = 0;
            for polls in 1..300 {
                let script = "set search_path = pg_catalog; set row_security = off; reset search_path;
                              prepare a as select 1; select count(*) from generate_series(1, 20000); select 1 / 0";
                let raw = scope.raw();
                if dropped_after(polls, raw.script(script)).await {
                    ended += 1;
                }
                let other = n ^ 1;
                assert_eq!(world.names(other).await, [format!("contact of {other}")]);
                // The number of polls varies with the weather; a few ends in a row are the end.
                if ended == 3 {
                    break;
                }
            }
            assert_eq!(ended, 3, "the work never came to its end");
        }
        nobody_is_touched(&world, "dropped").await;
        let open = "select count(*)::int4 from pg_stat_activity where datname = $1 and usename like 'tn%' and xact_start is not null";
        for database in &world.databases {
            let mut left = 1;
            for _ in 0..400 {
                left = database
                    .admin
                    .query_one(open, &[&database.test.name()])
                    .await
                    .unwrap()
                    .get(0);
                if left == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(left, 0, "a transaction was left open");
        }
        // Those whose script was dropped last are still being closed.
        let raw = || {
            world
                .tenantry
                .pool_status()
                .iter()
                .map(|(_, status)| status.raw)
                .sum::<usize>()
        };
        for _ in 0..400 {
            if raw() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(raw(), 0);
    }
}

/// What is left in a session, and how one meets it who uses the session next.
const BITES: &[(&str, &str)] = &[
    ("deallocate all; prepare s1(int) as select 7", "execute s1(1)"),
    (
        "begin; declare held cursor with hold for select 7; commit",
        "fetch all held",
    ),
    (
        "set datestyle = 'SQL, DMY'",
        "select 1 / (current_setting('datestyle') = 'SQL, DMY')::int",
    ),
    (
        "set search_path = pg_catalog",
        "select 1 / (current_setting('search_path') = 'pg_catalog')::int",
    ),
    (
        "set statement_timeout = '7s'",
        "select 1 / (current_setting('statement_timeout') = '7s')::int",
    ),
    (
        "set row_security = off",
        "select 1 / (current_setting('row_security') = 'off')::int",
    ),
    (
        "select set_config('x.y', 'z', false)",
        "select 1 / (current_setting('x.y') = 'z')::int",
    ),
    (
        "select pg_advisory_lock(7)",
        "select 1 / (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())::int",
    ),
];

/// The attacks are known to bite: on a connection that is used again they do, and in the raw lane they do not.
#[tokio::test]
async fn what_poisons_a_session_that_is_used_again_poisons_no_raw_one() {
    use secrecy::ExposeSecret as _;
    if tenantry_testing::hardened() {
        return;
    }
    let world = World::with(few()).await;
    let home = &world.databases[0].home;
    let config = world.databases[0].test.cluster().config_for(
        world.databases[0].test.name(),
        &home.endpoint.user,
        home.endpoint.password.expose_secret(),
    );
    let scope = world.scope(0).await;
    for (poison, probe) in BITES {
        // First, so that a lock of the other session is not waited for.
        let inside = poison.trim_start_matches("begin; ").trim_end_matches("; commit");
        scope.raw().script(inside).await.unwrap();
        assert!(scope.raw().script(probe).await.is_err(), "{probe}");

        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        assert!(client.batch_execute(probe).await.is_err(), "{probe} before");
        client.batch_execute(poison).await.unwrap();
        client.batch_execute(probe).await.unwrap();
    }
    // `discard all` would not have undone this one.
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut known = Vec::new();
    for _ in 0..2 {
        client.batch_execute("select setseed(0.5)").await.unwrap();
        client.batch_execute("discard all").await.unwrap();
        let row = client.query_one("select random()::text", &[]).await.unwrap();
        known.push(row.get::<_, String>(0));
    }
    assert_eq!(known[0], known[1]);
    scope.raw().query("select setseed(0.5)", &[]).await.unwrap();
    assert_ne!(only(&scope, "select random()").await, known[0]);
    assert_ne!(
        scope
            .query_one("select random()::text", &[])
            .await
            .unwrap()
            .get::<String>(0)
            .unwrap(),
        known[0]
    );
}
