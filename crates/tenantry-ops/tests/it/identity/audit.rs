use tenantry_core::{OperatorScope, Role};
use tenantry_ops::audit::AuditError;

use super::support::{Fixture, account, operator, operator_with};

#[tokio::test]
async fn every_change_of_members_is_written_down_and_tampering_shows() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    let as_ann = account(acme, ann, Role::Owner);
    let bob = fixture.member(acme, "bob@example.com", Role::Member).await;
    fixture
        .ops
        .set_member_role(&as_ann, acme, bob, Role::Viewer)
        .await
        .unwrap();
    fixture.ops.remove_member(&as_ann, acme, bob).await.unwrap();

    let log = fixture.ops.list_audit(&as_ann, Some(acme), None, 10).await.unwrap();

    let acts: Vec<_> = log
        .iter()
        .map(|record| (record.action.as_str(), record.actor.clone()))
        .collect();
    let ann_acts = format!("account:{ann}");
    let operator_acts = format!("operator:{}", uuid::Uuid::nil());
    assert_eq!(
        acts,
        [
            ("member.remove", ann_acts.clone()),
            ("member.set-role", ann_acts),
            ("member.add", operator_acts.clone()),
            ("member.add", operator_acts),
        ]
    );
    assert_eq!(log[1].before.as_ref().unwrap()["role"], "member");
    assert_eq!(log[1].after.as_ref().unwrap()["role"], "viewer");
    assert_eq!(
        (log[1].origin.as_str(), log[1].request_id.as_str()),
        ("192.0.2.1", "req-1")
    );
    assert_eq!(fixture.ops.first_broken_audit_entry(&operator()).await.unwrap(), None);

    let client = fixture.catalog.client().await.unwrap();
    client
        .execute("update audit_log set actor = 'system' where id = $1", &[&log[2].id])
        .await
        .unwrap();
    assert_eq!(
        fixture.ops.first_broken_audit_entry(&operator()).await.unwrap(),
        Some(log[2].id)
    );
}

#[tokio::test]
async fn the_log_of_a_tenant_is_its_admins_and_operators_only() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    let ann = fixture.member(acme, "ann@example.com", Role::Owner).await;
    for (authority, tenant) in [
        (account(acme, ann, Role::Owner), Some(globex)),
        (account(acme, ann, Role::Owner), None),
        (account(acme, ann, Role::Member), Some(acme)),
        (operator_with([OperatorScope::Servers]), None),
    ] {
        let refused = fixture.ops.list_audit(&authority, tenant, None, 10).await;
        assert!(matches!(refused, Err(AuditError::Forbidden(_))), "{refused:?}");
    }
}
