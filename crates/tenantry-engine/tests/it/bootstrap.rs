//! Making servers and databases ready.

use crate::seal_support::{Fixture, sealed};

#[tokio::test]
async fn a_fresh_database_becomes_sealed() {
    sealed().await;
}

#[tokio::test]
async fn a_fresh_database_becomes_sealed_on_another_version() {
    Fixture::on(tenantry_testing::second_cluster().await).await;
}

#[tokio::test]
async fn an_administrator_who_may_not_grant_the_carrier_gets_the_signed_tier() {
    Fixture::signed_on(tenantry_testing::cluster().await).await;
}

#[tokio::test]
async fn an_administrator_who_may_not_grant_the_carrier_gets_the_signed_tier_on_another_version() {
    Fixture::signed_on(tenantry_testing::second_cluster().await).await;
}
