//! Backups and exports over HTTP.

use serde_json::json;
use tenantry_ops::BackupStore;
use tenantry_testing::test_folder;

use crate::harness::{App, Tenant};

#[tokio::test]
async fn a_tenant_is_backed_up_listed_and_restored_beside_itself() {
    let folder = test_folder();
    let app = App::start_with(|options| {
        options.isolations = &["shared"];
        options.backups = Some(BackupStore::in_folder(folder.path()).unwrap());
    })
    .await;
    let tenant = &app.tenants[0];
    let path = format!("/v1/tenants/{}/backups", tenant.slug);
    let contacts = tenant.client.get("/app/contacts").await.expect(200);
    let made = app.operator.post(&path, json!({})).await.expect(201);
    assert_eq!(made["tenant"], tenant.id);
    let listed = app.operator.get(&path).await.expect(200);
    assert_eq!(listed, json!({ "items": [made], "next_cursor": null }));
    let restore = format!("/v1/backups/{}/restore", made["id"].as_str().unwrap());
    let restored = app
        .operator
        .post(&restore, json!({ "slug": "again" }))
        .await
        .expect(201);
    assert_eq!(
        (&restored["slug"], &restored["state"]),
        (&json!("again"), &json!("active"))
    );
    app.operator
        .post(&restore, json!({ "slug": "again" }))
        .await
        .refused(409, "tenant-slug-taken");
    let refused = app.operator.post(&restore, json!({ "isolation": "none" })).await;
    assert_eq!(refused.refused_fields(422, "invalid-field"), ["/isolation", "/slug"]);
    for unknown in [
        "/v1/backups/nothing/restore",
        "/v1/backups/0198f2c4-7a1e-7c3d-9a55-0d6f4f1b2a90/restore",
    ] {
        app.operator
            .post(unknown, json!({ "slug": "other" }))
            .await
            .refused(404, "not-found");
    }
    assert_eq!(tenant.client.get("/app/contacts").await.expect(200), contacts);
}

#[tokio::test]
async fn a_tenant_gets_the_rows_of_a_backup_back_in_its_place() {
    let folder = test_folder();
    let app = App::start_with(|options| {
        options.isolations = &["shared", "schema"];
        options.backups = Some(BackupStore::in_folder(folder.path()).unwrap());
    })
    .await;
    let [tenant, other] = [&app.tenants[0], &app.tenants[1]];
    let contacts = async |of: &Tenant| {
        app.within_seconds(10, async || of.client.get("/app/contacts").await.status == 200)
            .await;
        of.client.get("/app/contacts").await.expect(200)
    };
    let restore = format!("/v1/tenants/{}/restore", tenant.slug);
    app.operator
        .post(&restore, json!({ "at": "latest" }))
        .await
        .refused(404, "not-found");
    tenant
        .client
        .post("/app/contacts", json!({ "name": "kept" }))
        .await
        .expect(201);
    let before = contacts(tenant).await;
    let made = app
        .operator
        .post(&format!("/v1/tenants/{}/backups", tenant.id), json!({}))
        .await
        .expect(201);
    let elsewhere = contacts(other).await;
    for at in [&json!("latest"), &made["id"], &made["taken_at"]] {
        tenant
            .client
            .post("/app/contacts", json!({ "name": "lost" }))
            .await
            .expect(201);
        let restored = app.operator.post(&restore, json!({ "at": at })).await.expect(200);
        assert_eq!(
            (&restored["id"], &restored["state"]),
            (&json!(tenant.id), &json!("active")),
            "{at}"
        );
        assert_eq!(contacts(tenant).await, before, "{at}");
    }
    assert_eq!(contacts(other).await, elsewhere);
    for at in ["yesterday", "2001-01-01T00:00:00Z"] {
        let refused = app.operator.post(&restore, json!({ "at": at })).await;
        assert_eq!(refused.refused_fields(422, "invalid-field"), ["/at"], "{at}");
    }
    let others = format!("/v1/tenants/{}/restore", other.id);
    for (path, at) in [
        (others.as_str(), made["id"].as_str().unwrap()),
        ("/v1/tenants/nobody/restore", "latest"),
        (restore.as_str(), "0198f2c4-7a1e-7c3d-9a55-0d6f4f1b2a90"),
    ] {
        app.operator
            .post(path, json!({ "at": at }))
            .await
            .refused(404, "not-found");
    }
}

#[tokio::test]
async fn an_export_is_the_whole_archive_and_backups_without_a_store_are_refused() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let answer = app
        .operator
        .post_for_bytes(&format!("/v1/tenants/{}/exports", tenant.id))
        .await;
    let folder = test_folder();
    let file = folder.path().join("archive");
    std::fs::write(&file, answer).unwrap();
    let mut request = tenantry_ops::ImportRequest::new(&file);
    request.slug = Some("imported".parse().unwrap());
    let imported = app
        .ops
        .import_tenant(&tenantry_ops::Authority::system("test"), &request)
        .await
        .unwrap();
    assert_eq!(imported.slug.as_str(), "imported");
    app.operator
        .post("/v1/tenants/nobody/exports", json!({}))
        .await
        .refused(404, "not-found");
    app.operator
        .post(&format!("/v1/tenants/{}/backups", tenant.id), json!({}))
        .await
        .refused(409, "conflict");
}
