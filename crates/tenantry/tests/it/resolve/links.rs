//! A signed link opens no more than whoever signed it may at the moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry::{
    PoolConfig, Role, Tenantry,
    files::{FileError, Files, FilesConfig, LinkKey, LinkKeys, LinkVerb},
};

use super::support::{Fixture, bearer, system};
use crate::{
    dropped::dropped_after,
    world::{Audit, Source},
};

const SOON: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_link_ends_with_the_membership_of_who_signed_it() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "owner@example.com", Role::Owner).await;
    let ann = fixture.member(acme, "ann@example.com", Role::Member).await;
    let folder = tenantry_testing::test_folder();
    let mut config = FilesConfig::default();
    config.link_keys = Some(LinkKeys::new(LinkKey::from_bytes(1, &[1; 32]), Vec::new()));
    let tenantry = Tenantry::from_source(
        Arc::new(Source::default()),
        Arc::new(Audit::default()),
        PoolConfig::default(),
    );
    let tenantry = tenantry
        .with_resolver(fixture.resolver().await)
        .with_files(Files::in_folder(folder.path(), config).unwrap());
    let shown = bearer(&fixture.token("ann@example.com", None).await);
    let verified = shown.at(tenantry.resolver().unwrap()).await.unwrap();
    let files = tenantry.scope(verified).files().unwrap();
    let down = files.link("file", SOON).unwrap();
    let up = files.upload_link("file", 100, SOON).unwrap();
    let role = async |link: &str, verb| {
        let opened = tenantry.open_file_link(link, verb).await;
        opened.map(|linked| {
            assert_eq!(linked.files.context().account(), Some(ann));
            linked.files.context().role
        })
    };
    assert_eq!(role(&down, LinkVerb::Download).await.unwrap(), Role::Viewer);
    assert_eq!(role(&up, LinkVerb::Upload).await.unwrap(), Role::Member);
    for polls in 1..5 {
        dropped_after(polls, tenantry.open_file_link(&down, LinkVerb::Download)).await;
    }

    fixture
        .ops
        .set_member_role(&system(), acme, ann, Role::Viewer)
        .await
        .unwrap();
    let since = Instant::now();
    while role(&up, LinkVerb::Upload).await.unwrap() != Role::Viewer {
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "a link writes that its signer may not"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.ops.remove_member(&system(), acme, ann).await.unwrap();
    let since = Instant::now();
    while !matches!(role(&down, LinkVerb::Download).await, Err(FileError::BadLink)) {
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "a link outlives its signer's membership"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
