//! What is dropped of the adapters: each public future, and what sqlx and diesel do on a scope.

use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl as _;
use futures_util::TryStreamExt as _;
use sqlx::{Executor as _, SqlSafeStr as _};
use tenantry::{Error, Scope, jobs::Enqueue};

use super::programs::{Nothing, programs};

programs! {
    sqlx_query covers [];
    sqlx_stream covers [];
    sqlx_fail covers [];
    sqlx_look covers [];
    sqlx_transaction covers ["sqlx::Scope::transaction_sqlx", "sqlx::Transaction::savepoint"];
    sqlx_commit covers [
        "sqlx::Scope::begin_sqlx", "sqlx::Transaction::commit", "sqlx::Transaction::enqueue", "sqlx::Transaction::enqueue_with"
    ];
    sqlx_rollback covers ["sqlx::Scope::begin_sqlx", "sqlx::Transaction::rollback"];
    diesel_transaction covers ["diesel::Scope::transaction_diesel", "diesel::Transaction::savepoint"];
    diesel_stream covers ["diesel::Scope::transaction_diesel"];
    diesel_commit covers [
        "diesel::Scope::begin_diesel", "diesel::Transaction::commit", "diesel::Transaction::enqueue", "diesel::Transaction::enqueue_with"
    ];
    diesel_rollback covers ["diesel::Scope::begin_diesel", "diesel::Transaction::rollback"];
}

const INSERT: &str = "insert into contact (id, name) values ($1, 'dropped')";
const NAME: &str = "select name from contact where id = 1";

async fn sqlx_query(scope: Scope, id: i32) {
    sqlx::query(INSERT).bind(id).execute(&scope).await.unwrap();
    let names: Vec<String> = sqlx::query_scalar(NAME).fetch_all(&scope).await.unwrap();
    assert_eq!(names.len(), 1);
    let none = sqlx::query("select from contact where id = 0")
        .fetch_optional(&scope)
        .await;
    assert!(none.unwrap().is_none());
}

async fn sqlx_stream(scope: Scope, _: i32) {
    let sql = "select n, name from contact, generate_series(1, 2000) n where id = 1";
    let mut rows = sqlx::query(sql).fetch(&scope);
    while rows.try_next().await.unwrap().is_some() {
        // Ready rows need no poll of their own: without this, most would be read in one.
        tokio::task::consume_budget().await;
    }
}

async fn sqlx_fail(scope: Scope, _: i32) {
    sqlx::query(INSERT).bind(1).execute(&scope).await.unwrap_err();
}

/// Preparing and describing are calls too; their text is new each time.
async fn sqlx_look(scope: Scope, id: i32) {
    let sql = format!("select name, mood, {id} from contact where id = 1");
    (&scope)
        .prepare(sqlx::AssertSqlSafe(sql.clone()).into_sql_str())
        .await
        .unwrap();
    (&scope)
        .describe(sqlx::AssertSqlSafe(sql).into_sql_str())
        .await
        .unwrap();
}

async fn sqlx_transaction(scope: Scope, id: i32) {
    let done: Result<(), Error> = scope
        .transaction_sqlx(async |tx| {
            sqlx::query(INSERT).bind(id).execute(&mut *tx).await?;
            let part = async |tx: &mut tenantry::sqlx::Transaction| -> Result<(), Error> {
                sqlx::query(INSERT).bind(-id).execute(&mut *tx).await?;
                Ok(())
            };
            tx.savepoint(part).await?;
            let twice = tx.savepoint(part).await;
            assert!(twice.is_err());
            sqlx::query(NAME).fetch_one(&mut *tx).await?;
            Ok(())
        })
        .await;
    done.unwrap();
}

async fn sqlx_commit(scope: Scope, id: i32) {
    let mut transaction = scope.begin_sqlx().await.unwrap();
    sqlx::query(INSERT).bind(id).execute(&mut transaction).await.unwrap();
    transaction.enqueue(&Nothing {}).await.unwrap();
    let unique = Enqueue::new().unique_key("one");
    transaction.enqueue_with(&Nothing {}, unique).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn sqlx_rollback(scope: Scope, id: i32) {
    let mut transaction = scope.begin_sqlx().await.unwrap();
    sqlx::query(INSERT).bind(id).execute(&mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

async fn diesel_transaction(scope: Scope, id: i32) {
    let done: Result<(), Error> = scope
        .transaction_diesel(async |tx| {
            diesel::sql_query(INSERT).bind::<Integer, _>(id).execute(tx).await?;
            let part = async |tx: &mut tenantry::diesel::Transaction| -> Result<(), Error> {
                diesel::sql_query(INSERT).bind::<Integer, _>(-id).execute(tx).await?;
                Ok(())
            };
            tx.savepoint(part).await?;
            let twice = tx.savepoint(part).await;
            assert!(twice.is_err());
            let names: Vec<Name> = diesel::sql_query(NAME).load(tx).await?;
            assert_eq!((names.len(), names[0].name.starts_with("contact of")), (1, true));
            Ok(())
        })
        .await;
    done.unwrap();
}

async fn diesel_stream(scope: Scope, _: i32) {
    let sql = "select name from contact, generate_series(1, 2000) n where id = 1";
    let done: Result<(), Error> = scope
        .transaction_diesel(async |tx| {
            let mut rows = diesel::sql_query(sql).load_stream::<Name>(tx).await?;
            while rows.try_next().await?.is_some() {
                tokio::task::consume_budget().await;
            }
            Ok(())
        })
        .await;
    done.unwrap();
}

async fn diesel_commit(scope: Scope, id: i32) {
    let mut transaction = scope.begin_diesel().await.unwrap();
    diesel::sql_query(INSERT)
        .bind::<Integer, _>(id)
        .execute(&mut transaction)
        .await
        .unwrap();
    transaction.enqueue(&Nothing {}).await.unwrap();
    let unique = Enqueue::new().unique_key("one");
    transaction.enqueue_with(&Nothing {}, unique).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn diesel_rollback(scope: Scope, id: i32) {
    let mut transaction = scope.begin_diesel().await.unwrap();
    diesel::sql_query(INSERT)
        .bind::<Integer, _>(id)
        .execute(&mut transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
}
