//! Attempts on other tenants' rows, by SQL that an attacker brought into the application.

use tenantry::{Error, Scope};

use crate::world::World;

/// Every attempt is made by each tenant on its neighbour; afterwards every tenant's rows are as they were.
async fn attempt(world: &World, what: &str, sql: impl Fn(&World, usize) -> String) {
    for n in 0..6 {
        let text = sql(world, n);
        let result = world.scope(n).await.query(&text, &[]).await;
        if let Ok(rows) = result {
            for row in rows {
                let names = row.column_names().position(|name| name == "name");
                if let Some(place) = names {
                    assert_eq!(
                        row.get::<&str>(place).unwrap(),
                        format!("contact of {n}"),
                        "{what}: {text}"
                    );
                }
            }
        }
        // On the same connection, the next call of another tenant is not affected either.
        for other in 0..6 {
            assert_eq!(
                world.names(other).await,
                [format!("contact of {other}")],
                "{what}: {text}"
            );
        }
    }
}

fn neighbour(world: &World, n: usize) -> String {
    world.tenants[n ^ 1].to_string()
}

fn neighbours_schema(world: &World, n: usize) -> String {
    tenantry_core::own_schema_name(world.tenants[n ^ 1])
}

#[tokio::test]
async fn naming_another_tenant_reads_nothing() {
    let world = World::new().await;
    attempt(&world, "read", |world, n| {
        format!("select * from contact where tenant_id = '{}'", neighbour(world, n))
    })
    .await;
    attempt(&world, "read all", |_, _| {
        "select * from contact where true or 1 = 1".to_owned()
    })
    .await;
    attempt(&world, "qualified", |_, _| "select * from app.contact".to_owned()).await;
    attempt(&world, "schema", |world, n| {
        format!("select * from {}.contact", neighbours_schema(world, n))
    })
    .await;
}

#[tokio::test]
async fn naming_another_tenant_changes_nothing() {
    let world = World::new().await;
    attempt(&world, "update", |world, n| {
        format!(
            "update contact set name = 'stolen' where tenant_id = '{}' returning name",
            neighbour(world, n)
        )
    })
    .await;
    attempt(&world, "delete", |world, n| {
        format!(
            "delete from contact where tenant_id = '{}' returning name",
            neighbour(world, n)
        )
    })
    .await;
    attempt(&world, "take over", |world, n| {
        format!("update contact set tenant_id = '{}' where id = 1", neighbour(world, n))
    })
    .await;
    attempt(&world, "insert", |world, n| {
        format!(
            "insert into contact (tenant_id, id, name) values ('{}', 2, 'planted')",
            neighbour(world, n)
        )
    })
    .await;
    attempt(&world, "conflict", |world, n| {
        format!(
            "insert into contact (tenant_id, id, name) values ('{}', 1, 'x') on conflict (tenant_id, id) do update set name = 'x' returning name",
            neighbour(world, n)
        )
    })
    .await;
    attempt(&world, "merge", |world, n| {
        format!(
            "merge into contact c using (select '{}'::uuid as t) s on c.tenant_id = s.t when matched then update set name = 'x'",
            neighbour(world, n)
        )
    })
    .await;
    attempt(&world, "truncate", |_, _| "truncate contact".to_owned()).await;
}

