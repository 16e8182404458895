//! Servers with standbys: which are taken, and how suspensions and moves wait for them.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tenantry_catalog::placement;
use tenantry_core::{
    Isolation, OperationId, Role, TenantId,
    seal::{Place, Token},
};
use tenantry_ops::{FleetConfig, MoveError, Operation, OperationState, Ops, Pooler, Server, ServerChange, ServerError};
use tenantry_testing::{OwnCluster, OwnClusterOptions, own_cluster};
use tokio_postgres::{Client, NoTls};

use crate::fleet::{Fleet, config, operator};

/// A fleet whose one server has a standby, which is listed.
struct Replicated {
    fleet: Fleet,
    standby: OwnCluster,
    primary: OwnCluster,
}

fn address(cluster: &OwnCluster) -> String {
    format!("{}:{}", cluster.cluster().host(), cluster.cluster().port())
}

impl Replicated {
    async fn new(config: FleetConfig) -> Self {
        let mut primary = own_cluster(OwnClusterOptions::default()).await;
        let standby = primary.standby(None);
        let fleet = Fleet::empty(config).await;
        fleet.add("one", primary.cluster()).await;
        let this = Self {
            fleet,
            standby,
            primary,
        };
        assert_eq!(this.list(&[address(&this.standby)]).await.unwrap().replicas.len(), 1);
        this
    }

    async fn list(&self, addresses: &[String]) -> Result<Server, ServerError> {
        let change = ServerChange {
            replicas: Some(addresses.to_vec()),
            ..ServerChange::default()
        };
        self.fleet.ops.change_server(&operator(), "one", &change).await
    }

    async fn replay(&self, on: bool) {
        let sql = if on {
            "select pg_wal_replay_resume()"
        } else {
            "select pg_wal_replay_pause()"
        };
        self.standby.connect("postgres").await.execute(sql, &[]).await.unwrap();
    }

