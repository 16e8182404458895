//! Queries in a scope.

use std::sync::Arc;

use tenantry::{ErrorKind, FromRow};

use crate::world::World;

struct Contact {
    id: i32,
    name: String,
    email: Option<String>,
    tags: Vec<String>,
}
tenantry::from_row!(Contact { id, name, email, tags });

#[tokio::test]
async fn the_same_code_serves_every_isolation() {
    let world = World::new().await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let contact: Contact = scope
            .query_one_as("select * from contact where id = $1", &[&1])
            .await
            .unwrap();
        assert_eq!((contact.id, contact.name), (1, format!("contact of {n}")));
        assert_eq!((contact.email.as_deref(), contact.tags), (Some("a@b.c"), vec![]));
        assert_eq!(scope.execute("update contact set tags = '{x}'", &[]).await.unwrap(), 1);
        let (count,): (i64,) = scope
            .query_one_as("select count(*) from contact where tags = '{x}'", &[])
            .await
            .unwrap();
        assert_eq!(count, 1);
        let none = scope
            .query_opt("select 1 from contact where id = 2", &[])
            .await
            .unwrap();
        assert!(none.is_none());
    }
    assert_eq!(*world.audit.reasons.lock(), vec!["test"; 12]);
}

#[tokio::test]
async fn row_counts_are_checked() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let two = "select n from generate_series(1, 2) n";
    assert_eq!(scope.query_one(two, &[]).await.unwrap_err().kind(), ErrorKind::RowCount);
    assert_eq!(scope.query_opt(two, &[]).await.unwrap_err().kind(), ErrorKind::RowCount);
    let none = scope.query_one("select 1 where false", &[]).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::RowCount);
}

#[tokio::test]
async fn errors_say_what_kind_they_are_and_how_to_mend_them() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let cases = [
        ("select 1 form contact where", ErrorKind::Database, None),
        ("set search_path = x", ErrorKind::Refused, None),
        (
            "insert into contact (id, name) values (1, 'x') on conflict (id) do nothing",
            ErrorKind::Database,
            Some("tenant_id"),
        ),
        (
            "select name from contact group by id",
            ErrorKind::Database,
            Some("(tenant_id"),
        ),
        (
            "insert into contact (tenant_id, id, name) values (gen_random_uuid(), 5, 'x')",
            ErrorKind::Database,
            Some("own tenant"),
        ),
    ];
    for (sql, kind, hint) in cases {
        let error = scope.query(sql, &[]).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        let hinted = hint.is_none_or(|hint| error.hint().is_some_and(|given| given.contains(hint)));
        assert!(hinted, "{sql}: {error} {:?}", error.hint());
    }
    let error = scope.query("select $1::int4", &[&"x"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parameter);
    let row = scope.query_one("select 1::int4 as a", &[]).await.unwrap();
    assert_eq!(row.get::<String>("a").unwrap_err().kind(), ErrorKind::Column);
    assert!(<(i64,)>::from_row(&row).is_err());

    let error = scope
        .execute("insert into contact (id, name) values (1, 'again')", &[])
        .await
        .unwrap_err();
    let refused = error.database().unwrap();
    assert_eq!((refused.code(), refused.table()), ("23505", Some("contact")));
    assert!(refused.constraint().is_some());
}

#[tokio::test]
async fn a_tenant_without_a_home_is_said_to_be_unknown() {
    let world = World::new().await;
    world.source.homes.lock().clear();
    world.tenantry.forget_placements();
    let scope = world.scope(0).await;
    assert_eq!(
        scope.query("select 1", &[]).await.unwrap_err().kind(),
        ErrorKind::TenantNotFound
    );
}

#[tokio::test]
async fn many_tenants_at_once_never_mix() {
    let world = Arc::new(
        World::with(tenantry::PoolConfig {
            connections_max: 3,
            ..Default::default()
        })
        .await,
    );
    let tasks = (0..12).map(|task| {
        let world = world.clone();
        tokio::spawn(async move {
            for step in 0..40 {
                let n = (task + step) % 6;
                assert_eq!(world.names(n).await, [format!("contact of {n}")]);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn many_rows_are_inserted_by_one_statement() {
    let world = World::new().await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let names: Vec<String> = (0..5000).map(|i| format!("name {i}")).collect();
        let ids: Vec<i32> = (0..5000).map(|i| i + 100).collect();
        let rows: Vec<Vec<&(dyn tenantry::ToSql + Sync)>> = ids
            .iter()
            .zip(&names)
            .map(|(id, name)| vec![id as &(dyn tenantry::ToSql + Sync), name, &None::<String>, &"odd"])
            .collect();
        let rows: Vec<&[_]> = rows.iter().map(Vec::as_slice).collect();
        let done = scope
            .insert_many("contact", &["id", "name", "email", "mood"], &rows)
            .await;
        assert_eq!(done.unwrap(), 5000);
        let (count,): (i64,) = scope
            .query_one_as("select count(*) from contact where mood = 'odd'", &[])
            .await
            .unwrap();
        assert_eq!(count, 5000);
        // All or nothing: the last row is refused.
        let rows: [&[&(dyn tenantry::ToSql + Sync)]; 2] = [&[&9000, &"new"], &[&100, &"there already"]];
        let error = scope.insert_many("contact", &["id", "name"], &rows).await.unwrap_err();
        assert_eq!(error.database().unwrap().code(), "23505");
        assert!(
            scope
                .query_opt("select 1 from contact where id = 9000", &[])
                .await
                .unwrap()
                .is_none()
        );
    }
    assert_eq!(world.names(1).await, ["contact of 1"]);
}

#[tokio::test]
async fn bulk_inserts_name_what_is_wrong() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let row: [&[&(dyn tenantry::ToSql + Sync)]; 1] = [&[&1]];
    for (table, columns, code) in [
        ("contact; drop table contact", ["id"], "42P01"),
        ("contact", ["id) select 1 --"], "42703"),
        ("nobody", ["id"], "42P01"),
    ] {
        let error = scope.insert_many(table, &columns, &row).await.unwrap_err();
        assert_eq!(error.database().map(|error| error.code()), Some(code), "{error}");
    }
    let error = scope.insert_many("contact", &["id", "name"], &row).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parameter);
    assert_eq!(scope.insert_many("contact", &["id"], &[]).await.unwrap(), 0);
}
