//! Tokens of another issuer, with a stub that publishes keys as one does.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{Router, extract::State, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenantry::{OutsideIssuer, ResolveError, Resolver, Role, TenantRule};

use super::support::{Fixture, bearer, config, signed};

const THEIRS: &str = "https://idp.test";

/// An issuer that publishes a document and counts how often it is asked.
struct Stub {
    url: String,
    published: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let published = Arc::new(Mutex::new(json!({ "keys": [] }).to_string()));
        let asked = Arc::new(AtomicUsize::new(0));
        let state = (Arc::clone(&published), Arc::clone(&asked));
        let answer = |State((published, asked)): State<(Arc<Mutex<String>>, Arc<AtomicUsize>)>| async move {
            asked.fetch_add(1, Ordering::SeqCst);
            published.lock().clone()
        };
        let router = Router::new().route("/jwks", get(answer)).with_state(state);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self {
            url,
            published,
            asked,
            task,
        }
    }

    fn publish(&self, keys: &[&Pair]) {
        let keys: Vec<_> = keys.iter().map(|pair| pair.jwk()).collect();
        *self.published.lock() = json!({ "keys": keys }).to_string();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn issuer(&self, tenant: TenantRule) -> OutsideIssuer {
        OutsideIssuer::new(THEIRS, self.url.clone(), "our-api", tenant)
    }
}

