//! What a statement leaves on its connection, met by the tenant who gets the connection next.

use tenantry::PoolConfig;
use tenantry_core::own_schema_name;

use crate::world::World;

/// Dynamic SQL hides the setting from whoever reads the statement.
#[tokio::test]
async fn a_search_path_that_was_bent_does_not_lead_the_next_tenants_rows_astray() {
    let pool = PoolConfig {
        connections_max: 1,
        ..PoolConfig::default()
    };
    let world = World::with(pool).await;
    // The third lives in a schema of its own in the database of the first two.
    let astray = own_schema_name(world.tenants[2]);
    let bend = format!(
        "select query_to_xml('select set_con' || 'fig(''search_path'', ''\"{astray}\"'', false)', true, false, '')::text"
    );
    let attacker = world.scope(0).await;
    attacker.query(&bend, &[]).await.unwrap();
    let victim = world.scope(1).await;
    victim
        .execute("insert into project (id, name) values (77, 'mine')", &[])
        .await
        .unwrap();
    let count = async |schema: &str| -> i64 {
        let sql = format!("select count(*) from \"{schema}\".project where id = 77");
        world.databases[0].admin.query_one(&sql, &[]).await.unwrap().get(0)
    };
    assert_eq!((count("app").await, count(&astray).await), (1, 0));
}
