//! Everything that can be in the way of a move has a word of its own; and who has left a transaction open is named.

use std::time::Duration;

use tenantry_core::{Isolation, TenantId};
use tenantry_ops::{MovePlan, MoveRequest};
use tenantry_testing::{logical_cluster, second_cluster};
use tokio_postgres::Client;

use super::{
    online::{following, logical},
    support::request,
};
use crate::fleet::{Fleet, operator};

impl Fleet {
    async fn plan(&self, tenant: TenantId, request: &MoveRequest) -> MovePlan {
        let plan = self.ops.plan_move(&operator(), &tenant.into(), request).await;
        plan.unwrap_or_else(|error| panic!("{}: {error}", request.to))
    }

    async fn codes(&self, tenant: TenantId, to: &str) -> Vec<&'static str> {
        let plan = self.plan(tenant, &request(to)).await;
        plan.obstacles.iter().map(|one| one.code).collect()
    }
}

async fn run(client: &Client, sql: &str) {
    let done = client.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Those of which no other test tells: each is put in the way, told, and taken away again.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_in_the_way_is_told_by_its_word() {
    let fleet = Fleet::of_two().await;
    let tenant = fleet.filled("acme", Isolation::Schema).await.id;
    let schema = fleet.found(tenant).await.placement.unwrap().schema;
    let catalog = fleet.ops.catalog().client().await.unwrap();
    let sql =
        "select d.name, d.bootstrap_version, d.id::text from tenant_database as d join server as s on s.id = d.server
                where s.name = 'two' and d.kind = 'shared'";
    let row = catalog.query_one(sql, &[]).await.unwrap();
    let (there, version, id): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
    let (here, two) = (
        fleet.home_admin(tenant).await,
        second_cluster().await.connect("postgres").await,
    );
    let known = |set: &str| format!("update tenant_database set {set} where id = '{id}'");

    fleet.ops.set_draining(&operator(), "two", true).await.unwrap();
    assert_eq!(fleet.codes(tenant, "shared@two").await, ["draining"]);
    fleet.ops.set_draining(&operator(), "two", false).await.unwrap();

    catalog.batch_execute(&known("state = 'preparing'")).await.unwrap();
    assert_eq!(fleet.codes(tenant, "shared@two").await, ["no-shared-database"]);
    catalog.batch_execute(&known("state = 'ready'")).await.unwrap();

    catalog.batch_execute(&known("bootstrap_version = 1")).await.unwrap();
    assert_eq!(fleet.codes(tenant, "shared@two").await, ["database-version"]);
    let as_it_was = known(&format!("bootstrap_version = {version}"));
    catalog.batch_execute(&as_it_was).await.unwrap();

    let ledger = "tenantry_private.migration";
    run(
        &here,
        &format!(
            "insert into {ledger} (schema, version, name, checksum, engine_version, duration_ms)
             values ('{schema}/overlay', 9001, 'own', 'x', 'x', 0)"
        ),
    )
    .await;
    assert_eq!(fleet.codes(tenant, "shared").await, ["overlay"]);
    run(
        &here,
        &format!("delete from {ledger} where schema = '{schema}/overlay'"),
    )
    .await;

    // Of files that this program does not have.
    run(&here, &format!("update {ledger} set checksum = checksum || 'x'")).await;
    assert_eq!(fleet.codes(tenant, "database").await, ["migrations"]);
    run(&here, &format!("update {ledger} set checksum = left(checksum, -1)")).await;

    // Whichever releases the two servers are of.
    run(&here, &format!("alter table {schema}.notes add column more int")).await;
    assert_eq!(fleet.codes(tenant, "shared@two").await, ["structure"]);
    run(&here, &format!("alter table {schema}.notes drop column more")).await;

    run(
        &here,
        &format!(
            "select lo_create(0);
             alter table {schema}.notes add column picture oid; alter table app.notes add column picture oid"
        ),
    )
    .await;
    assert_eq!(fleet.codes(tenant, "shared").await, ["large-objects"]);
    run(
        &here,
        &format!(
            "select lo_unlink(oid) from pg_largeobject_metadata;
             alter table {schema}.notes drop column picture; alter table app.notes drop column picture"
        ),
    )
    .await;

    run(
        &here,
        "insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
         values (4000000000, 'only_here', 10, 11, false, '1')",
    )
    .await;
    assert!(fleet.codes(tenant, "shared@two").await.contains(&"extension"));
    run(&here, "delete from pg_extension where extname = 'only_here'").await;

    // As the database of a server that was made with another encoding.
    let encoding = |number: i32| format!("update pg_database set encoding = {number} where datname = '{there}'");
    run(&two, &encoding(0)).await;
    assert!(fleet.codes(tenant, "shared@two").await.contains(&"encoding"));
    run(&two, &encoding(6)).await;

    // What PostgreSQL does not tell is said.
    let plan = fleet.plan(tenant, &request("schema@two")).await;
    assert_eq!(plan.obstacles, []);
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("bytes") && note.contains("two")),
        "{:?}",
        plan.notes
    );
}

