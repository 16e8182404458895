//! Jobs as operators see them, and what a purge leaves of them.

use serde_json::json;
use tenantry_core::{Context, Isolation, JobId, JobState, OperatorScope, Role, TenantId};
use tenantry_ops::{Authority, Forbidden, JobError, JobFilter, Origin, StoredJob, Tenant};
use tenantry_testing::cluster;
use uuid::Uuid;

use crate::fleet::{self, Fleet, operator};

const DEAD: JobFilter<'static> = JobFilter {
    states: &[JobState::Dead],
    kind: None,
    after: None,
};

const ALL: JobFilter<'static> = JobFilter {
    states: &JobState::ALL,
    ..DEAD
};

/// Enqueues jobs in the tenant's own context.
async fn enqueue(fleet: &Fleet, tenant: TenantId, kind: &str, payloads: &[&str]) {
    let client = fleet.enter(tenant).await.unwrap();
    for payload in payloads {
        let sql = "select tenantry.enqueue($1, $2, $3, interval '0 s', 0::int2, 1::int2, null)";
        client.execute(sql, &[&Uuid::now_v7(), &kind, payload]).await.unwrap();
    }
}

/// As if they had failed too often.
async fn kill(tenant: &Tenant) {
    let database = &tenant.placement.as_ref().unwrap().database;
    let admin = cluster().await.connect(database).await;
    let sql = "update tenantry_private.job set state = 2, attempt = 1, error = 'no luck', failed_at = now() where tenant = $1";
    admin.execute(sql, &[tenant.id.as_uuid()]).await.unwrap();
}

fn member(tenant: TenantId, role: Role) -> Authority {
    Authority::Member {
        context: Context {
            tenant,
            actor: tenantry_core::Actor::ApiKey(tenantry_core::ApiKeyId::from_uuid(Uuid::now_v7())),
            role,
        },
        origin: Origin::default(),
    }
}

