//! Connections that wait for the next tenant.

use std::time::Duration;

use tenantry_core::{Isolation, TenantState};

use crate::fleet::Fleet;

/// The session that waits after it was cleaned.
async fn waiting(fleet: &Fleet) -> i32 {
    let admin = fleet.shared_admin().await;
    let sql = "select pid from pg_stat_activity
                where datname = current_database() and state = 'idle' and query like '%pg_advisory_unlock_all%'";
    for _ in 0..200 {
        let rows = admin.query(sql, &[]).await.unwrap();
        assert!(rows.len() < 2, "one is enough");
        if let [row] = rows.as_slice() {
            return row.get(0);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("none waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_the_next_tenant_too_and_holds_nothing_in_between() {
    let fleet = Fleet::start().await;
    let first = fleet.create("acme", Isolation::Schema).await.unwrap();
    let pid = waiting(&fleet).await;
    let admin = fleet.shared_admin().await;
    let held = "select count(*) from pg_locks where pid = $1 and locktype = 'advisory'";
    assert_eq!(admin.query_one(held, &[&pid]).await.unwrap().get::<_, i64>(0), 0);
    let second = fleet.create("globex", Isolation::Schema).await.unwrap();
    assert_eq!(waiting(&fleet).await, pid);
    for tenant in [first.id, second.id] {
        assert_eq!(fleet.emails(tenant).await, ["help@example.com"]);
    }
    // One that PostgreSQL has ended is noticed before it is used.
    admin
        .execute("select pg_terminate_backend($1, 5000)", &[&pid])
        .await
        .unwrap();
    let third = fleet.create("initech", Isolation::Schema).await.unwrap();
    assert_eq!(third.state, TenantState::Active);
    assert_ne!(waiting(&fleet).await, pid);
}