/// Whether a plan names one of these: other tests' transactions on the same server may be in the way as well.
fn names(plan: &MovePlan, code: &str, who: &str) -> bool {
    plan.obstacles
        .iter()
        .any(|one| one.code == code && one.what.starts_with(who))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_a_transaction_open_is_named_before_a_move_begins() {
    let mut config = following();
    config.move_transaction_age = Duration::ZERO;
    let fleet = logical(config).await;
    let tenant = fleet.filled("acme", Isolation::Shared).await.id;
    let pid = async |client: &Client| -> String {
        let row = client.query_one("select pg_backend_pid()", &[]).await.unwrap();
        format!("process {} ", row.get::<_, i32>(0))
    };
    let (gentle, mut forced) = (request("schema@two"), request("schema@two"));
    forced.force = true;

    // One that only reads is in the way of the fence, unless it may be ended; one that writes, of the slot, in whichever database it is.
    let reader = fleet.enter(tenant).await.unwrap();
    run(&reader, "begin; select 1").await;
    let writer = logical_cluster().await.connect("postgres").await;
    run(&writer, "begin; select pg_current_xact_id()").await;
    let who = (pid(&reader).await, pid(&writer).await);
    let plan = fleet.plan(tenant, &gentle).await;
    assert!(names(&plan, "open-transaction", &who.0), "{:?}", plan.obstacles);
    assert!(names(&plan, "open-transaction", &who.1), "{:?}", plan.obstacles);
    let plan = fleet.plan(tenant, &forced).await;
    assert!(!names(&plan, "open-transaction", &who.0), "{:?}", plan.obstacles);
    assert!(names(&plan, "open-transaction", &who.1), "{:?}", plan.obstacles);
    run(&reader, "rollback").await;

    // Nothing is asserted before it is gone: everybody on this server would wait for it.
    let home = fleet.home_admin(tenant).await;
    let gid = format!("left-{}", tenant.as_uuid().simple());
    run(
        &home,
        &format!("begin; select pg_current_xact_id(); prepare transaction '{gid}'"),
    )
    .await;
    let plan = fleet.ops.plan_move(&operator(), &tenant.into(), &forced).await;
    run(&home, &format!("rollback prepared '{gid}'")).await;
    run(&writer, "rollback").await;
    let plan = plan.unwrap();
    let prepared = format!("the prepared transaction `{gid}`");
    assert!(names(&plan, "prepared-transaction", &prepared), "{:?}", plan.obstacles);
    let plan = fleet.plan(tenant, &gentle).await;
    for who in [&who.0, &who.1, &prepared] {
        assert!(
            !plan.obstacles.iter().any(|one| one.what.starts_with(who.as_str())),
            "{:?}",
            plan.obstacles
        );
    }
}
