//! A signed link opens no more than whoever signed it may at the moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenantry::{
    Actor, PoolConfig, Role, Tenantry,
    files::{FileError, Files, FilesConfig, LinkKey, LinkKeys, LinkVerb, ScopedFiles},
};
use tenantry_testing::{TestFolder, test_folder};

use super::support::{Fixture, bearer, system};
use crate::{
    dropped::dropped_after,
    world::{Audit, Source},
};

const SOON: Duration = Duration::from_secs(600);

/// A process that resolves and signs links.
struct Linked {
    tenantry: Tenantry,
    _folder: TestFolder,
}

impl Linked {
    async fn new(fixture: &Fixture) -> Self {
        let folder = test_folder();
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
        Self {
            tenantry,
            _folder: folder,
        }
    }

    async fn files(&self, credential: &str) -> ScopedFiles {
        let verified = bearer(credential).at(self.tenantry.resolver().unwrap()).await.unwrap();
        self.tenantry.scope(verified).files().unwrap()
    }

    /// As whom the link opens, and with which role.
    async fn opens(&self, link: &str, verb: LinkVerb) -> Result<(Actor, Role), FileError> {
        let opened = self.tenantry.open_file_link(link, verb).await?;
        let context = opened.files.context();
        Ok((context.actor.clone(), context.role))
    }

    /// Within a second it opens nothing.
    async fn ends(&self, link: &str, verb: LinkVerb, why: &str) {
        let since = Instant::now();
        while !matches!(self.opens(link, verb).await, Err(FileError::BadLink)) {
            assert!(since.elapsed() < Duration::from_secs(1), "a link outlives {why}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_link_ends_with_the_membership_of_who_signed_it() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "owner@example.com", Role::Owner).await;
    let ann = fixture.member(acme, "ann@example.com", Role::Member).await;
    let linked = Linked::new(&fixture).await;
    let files = linked.files(&fixture.token("ann@example.com", None).await).await;
    let down = files.link("file", SOON).unwrap();
    let up = files.upload_link("file", 100, SOON).unwrap();
    let by_ann = |role| (Actor::Account(ann), role);
    let opened = linked.opens(&down, LinkVerb::Download).await.unwrap();
    assert_eq!(opened, by_ann(Role::Viewer));
    assert_eq!(linked.opens(&up, LinkVerb::Upload).await.unwrap(), by_ann(Role::Member));
    for polls in 1..5 {
        dropped_after(polls, linked.tenantry.open_file_link(&down, LinkVerb::Download)).await;
    }

    fixture
        .ops
        .set_member_role(&system(), acme, ann, Role::Viewer)
        .await
        .unwrap();
    linked.ends(&up, LinkVerb::Upload, "its signer's right to write").await;
    // What a viewer may do it still does.
    let opened = linked.opens(&down, LinkVerb::Download).await.unwrap();
    assert_eq!(opened, by_ann(Role::Viewer));
    fixture.ops.remove_member(&system(), acme, ann).await.unwrap();
    linked.ends(&down, LinkVerb::Download, "its signer's membership").await;
}

#[tokio::test]
async fn a_link_ends_with_the_api_key_that_signed_it() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let linked = Linked::new(&fixture).await;
    let (key, text) = fixture.api_key(acme, Role::Admin).await;
    let files = linked.files(&text).await;
    let down = files.link("file", SOON).unwrap();
    let up = files.upload_link("file", 100, SOON).unwrap();
    let opened = linked.opens(&down, LinkVerb::Download).await.unwrap();
    assert_eq!(opened, (Actor::ApiKey(key), Role::Viewer));
    let opened = linked.opens(&up, LinkVerb::Upload).await.unwrap();
    assert_eq!(opened, (Actor::ApiKey(key), Role::Member));
    for polls in 1..5 {
        dropped_after(polls, linked.tenantry.open_file_link(&down, LinkVerb::Download)).await;
    }

    // A key that may only read by now.
    fixture
        .change_unheard(
            &format!("update api_key set role = 'viewer' where id = '{key}'"),
            &format!("api-key:{key}"),
        )
        .await;
    linked.tenantry.resolver().unwrap().catch_up().await.unwrap();
    linked.ends(&up, LinkVerb::Upload, "its key's right to write").await;
    linked.opens(&down, LinkVerb::Download).await.unwrap();
    fixture.ops.revoke_api_key(&system(), acme, key).await.unwrap();
    linked.ends(&down, LinkVerb::Download, "its key").await;

    // One whose time is over, of which nobody is told.
    let (brief, text) = fixture.api_key(acme, Role::Viewer).await;
    let link = linked.files(&text).await.link("file", SOON).unwrap();
    fixture
        .run(&format!(
            "update api_key set expires_at = now() + interval '2 seconds' where id = '{brief}'"
        ))
        .await;
    linked.opens(&link, LinkVerb::Download).await.unwrap();
    let since = Instant::now();
    while !matches!(linked.opens(&link, LinkVerb::Download).await, Err(FileError::BadLink)) {
        assert!(
            since.elapsed() < Duration::from_secs(4),
            "a link outlives its key's time"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
