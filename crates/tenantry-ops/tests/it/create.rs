//! Creating tenants.

use tenantry_core::{Isolation, TenantState};

use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_each_isolation_is_made_seeded_and_apart_from_the_others() {
    let fleet = Fleet::start().await;
    let mut tenants = Vec::new();
    for isolation in Isolation::ALL {
        let tenant = fleet
            .create(&format!("acme-{isolation}"), isolation)
            .await
            .expect("it is made");
        assert_eq!(tenant.state, TenantState::Active);
        assert_eq!(tenant.placement.as_ref().expect("it lives").isolation, isolation);
        fleet.add_contact(tenant.id, &format!("{isolation}@example.com")).await;
        tenants.push(tenant);
    }
    for tenant in tenants {
        let isolation = tenant.placement.expect("it lives").isolation;
        assert_eq!(
            fleet.emails(tenant.id).await,
            ["help@example.com".to_owned(), format!("{isolation}@example.com")]
                .iter()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
}
