//! What a statement leaves on its connection, met by the tenant who gets the connection next.

use tenantry::PoolConfig;
use tenantry_core::own_schema_name;

use crate::world::World;

/// One connection that serves all tenants of a database.
async fn one_connection() -> World {
    World::with(PoolConfig {
        connections_max: 1,
        ..PoolConfig::default()
    })
    .await
}

/// A statement that sets a parameter for the session and hides it from whoever reads the statement: dynamic SQL.
fn hidden(parameter: &str, value: &str) -> String {
    format!(
        "select query_to_xml('select set_con' || 'fig(''{parameter}'', ''{value}'', false)', true, false, '')::text"
    )
}

/// How many rows of the victim stand in its own tables and in the third tenant's.
async fn where_the_row_went(world: &World, astray: &str) -> (i64, i64) {
    let count = async |schema: &str| -> i64 {
        let sql = format!("select count(*) from \"{schema}\".project where id = 77");
        world.databases[0].admin.query_one(&sql, &[]).await.unwrap().get(0)
    };
    (count("app").await, count(astray).await)
}

const MINE: &str = "insert into project (id, name) values (77, 'mine')";

#[tokio::test]
async fn a_search_path_that_was_bent_does_not_lead_the_next_tenants_rows_astray() {
    let world = one_connection().await;
    // The third lives in a schema of its own in the database of the first two.
    let astray = own_schema_name(world.tenants[2]);
    let attacker = world.scope(0).await;
    let bend = hidden("search_path", &format!("\"{astray}\""));
    attacker.query(&bend, &[]).await.unwrap();
    world.scope(1).await.execute(MINE, &[]).await.unwrap();
    assert_eq!(where_the_row_went(&world, &astray).await, (1, 0));
}

#[cfg(all(feature = "sqlx", feature = "diesel"))]
#[tokio::test]
async fn a_search_path_that_was_bent_by_another_driver_leads_nobody_astray() {
    use diesel_async::RunQueryDsl;
    let world = one_connection().await;
    let astray = own_schema_name(world.tenants[2]);
    let bend = hidden("search_path", &format!("\"{astray}\""));
    let bending = sqlx::query(sqlx::AssertSqlSafe(bend.as_str()));
    bending.execute(&world.scope(0).await).await.unwrap();
    sqlx::query(MINE).execute(&world.scope(1).await).await.unwrap();
    assert_eq!(where_the_row_went(&world, &astray).await, (1, 0));
    let run = async |n: usize, sql: &str| {
        let scope = world.scope(n).await;
        let done: Result<(), tenantry::Error> = scope
            .transaction_diesel(async |tx| Ok(diesel::sql_query(sql).execute(tx).await.map(|_| ())?))
            .await;
        done.unwrap();
    };
    run(0, &bend).await;
    run(1, &MINE.replace("77", "78")).await;
    let sql = "select count(*) from app.project where id in (77, 78)";
    let there: i64 = world.databases[0].admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(there, 2);
}

/// Triggers and policies inside a tenant ask who acts: nobody, where nobody does.
#[tokio::test]
async fn an_account_that_was_forged_for_the_session_acts_in_no_other_tenant() {
    let world = one_connection().await;
    let forged = "00000000-0000-4000-8000-00000000000f";
    let who = "select tenantry.account_id()::text";
    let attacker = world.scope(0).await;
    attacker.query(&hidden("tenantry.account", forged), &[]).await.unwrap();
    let next = world.scope(1).await;
    // The first call binds the connection, the second finds it bound.
    for _ in 0..2 {
        let acting: Option<String> = next.query_one_as::<(Option<String>,)>(who, &[]).await.unwrap().0;
        assert_eq!(acting, None);
    }
    let mut transaction = next.begin().await.unwrap();
    let acting: (Option<String>,) = transaction.query_one_as(who, &[]).await.unwrap();
    assert_eq!(acting.0, None);
    transaction.rollback().await.unwrap();
}
