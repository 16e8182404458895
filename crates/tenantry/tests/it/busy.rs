//! What a caller is told when there is too much to do.

use std::time::Duration;

use axum::{http::StatusCode, response::IntoResponse};
use tenantry::{ErrorKind, PoolConfig, axum::Problem};

use crate::world::World;

#[tokio::test]
async fn a_tenant_that_asks_for_too_much_gets_429_and_a_full_database_503_and_both_pass() {
    let world = World::with(PoolConfig {
        connections_max: 1,
        tenant_waiting_max: 1,
        waiting_max: 2,
        wait_timeout: Duration::from_millis(300),
        ..PoolConfig::default()
    })
    .await;
    let scope = world.scope(0).await;
    let mut holder = scope.begin().await.unwrap();
    holder.execute("select 1", &[]).await.unwrap();
    let other = world.scope(1).await;
    let (first, second, third) = tokio::join!(
        scope.execute("select 1", &[]),
        // One of its own waits already.
        scope.execute("select 1", &[]),
        other.execute("select 1", &[]),
    );
    let (first, second, third) = (first.unwrap_err(), second.unwrap_err(), third.unwrap_err());
    assert_eq!(second.kind(), ErrorKind::TenantBusy, "{second}");
    assert_eq!(third.kind(), ErrorKind::PoolFull, "{third}");
    let told = |error: tenantry::Error| {
        let response = Problem::from(error).into_response();
        let wait = response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().unwrap().to_owned());
        (response.status(), wait)
    };
    assert_eq!(told(second), (StatusCode::TOO_MANY_REQUESTS, Some("1".to_owned())));
    assert_eq!(told(third), (StatusCode::SERVICE_UNAVAILABLE, Some("1".to_owned())));
    // The other has asked too, so this waited for its own tenant's transaction, and could have had no other.
    assert_eq!(told(first).1.as_deref(), Some("1"));
    holder.commit().await.unwrap();
    scope.execute("select 1", &[]).await.unwrap();
    other.execute("select 1", &[]).await.unwrap();
}
