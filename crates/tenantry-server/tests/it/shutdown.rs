//! Stopping: what has begun may end, within a bound.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::harness::{Answer, App};

/// A request that is at the tenant's database by now.
async fn begun(app: &App) -> JoinHandle<Answer> {
    let client = app.tenants[0].client.clone();
    let asking = tokio::spawn(async move { client.get("/app/contacts").await });
    let busy = async || app.tenantry.pool_status().iter().any(|(_, pool)| pool.open > pool.idle);
    app.within_a_second(async || {
        tokio::task::yield_now().await;
        busy().await
    })
    .await;
    asking
}

#[tokio::test]
async fn a_request_that_has_begun_ends_before_the_server_does() {
    let app = App::small().await;
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    app.tenant_server.delay(Duration::from_millis(100));
    let asking = begun(&app).await;
    let address = app.server.address();
    let drained = app.server.stop().await;
    assert!(drained.is_clean(), "{drained:?}");
    asking.await.unwrap().expect(200);
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_the_grace() {
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.shutdown_grace = Duration::from_millis(100);
    })
    .await;
    app.tenants[0].client.get("/app/contacts").await.expect(200);
    app.tenant_server.stall();
    let asking = begun(&app).await;
    let drained = app.server.stop().await;
    assert_eq!((drained.requests_cut, drained.is_clean()), (1, false), "{drained:?}");
    asking.await.unwrap().refused(503, "unavailable");
}
