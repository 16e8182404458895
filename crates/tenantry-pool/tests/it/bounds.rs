//! Limits of number, time and age.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tenantry_pool::{Error, PoolConfig};
use tokio::{net::TcpListener, sync::Mutex};

use crate::support::{Fixture, small};

#[tokio::test]
async fn there_are_never_more_connections_than_allowed() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(3));
    let calls = (0..40).map(|n| fixture.names(&pools, n % 2));
    futures_util::future::join_all(calls).await;
    assert!(fixture.sessions().await.len() <= 3);
    let status = pools.status()[0].1;
    assert!(
        status.open <= 3 && status.idle == status.open && status.waiting == 0,
        "{status:?}"
    );
}

#[tokio::test]
async fn who_waits_is_served_in_the_order_of_asking() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
    holder.query("select 1", &[]).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for n in 0..10 {
        let (own, caller, order) = (pools.clone(), fixture.caller(n % 2), order.clone());
        waiting.push(tokio::spawn(async move {
            own.query(&caller, "select 1", &[]).await.unwrap();
            order.lock().await.push(n);
        }));
        // Each stands in the queue before the next comes.
        while pools.status()[0].1.waiting <= n {
            tokio::task::yield_now().await;
        }
    }
    // One of them gives up; those behind it keep their places.
    waiting.remove(4).abort();
    holder.commit().await.unwrap();
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().await, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_tenant_that_asks_for_much_does_not_keep_another_waiting() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
    holder.query("select 1", &[]).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    // Thirty of one tenant, then one of another.
    for n in 0..31 {
        let tenant = usize::from(n == 30);
        let (own, caller, order) = (pools.clone(), fixture.caller(tenant), order.clone());
        waiting.push(tokio::spawn(async move {
            own.query(&caller, "select 1", &[]).await.unwrap();
            order.lock().await.push(tenant);
        }));
        while pools.status()[0].1.waiting <= n {
            tokio::task::yield_now().await;
        }
    }
    holder.commit().await.unwrap();
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(order.lock().await.iter().position(|tenant| *tenant == 1), Some(1));
}

#[tokio::test]
async fn a_queue_full_of_one_tenants_callers_refuses_the_last_of_those() {
    let fixture = Fixture::new().await;
    let config = PoolConfig {
        waiting_max: 4,
        ..small(1)
    };
    let pools = fixture.pools(config);
    let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
    holder.query("select 1", &[]).await.unwrap();
    let ask = |tenant: usize| {
        let (own, caller) = (pools.clone(), fixture.caller(tenant));
        tokio::spawn(async move { own.query(&caller, "select 1", &[]).await.map(|_| ()) })
    };
    let mut greedy = Vec::new();
    for n in 0..4 {
        greedy.push(ask(0));
        while pools.status()[0].1.waiting <= n {
            tokio::task::yield_now().await;
        }
    }
    // One more of the same is refused; one of another takes the place of its last.
    assert!(matches!(ask(0).await.unwrap(), Err(Error::Full(4))));
    let other = ask(1);
    let last = greedy.pop().unwrap().await.unwrap();
    assert!(matches!(last, Err(Error::Full(4))), "{last:?}");
    holder.commit().await.unwrap();
    other.await.unwrap().unwrap();
    for task in greedy {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn waiting_has_a_limit_in_time_and_in_number() {
    let fixture = Fixture::new().await;
    let config = PoolConfig {
        wait_timeout: Duration::from_millis(50),
        waiting_max: 2,
        ..small(1)
    };
    let pools = fixture.pools(config);
    let mut holder = pools.begin(fixture.caller(0).into()).await.unwrap();
    holder.query("select 1", &[]).await.unwrap();
    let caller = fixture.caller(0);
    let calls = (0..5).map(|_| pools.query(&caller, "select 1", &[]));
    let results = futures_util::future::join_all(calls).await;
    let full = results
        .iter()
        .filter(|result| matches!(result, Err(Error::Full(2))))
        .count();
    let timed_out = results
        .iter()
        .filter(|result| matches!(result, Err(Error::WaitTimeout(_))))
        .count();
    assert_eq!((full, timed_out), (3, 2));
    holder.commit().await.unwrap();
    pools.query(&caller, "select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped_on_the_server_too() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        statement_timeout: Duration::from_millis(200),
        ..small(1)
    });
    let error = pools
        .query(&fixture.caller(0), "select pg_sleep(60)", &[])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StatementTimeout(_)), "{error}");
    fixture
        .until("the statement was stopped", |sessions| sessions.is_empty())
        .await;
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn old_and_idle_connections_are_closed() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(PoolConfig {
        life_max: Duration::ZERO,
        ..small(1)
    });
    fixture.names(&pools, 0).await;
    fixture
        .until("a connection past its age is closed after use", |sessions| {
            sessions.is_empty()
        })
        .await;

    let pools = fixture.pools(PoolConfig {
        idle_max: Duration::from_millis(40),
        ..small(1)
    });
    let _task = pools.spawn_shrinking();
    fixture.names(&pools, 0).await;
    fixture
        .until("an idle connection is closed", |sessions| sessions.is_empty())
        .await;
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_before_it_is_used() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(small(1));
    fixture.names(&pools, 0).await;
    let admin = fixture.database.connect().await;
    let sql = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = $1";
    admin.execute(sql, &[&fixture.database.name()]).await.unwrap();
    // The runtime learns of the closed socket when it next looks.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

#[tokio::test]
async fn an_unreachable_database_is_an_error_for_all_who_wait_and_heals() {
    let fixture = Fixture::new().await;
    let right = fixture.source.home.lock().endpoint.clone();
    fixture.through(1);
    let pools = fixture.pools(small(2));
    let caller = fixture.caller(0);
    let calls = (0..10).map(|_| pools.query(&caller, "select 1", &[]));
    for result in futures_util::future::join_all(calls).await {
        assert!(matches!(result, Err(Error::Connect(_))), "{result:?}");
    }
    fixture.source.home.lock().endpoint = right;
    pools.invalidate_all();
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
}

/// Connections are opened for those who wait, and not by each of them: a server that comes back is not met by a crowd.
#[tokio::test]
async fn however_many_wait_a_few_connections_are_opened_at_the_same_time() {
    let fixture = Fixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fixture.through(listener.local_addr().unwrap().port());
    let asked = Arc::new(AtomicUsize::new(0));
    let says_nothing = tokio::spawn({
        let asked = asked.clone();
        async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let pools = fixture.pools(PoolConfig {
        connect_timeout: Duration::from_secs(60),
        ..small(16)
    });
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (pools, caller) = (pools.clone(), fixture.caller(0));
            tokio::spawn(async move { pools.query(&caller, "select 1", &[]).await.map(|_| ()) })
        })
        .collect();
    let all_wait = async {
        while asked.load(Ordering::Relaxed) < 4 || pools.status()[0].1.waiting < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_wait).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    for call in calls {
        call.abort();
    }
    says_nothing.abort();
}

#[tokio::test]
async fn a_database_other_than_the_keys_own_is_not_used() {
    let fixture = Fixture::new().await;
    let incarnation = tenantry_pool::Incarnation {
        system_identifier: 1,
        database_oid: 2,
    };
    fixture.source.home.lock().incarnation = Some(incarnation);
    let pools = fixture.pools(small(1));
    let error = pools.query(&fixture.caller(0), "select 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Incarnation), "{error}");
}