async fn list(fleet: &Fleet, authority: &Authority, tenant: TenantId, filter: &JobFilter<'_>) -> Vec<StoredJob> {
    let found = fleet.ops.list_jobs(authority, tenant, filter, 100).await.unwrap();
    found.into_iter().map(|shown| shown.job).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_are_listed_begun_anew_and_removed_of_one_tenant_and_of_all() {
    let fleet = Fleet::start().await;
    let mut tenants = Vec::new();
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        enqueue(&fleet, tenant.id, "mail", &[r#"{"secret":1}"#, r#"{"secret":2}"#]).await;
        enqueue(&fleet, tenant.id, "bill", &[r#"{"secret":3}"#]).await;
        kill(&tenant).await;
        enqueue(&fleet, tenant.id, "bill", &[r#"{"secret":4}"#]).await;
        tenants.push(tenant);
    }
    let all = fleet.ops.list_all_jobs(&operator(), &DEAD, None, 100).await.unwrap();
    assert_eq!((all.found.len(), all.unreachable.len(), all.next), (9, 0, None));
    assert!(
        all.found
            .iter()
            .all(|shown| shown.job.error.as_deref() == Some("no luck"))
    );
    assert!(
        all.found
            .iter()
            .all(|shown| !shown.with_payload && shown.job.payload.is_empty()),
        "a payload is its tenant's"
    );
    // Page by page, in one order over databases.
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = fleet.ops.list_all_jobs(&operator(), &DEAD, after, 2).await.unwrap();
        assert!(page.found.len() <= 2);
        pages.extend(page.found.iter().map(|shown| shown.job.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, all.found.iter().map(|shown| shown.job.id).collect::<Vec<_>>());

    let (tenant, other) = (tenants[0].id, tenants[1].id);
    let owner = member(tenant, Role::Owner);
    let shown = list(&fleet, &owner, tenant, &ALL).await;
    assert_eq!(shown.len(), 4);
    assert!(shown[0].payload.contains("secret"), "its own admins see it");
    let dead = shown.iter().find(|job| job.kind == "mail").unwrap().id;
    assert_eq!(fleet.ops.retry_jobs(&owner, tenant, Some(dead), None).await.unwrap(), 1);
    // It waits by now, so it can't begin anew, and can be removed.
    let again = fleet.ops.retry_jobs(&owner, tenant, Some(dead), None).await;
    assert!(matches!(again, Err(JobError::NotFound)));
    assert_eq!(
        fleet.ops.remove_jobs(&owner, tenant, Some(dead), None).await.unwrap(),
        1
    );
    let gone = fleet.ops.remove_jobs(&owner, tenant, Some(dead), None).await;
    assert!(matches!(gone, Err(JobError::NotFound)));
    assert_eq!(
        fleet.ops.retry_jobs(&owner, tenant, None, Some("bill")).await.unwrap(),
        1
    );
    assert_eq!(list(&fleet, &owner, tenant, &DEAD).await.len(), 1);

    // Over the fleet, of a kind.
    let retried = fleet.ops.retry_all_jobs(&operator(), Some("mail"), None).await.unwrap();
    assert_eq!((retried.found, retried.unreachable.len()), (5, 0));
    let removed = fleet.ops.remove_all_jobs(&operator(), None, None).await.unwrap();
    assert_eq!(removed.found, 2, "dead ones only");
    assert_eq!(list(&fleet, &operator(), other, &ALL).await.len(), 3);

    // Each change is written down.
    let written = fleet
        .ops
        .list_audit(&operator(), Some(tenant), None, 100)
        .await
        .unwrap();
    let actions: Vec<&str> = written.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "job.retry").count(), 3);
    assert_eq!(actions.iter().filter(|action| **action == "job.remove").count(), 2);
    assert!(!format!("{written:?}").contains("secret"));
}

/// However many databases there are, a call asks so many and says where the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_all_are_asked_for_database_by_database() {
    let mut config = fleet::config();
    config.job_databases_max = 1;
    let fleet = Fleet::start_with(config).await;
    let mut tenants = Vec::new();
    // The second one's database is made last, and has no jobs.
    for (slug, isolation) in [
        ("together", Isolation::Shared),
        ("alone", Isolation::Database),
        ("idle", Isolation::Database),
    ] {
        tenants.push(fleet.create(slug, isolation).await.unwrap());
    }
    for tenant in &tenants[..2] {
        enqueue(&fleet, tenant.id, "mail", &["{}", "{}", "{}"]).await;
        kill(tenant).await;
    }
    let (mut calls, mut after) = (Vec::new(), None);
    loop {
        let page = fleet.ops.list_all_jobs(&operator(), &DEAD, after, 2).await.unwrap();
        calls.push(page.found.iter().map(|shown| shown.job.tenant).collect::<Vec<_>>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let (shared, own) = (tenants[0].id, tenants[1].id);
    let seen: Vec<_> = calls.iter().filter(|call| !call.is_empty()).cloned().collect();
    let mut of_each = [vec![shared; 2], vec![shared], vec![own; 2], vec![own]];
    if seen[0] != of_each[0] {
        of_each.rotate_left(2);
    }
    assert_eq!(seen, of_each, "no page has jobs of two databases");
    assert_eq!(calls.len(), 5, "{calls:?}");

    let (mut retried, mut after) = (Vec::new(), None);
    loop {
        let changed = fleet.ops.retry_all_jobs(&operator(), None, after).await.unwrap();
        retried.push(changed.found);
        after = changed.next;
        if after.is_none() {
            break;
        }
    }
    retried.sort_unstable();
    assert_eq!(retried, [0, 3, 3]);
}

/// What a worker can't read is told, with the reason, and can be ended.
#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_with_what_is_broken_and_removed() {
    let fleet = Fleet::start().await;
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        let client = fleet.enter(tenant.id).await.unwrap();
        let set =
            "select tenantry.schedule_set($1, '0 3 * * *', 'UTC', 1::int2, 'mail', '{\"secret\":1}', 0::int2, 3::int2)";
        for name in ["daily", "nightly"] {
            client.execute(set, &[&name]).await.unwrap();
        }
        let database = &tenant.placement.as_ref().unwrap().database;
        let admin = cluster().await.connect(database).await;
        let breaks = "update tenantry_private.schedule set broken = 'no time zone of this name' where tenant = $1 and name = 'daily'";
        assert_eq!(admin.execute(breaks, &[tenant.id.as_uuid()]).await.unwrap(), 1);
        // As a program declares it for every tenant.
        let declared = "insert into tenantry_private.schedule
                          (tenant, everyone, name, cron, zone, missed, kind, payload, role, priority, attempts_max, kid, mac)
                        select tenant, true, 'nightly', cron, zone, 0, kind, payload, role, priority, attempts_max, kid, mac
                          from tenantry_private.schedule where tenant = $1 and name = 'nightly'";
        assert_eq!(admin.execute(declared, &[tenant.id.as_uuid()]).await.unwrap(), 1);

        for authority in [operator(), member(tenant.id, Role::Admin)] {
            let found = fleet.ops.list_schedules(&authority, tenant.id).await.unwrap();
            let seen: Vec<_> = found
                .iter()
                .map(|schedule| (schedule.everyone, schedule.name.as_str(), schedule.broken.as_deref()))
                .collect();
            let broken = Some("no time zone of this name");
            assert_eq!(
                seen,
                [
                    (false, "daily", broken),
                    (false, "nightly", None),
                    (true, "nightly", None)
                ]
            );
            assert_eq!(
                (found[1].makes_up, found[2].makes_up, found[1].attempts_max),
                (true, false, 3)
            );
            assert!(!format!("{found:?}").contains("secret"));
        }

        let viewer = member(tenant.id, Role::Viewer);
        let refused = fleet.ops.remove_schedule(&viewer, tenant.id, "daily").await;
        assert!(matches!(refused, Err(JobError::Forbidden(_))));
        let stranger = member(TenantId::from_uuid(Uuid::now_v7()), Role::Owner);
        let refused = fleet.ops.list_schedules(&stranger, tenant.id).await;
        assert!(matches!(refused, Err(JobError::NotFound)));

        for name in ["daily", "nightly"] {
            fleet.ops.remove_schedule(&operator(), tenant.id, name).await.unwrap();
        }
        // What programs declare stays.
        for name in ["daily", "nightly", "night\0ly"] {
            let gone = fleet.ops.remove_schedule(&operator(), tenant.id, name).await;
            assert!(matches!(gone, Err(JobError::NoSchedule)), "{name:?}");
        }
        let left = fleet.ops.list_schedules(&operator(), tenant.id).await.unwrap();
        assert_eq!(left.len(), 1);
        let written = fleet.ops.list_audit(&operator(), Some(tenant.id), None, 100).await;
        let written = written.unwrap();
        let removed = written.iter().filter(|entry| entry.action == "schedule.remove");
        assert!(removed.count() >= 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_shown_to_nobody_else() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    let other = fleet.create("other", Isolation::Shared).await.unwrap();
    enqueue(&fleet, tenant.id, "mail", &["{}"]).await;
    kill(&tenant).await;
    let id = list(&fleet, &operator(), tenant.id, &DEAD).await[0].id;
    let reader = Authority::Operator {
        operator: tenantry_core::Operator {
            key: tenantry_core::OperatorKeyId::from_uuid(Uuid::now_v7()),
            name: "reader".to_owned(),
            scopes: [OperatorScope::Read].into_iter().collect(),
        },
        origin: Origin::default(),
    };
    assert_eq!(
        fleet.ops.list_jobs(&reader, tenant.id, &DEAD, 10).await.unwrap().len(),
        1
    );
    assert_eq!(
        fleet
            .ops
            .list_all_jobs(&reader, &DEAD, None, 10)
            .await
            .unwrap()
            .found
            .len(),
        1
    );
    for (authority, knows) in [
        (reader, true),
        (member(tenant.id, Role::Member), true),
        (member(tenant.id, Role::Viewer), true),
        (member(other.id, Role::Owner), false),
    ] {
        let refused = |error: JobError| match error {
            JobError::Forbidden(Forbidden) => true,
            JobError::NotFound => false,
            other => panic!("{other}"),
        };
        let retried = fleet.ops.retry_jobs(&authority, tenant.id, Some(id), None).await;
        assert_eq!(refused(retried.unwrap_err()), knows);
        let removed = fleet.ops.remove_jobs(&authority, tenant.id, Some(id), None).await;
        assert_eq!(refused(removed.unwrap_err()), knows);
        for changed in [
            fleet.ops.retry_all_jobs(&authority, None, None).await,
            fleet.ops.remove_all_jobs(&authority, None, None).await,
        ] {
            assert!(matches!(changed, Err(JobError::Forbidden(_))));
        }
        if matches!(authority, Authority::Member { .. }) {
            let listed = fleet.ops.list_jobs(&authority, tenant.id, &DEAD, 10).await;
            assert_eq!(refused(listed.unwrap_err()), knows);
            assert!(matches!(
                fleet.ops.list_all_jobs(&authority, &DEAD, None, 10).await,
                Err(JobError::Forbidden(_))
            ));
        }
    }
    // Another tenant's admin with the id of this one's job, at the own tenant.
    let mixed = fleet
        .ops
        .remove_jobs(&member(other.id, Role::Owner), other.id, Some(id), None)
        .await;
    assert!(matches!(mixed, Err(JobError::NotFound)));
    assert_eq!(list(&fleet, &operator(), tenant.id, &DEAD).await.len(), 1);
    let nobody = TenantId::from_uuid(Uuid::now_v7());
    let unknown = fleet
        .ops
        .retry_jobs(&operator(), nobody, Some(JobId::from_uuid(Uuid::now_v7())), None)
        .await;
    assert!(matches!(unknown, Err(JobError::NotFound)));
}

const CANARY: &str = "canary4711";

/// Where the canary is found, in the catalog and in every tenant database.
async fn found(fleet: &Fleet) -> Vec<String> {
    let server = cluster().await;
    let installation = fleet.ops.catalog().installation().as_str().to_owned();
    let rows = server
        .connect("postgres")
        .await
        .query(
            "select datname from pg_database where starts_with(datname::text, $1) or datname = $2",
            &[&format!("tn_{installation}_"), &fleet.catalog.name()],
        )
        .await
        .unwrap();
    let mut found = Vec::new();
    for row in rows {
        let database: String = row.get(0);
        let client = server.connect(&database).await;
        let tables = client
            .query(
                "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'",
                &[],
            )
            .await
            .unwrap();
        for table in tables {
            let table: String = table.get(0);
            let sql = format!("select count(*) from {table} t where t::text like '%{CANARY}%'");
            let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            if count > 0 {
                found.push(format!("{database} {table}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_says_which_jobs_it_dropped_and_leaves_no_trace_of_them() {
    let fleet = Fleet::start().await;
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        let neighbour = fleet.create(&format!("next-{isolation}"), isolation).await.unwrap();
        let payload = format!("{{\"{CANARY}\":1}}");
        enqueue(&fleet, tenant.id, CANARY, &[&payload, &payload]).await;
        kill(&tenant).await;
        enqueue(&fleet, tenant.id, CANARY, &[&payload]).await;
        let client = fleet.enter(tenant.id).await.unwrap();
        let sql = "select tenantry.schedule_set($1, '0 3 * * *', 'UTC', 1::int2, $1, $2, 0::int2, 1::int2)";
        client.execute(sql, &[&CANARY, &payload]).await.unwrap();
        drop(client);
        enqueue(&fleet, neighbour.id, "mail", &["{}"]).await;
        assert!(!found(&fleet).await.is_empty(), "it would be found");

        fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
        fleet.ops.purge_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert_eq!(found(&fleet).await, Vec::<String>::new(), "{isolation}");
        let written = fleet
            .ops
            .list_audit(&operator(), Some(tenant.id), None, 100)
            .await
            .unwrap();
        let dropped: Vec<_> = written
            .iter()
            .filter(|entry| entry.action == "tenant.drop-jobs")
            .collect();
        assert_eq!(dropped.len(), 1, "{isolation}");
        assert_eq!(dropped[0].before, Some(json!({ "jobs": 3, "schedules": 1 })));
        assert_eq!(list(&fleet, &operator(), neighbour.id, &ALL).await.len(), 1);
        // Who had none leaves no record of it.
        let quiet = fleet.create(&format!("quiet-{isolation}"), isolation).await.unwrap();
        fleet.ops.delete_tenant(&operator(), &quiet.id.into()).await.unwrap();
        fleet.ops.purge_tenant(&operator(), &quiet.id.into()).await.unwrap();
        let written = fleet
            .ops
            .list_audit(&operator(), Some(quiet.id), None, 100)
            .await
            .unwrap();
        assert!(written.iter().all(|entry| entry.action != "tenant.drop-jobs"));
    }
}
