//! Queries of diesel on a scope.

use diesel::prelude::*;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::TryStreamExt;
use tenantry::{Error, ErrorKind, Role};

use super::{nothing_is_open, small};
use crate::world::World;

diesel::table! {
    contact (id) {
        id -> Integer,
        name -> Text,
        email -> Nullable<Text>,
        tags -> Array<Text>,
        project_id -> Nullable<Integer>,
    }
}

diesel::table! {
    project (id) {
        id -> Integer,
        name -> Text,
    }
}

diesel::joinable!(contact -> project (project_id));
diesel::allow_tables_to_appear_in_same_query!(contact, project);

#[derive(Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = contact)]
struct Contact {
    id: i32,
    name: String,
    email: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = contact)]
struct NewContact<'a> {
    id: i32,
    name: &'a str,
}

#[tokio::test]
async fn queries_of_diesel_run_on_the_scope_in_every_isolation() {
    let world = World::with(small(1)).await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let done: Result<(), Error> = scope
            .transaction_diesel(async |tx| {
                let contacts = contact::table.select(Contact::as_select()).load(tx).await?;
                let (name, email) = (format!("contact of {n}"), Some("a@b.c".to_owned()));
                assert_eq!(contacts, [Contact { id: 1, name, email }]);
                let joined: Vec<(String, String)> = contact::table
                    .inner_join(project::table)
                    .select((contact::name, project::name))
                    .load(tx)
                    .await?;
                assert_eq!(joined, [(format!("contact of {n}"), format!("project of {n}"))]);
                let new = NewContact { id: 2, name: "second" };
                let made: Contact = diesel::insert_into(contact::table)
                    .values(&new)
                    .returning(Contact::as_returning())
                    .get_result(tx)
                    .await?;
                assert_eq!(made.id, 2);
                let changed = diesel::update(contact::table)
                    .set(contact::tags.eq(vec!["seen"]))
                    .execute(tx)
                    .await?;
                assert_eq!(changed, 2);
                let streamed: Vec<i32> = contact::table
                    .select(contact::id)
                    .order(contact::id)
                    .load_stream::<i32>(tx)
                    .await?
                    .try_collect()
                    .await?;
                assert_eq!(streamed, [1, 2]);
                let none = contact::table
                    .find(77)
                    .select(contact::id)
                    .first::<i32>(tx)
                    .await
                    .optional()?;
                assert_eq!(none, None);
                Ok(())
            })
            .await;
        done.unwrap();
    }
    for n in 0..6 {
        assert_eq!(world.names(n).await, [format!("contact of {n}"), "second".to_owned()]);
    }
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn a_transaction_of_diesel_is_kept_whole_or_not_at_all() {
    let world = World::new().await;
    for n in 0..6 {
        let scope = world.scope(n).await;
        let kept: Result<i64, Error> = scope
            .transaction_diesel(async |tx| {
                let new = NewContact { id: 2, name: "second" };
                diesel::insert_into(contact::table).values(&new).execute(tx).await?;
                let part: Result<(), Error> = tx
                    .savepoint(async |tx| {
                        diesel::delete(contact::table).execute(tx).await?;
                        diesel::insert_into(contact::table).values(&new).execute(tx).await?;
                        diesel::insert_into(contact::table).values(&new).execute(tx).await?;
                        Ok(())
                    })
                    .await;
                let refused = part.unwrap_err();
                assert_eq!(refused.database().unwrap().code(), "23505");
                assert_eq!(refused.database().unwrap().table(), Some("contact"));
                Ok(contact::table.count().get_result(tx).await?)
            })
            .await;
        assert_eq!(kept.unwrap(), 2);

        let undone: Result<(), Error> = scope
            .transaction_diesel(async |tx| {
                diesel::delete(contact::table).execute(tx).await?;
                Err(diesel::result::Error::NotFound.into())
            })
            .await;
        assert_eq!(undone.unwrap_err().kind(), ErrorKind::RowCount);

        let swallowed: Result<(), Error> = scope
            .transaction_diesel(async |tx| {
                diesel::delete(contact::table).execute(tx).await?;
                let _ = diesel::sql_query("select 1/0").execute(tx).await;
                Ok(())
            })
            .await;
        assert_eq!(swallowed.unwrap_err().kind(), ErrorKind::Database);

        let mut dropped = scope.begin_diesel().await.unwrap();
        diesel::delete(contact::table).execute(&mut dropped).await.unwrap();
        drop(dropped);
        assert_eq!(world.names(n).await, [format!("contact of {n}"), "second".to_owned()]);
    }
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn an_error_behind_rows_that_were_not_read_does_not_commit() {
    #[derive(diesel::QueryableByName)]
    struct Number {
        #[diesel(sql_type = diesel::sql_types::Integer)]
        n: i32,
    }
    let world = World::with(small(1)).await;
    let scope = world.scope(0).await;
    for (last, kept) in [(0, false), (1, true)] {
        let done: Result<(), Error> = scope
            .transaction_diesel(async |tx| {
                let new = NewContact { id: 2, name: "second" };
                diesel::insert_into(contact::table).values(&new).execute(tx).await?;
                // Many rows before the last, so that they are sent before it fails.
                let sql = format!(
                    "select 1 / case n when 100000 then {last} else 1 end as n from generate_series(1, 100000) n"
                );
                let first: Number = diesel::sql_query(sql).get_result(tx).await?;
                assert_eq!(first.n, 1);
                Ok(())
            })
            .await;
        assert_eq!(done.is_ok(), kept, "{done:?}");
        assert_eq!(world.names(0).await.len(), if kept { 2 } else { 1 });
    }
    nothing_is_open(&world).await;
}

#[tokio::test]
async fn a_viewer_reads_by_diesel_and_does_not_write() {
    let world = World::with(small(1)).await;
    for n in 0..6 {
        let viewer = world.scope(n).await.at_most(Role::Viewer);
        let read: Result<Vec<String>, Error> = viewer
            .transaction_diesel(async |tx| Ok(contact::table.select(contact::name).load(tx).await?))
            .await;
        assert_eq!(read.unwrap(), [format!("contact of {n}")]);
        let written: Result<usize, Error> = viewer
            .transaction_diesel(async |tx| Ok(diesel::delete(contact::table).execute(tx).await?))
            .await;
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyRole, "{n}: {error}");
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn what_would_outlast_the_transaction_is_not_sent_by_diesel() {
    let world = World::with(small(1)).await;
    for n in [0, 2, 4] {
        let mut transaction = world.scope(n).await.begin_diesel().await.unwrap();
        for sql in [
            "commit",
            "set role none",
            "/* select */ end",
            "prepare x as select 1",
            "discard all",
            "",
        ] {
            let error = Error::from(diesel::sql_query(sql).execute(&mut transaction).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Refused, "{sql}: {error}");
            let error = transaction.batch_execute(sql).await.unwrap_err();
            assert_eq!(Error::from(error).kind(), ErrorKind::Refused, "{sql}");
        }
        let error = transaction.batch_execute("select 1; commit").await.unwrap_err();
        assert_eq!(Error::from(error).kind(), ErrorKind::Refused);
        let name: String = contact::table
            .select(contact::name)
            .first(&mut transaction)
            .await
            .unwrap();
        assert_eq!(name, format!("contact of {n}"));
        let two = diesel::sql_query("select 1; commit").execute(&mut transaction).await;
        assert!(two.is_err());
        assert!(transaction.commit().await.is_err());
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn diesel_is_the_same_in_the_signed_tier() {
    let world = World::signed(small(1)).await;
    for n in [0, 1, 2, 4, 0] {
        let names: Result<Vec<String>, Error> = world
            .scope(n)
            .await
            .transaction_diesel(async |tx| Ok(contact::table.select(contact::name).load(tx).await?))
            .await;
        assert_eq!(names.unwrap(), [format!("contact of {n}")]);
    }
}
