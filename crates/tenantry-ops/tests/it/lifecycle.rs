//! Suspend, resume, delete, recover, purge.

use std::time::Duration;

use tenantry_core::{Isolation, TenantState};
use tenantry_ops::{OperationState, TenantError, TenantFilter, TenantRef};

use crate::{
    child::Process,
    fleet::{Fleet, config, operator},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_by_its_database_until_it_is_resumed() {
    let fleet = Fleet::start().await;
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        let bound = fleet.enter(tenant.id).await.unwrap();
        let suspended = fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert_eq!(suspended.state, TenantState::Suspended);
        let refusal = fleet.enter(tenant.id).await.unwrap_err();
        assert_eq!(refusal.code().unwrap().code(), "TN002", "{isolation}");
        // Also on a connection that was bound before.
        let refusal = bound.query("select * from contacts", &[]).await.unwrap_err();
        assert_eq!(refusal.code().unwrap().code(), "22P02", "{isolation}");
        // Twice is once.
        fleet.ops.suspend_tenant(&operator(), &tenant.id.into()).await.unwrap();
        let resumed = fleet.ops.resume_tenant(&operator(), &tenant.id.into()).await.unwrap();
        assert_eq!(resumed.state, TenantState::Active);
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
        fleet.ops.resume_tenant(&operator(), &tenant.id.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_keeps_a_deleted_tenant_until_it_is_ended() {
    let mut config = config();
    config.retention = Duration::ZERO;
    let fleet = Fleet::start_with(config).await;
    let (ops, by) = (&fleet.ops, operator());
    for isolation in Isolation::ALL {
        let tenant = fleet.create(&format!("acme-{isolation}"), isolation).await.unwrap();
        let id = TenantRef::from(tenant.id);
        for reason in ["", "  ", "a\nb", &"x".repeat(501)] {
            let refused = ops.hold_tenant(&by, &id, reason).await.unwrap_err();
            assert!(matches!(refused, TenantError::HoldReason), "{reason:?}: {refused}");
        }
        let held = ops.hold_tenant(&by, &id, " case 7 ").await.unwrap();
        assert_eq!(held.legal_hold.as_deref(), Some("case 7"));
        // It serves as ever, and can be deleted; but its retention time, which is over at once, purges nothing.
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
        let purge = ops.delete_tenant(&by, &id).await.unwrap();
        assert!(!purge.state.is_final(), "{purge:?}");
        let refused = ops.purge_tenant(&by, &id).await.unwrap_err();
        assert!(refused.to_string().contains("case 7"), "{refused}");
        // Nor does a runner that comes upon it.
        let _ = tokio::time::timeout(Duration::from_millis(1500), ops.run_operations()).await;
        let kept = ops.get_tenant(&by, &id).await.unwrap();
        assert_eq!((kept.state, kept.placement.is_some()), (TenantState::Deleted, true));
        // What was held can be had back, whole.
        ops.resume_tenant(&by, &id).await.unwrap();
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
        ops.delete_tenant(&by, &id).await.unwrap();
        let released = ops.release_tenant(&by, &id).await.unwrap();
        assert_eq!(released.legal_hold, None);
        let purged = ops.purge_tenant(&by, &id).await.unwrap();
        assert_eq!(purged.state, OperationState::Done);
        let refused = ops.hold_tenant(&by, &id, "too late").await.unwrap_err();
        assert!(
            matches!(
                refused,
                TenantError::State {
                    state: TenantState::Purged,
                    ..
                }
            ),
            "{refused}"
        );
    }
}

/// The deletion goes on in another process, and stands at its first step.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_waits_for_a_deletion_that_has_only_just_begun() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "delete", "acme", "purge.after_fence=nap");
    let _child = child.comes_to("purge.after_fence").await;
    let recovered = fleet.ops.resume_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!((recovered.state, recovered.purge_after), (TenantState::Active, None));
    assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_in_the_way_is_told_with_what_it_does() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    let child = Process::start(&fleet.catalog.url(), "suspend", "acme", "suspend.before_fence=stop");
    let child = child.comes_to("suspend.before_fence").await;
    let busy = fleet
        .ops
        .resume_tenant(&operator(), &tenant.id.into())
        .await
        .unwrap_err();
    assert!(matches!(busy, TenantError::Busy { .. }), "{busy:?}");
    let told = busy.to_string();
    assert!(
        told.contains("suspend is still under way") && told.contains("try again"),
        "{told}"
    );
    drop(child);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_can_be_recovered_until_it_is_purged() {
    let fleet = Fleet::start().await;
    let before = fleet.objects().await;
    for isolation in Isolation::ALL {
        let slug = format!("acme-{isolation}");
        let tenant = fleet.create(&slug, isolation).await.unwrap();
        let neighbour = fleet.create(&format!("next-{isolation}"), isolation).await.unwrap();
        let name = TenantRef::Id(tenant.id);
        let purge = fleet.ops.delete_tenant(&operator(), &name).await.unwrap();
        assert_eq!(purge.state, OperationState::Pending);
        assert!(purge.run_after > chrono::Utc::now() + Duration::from_secs(3600));
        assert_eq!(
            fleet.enter(tenant.id).await.unwrap_err().code().unwrap().code(),
            "TN002"
        );
        assert!(matches!(
            fleet.create(&slug, isolation).await,
            Err(TenantError::SlugTaken)
        ));

        let recovered = fleet.ops.resume_tenant(&operator(), &name).await.unwrap();
        assert_eq!((recovered.state, recovered.purge_after), (TenantState::Active, None));
        assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]);

        let early = fleet.ops.purge_tenant(&operator(), &name).await;
        assert!(matches!(
            early,
            Err(TenantError::State {
                state: TenantState::Active,
                ..
            })
        ));
        fleet.ops.delete_tenant(&operator(), &name).await.unwrap();
        let purge = fleet.ops.purge_tenant(&operator(), &name).await.unwrap();
        assert_eq!(purge.state, OperationState::Done);
        let purged = fleet.ops.get_tenant(&operator(), &name).await.unwrap();
        assert_eq!((purged.state, purged.placement), (TenantState::Purged, None));
        assert!(matches!(
            fleet.ops.resume_tenant(&operator(), &name).await,
            Err(TenantError::State { .. })
        ));
        let listed = fleet
            .ops
            .list_tenants(&operator(), &TenantFilter::default(), 10)
            .await
            .unwrap();
        assert!(listed.iter().all(|listed| listed.id != tenant.id));

        assert_eq!(fleet.emails(neighbour.id).await, ["help@example.com"], "{isolation}");
        fleet
            .ops
            .delete_tenant(&operator(), &neighbour.id.into())
            .await
            .unwrap();
        fleet.ops.purge_tenant(&operator(), &neighbour.id.into()).await.unwrap();
        // The slug is free.
        let again = fleet.create(&slug, isolation).await.unwrap();
        fleet.ops.delete_tenant(&operator(), &again.id.into()).await.unwrap();
        fleet.ops.purge_tenant(&operator(), &again.id.into()).await.unwrap();
    }
    assert_eq!(fleet.objects().await, before);
    let server = &fleet.ops.list_servers(&operator()).await.unwrap()[0];
    assert_eq!(server.tenants, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retention_time_ends_by_itself() {
    let mut config = config();
    config.retention = Duration::from_millis(300);
    let fleet = Fleet::start_with(config).await;
    let tenant = fleet.create("acme", Isolation::Schema).await.unwrap();
    fleet.ops.delete_tenant(&operator(), &tenant.id.into()).await.unwrap();
    let runner = tokio::spawn({
        let ops = fleet.ops.clone();
        async move { ops.run_operations().await }
    });
    fleet.operations_end().await;
    runner.abort();
    let purged = fleet.ops.get_tenant(&operator(), &tenant.id.into()).await.unwrap();
    assert_eq!(purged.state, TenantState::Purged);
}

#[tokio::test(flavor = "multi_thread")]
async fn opposite_requests_at_once_end_in_one_of_the_two_states() {
    let fleet = Fleet::start().await;
    let tenant = fleet.create("acme", Isolation::Shared).await.unwrap();
    let name = TenantRef::Id(tenant.id);
    let operator = operator();
    for _ in 0..5 {
        let (suspended, resumed, again) = tokio::join!(
            fleet.ops.suspend_tenant(&operator, &name),
            fleet.ops.resume_tenant(&operator, &name),
            fleet.ops.suspend_tenant(&operator, &name)
        );
        for outcome in [suspended, resumed, again] {
            assert!(matches!(outcome, Ok(_) | Err(TenantError::Busy { .. })), "{outcome:?}");
        }
        let found = fleet.ops.get_tenant(&operator, &name).await.unwrap();
        match found.state {
            TenantState::Active => assert_eq!(fleet.emails(tenant.id).await, ["help@example.com"]),
            TenantState::Suspended => assert!(fleet.enter(tenant.id).await.is_err()),
            other => panic!("{other}"),
        }
    }
}
