//! When the catalog is gone.

use std::time::{Duration, Instant};

use tenantry::{ResolveError, Role};
use tenantry_testing::FaultProxy;

use super::support::{Fixture, bearer, config, system};

#[tokio::test]
async fn without_the_catalog_everything_is_refused_after_some_seconds_and_works_again_later() {
    for hangs in [false, true] {
        let fixture = Fixture::new().await;
        let acme = fixture.tenant("acme").await;
        fixture.member(acme, "own@example.com", Role::Owner).await;
        let ann = fixture.member(acme, "ann@example.com", Role::Admin).await;
        let cluster = fixture.database.cluster();
        let proxy = FaultProxy::start(cluster.host(), cluster.port()).await;
        let url = fixture
            .database
            .url()
            .replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()));
        let resolver = fixture.resolver_at(&url, config()).await;
        let shown = bearer(&fixture.token("ann@example.com", None).await);
        let unseen = bearer(&fixture.token("own@example.com", None).await);
        shown.until(&resolver, Ok(Role::Admin)).await;
        assert!(resolver.is_current());

        let gone_at = Instant::now();
        if hangs {
            proxy.stall()
        } else {
            proxy.cut()
        }
        // What is not in memory is refused at once or after the time-out, never let through.
        assert_eq!(unseen.opens(&resolver).await, Err(ResolveError::Unavailable));
        shown.until(&resolver, Err(ResolveError::Unavailable)).await;
        let served_for = gone_at.elapsed();
        assert!(served_for < Duration::from_secs(5), "{served_for:?}");
        assert!(!resolver.is_current());

        // Changed while nobody could tell us.
        fixture
            .ops
            .set_member_role(&system(), acme, ann, Role::Viewer)
            .await
            .unwrap();
        proxy.heal();
        let back_at = Instant::now();
        shown.until(&resolver, Ok(Role::Viewer)).await;
        let waited = back_at.elapsed();
        assert!(waited < Duration::from_secs(8), "{waited:?}");
    }
}
