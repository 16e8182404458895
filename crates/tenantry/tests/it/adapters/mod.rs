//! Queries of other drivers on a scope.

mod cancel;
mod diesel;
mod enqueue;
mod fence;
mod limits;
mod pool;
mod silent;
mod sqlx;
mod tls;

use std::time::Duration;

use tenantry::PoolConfig;

use crate::world::World;

/// Few connections, so that tenants meet on them.
fn small(connections_max: usize) -> PoolConfig {
    PoolConfig {
        connections_max,
        wait_timeout: Duration::from_secs(2),
        ..PoolConfig::default()
    }
}

/// The sessions of a tenant database's application role: their states.
async fn sessions(world: &World, database: usize) -> Vec<String> {
    let place = &world.databases[database];
    let sql = "select coalesce(state, '') from pg_stat_activity where usename = $1";
    let rows = place
        .admin
        .query(sql, &[&place.target.application.as_str()])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until no session of any application role has a transaction open.
async fn nothing_is_open(world: &World) {
    for _ in 0..500 {
        let mut open = Vec::new();
        for database in 0..world.databases.len() {
            open.extend(
                sessions(world, database)
                    .await
                    .into_iter()
                    .filter(|state| state != "idle"),
            );
        }
        if open.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a transaction is left open");
}
