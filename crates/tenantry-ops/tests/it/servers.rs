//! Servers, and where plans lead.

use tenantry_core::Isolation;
use tenantry_ops::{FleetConfig, PlanRule, ServerError, ServerRequest, TenantError, TenantRequest};
use tenantry_testing::{TestCluster, cluster, database, database_on, second_cluster};

use crate::fleet::{Fleet, config, operator, request};

fn rule(plan: &str, isolation: Isolation, server: Option<&str>, region: Option<&str>) -> PlanRule {
    PlanRule {
        plan: plan.parse().unwrap(),
        isolation,
        server: server.map(str::to_owned),
        region: region.map(str::to_owned),
    }
}

fn plans() -> FleetConfig {
    let mut config = config();
    config.plans = vec![
        rule("team", Isolation::Schema, Some("two"), None),
        rule("enterprise", Isolation::Database, None, Some("region-two")),
    ];
    config
}

fn on_plan(slug: &str, plan: &str) -> TenantRequest {
    let mut request = request(slug, Isolation::Shared);
    request.isolation = None;
    request.plan = Some(plan.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_each_isolation_live_on_two_clusters_at_once() {
    let fleet = Fleet::start().await;
    fleet.add("two", second_cluster().await).await;
    for server in ["one", "two"] {
        for isolation in Isolation::ALL {
            let mut request = request(&format!("{server}-{isolation}"), isolation);
            request.server = Some(server.to_owned());
            let tenant = fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
            assert_eq!(tenant.placement.unwrap().server, server);
            fleet.add_contact(tenant.id, "new@example.com").await;
            assert_eq!(fleet.emails(tenant.id).await, ["help@example.com", "new@example.com"]);
        }
    }
    let versions: Vec<i32> = fleet
        .ops
        .list_servers(&operator())
        .await
        .unwrap()
        .iter()
        .map(|server| server.server_version / 10_000)
        .collect();
    assert_eq!(
        versions,
        [cluster().await.major() as i32, second_cluster().await.major() as i32]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_chooses_isolation_server_and_region_where_the_request_does_not() {
    let fleet = Fleet::start_with(plans()).await;
    fleet.add("two", second_cluster().await).await;
    for (plan, isolation, server) in [
        ("free", Isolation::Shared, None),
        ("team", Isolation::Schema, Some("two")),
        ("enterprise", Isolation::Database, Some("two")),
    ] {
        let tenant = fleet
            .ops
            .create_tenant(&operator(), &on_plan(&format!("on-{plan}"), plan), None)
            .await
            .unwrap();
        let placement = tenant.placement.unwrap();
        assert_eq!(placement.isolation, isolation);
        assert!(server.is_none_or(|server| placement.server == server));
    }
    // What the request names wins.
    let mut request = on_plan("asked", "team");
    request.server = Some("one".to_owned());
    request.isolation = Some(Isolation::Shared);
    let placement = fleet
        .ops
        .create_tenant(&operator(), &request, None)
        .await
        .unwrap()
        .placement
        .unwrap();
    assert_eq!(
        (placement.isolation, placement.server.as_str()),
        (Isolation::Shared, "one")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_regions_that_do_not_exist_and_full_ones_are_refused() {
    let fleet = Fleet::empty(config()).await;
    assert!(matches!(
        fleet.create("acme", Isolation::Shared).await,
        Err(TenantError::NoRoom)
    ));
    let small = ServerRequest {
        name: "small".to_owned(),
        region: Some("eu".to_owned()),
        capacity: Some(1),
        connections: None,
        admin_url: cluster().await.admin_url("postgres").into(),
    };
    fleet.ops.add_server(&operator(), &small).await.unwrap();
    let mut request = request("acme", Isolation::Shared);
    request.server = Some("big".to_owned());
    let refused = fleet.ops.create_tenant(&operator(), &request, None).await;
    assert!(matches!(refused, Err(TenantError::UnknownServer)));
    request.server = None;
    request.region = Some("moon".to_owned());
    let refused = fleet.ops.create_tenant(&operator(), &request, None).await;
    assert!(matches!(refused, Err(TenantError::UnknownRegion)));
    request.region = Some("eu".to_owned());
    fleet.ops.create_tenant(&operator(), &request, None).await.unwrap();
    assert!(matches!(
        fleet.create("next", Isolation::Database).await,
        Err(TenantError::NoRoom)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_registered_once_and_only_if_it_can_be_used() {
    let fleet = Fleet::start().await;
    let add = async |name: &str, url: String| {
        let request = ServerRequest {
            name: name.to_owned(),
            region: None,
            capacity: None,
            connections: None,
            admin_url: url.into(),
        };
        fleet.ops.add_server(&operator(), &request).await
    };
    let url = cluster().await.admin_url("postgres");
    assert!(matches!(
        add("one", second_cluster().await.admin_url("postgres")).await,
        Err(ServerError::NameTaken)
    ));
    assert!(matches!(
        add("twice", url.clone()).await,
        Err(ServerError::AlreadyRegistered)
    ));
    assert!(matches!(add("One", url.clone()).await, Err(ServerError::Name)));
    assert!(matches!(
        add(&"o".repeat(10_000), url.clone()).await,
        Err(ServerError::Name)
    ));
    assert!(matches!(
        add("two", "mysql://x".to_owned()).await,
        Err(ServerError::Address(_))
    ));
    let away = add("two", "postgres://postgres:x@127.0.0.1:1/postgres".to_owned()).await;
    assert!(matches!(away, Err(ServerError::Unreachable(_))), "{away:?}");
    // A role that may make neither roles nor databases.
    let second = second_cluster().await;
    let client = second.connect("postgres").await;
    let role = format!("weak_{}", tenantry_testing::installation_id());
    client
        .batch_execute(&format!("create role {role} login password 'pw'"))
        .await
        .unwrap();
    let weak = format!("postgres://{role}:pw@{}:{}/postgres", second.host(), second.port());
    let refused = add("weak", weak).await;
    assert!(
        matches!(&refused, Err(ServerError::Unfit { problems }) if problems.len() == 2),
        "{refused:?}"
    );
    assert_eq!(fleet.ops.list_servers(&operator()).await.unwrap().len(), 1);
    let check = fleet.ops.check_server(&operator(), "one").await.unwrap();
    assert_eq!(check.problems, Vec::<String>::new());
    assert_eq!(check.tier, Some(tenantry_core::Tier::Sealed));
    assert!(matches!(
        fleet.ops.check_server(&operator(), "none").await,
        Err(ServerError::NotFound)
    ));
    drop(database().await);
}

/// What managed services give: roles and databases may be made, and nothing else.
async fn an_administrator_without_superuser_runs_a_fleet(cluster: &TestCluster) {
    let home = database_on(cluster).await;
    let admin = home.restricted_admin().await;
    let fleet = Fleet::empty(config()).await;
    let request = ServerRequest {
        name: "managed".to_owned(),
        region: None,
        capacity: None,
        connections: None,
        admin_url: admin.url().to_owned().into(),
    };
    fleet.ops.add_server(&operator(), &request).await.unwrap();
    let check = fleet.ops.check_server(&operator(), "managed").await.unwrap();
    assert_eq!(
        (check.tier, check.problems),
        (Some(tenantry_core::Tier::Signed), Vec::new())
    );
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        let name = tenantry_ops::TenantRef::Id(tenant.id);
        fleet.ops.suspend_tenant(&operator(), &name).await.unwrap();
        fleet.ops.resume_tenant(&operator(), &name).await.unwrap();
        fleet.ops.delete_tenant(&operator(), &name).await.unwrap();
        let purge = fleet.ops.purge_tenant(&operator(), &name).await;
        let operations = fleet.ops.list_operations(&operator(), Some(tenant.id), None, 9).await;
        assert!(purge.is_ok(), "{isolation} {operations:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_superuser_is_enough_on_postgresql_15() {
    an_administrator_without_superuser_runs_a_fleet(cluster().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_superuser_is_enough_on_the_other_version() {
    an_administrator_without_superuser_runs_a_fleet(second_cluster().await).await;
}
