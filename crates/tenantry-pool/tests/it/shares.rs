//! A share of a server's connections that is lost while one of them is being opened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tenantry_pool::{Error, PoolConfig, Pools, RawScript, Share, ShareError, ShareSource, Standing};
use tenantry_testing::FaultProxy;

use crate::support::{Fixture, small};

const LEASE: Duration = Duration::from_millis(600);

/// Gives whatever is wanted, until it is away.
#[derive(Default)]
struct Shares {
    is_away: AtomicBool,
}

#[async_trait]
impl ShareSource for Shares {
    async fn renew(&self, standing: Standing) -> Result<Share, ShareError> {
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(ShareError("it is away".to_owned())),
            false => Ok(Share {
                target: standing.wanted,
                held: standing.wanted,
            }),
        }
    }

    async fn leave(&self) -> Result<(), ShareError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_connection_of_the_raw_lane_that_opens_too_late_serves_nobody() {
    let fixture = Fixture::new().await;
    let server = fixture.database.cluster();
    let proxy = FaultProxy::start(server.host(), server.port()).await;
    fixture.through(proxy.port());
    let config = PoolConfig {
        share_lease: LEASE,
        connect_timeout: Duration::from_secs(20),
        ..small(2)
    };
    let shares = Arc::new(Shares::default());
    let pools = Pools::with_shares(fixture.source.clone(), config, shares.clone());
    assert_eq!(fixture.names(&pools, 0).await, ["Ada"]);
    let before = proxy.accepted();
    proxy.stall();
    let caller = fixture.caller(0);
    let script = RawScript {
        statements: &[("select 1", &[])],
        read_only: true,
        timeout: None,
        result_bytes_max: None,
    };
    let (answered, ()) = tokio::join!(pools.raw(&caller, script), async {
        while proxy.accepted() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shares.is_away.store(true, Ordering::SeqCst);
        while pools.server_status()[0].1.share > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // By then everything that had a seat is cut, and others may have the places.
        tokio::time::sleep(LEASE).await;
        proxy.heal();
    });
    let refused = answered.map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::WaitTimeout(_)), "{refused}");
    fixture
        .until("nothing is left open", |sessions| sessions.is_empty())
        .await;
}