struct Pair {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Pair {
    fn new(kid: &'static str) -> Self {
        Self {
            kid,
            pair: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let key = EncodingKey::from_ed_der(self.pair.to_pkcs8v1().unwrap().as_ref());
        signed(&header, &claims.to_string(), &key, Algorithm::EdDSA)
    }
}

fn claims(tenant: &str) -> Value {
    let now = chrono::Utc::now().timestamp();
    json!({
        "iss": THEIRS, "aud": "our-api", "sub": "their-id-7", "email": "Ann@example.com", "email_verified": true,
        "org": tenant, "iat": now, "exp": now + 300,
    })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

async fn resolver(fixture: &Fixture, issuer: OutsideIssuer) -> Resolver {
    let mut config = config();
    config.outside_issuers = vec![issuer];
    fixture.resolver_with(config).await
}

fn any_org() -> TenantRule {
    TenantRule::AnyClaim { name: "org".to_owned() }
}

#[tokio::test]
async fn their_token_opens_what_the_membership_in_our_catalog_opens() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    let globex = fixture.tenant("globex").await;
    fixture.member(acme, "ann@example.com", Role::Member).await;
    let (stub, pair) = (Stub::start().await, Pair::new("k1"));
    stub.publish(&[&pair]);
    let resolver = resolver(&fixture, stub.issuer(any_org())).await;
    for tenant in ["acme".to_owned(), acme.to_string()] {
        let shown = bearer(&pair.sign(&claims(&tenant)));
        assert_eq!(shown.opens(&resolver).await, Ok((acme, Role::Member)));
        assert_eq!(
            shown.host("globex.example.com").opens(&resolver).await,
            Err(ResolveError::TenantMismatch)
        );
    }
    for other in ["globex", "nobody"] {
        assert_eq!(
            bearer(&pair.sign(&claims(other))).opens(&resolver).await,
            Err(ResolveError::Forbidden),
            "{other}"
        );
    }
    let stranger = with(&claims("acme"), "email", json!("zoe@example.com"));
    assert_eq!(
        bearer(&pair.sign(&stranger)).opens(&resolver).await,
        Err(ResolveError::Forbidden)
    );
    let mut open = claims("acme");
    open.as_object_mut().unwrap().remove("org");
    let open = bearer(&pair.sign(&open));
    assert_eq!(open.opens(&resolver).await, Err(ResolveError::TenantUnresolved));
    assert_eq!(
        open.clone().tenant("acme").opens(&resolver).await,
        Ok((acme, Role::Member))
    );
    assert_eq!(open.tenant(globex).opens(&resolver).await, Err(ResolveError::Forbidden));

    // Ended at ours, whatever their token says.
    let shown = bearer(&pair.sign(&claims("acme")));
    assert!(shown.opens(&resolver).await.is_ok());
    let ann = fixture.login("ann@example.com", None).await.account;
    fixture.member(acme, "own@example.com", Role::Owner).await;
    fixture
        .ops
        .remove_member(&super::support::system(), acme, ann)
        .await
        .unwrap();
    assert!(shown.until(&resolver, Err(ResolveError::Forbidden)).await < std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn a_tenants_own_provider_speaks_for_no_other_tenant() {
    let fixture = Fixture::new().await;
    let (acme, globex) = (fixture.tenant("acme").await, fixture.tenant("globex").await);
    for tenant in [acme, globex] {
        fixture.member(tenant, "ann@example.com", Role::Owner).await;
    }
    let (stub, pair) = (Stub::start().await, Pair::new("k1"));
    stub.publish(&[&pair]);
    let allowed = TenantRule::Claim {
        name: "org".to_owned(),
        allowed: vec!["acme".to_owned()],
    };
    let by_claim = resolver(&fixture, stub.issuer(allowed)).await;
    assert_eq!(
        bearer(&pair.sign(&claims("acme"))).opens(&by_claim).await,
        Ok((acme, Role::Owner))
    );
    for forged in [claims("globex"), claims(&globex.to_string())] {
        assert_eq!(
            bearer(&pair.sign(&forged)).opens(&by_claim).await,
            Err(ResolveError::BadToken)
        );
    }
    let mut none = claims("acme");
    none.as_object_mut().unwrap().remove("org");
    let none = bearer(&pair.sign(&none)).tenant("globex");
    assert_eq!(none.opens(&by_claim).await, Err(ResolveError::BadToken));

    let fixed = resolver(&fixture, stub.issuer(TenantRule::Fixed("acme".to_owned()))).await;
    let shown = bearer(&pair.sign(&claims("globex")));
    assert_eq!(
        shown.opens(&fixed).await,
        Ok((acme, Role::Owner)),
        "the claim is not even read"
    );
    assert_eq!(
        shown.tenant("globex").opens(&fixed).await,
        Err(ResolveError::TenantMismatch)
    );
}

#[tokio::test]
async fn their_forged_or_foreign_tokens_are_refused() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let (stub, pair, thief) = (Stub::start().await, Pair::new("k1"), Pair::new("k1"));
    stub.publish(&[&pair]);
    let resolver = resolver(&fixture, stub.issuer(any_org())).await;
    let good = claims("acme");
    assert!(bearer(&pair.sign(&good)).opens(&resolver).await.is_ok());
    let now = chrono::Utc::now().timestamp();
    let mut bad = vec![thief.sign(&good)];
    for (name, value) in [
        ("iss", json!("https://idp.test/")),
        ("iss", json!([THEIRS])),
        // Theirs in our name.
        ("iss", json!("https://tenantry.test")),
        ("aud", json!("another-api")),
        ("aud", Value::Null),
        ("exp", json!(now - 60)),
        ("exp", json!(now as f64 + 300.5)),
        ("exp", json!((now + 300).to_string())),
        ("exp", Value::Null),
        ("nbf", json!(now + 300)),
        ("nbf", json!("now")),
        ("email", json!("no e-mail")),
        ("email", json!(["ann@example.com"])),
        ("email_verified", json!(false)),
        ("email_verified", json!("true")),
        ("email_verified", Value::Null),
        ("org", json!(["acme"])),
        // An ID token.
        ("nonce", json!("n")),
        ("at_hash", json!("h")),
    ] {
        bad.push(pair.sign(&with(&good, name, value)));
    }
    let secret = EncodingKey::from_secret(pair.pair.public_key().as_ref());
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "k1" });
    bad.push(signed(&header, &good.to_string(), &secret, Algorithm::HS256));
    let private = EncodingKey::from_ed_der(thief.pair.to_pkcs8v1().unwrap().as_ref());
    let header = json!({ "alg": "EdDSA", "kid": "k1", "jwk": thief.jwk() });
    bad.push(signed(&header, &good.to_string(), &private, Algorithm::EdDSA));
    for token in bad {
        assert_eq!(
            bearer(&token).opens(&resolver).await,
            Err(ResolveError::BadToken),
            "{token}"
        );
    }
    let aud_of_several = with(&good, "aud", json!(["another-api", "our-api"]));
    assert!(bearer(&pair.sign(&aud_of_several)).opens(&resolver).await.is_ok());
}

#[tokio::test]
async fn new_keys_are_fetched_and_made_up_key_ids_do_not_flood_the_issuer() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let (stub, old) = (Stub::start().await, Pair::new("k1"));
    stub.publish(&[&old]);
    let resolver = resolver(&fixture, stub.issuer(any_org())).await;
    assert!(bearer(&old.sign(&claims("acme"))).opens(&resolver).await.is_ok());
    assert_eq!(stub.asked(), 1);
    let tries = (0..50).map(|_| {
        let resolver = resolver.clone();
        async move {
            bearer(&Pair::new("made-up").sign(&claims("acme")))
                .opens(&resolver)
                .await
        }
    });
    for outcome in futures_util::future::join_all(tries).await {
        assert_eq!(outcome, Err(ResolveError::BadToken));
    }
    assert_eq!(stub.asked(), 1, "the last fetch is a moment ago");

    let new = Pair::new("k2");
    stub.publish(&[&old, &new]);
    let shown = bearer(&new.sign(&claims("acme")));
    // As soon as fetching is allowed again.
    let waited = shown.until(&resolver, Ok(Role::Owner)).await;
    assert!(waited < std::time::Duration::from_secs(8), "{waited:?}");
    assert_eq!(stub.asked(), 2);
}

#[tokio::test]
async fn an_issuer_that_can_not_be_used_refuses_its_own_tokens_only() {
    let fixture = Fixture::new().await;
    let acme = fixture.tenant("acme").await;
    fixture.member(acme, "ann@example.com", Role::Owner).await;
    let (stub, pair) = (Stub::start().await, Pair::new("k1"));
    for document in [
        "not json".to_owned(),
        format!("{{\"keys\":[],\"pad\":\"{}\"}}", "x".repeat(300_000)),
    ] {
        *stub.published.lock() = document;
        let resolver = resolver(&fixture, stub.issuer(any_org())).await;
        let theirs = bearer(&pair.sign(&claims("acme"))).opens(&resolver).await;
        assert_eq!(theirs, Err(ResolveError::Unavailable));
        let ours = bearer(&fixture.token("ann@example.com", None).await);
        assert!(ours.opens(&resolver).await.is_ok());
    }
}
