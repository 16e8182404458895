//! A process is killed at every step of every operation, and another one goes on.

use std::time::Duration;

use futures_util::future::join_all;
use tenantry_core::{Isolation, TenantId, TenantState};
use tenantry_ops::{OperationKind, OperationState, TenantRef, Verdict, steps};
use tenantry_testing::cluster;

use crate::{
    child::Process,
    fleet::{Fleet, config, operator},
};

/// Every place where a process can be stopped, in order.
fn places(kind: OperationKind, isolation: Isolation) -> Vec<String> {
    let mut places = Vec::new();
    for step in steps(kind, isolation) {
        places.push(format!("{kind}.before_{step}"));
        if let "rows" | "schema" | "database" = *step {
            places.push(format!("{kind}.recorded_{step}"));
        }
        // The last step ends the operation.
        if !matches!(*step, "activate" | "ready") {
            places.push(format!("{kind}.after_{step}"));
        }
    }
    places
}

async fn a_killed_creation_is_finished(isolation: Isolation) {
    let fleet = Fleet::start().await;
    let kills = places(OperationKind::Provision, isolation)
        .into_iter()
        .enumerate()
        .map(|(number, place)| {
            let slug = format!("killed-{}", (b'a' + number as u8) as char);
            let child = Process::start(
                &fleet.catalog.url(),
                &format!("create-{isolation}"),
                &slug,
                &format!("{place}=stop"),
            );
            async move {
                child.gets_killed_at(&place).await;
                (slug, place)
            }
        });
    let killed = join_all(kills).await;
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    for (slug, place) in killed {
        let tenant = fleet.settled(&slug).await;
        assert_eq!(tenant.state, TenantState::Active, "killed at {place}");
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"], "killed at {place}");
        fleet.add_contact(tenant.id, "new@example.com").await;
        let operations = fleet
            .ops
            .list_operations(&operator(), Some(tenant.id), None, 10)
            .await
            .unwrap();
        assert_eq!(operations.len(), 1, "killed at {place}");
        assert_eq!(operations[0].state, OperationState::Done, "killed at {place}");
        assert_eq!(fleet.open_cleanups(operations[0].id).await, 0, "killed at {place}");
    }
    runner.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_in_shared_tables_killed_at_any_step_is_finished_by_another_process() {
    a_killed_creation_is_finished(Isolation::Shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_in_an_own_schema_killed_at_any_step_is_finished_by_another_process() {
    a_killed_creation_is_finished(Isolation::Schema).await;
}

/// The schema's commit does not wait for the disk: a server that crashes with the process may not have it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_server_forgot_the_schema_in_a_crash_makes_it_again() {
    let fleet = Fleet::start().await;
    let child = Process::start(
        &fleet.catalog.url(),
        "create-schema",
        "forgotten",
        "provision.before_tables=stop",
    );
    child.gets_killed_at("provision.before_tables").await;
    let slug = TenantRef::Slug("forgotten".to_owned());
    let tenant = fleet.ops.get_tenant(&operator(), &slug).await.unwrap();
    let placement = tenant.placement.unwrap();
    let admin = fleet.shared_admin().await;
    let forgotten = format!("drop schema \"{}\"", placement.schema);
    admin.batch_execute(&forgotten).await.unwrap();
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    let tenant = fleet.settled("forgotten").await;
    assert_eq!(tenant.state, TenantState::Active);
    fleet.add_contact(tenant.id, "new@example.com").await;
    runner.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_in_an_own_database_killed_at_any_step_is_finished_by_another_process() {
    a_killed_creation_is_finished(Isolation::Database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_fails_and_is_killed_while_it_is_undone_leaves_nothing() {
    let fleet = Fleet::start().await;
    let before = fleet.objects().await;
    let kills = [
        (Isolation::Shared, "rows", "rows"),
        (Isolation::Schema, "tables", "schema"),
        (Isolation::Schema, "schema", "schema"),
        (Isolation::Database, "database", "database"),
        (Isolation::Database, "bootstrap", "database"),
        (Isolation::Database, "tables", "database"),
    ];
    let kills = kills
        .into_iter()
        .enumerate()
        .map(|(number, (isolation, step, object))| {
            let slug = format!("undone-{}", (b'a' + number as u8) as char);
            let failpoints = format!("provision.after_{step}=fail,provision.undo_{object}=stop");
            let child = Process::start(&fleet.catalog.url(), &format!("create-{isolation}"), &slug, &failpoints);
            async move {
                child.gets_killed_at(&format!("provision.undo_{object}")).await;
                (slug, isolation)
            }
        });
    let killed = join_all(kills).await;
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    for (slug, isolation) in killed {
        let tenant = fleet.settled(&slug).await;
        assert_eq!(tenant.state, TenantState::Purged, "{slug}");
        assert!(tenant.placement.is_none(), "{slug}");
        // The slug is free again.
        fleet.create(&slug, isolation).await.unwrap();
        let again = fleet
            .ops
            .get_tenant(&operator(), &TenantRef::Slug(slug.clone()))
            .await
            .unwrap();
        fleet.ops.delete_tenant(&operator(), &again.id.into()).await.unwrap();
        if let Err(error) = fleet.ops.purge_tenant(&operator(), &again.id.into()).await {
            panic!(
                "{slug} {isolation} {error}: {:?}",
                fleet.ops.list_operations(&operator(), Some(again.id), None, 10).await
            );
        }
    }
    runner.abort();
    assert_eq!(fleet.objects().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_a_server_killed_at_any_step_is_finished_by_another_process() {
    let url = cluster().await.admin_url("postgres");
    for place in places(OperationKind::PrepareDatabase, Isolation::Shared) {
        let fleet = Fleet::empty(config()).await;
        let child = Process::start(&fleet.catalog.url(), "add-server", &url, &format!("{place}=stop"));
        child.gets_killed_at(&place).await;
        let runner = tokio::spawn({
            let ops = fleet.ops.clone();
            async move { ops.run_operations().await }
        });
        fleet.operations_end().await;
        runner.abort();
        let check = fleet.ops.check_server(&operator(), "one").await.unwrap();
        assert_eq!(check.problems, Vec::<String>::new(), "killed at {place}");
        fleet.create("acme", Isolation::Shared).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_resume_and_purge_killed_at_any_step_are_finished_by_another_process() {
    let mut config = config();
    config.retention = Duration::ZERO;
    let fleet = Fleet::start_with(config).await;
    let acts = [
        ("suspend", "suspend.before_fence", TenantState::Suspended),
        ("suspend", "suspend.after_fence", TenantState::Suspended),
        ("resume", "resume.before_fence", TenantState::Active),
        ("resume", "resume.after_fence", TenantState::Active),
        ("resume", "resume.before_activate", TenantState::Active),
        ("purge", "purge.before_remove", TenantState::Purged),
        ("purge", "purge.after_remove", TenantState::Purged),
        ("purge", "purge.before_beside", TenantState::Purged),
        ("purge", "purge.after_beside", TenantState::Purged),
        ("purge", "purge.before_forget", TenantState::Purged),
        ("purge", "purge.after_forget", TenantState::Purged),
        ("purge", "purge.before_certify", TenantState::Purged),
        ("purge", "purge.after_purged", TenantState::Purged),
        ("purge", "purge.before_purged", TenantState::Purged),
    ];
    let isolations = Isolation::ALL.into_iter().cycle();
    let mut killed = Vec::new();
    for (number, ((act, place, state), isolation)) in acts.into_iter().zip(isolations).enumerate() {
        let slug = format!("acted-{}", (b'a' + number as u8) as char);
        let tenant = fleet.create(&slug, isolation).await.unwrap();
        match act {
            "resume" => drop(fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap()),
            // Its retention is longer in the child, which has to be asked to purge.
            "purge" => fleet.park_deletion(tenant.id).await,
            _ => {}
        }
        let child = Process::start(&fleet.catalog.url(), act, &slug, &format!("{place}=stop"));
        child.gets_killed_at(place).await;
        killed.push((tenant.id, place, state));
    }
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    for (tenant, place, state) in killed {
        let found = fleet.ops.get_tenant(&operator(), &tenant.into()).await.unwrap();
        assert_eq!(found.state, state, "killed at {place}");
        assert_eq!(
            found.placement.is_none(),
            state == TenantState::Purged,
            "killed at {place}"
        );
        if state == TenantState::Active {
            assert_eq!(fleet.emails(tenant).await, ["help@example.com"], "killed at {place}");
        }
        if state == TenantState::Purged {
            purged_whole_and_certified_once(&fleet, tenant, place).await;
        }
        if state == TenantState::Suspended {
            let refusal = fleet.enter(tenant).await.unwrap_err();
            assert_eq!(refusal.code().unwrap().code(), "TN002", "killed at {place}");
        }
    }
}

/// The purge has ended, nothing is left but the record, and that was certified once, whoever began it.
async fn purged_whole_and_certified_once(fleet: &Fleet, tenant: TenantId, place: &str) {
    let by = operator();
    let made = fleet.ops.list_operations(&by, Some(tenant), None, 10).await.unwrap();
    let purges: Vec<_> = made.iter().filter(|one| one.kind == OperationKind::Purge).collect();
    assert_eq!(purges.len(), 1, "killed at {place}: {made:?}");
    assert_eq!(purges[0].state, OperationState::Done, "killed at {place}");
    let erasure = fleet.ops.find_erasure(&by, &tenant.into()).await.unwrap();
    let certificate = erasure.certificate;
    assert_eq!(certificate.purge, Some(purges[0].id), "killed at {place}");
    // Other tests may still see rows of their own here, so that it may be not shown; but nothing was left.
    assert_ne!(certificate.verdict, Verdict::Left, "killed at {place}: {certificate:?}");
    let client = fleet.ops.catalog().client().await.unwrap();
    let kept = "select count(*) from erasure where tenant = $1";
    let kept: i64 = client.query_one(kept, &[tenant.as_uuid()]).await.unwrap().get(0);
    let told = fleet.ops.list_audit(&by, Some(tenant), None, 100).await.unwrap();
    let told = told.iter().filter(|entry| entry.action == "tenant.erasure").count();
    assert_eq!((kept, told), (1, 1), "killed at {place}");
}
