//! Queries of sqlx on a scope.
//!
//! `query!` and `query_as!` are checked against `crates/tenantry/.sqlx`, which was made on a plain database: an empty one
//! with the migration of `world.rs` run as it stands. To make it again after a change:
//! `DATABASE_URL=postgres://… SQLX_OFFLINE_DIR=$PWD/crates/tenantry/.sqlx cargo test -p tenantry --all-features --no-run`.

use futures_util::TryStreamExt;
use sqlx::{Executor, Row};
use tenantry::{Error, ErrorKind, Role};

use super::{nothing_is_open, small};
use crate::world::World;

#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Fine,
    Odd,
}

#[derive(Debug, PartialEq)]
struct Contact {
    id: i32,
    name: String,
    email: Option<String>,
}

#[derive(Debug, sqlx::FromRow)]
struct Project {
    id: i32,
    name: String,
}

#[tokio::test]
async fn queries_of_sqlx_run_on_the_scope_in_every_isolation() {
    let world = World::with(small(1)).await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let name = format!("contact of {n}");
        let id = 1;
        let row = sqlx::query!("select id, name, email from contact where id = $1", id)
            .fetch_one(&scope)
            .await
            .unwrap();
        assert_eq!((row.id, &row.name, row.email.as_deref()), (1, &name, Some("a@b.c")));

        let contacts = sqlx::query_as!(Contact, "select id, name, email from contact order by id")
            .fetch_all(&scope)
            .await
            .unwrap();
        let email = Some("a@b.c".to_owned());
        assert_eq!(contacts, [Contact { id: 1, name, email }]);

        let projects: Vec<Project> = sqlx::query_as("select id, name from project")
            .fetch_all(&scope)
            .await
            .unwrap();
        assert_eq!((projects.len(), projects[0].id), (1, 1));
        assert_eq!(projects[0].name, format!("project of {n}"));

        let done = sqlx::query("update contact set mood = $1, tags = $2")
            .bind(Mood::Odd)
            .bind(vec![format!("tag of {n}")])
            .execute(&scope)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
        let none = sqlx::query("select 1 from contact where id = 2")
            .fetch_optional(&scope)
            .await;
        assert!(none.unwrap().is_none());
        let streamed: Vec<i64> = sqlx::query_scalar::<_, i64>("select n from generate_series(1::int8, 1000) n")
            .fetch(&scope)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(streamed.len(), 1000);
    }
    for n in 0..6 {
        let (mood, tags): (Mood, Vec<String>) = sqlx::query_as("select mood, tags from contact")
            .fetch_one(&world.scope(n).await)
            .await
            .unwrap();
        assert!(
            matches!(mood, Mood::Odd) && tags == [format!("tag of {n}")],
            "{n} {mood:?}"
        );
    }
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn a_transaction_of_sqlx_is_kept_whole_or_not_at_all() {
    let world = World::new().await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let kept: Result<i64, Error> = scope
            .transaction_sqlx(async |tx| {
                sqlx::query!("insert into contact (id, name) values ($1, $2)", 2, "second")
                    .execute(&mut *tx)
                    .await?;
                let part: Result<(), Error> = tx
                    .savepoint(async |tx| {
                        sqlx::query("insert into contact (id, name) values (3, 'third')")
                            .execute(&mut *tx)
                            .await?;
                        sqlx::query("insert into contact (id, name) values (1, 'again')")
                            .execute(&mut *tx)
                            .await?;
                        Ok(())
                    })
                    .await;
                assert_eq!(part.unwrap_err().database().unwrap().code(), "23505");
                Ok(sqlx::query_scalar("select count(*) from contact")
                    .fetch_one(&mut *tx)
                    .await?)
            })
            .await;
        assert_eq!(kept.unwrap(), 2);

        let undone: Result<(), Error> = scope
            .transaction_sqlx(async |tx| {
                sqlx::query("delete from contact").execute(&mut *tx).await?;
                Err(sqlx::Error::RowNotFound.into())
            })
            .await;
        assert_eq!(undone.unwrap_err().kind(), ErrorKind::RowCount);

        let mut dropped = scope.begin_sqlx().await.unwrap();
        sqlx::query("delete from contact").execute(&mut dropped).await.unwrap();
        drop(dropped);
        assert_eq!(world.names(n).await, [format!("contact of {n}"), "second".to_owned()]);
    }
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn an_error_of_sqlx_that_was_swallowed_does_not_commit() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let done: Result<(), Error> = scope
        .transaction_sqlx(async |tx| {
            sqlx::query("insert into contact (id, name) values (2, 'new')")
                .execute(&mut *tx)
                .await?;
            let _ = sqlx::query("insert into contact (id, name) values (1, 'again')")
                .execute(&mut *tx)
                .await;
            Ok(())
        })
        .await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Database);
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_loses_its_transaction() {
    let world = World::with(small(1)).await;
    let scope = world.scope(2).await;
    let mut transaction = scope.begin_sqlx().await.unwrap();
    sqlx::query("delete from contact")
        .execute(&mut transaction)
        .await
        .unwrap();
    let first = {
        let mut rows =
            sqlx::query_scalar::<_, i64>("select n from generate_series(1::int8, 100000) n").fetch(&mut transaction);
        rows.try_next().await.unwrap()
    };
    assert_eq!(first, Some(1));
    let lost = sqlx::query("select 1").execute(&mut transaction).await.unwrap_err();
    assert_eq!(Error::from(lost).kind(), ErrorKind::Unavailable);
    assert!(transaction.commit().await.is_err());
    world.assert_untouched().await;
    // The connection is gone, and its place is free.
    sqlx::query("select 1").execute(&world.scope(3).await).await.unwrap();
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn a_viewer_reads_by_sqlx_and_does_not_write() {
    let world = World::with(small(1)).await;
    for n in 0..6 {
        let viewer = world.scope(n).await.at_most(Role::Viewer);
        let read: Vec<String> = sqlx::query_scalar("select name from contact")
            .fetch_all(&viewer)
            .await
            .unwrap();
        assert_eq!(read, [format!("contact of {n}")]);
        for sql in [
            "insert into contact (id, name) values (9, 'x')",
            "update contact set name = 'x'",
            "delete from contact",
        ] {
            let error = Error::from(sqlx::query(sql).execute(&viewer).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::ReadOnlyRole, "{n} {sql}: {error}");
        }
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn what_would_outlast_the_transaction_is_not_sent() {
    let world = World::with(small(1)).await;
    for n in [0, 2, 4] {
        let scope = world.scope(n).await;
        let mut transaction = scope.begin_sqlx().await.unwrap();
        for sql in [
            "commit",
            "rollback",
            "/* select */ end",
            "begin",
            "savepoint a",
            "prepare transaction 'a'",
            "set role none",
            "set session authorization default",
            "reset all",
            "discard all",
            "declare c cursor with hold for select 1",
            "listen x",
            "copy contact to stdout",
            "",
        ] {
            let error = Error::from(sqlx::query(sql).execute(&mut transaction).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Refused, "{sql}: {error}");
            let error = Error::from(transaction.execute(sql).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Refused, "{sql}: {error}");
            let error = Error::from(
                transaction
                    .prepare(sqlx::SqlSafeStr::into_sql_str(sql))
                    .await
                    .unwrap_err(),
            );
            assert_eq!(error.kind(), ErrorKind::Refused, "{sql}: {error}");
        }
        // The transaction is the same all the while.
        let name: String = sqlx::query_scalar("select name from contact")
            .fetch_one(&mut transaction)
            .await
            .unwrap();
        assert_eq!(name, format!("contact of {n}"));
        transaction.commit().await.unwrap();
        // Nor is it ended behind a statement that is allowed, or by a procedure.
        for sql in [
            "select 1; commit; delete from contact",
            "select 1; set tenantry.expect = ''",
        ] {
            let mut transaction = scope.begin_sqlx().await.unwrap();
            let error = Error::from(sqlx::raw_sql(sql).execute(&mut transaction).await.unwrap_err());
            assert_eq!(
                error.database().map(|error| error.code()),
                Some("42601"),
                "{sql}: {error}"
            );
            assert!(transaction.commit().await.is_err());
            assert!(sqlx::raw_sql(sql).execute(&scope).await.is_err());
        }
    }
    world.assert_untouched().await;
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn settings_that_sql_reached_do_not_reach_the_next_tenant() {
    let world = World::with(small(1)).await;
    for sql in [
        "select set_config('search_path', 'pg_catalog', false)",
        "select set_config('tenantry.expect', repeat('a', 50), false)",
        "select set_config('row_security', 'off', false)",
        "select set_config('statement_timeout', '1', false)",
    ] {
        let _ = sqlx::query(sql).execute(&world.scope(0).await).await;
        let name: String = sqlx::query_scalar("select name from contact")
            .fetch_one(&world.scope(1).await)
            .await
            .unwrap();
        assert_eq!(name, "contact of 1", "{sql}");
    }
    // Within a transaction it harms nobody but the transaction.
    let mut transaction = world.scope(0).await.begin_sqlx().await.unwrap();
    sqlx::query("select set_config('tenantry.expect', '', true)")
        .execute(&mut transaction)
        .await
        .unwrap();
    let rows = sqlx::query("select * from contact")
        .fetch_all(&mut transaction)
        .await
        .unwrap();
    assert!(rows.is_empty());
    transaction.commit().await.unwrap();
    world.assert_untouched().await;
}

#[tokio::test]
async fn errors_of_sqlx_mean_what_they_mean_on_the_scope() {
    let world = World::new().await;
    let scope = world.scope(0).await;
    let cases = [
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
        let error = Error::from(sqlx::query(sql).execute(&scope).await.unwrap_err());
        let hinted = hint.is_none_or(|hint| error.hint().is_some_and(|given| given.contains(hint)));
        assert!(error.kind() == kind && hinted, "{sql}: {error} {:?}", error.hint());
    }
    let error = Error::from(
        sqlx::query("insert into contact (id, name) values (1, 'again')")
            .execute(&scope)
            .await
            .unwrap_err(),
    );
    let refused = error.database().unwrap();
    assert_eq!((refused.code(), refused.table()), ("23505", Some("contact")));
    assert!(refused.constraint().is_some());

    let missing = sqlx::query("select 1 where false").fetch_one(&scope).await.unwrap_err();
    assert_eq!(Error::from(missing).kind(), ErrorKind::RowCount);
    let row = sqlx::query("select 'x' as a").fetch_one(&scope).await.unwrap();
    assert_eq!(
        Error::from(row.try_get::<i32, _>("a").unwrap_err()).kind(),
        ErrorKind::Column
    );
}

#[tokio::test]
async fn sqlx_is_the_same_in_the_signed_tier() {
    let world = World::signed(small(1)).await;
    for _ in 0..2 {
        for n in 0..6 {
            let scope = world.scope(n).await;
            let names: Vec<String> = sqlx::query_scalar("select name from contact")
                .fetch_all(&scope)
                .await
                .unwrap();
            assert_eq!(names, [format!("contact of {n}")]);
            let viewer = scope.at_most(Role::Viewer);
            let error = Error::from(sqlx::query("delete from contact").execute(&viewer).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::ReadOnlyRole, "{error}");
            // What is undone takes its binding along.
            scope.begin_sqlx().await.unwrap().rollback().await.unwrap();
        }
    }
    world.assert_untouched().await;
}
