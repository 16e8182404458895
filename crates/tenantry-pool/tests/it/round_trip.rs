//! What crosses the wire for a call.

use std::sync::atomic::Ordering;

use tenantry_core::Isolation;
use tenantry_testing::CountingProxy;

use crate::support::{Fixture, small};

/// Syncs, round trips and Parses.
fn counted(proxy: &CountingProxy) -> (usize, usize, usize) {
    let counted = proxy.read();
    (counted.syncs, counted.round_trips, counted.parses)
}

#[tokio::test]
async fn a_scoped_query_is_one_round_trip_and_one_sync() {
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = CountingProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let pools = fixture.pools(small(1));
    let sql = "select name from contact where id = $1";
    let cases = [
        fixture.caller(0),
        fixture.caller(1),
        fixture.caller_with_account(0),
        fixture.caller_with_account(1),
    ];
    for caller in &cases {
        pools.query(caller, sql, &[&1_i64]).await.unwrap();
        pools.query(caller, sql, &[&1_i64]).await.unwrap();
    }
    // Bound already; then with another tenant each time, which binds anew in the same Sync.
    for callers in [[0, 0, 0, 0], [0, 1, 0, 1], [2, 2, 2, 2], [2, 3, 0, 1]] {
        for caller in callers {
            proxy.reset();
            let outcome = pools.query(&cases[caller], sql, &[&1_i64]).await.unwrap();
            assert_eq!(outcome.rows[0].get::<&str>(0).unwrap(), ["Ada", "Bob"][caller % 2]);
            assert_eq!(counted(&proxy), (1, 1, 0), "caller {caller}");
        }
    }
}

#[tokio::test]
async fn a_transactions_context_travels_with_begin_and_the_first_statement() {
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = CountingProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let pools = fixture.pools(small(1));
    let sql = "select name from contact where id = $1";
    for round in 0..3 {
        for tenant in [0, 1] {
            proxy.reset();
            let mut transaction = pools.begin(fixture.caller(tenant).into()).await.unwrap();
            let first = transaction.query(sql, &[&1_i64]).await.unwrap();
            let second = transaction.query(sql, &[&1_i64]).await.unwrap();
            assert_eq!(
                first.rows[0].get::<&str>(0).unwrap(),
                second.rows[0].get::<&str>(0).unwrap()
            );
            transaction.commit().await.unwrap();
            if round > 0 {
                // BEGIN, context and first statement; second statement; COMMIT. Binding anew has a Sync of its own.
                assert_eq!(counted(&proxy), (4, 3, 0), "round {round}");
            }
        }
    }
}

/// A call that binds anew, prepares anew or asks where the tenant lives would show in one of the counts.
#[tokio::test]
async fn what_a_bound_call_sends_is_the_same_in_each_isolation() {
    const CALLS: usize = 200;
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = CountingProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let sql = "select name from contact where id = $1";
    let mut bytes = Vec::new();
    for isolation in Isolation::ALL {
        fixture.source.home.lock().placement.isolation = isolation;
        // Room for more connections than there are callers: none of them may be opened.
        let pools = fixture.pools(small(16));
        let caller = fixture.caller(0);
        pools.query(&caller, sql, &[&1_i64]).await.unwrap();
        pools.query(&caller, sql, &[&1_i64]).await.unwrap();
        let asked = fixture.source.asked.load(Ordering::Relaxed);
        proxy.reset();
        for _ in 0..CALLS {
            pools.query(&caller, sql, &[&1_i64]).await.unwrap();
        }
        assert_eq!(counted(&proxy), (CALLS, CALLS, 0), "{isolation}");
        assert_eq!(fixture.source.asked.load(Ordering::Relaxed), asked, "{isolation}");
        let open: Vec<_> = pools.status().iter().map(|(_, status)| status.open).collect();
        assert_eq!(open, [1], "{isolation}");
        bytes.push(proxy.read().bytes);
    }
    assert_eq!(bytes, [bytes[0]; 3]);
    // A binding takes the token's 90 bytes; an expectation and a query do with this.
    assert!(bytes[0] / CALLS < 200, "{bytes:?}");
}
