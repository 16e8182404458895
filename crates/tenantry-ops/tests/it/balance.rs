//! Everybody off a server, and servers about equally used: by moves that are real.

use std::time::Duration;

use tenantry_core::Isolation;
use tenantry_ops::{BalanceError, FleetConfig, Operation, OperationState, ServerRequest, TenantError};
use tenantry_testing::second_cluster;

use crate::fleet::{Fleet, config, operator, request};

/// Two servers of one region.
async fn of_one_region() -> Fleet {
    of_one_region_with(config()).await
}

async fn of_one_region_with(config: FleetConfig) -> Fleet {
    let fleet = Fleet::start_with(config).await;
    let request = ServerRequest {
        name: "two".to_owned(),
        region: Some("region-one".to_owned()),
        capacity: Some(3),
        connections: None,
        admin_url: second_cluster().await.admin_url("postgres").into(),
    };
    fleet.ops.add_server(&operator(), &request).await.unwrap();
    fleet
}

impl Fleet {
    async fn where_is(&self, slug: &str) -> String {
        let found = self
            .ops
            .get_tenant(&operator(), &tenantry_ops::TenantRef::Slug(slug.to_owned()))
            .await;
        let placement = found.unwrap().placement.unwrap();
        format!("{}@{}", placement.isolation, placement.server)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_server_is_empty_but_for_whom_there_is_no_place_and_another_run_goes_on() {
    let fleet = of_one_region().await;
    let (ops, by) = (&fleet.ops, operator());
    for (slug, isolation) in [
        ("as-shared", Isolation::Shared),
        ("as-schema", Isolation::Schema),
        ("as-database", Isolation::Database),
        ("too-many", Isolation::Shared),
        ("deleted", Isolation::Shared),
    ] {
        let mut wish = request(slug, isolation);
        wish.server = Some("one".to_owned());
        let tenant = ops.create_tenant(&by, &wish, None).await.unwrap();
        fleet.add_contact(tenant.id, &format!("{slug}@example.com")).await;
    }
    let deleted = tenantry_ops::TenantRef::Slug("deleted".to_owned());
    ops.delete_tenant(&by, &deleted).await.unwrap();
    for (name, to, refused) in [
        ("none", vec![], "`none`"),
        ("one", vec!["none".to_owned()], "`none`"),
        ("one", vec!["one".to_owned()], "name others"),
    ] {
        let error = ops.plan_drain(&by, name, &to).await.unwrap_err();
        assert!(error.to_string().contains(refused), "{error}");
    }
    let plan = ops.plan_drain(&by, "one", &[]).await.unwrap();
    assert_eq!((plan.moves.len(), plan.stays.len()), (3, 2), "{plan:?}");
    // A plan changes nothing.
    assert_eq!(fleet.where_is("as-shared").await, "shared@one");
    // A run that was stopped has begun one of the moves, and nobody works on it.
    let first = &plan.moves[0];
    let mut only_first = plan.clone();
    only_first.moves.truncate(1);
    let interrupted = ops.begin_moves(&by, &only_first).await.unwrap();
    assert_eq!(interrupted[0].refused, None);
    ops.set_draining(&by, "one", true).await.unwrap();
    let heard = std::sync::Mutex::new(0);
    let told = |_: &tenantry_ops::PlannedMove, _: &Operation| *heard.lock().unwrap() += 1;
    let outcomes = ops.carry_out(&by, &plan, 2, &told).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.refused.is_none()), "{outcomes:?}");
    let again = outcomes.iter().find(|outcome| outcome.tenant == first.tenant).unwrap();
    assert_eq!(
        again.operation, interrupted[0].operation,
        "the move that was begun, and no other"
    );
    assert!(heard.into_inner().unwrap() > 0);
    let mut there = Vec::new();
    for slug in ["as-shared", "as-schema", "as-database", "too-many"] {
        let place = fleet.where_is(slug).await;
        there.extend(place.ends_with("@two").then(|| place.clone()));
    }
    assert_eq!(there.len(), 3, "{there:?}");
    // Nobody new comes meanwhile, and the rest is told with what to do.
    let mut wish = request("new", Isolation::Shared);
    wish.server = Some("one".to_owned());
    assert!(matches!(
        ops.create_tenant(&by, &wish, None).await,
        Err(TenantError::NoRoom)
    ));
    let plan = ops.plan_drain(&by, "one", &[]).await.unwrap();
    let why: Vec<String> = plan
        .stays
        .iter()
        .map(|stay| format!("{}: {}", stay.slug, stay.why))
        .collect();
    assert!(plan.moves.is_empty() && why.len() == 2, "{why:?}");
    assert!(
        why.iter().any(|one| one.contains("full")) && why.iter().any(|one| one.contains("deleted")),
        "{why:?}"
    );
    ops.set_draining(&by, "one", false).await.unwrap();
    ops.create_tenant(&by, &wish, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_brings_servers_nearer_and_then_rests() {
    let fleet = of_one_region().await;
    let (ops, by) = (&fleet.ops, operator());
    for number in 0..4_u8 {
        let mut wish = request(&format!("same-{}", char::from(b'a' + number)), Isolation::Schema);
        wish.server = Some("one".to_owned());
        let tenant = ops.create_tenant(&by, &wish, None).await.unwrap();
        let catalog = ops.catalog().client().await.unwrap();
        catalog
            .execute(
                "insert into usage_day (tenant, day, requests) values ($1, (now() at time zone 'UTC')::date, 1000)",
                &[tenant.id.as_uuid()],
            )
            .await
            .unwrap();
    }
    let plan = ops.plan_rebalance(&by).await.unwrap();
    assert!((1..=2).contains(&plan.moves.len()), "{plan:?}");
    let outcomes = ops.carry_out(&by, &plan, 2, &|_, _| ()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.refused.is_none()), "{outcomes:?}");
    for outcome in &outcomes {
        assert_eq!(fleet.where_is(&outcome.slug).await, "schema@two");
        let id = outcome.operation.unwrap();
        assert_eq!(ops.get_operation(&by, id).await.unwrap().state, OperationState::Done);
    }
    let rest = ops.plan_rebalance(&by).await.unwrap();
    assert!(rest.moves.len() < plan.moves.len() || rest.moves.is_empty(), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_can_neither_be_drained_nor_balanced() {
    let fleet = Fleet::start().await;
    let refused = fleet.ops.plan_drain(&operator(), "one", &[]).await;
    assert!(matches!(refused, Err(BalanceError::OneServer)), "{refused:?}");
    let refused = fleet.ops.plan_rebalance(&operator()).await;
    assert!(matches!(refused, Err(BalanceError::OneServer)), "{refused:?}");
}

/// As by HTTP, where nobody waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_moves_that_are_only_begun_as_many_at_once_leave_a_server_as_are_wanted() {
    let mut config = config();
    config.moves_per_source = 1;
    let fleet = of_one_region_with(config).await;
    let (ops, by) = (&fleet.ops, operator());
    for slug in ["leaves-a", "leaves-b", "leaves-c"] {
        fleet.filled(slug, Isolation::Shared).await;
    }
    let plan = ops.plan_drain(&by, "one", &[]).await.unwrap();
    let begun = ops.begin_moves(&by, &plan).await.unwrap();
    assert_eq!(
        begun.iter().filter(|one| one.operation.is_some()).count(),
        3,
        "{begun:?}"
    );
    let catalog = ops.catalog().client().await.unwrap();
    let watch = async {
        let sql = "select count(*) filter (where state = 'running'), count(*) filter (where finished_at is null)
                     from operation where kind = 'move'";
        let mut most = 0;
        loop {
            let row = catalog.query_one(sql, &[]).await.unwrap();
            most = most.max(row.get::<_, i64>(0));
            if row.get::<_, i64>(1) == 0 {
                return most;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let most = tokio::select! {
        most = watch => most,
        () = ops.run_operations() => unreachable!("it goes on until it is dropped"),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the moves do not end"),
    };
    assert_eq!(most, 1, "two moves worked on the server at once");
    for outcome in &begun {
        assert_eq!(fleet.where_is(&outcome.slug).await, "shared@two");
    }
}