    /// A session of the application's role at the standby, bound to the tenant, or why it can't be.
    async fn enter(&self, tenant: TenantId) -> Result<Client, String> {
        let catalog = self.fleet.ops.catalog();
        let client = catalog.client().await.unwrap();
        let home = placement::locate(catalog, &client, tenant).await.unwrap().unwrap();
        let mut config = self.standby.cluster().admin_config(&home.database.name);
        config
            .user(&home.database.app_role)
            .password(home.secrets.app_password.expose_secret());
        let (client, connection) = config.connect(NoTls).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let sql = "select pg_backend_pid(), timestamptz_send(pg_postmaster_start_time())";
        let row = client.query_one(sql, &[]).await.unwrap();
        let started: Vec<u8> = row.get(1);
        let token = Token {
            tenant,
            counter: 1,
            fresh: true,
            raw: false,
            role: Role::Owner,
            now_us: std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64,
            backend_pid: row.get(0),
            account: None,
            epoch: home.placement.epoch,
        };
        let signed = home.secrets.keys[0].sign_at(&token, Place::standby(started.try_into().unwrap()));
        let parameters = (signed.message.to_vec(), signed.mac.to_vec());
        let entered = client
            .execute("select tenantry.enter($1, $2)", &[&parameters.0, &parameters.1])
            .await;
        match entered {
            Ok(_) => Ok(client),
            Err(error) => Err(error.code().unwrap().code().to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_standby_of_the_server_is_refused() {
    let mut pair = Replicated::new(config()).await;
    let other = own_cluster(OwnClusterOptions::default()).await;
    for (wrong, why) in [
        (address(&pair.primary), "takes writes"),
        // It has another password.
        (address(&other), "can't connect"),
        ("127.0.0.1:1".to_owned(), "can't connect"),
    ] {
        let error = pair.list(&[address(&pair.standby), wrong.clone()]).await.unwrap_err();
        assert!(matches!(&error, ServerError::Unfit { .. }), "{error}");
        assert!(
            error.to_string().contains(why) && error.to_string().contains(&wrong),
            "{error}"
        );
    }
    for bad in ["nowhere", "postgres://h:5432/d", "u@h:5432", ":5432"] {
        let error = pair.list(&[bad.to_owned()]).await.unwrap_err();
        assert!(matches!(error, ServerError::ReplicaAddress), "{bad}: {error}");
    }
    let pooled = ServerChange {
        pooler: Some(Some((Pooler::Transaction, "127.0.0.1:6432".to_owned()))),
        ..ServerChange::default()
    };
    let error = pair
        .fleet
        .ops
        .change_server(&operator(), "one", &pooled)
        .await
        .unwrap_err();
    assert!(matches!(error, ServerError::PoolerAndReplicas), "{error}");

    // What was listed stays so, and is told.
    pair.standby.until_it_shows(&pair.primary).await;
    let check = pair.fleet.ops.check_server(&operator(), "one").await.unwrap();
    assert!(check.problems.is_empty(), "{:?}", check.problems);
    assert_eq!(check.replicas[0].address, address(&pair.standby));
    assert!(check.replicas[0].behind_bytes.is_some());
    pair.standby.stop();
    let check = pair.fleet.ops.check_server(&operator(), "one").await.unwrap();
    assert_eq!(check.problems.len(), 1, "{:?}", check.problems);
    assert!(
        check.problems[0].contains(&address(&pair.standby)),
        "{:?}",
        check.problems
    );
    assert!(pair.list(&[]).await.unwrap().replicas.is_empty());
    let check = pair.fleet.ops.check_server(&operator(), "one").await.unwrap();
    assert!(
        check.problems.is_empty() && check.replicas.is_empty(),
        "{:?}",
        check.problems
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_is_closed_at_the_replica_and_does_not_wait_for_one_that_is_behind() {
    let pair = Replicated::new(config()).await;
    let (ops, operator) = (&pair.fleet.ops, operator());
    let tenant = pair.fleet.create("acme", Isolation::Shared).await.unwrap();
    pair.standby.until_it_shows(&pair.primary).await;
    pair.enter(tenant.id).await.unwrap();
    ops.suspend_tenant(&operator, &tenant.id.into()).await.unwrap();
    assert_eq!(pair.enter(tenant.id).await.unwrap_err(), "TN002");
    ops.resume_tenant(&operator, &tenant.id.into()).await.unwrap();

    pair.standby.until_it_shows(&pair.primary).await;
    pair.replay(false).await;
    let begun = std::time::Instant::now();
    ops.suspend_tenant(&operator, &tenant.id.into()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    pair.replay(true).await;
    pair.standby.until_it_shows(&pair.primary).await;
    assert_eq!(pair.enter(tenant.id).await.unwrap_err(), "TN002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_waits_until_its_fence_is_closed_at_every_replica() {
    let mut config = config();
    config.move_drain = Duration::from_millis(500);
    // Of what is wrong with the move itself.
    config.attempts_max = 1;
    let mut pair = Replicated::new(config).await;
    let fleet = &pair.fleet;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    fleet.add_contact(tenant.id, "ann@acme.example").await;
    pair.standby.until_it_shows(&pair.primary).await;

    // Somebody reads at the replica: the move waits for that, and lets the tenant in again meanwhile.
    let reader = pair.enter(tenant.id).await.unwrap();
    reader.batch_execute("begin").await.unwrap();
    reader.execute("select 1", &[]).await.unwrap();
    let begun = fleet.begin_move(tenant.id, "schema").await.unwrap();
    let moved = tokio::spawn(finish(fleet.ops.clone(), begun.id));
    let failed = async |code: &'static str| {
        fleet
            .poll(code, async || {
                let operation = fleet.ops.get_operation(&operator(), begun.id).await.unwrap();
                assert_ne!(operation.state, OperationState::Done);
                operation.error_code.as_deref() == Some(code)
            })
            .await;
    };
    failed("tenant_in_use").await;
    assert_eq!(fleet.place(tenant.id).await, "shared@one");
    // One that does not hear of it shows the tenant still.
    pair.replay(false).await;
    reader.batch_execute("rollback").await.unwrap();
    failed("replica_behind").await;
    pair.replay(true).await;
    let ended = moved.await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert_eq!(fleet.place(tenant.id).await, "schema@one");
    assert_eq!(fleet.emails(tenant.id).await, ["ann@acme.example", "help@example.com"]);
    // What was bound there at the old placement was ended, since its fence is open again at the new one.
    assert!(reader.execute("select 1", &[]).await.is_err());
    pair.standby.until_it_shows(&pair.primary).await;
    pair.enter(tenant.id).await.unwrap();

    // One that goes away meanwhile holds it up until it is off the list.
    let begun = pair.fleet.begin_move(tenant.id, "shared").await.unwrap();
    let other = pair.fleet.create("other", Isolation::Shared).await.unwrap();
    pair.standby.kill();
    let ops = &pair.fleet.ops;
    let moved = tokio::spawn(finish(ops.clone(), begun.id));
    pair.fleet
        .poll("the replica to be missed", async || {
            let operation = ops.get_operation(&operator(), begun.id).await.unwrap();
            operation.error_code.as_deref() == Some("replica_unreachable")
        })
        .await;
    let command = "tenantry server set one --no-replicas";
    let waits = ops.get_operation(&operator(), begun.id).await.unwrap();
    assert!(waits.error.as_ref().unwrap().contains(command), "{waits:?}");
    // One that would have to wait for it is not begun.
    let refused = pair.fleet.begin_move(other.id, "schema").await.unwrap_err();
    let MoveError::Obstacles(obstacles) = refused else {
        panic!("{refused}");
    };
    assert_eq!((obstacles.len(), obstacles[0].code), (1, "replica"), "{obstacles:?}");
    assert!(
        obstacles[0].what.contains(&address(&pair.standby)) && obstacles[0].mend.contains(command),
        "{obstacles:?}"
    );
    pair.list(&[]).await.unwrap();
    let ended = moved.await.unwrap();
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
}

async fn finish(ops: Ops, id: OperationId) -> Operation {
    ops.finish_move(&operator(), id, &|_| ()).await.unwrap()
}
