//! People whose log-in is at another issuer.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{Json, Router, routing::get};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, OctetKeyPairParameters, OctetKeyPairType,
    },
};
use serde_json::{Value, json};
use tenantry::{OutsideIssuer, TenantRule};
use tokio::task::JoinHandle;

use crate::harness::{App, Client};

const THEIRS: &str = "https://idp.test";

/// An issuer that publishes its one key.
struct Issuer {
    key: EncodingKey,
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    async fn start() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = Jwk {
            common: CommonParameters {
                key_id: Some("k1".to_owned()),
                ..CommonParameters::default()
            },
            algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: base64_url(pair.public_key().as_ref()),
            }),
        };
        let keys = JwkSet { keys: vec![public] };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let router = Router::new().route("/jwks", get(|| async move { Json(keys) }));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self {
            key: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            url,
            task,
        }
    }

    fn configured(&self) -> OutsideIssuer {
        let tenant = TenantRule::AnyClaim { name: "org".to_owned() };
        OutsideIssuer::new(THEIRS, self.url.clone(), "our-api", tenant)
    }

    /// What a person comes with who logged in there.
    fn token(&self, email: &str, tenant: Option<&str>) -> String {
        let now = chrono::Utc::now().timestamp();
        let mut claims = json!({ "iss": THEIRS, "aud": "our-api", "sub": "7", "email": email, "email_verified": true,
            "iat": now, "exp": now + 300 });
        if let Some(tenant) = tenant {
            claims["org"] = json!(tenant);
        }
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("k1".to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn statuses(client: &Client, tenant: &str) -> Vec<(String, String)> {
    let page = client.get(&format!("/v1/tenants/{tenant}/members")).await.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap();
    let mut found: Vec<_> = items
        .iter()
        .map(|item| (text(&item["email"]), text(&item["status"])))
        .filter(|(email, _)| email.starts_with("ann@"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn they_accept_an_invitation_without_a_password() {
    let issuer = Issuer::start().await;
    let app = App::start_with(|options| {
        options.isolations = &["shared", "schema"];
        options.outside_issuers = vec![issuer.configured()];
    })
    .await;
    let [first, second] = &app.tenants[..] else {
        unreachable!()
    };
    let ann = json!({ "email": "ann@example.net", "role": "owner" });
    for tenant in [first, second] {
        let members = format!("/v1/tenants/{}/members", tenant.id);
        app.operator.post(&members, ann.clone()).await.expect(201);
        assert_eq!(
            statuses(&app.operator, &tenant.id).await,
            [("ann@example.net".to_owned(), "invited".to_owned())]
        );
    }

    // The account was made for the first tenant: coming is all it takes there.
    let there = app
        .anonymous
        .bearer(&issuer.token("ann@example.net", Some(&first.slug)));
    there.get("/app/contacts").await.expect(200);
    assert_eq!(statuses(&app.operator, &first.id).await[0].1, "active");
    assert_eq!(statuses(&app.operator, &second.id).await[0].1, "invited");

    // It was there before the second one's invitation: that has to be accepted, by a token that speaks for it.
    let choice = json!({ "tenant": second.slug });
    there
        .post("/v1/auth/accept", choice.clone())
        .await
        .refused(404, "not-found");
    let here = app
        .anonymous
        .bearer(&issuer.token("ann@example.net", Some(&second.slug)));
    here.get("/app/contacts").await.refused(403, "forbidden");
    assert_eq!(statuses(&app.operator, &second.id).await[0].1, "invited");
    let place = here.post("/v1/auth/accept", choice.clone()).await.expect(200);
    assert_eq!(
        (&place["slug"], &place["status"]),
        (&json!(second.slug), &json!("active"))
    );
    here.get("/app/contacts").await.expect(200);
    here.post("/v1/auth/accept", choice).await.refused(404, "not-found");
    assert_eq!(statuses(&app.operator, &second.id).await[0].1, "active");

    // Now each tenant has two owners who have shown up, and the first of them may go.
    for tenant in [first, second] {
        let path = format!("/v1/tenants/{}/members/{}", tenant.id, tenant.account);
        app.operator.delete(&path).await.expect(204);
    }

    // What needs a log-in of ours still does.
    here.post("/v1/auth/switch", json!({ "tenant": first.slug }))
        .await
        .refused(403, "forbidden");
    let stranger = app.anonymous.bearer(&issuer.token("zoe@example.net", None));
    stranger
        .post("/v1/auth/accept", json!({ "tenant": first.slug }))
        .await
        .refused(403, "forbidden");
}