#[tokio::test]
async fn a_reference_to_another_tenants_row_is_refused() {
    let world = World::new().await;
    for n in 0..6 {
        let own = world.scope(n).await;
        let other = world.scope(n ^ 1).await;
        other
            .execute(
                "insert into project (id, name) values ($1, 'theirs')",
                &[&(70 + n as i32)],
            )
            .await
            .unwrap();
        let error = own
            .execute("update contact set project_id = $1", &[&(70 + n as i32)])
            .await
            .unwrap_err();
        assert_eq!(error.database().unwrap().code(), "23503", "{n}");
    }
    // The same e-mail in each tenant is no conflict, and tells nothing.
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_forged_context_opens_nothing() {
    let world = World::new().await;
    let seal = |world: &World, n: usize| format!("{}{:016x}30", world.tenants[n ^ 1].as_uuid().simple(), 9);
    let carried = |world: &World, n: usize| format!("{}{}", world.tenants[n ^ 1].as_uuid().simple(), seal(world, n));
    attempt(&world, "expectation", |world, n| {
        format!(
            "select name from contact, set_config('tenantry.expect', '{}', true) e where e <> ''",
            seal(world, n)
        )
    })
    .await;
    attempt(&world, "expectation of the session", |world, n| {
        format!("select set_config('tenantry.expect', '{}', false)", seal(world, n))
    })
    .await;
    attempt(&world, "carrier", |world, n| {
        format!(
            "select set_config('backtrace_functions', '{}', false)",
            carried(world, n)
        )
    })
    .await;
    attempt(&world, "carrier by update", |world, n| {
        format!(
            "update pg_settings set setting = '{}' where name = 'backtrace_functions'",
            carried(world, n)
        )
    })
    .await;
    attempt(&world, "enter with a guess", |world, n| {
        let message = format!("{}{:064x}", world.tenants[n ^ 1].as_uuid().simple(), 1);
        format!("select tenantry.enter('\\x{message}', '\\x{:064x}')", 7)
    })
    .await;
    attempt(&world, "leave", |_, _| "select tenantry.leave()".to_owned()).await;
    attempt(&world, "the keys", |_, _| {
        "select * from tenantry_private.mac_key".to_owned()
    })
    .await;
    attempt(&world, "the fence", |_, _| {
        "update tenantry_private.fence set state = 2".to_owned()
    })
    .await;
}

#[tokio::test]
async fn settings_and_roles_open_nothing() {
    let world = World::new().await;
    for sql in [
        "select set_config('role', 'postgres', false)",
        "select set_config('session_authorization', 'postgres', false)",
        "select set_config('row_security', 'off', false)",
        "select set_config('search_path', 'pg_catalog', false)",
        "select set_config('session_replication_role', 'replica', false)",
        "select set_config('default_transaction_read_only', 'on', false)",
        "select query_to_xml('select * from contact', true, true, '')",
        "select pg_terminate_backend(pg_backend_pid())",
        "select lo_create(4711)",
        "select * from pg_read_file('/etc/passwd')",
    ] {
        attempt(&world, "setting", |_, _| sql.to_owned()).await;
    }
}

#[tokio::test]
async fn several_statements_in_one_text_are_refused() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        for sql in [
            "select 1; delete from contact",
            "select 1; commit; delete from contact",
            "prepare x as delete from contact",
            "do $$ begin delete from contact; end $$",
            "reset all",
            "discard all",
            "set role none",
            "begin",
            "commit",
            "declare c cursor with hold for select * from contact",
            "create temp table contact (id int)",
            "listen x",
            "copy contact from stdin",
        ] {
            assert!(refused(&scope, sql).await, "{sql}");
        }
    }
    world.assert_untouched().await;
}

async fn refused(scope: &Scope, sql: &str) -> bool {
    let result: Result<_, Error> = scope.query(sql, &[]).await;
    result.is_err()
}

#[tokio::test]
async fn a_wrong_route_shows_nothing() {
    let world = World::new().await;
    // The catalog errs: one tenant's placement is given for another. The fence knows no such tenant there.
    for (n, wrong) in [(0, 4), (4, 0), (4, 5), (2, 4)] {
        let tenant = world.tenants[n];
        let mut home = world.source.homes.lock()[&world.tenants[wrong]].clone();
        home.placement.tenant = tenant;
        let right = world.source.homes.lock().insert(tenant, home).unwrap();
        world.tenantry.forget_placements();
        let result = world.scope(n).await.query("select * from contact", &[]).await;
        assert!(result.is_err(), "{n} at {wrong}");
        world.source.homes.lock().insert(tenant, right);
        world.tenantry.forget_placements();
    }
    // In the same database, another's schema: bound rightly, its rows are still not shown.
    for (n, wrong) in [(2, 3), (3, 2), (0, 2), (2, 0)] {
        let schema = world.source.homes.lock()[&world.tenants[wrong]]
            .placement
            .schema
            .clone();
        let mut homes = world.source.homes.lock().clone();
        let home = homes.get_mut(&world.tenants[n]).unwrap();
        home.placement.schema = schema;
        let before = std::mem::replace(&mut *world.source.homes.lock(), homes);
        world.tenantry.forget_placements();
        let rows = world.scope(n).await.query("select * from contact", &[]).await.unwrap();
        assert!(rows.is_empty(), "{n} at {wrong}");
        *world.source.homes.lock() = before;
        world.tenantry.forget_placements();
    }
    world.assert_untouched().await;
}
