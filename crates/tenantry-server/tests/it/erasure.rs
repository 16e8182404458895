//! The certificate of an erasure over HTTP.

use serde_json::json;
use tenantry_core::TenantId;

use crate::harness::App;

#[tokio::test]
async fn a_purged_tenants_certificate_is_answered_with_a_signature_by_a_published_key() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let path = format!("/v1/tenants/{}/erasure", tenant.id);
    app.operator.get(&path).await.refused(409, "conflict");
    app.operator
        .get("/v1/tenants/nobody/erasure")
        .await
        .refused(404, "not-found");
    app.operator
        .delete(&format!("/v1/tenants/{}", tenant.id))
        .await
        .expect(202);
    let id: TenantId = tenant.id.parse().unwrap();
    app.ops
        .purge_tenant(&tenantry_ops::Authority::system("test"), &id.into())
        .await
        .unwrap();
    for path in [path, format!("/v1/tenants/{}/erasure", tenant.slug)] {
        let answer = app.operator.get(&path).await.expect(200);
        assert_eq!(answer["certificate"]["verdict"], "erased", "{answer}");
        assert_eq!(answer["certificate"]["tenant"], json!(tenant.id));
        let jws = answer["jws"].as_str().unwrap();
        assert_eq!(app.opened(jws, "tenantry-erasure+jwt").await, answer["certificate"]);
        // It opens nothing.
        app.anonymous
            .bearer(jws)
            .get("/v1/auth/me")
            .await
            .refused(401, "bad-token");
    }
}
