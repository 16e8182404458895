//! Every way to forge, twist or keep a token.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tenantry::{ResolveError, Resolver, Role};
use uuid::Uuid;

use super::support::{AUDIENCE, Fixture, ISSUER, bearer, signed, unsigned};

/// A valid token's parts and the key that signed it.
struct Valid {
    fixture: Fixture,
    resolver: Resolver,
    token: String,
    header: Value,
    claims: Value,
    key: EncodingKey,
}

impl Valid {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let acme = fixture.tenant("acme").await;
        fixture.member(acme, "ann@example.com", Role::Member).await;
        let token = fixture.token("ann@example.com", None).await;
        let part = |index| {
            let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let (header, claims) = (part(0), part(1));
        let (_, private) = fixture.signing_key().await;
        let valid = Self {
            resolver: fixture.resolver().await,
            key: EncodingKey::from_ed_der(&private),
            fixture,
            token,
            header,
            claims,
        };
        // What the tests change one thing about is accepted.
        valid.accepts(&valid.token).await;
        valid.accepts(&valid.sign(&valid.header, &valid.claims)).await;
        valid
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        signed(header, &claims.to_string(), &self.key, Algorithm::EdDSA)
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.sign(&header, &self.claims)
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.sign(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(name).unwrap();
        self.sign(&self.header, &claims)
    }

    async fn accepts(&self, token: &str) {
        let answer = bearer(token).opens(&self.resolver).await;
        assert!(answer.is_ok(), "{answer:?}: {token}");
    }

    async fn refuses(&self, token: &str) {
        let answer = bearer(token).opens(&self.resolver).await;
        assert_eq!(answer, Err(ResolveError::BadToken), "{token}");
        let answer = bearer(token).identity_at(&self.resolver).await;
        assert_eq!(answer, Err(ResolveError::BadToken), "{token}");
    }
}

#[tokio::test]
async fn another_algorithm_is_refused() {
    let valid = Valid::new().await;
    let kid = valid.header["kid"].clone();
    let claims = valid.claims.to_string();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": none, "typ": "at+jwt", "kid": kid });
        let message = unsigned(&header, &claims);
        valid.refuses(&message).await;
        valid.refuses(&format!("{message}.")).await;
        let signature = valid.token.rsplit('.').next().unwrap();
        valid.refuses(&format!("{message}.{signature}")).await;
    }
    // The public key is no secret, so a symmetric signature with it proves nothing.
    let public = &valid.fixture.ops.jwks().await.unwrap()["keys"];
    for key in public.as_array().unwrap() {
        let x = key["x"].as_str().unwrap();
        for secret in [x.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(x).unwrap()] {
            for (name, algorithm) in [
                ("HS256", Algorithm::HS256),
                ("HS384", Algorithm::HS384),
                ("HS512", Algorithm::HS512),
            ] {
                let header = json!({ "alg": name, "typ": "at+jwt", "kid": kid });
                let token = signed(&header, &claims, &EncodingKey::from_secret(&secret), algorithm);
                valid.refuses(&token).await;
            }
        }
    }
    for stated in ["RS256", "PS256", "ES256", "ES512", "EdDSA ", "eddsa"] {
        valid.refuses(&valid.with_header("alg", json!(stated))).await;
    }
}

#[tokio::test]
async fn a_key_that_is_not_ours_is_refused_whatever_the_header_says() {
    let valid = Valid::new().await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let theirs = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
    });
    let claims = valid.claims.to_string();
    let mut headers = vec![valid.header.clone()];
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/chain")),
        ("x5c", json!(["MIIB"])),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("' or '1'='1")),
        ("kid", json!("")),
        ("kid", Value::Null),
        ("kid", json!(7)),
        ("kid", json!(Uuid::nil())),
        ("kid", json!(Uuid::now_v7())),
    ] {
        let mut header = valid.header.clone();
        header[name] = value;
        headers.push(header);
    }
    for header in &headers {
        valid.refuses(&signed(header, &claims, &theirs, Algorithm::EdDSA)).await;
    }
    // Nor is any of these accepted with a good signature: we make none.
    for header in &headers[1..] {
        valid.refuses(&valid.sign(header, &valid.claims)).await;
    }
}

#[tokio::test]
async fn headers_that_we_never_make_are_refused() {
    let valid = Valid::new().await;
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        // An ID token, a refresh token or anything else that the same key may sign one day.
        ("typ", json!("JWT")),
        ("typ", json!("id+jwt")),
        ("typ", json!("AT+JWT")),
        ("typ", Value::Null),
        ("kid", json!(valid.header["kid"].as_str().unwrap().to_uppercase())),
        ("kid", json!(valid.header["kid"].as_str().unwrap().replace('-', ""))),
    ] {
        valid.refuses(&valid.with_header(name, value)).await;
    }
}

#[tokio::test]
async fn an_issuer_or_audience_that_is_not_ours_is_refused() {
    let valid = Valid::new().await;
    for (name, value) in [
        ("iss", json!("https://tenantry.test/")),
        ("iss", json!("https://evil.test")),
        ("iss", json!([ISSUER])),
        ("iss", json!("")),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([AUDIENCE])),
        ("aud", json!(["other", AUDIENCE])),
        ("aud", json!("")),
        ("aud", Value::Null),
    ] {
        valid.refuses(&valid.with_claim(name, value)).await;
    }
    for name in ["iss", "aud"] {
        valid.refuses(&valid.without_claim(name)).await;
    }
}

#[tokio::test]
async fn times_that_are_missing_mistyped_or_impossible_are_refused() {
    let valid = Valid::new().await;
    let now = chrono::Utc::now().timestamp();
    for (name, value) in [
        ("exp", json!(now - 60)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!(i64::MIN)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(9_223_372_036_854_775_808_u64)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(1e300)),
        ("exp", json!(now as f64 + 300.5)),
        ("exp", json!(now as f64 + 300.0)),
        ("exp", json!((now + 300).to_string())),
        ("exp", json!([now + 300])),
        ("exp", json!(true)),
        ("exp", Value::Null),
        // Longer than any of ours lives.
        ("exp", json!(now + 90_000)),
        ("nbf", json!(now + 300)),
        ("nbf", json!(now.to_string())),
        ("nbf", json!(now as f64)),
        ("nbf", Value::Null),
        ("iat", json!(now + 300)),
        ("iat", json!(-1)),
        ("iat", json!(i64::MIN)),
        ("iat", Value::Null),
    ] {
        valid.refuses(&valid.with_claim(name, value)).await;
    }
    for name in ["exp", "nbf", "iat"] {
        valid.refuses(&valid.without_claim(name)).await;
    }
    valid.accepts(&valid.with_claim("exp", json!(now + 300))).await;
}

#[tokio::test]
async fn claims_that_are_missing_or_stand_twice_are_refused() {
    let valid = Valid::new().await;
    for name in ["sub", "sid", "jti"] {
        valid.refuses(&valid.without_claim(name)).await;
        valid.refuses(&valid.with_claim(name, json!("x"))).await;
        valid.refuses(&valid.with_claim(name, json!(7))).await;
    }
    // An account or log-in that does not exist.
    valid.refuses(&valid.with_claim("sub", json!(Uuid::now_v7()))).await;
    valid.refuses(&valid.with_claim("sid", json!(Uuid::now_v7()))).await;
    valid.refuses(&valid.with_claim("tenant", json!("acme"))).await;
    valid.refuses(&valid.with_claim("role", json!("root"))).await;

    let text = valid.claims.to_string();
    let twice = |extra: &str| format!("{{{extra},{}", &text[1..]);
    for extra in [
        format!("\"tenant\":\"{}\"", Uuid::now_v7()),
        "\"exp\":1".to_owned(),
        "\"aud\":\"other\"".to_owned(),
        "\"sub\":null".to_owned(),
    ] {
        let token = signed(&valid.header, &twice(&extra), &valid.key, Algorithm::EdDSA);
        valid.refuses(&token).await;
    }
}

#[tokio::test]
async fn a_token_that_was_bent_is_refused() {
    let valid = Valid::new().await;
    let parts: Vec<_> = valid.token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!()
    };
    let mut admin = valid.claims.clone();
    admin["role"] = json!("owner");
    let other_claims = URL_SAFE_NO_PAD.encode(admin.to_string());
    for bent in [
        format!("{header}.{other_claims}.{signature}"),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{}.", valid.token),
        format!(".{}", valid.token),
        format!("{}.{signature}", valid.token),
        format!("{}=", valid.token),
        // Five parts are an encrypted token.
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
        "eyJ".to_owned(),
        "a".repeat(8193),
        format!("{header}.{}.{signature}", "A".repeat(1_000_000)),
    ] {
        valid.refuses(&bent).await;
    }
    // Each character counts, also the last one's unused bits.
    for position in (0..valid.token.len()).step_by(7).chain([valid.token.len() - 1]) {
        let mut bent = valid.token.clone().into_bytes();
        bent[position] = if bent[position] == b'A' { b'B' } else { b'A' };
        valid.refuses(&String::from_utf8(bent).unwrap()).await;
    }
}

#[tokio::test]
async fn rights_come_from_the_membership_and_never_from_the_token() {
    let valid = Valid::new().await;
    let token = valid.with_claim("role", json!("owner"));
    let (_, role) = bearer(&token).opens(&valid.resolver).await.unwrap();
    assert_eq!(role, Role::Member);
    let other = valid.fixture.tenant("globex").await;
    let token = valid.with_claim("tenant", json!(other));
    assert_eq!(
        bearer(&token).opens(&valid.resolver).await,
        Err(ResolveError::Forbidden)
    );
}

#[tokio::test]
async fn after_a_rotation_old_tokens_hold_and_a_retired_key_signs_nothing_new() {
    let valid = Valid::new().await;
    let ops = &valid.fixture.ops;
    ops.rotate_signing_keys(&super::support::system()).await.unwrap();
    let new = valid.fixture.token("ann@example.com", None).await;
    valid.accepts(&new).await;
    valid.accepts(&valid.token).await;
    let fresh = valid.fixture.resolver().await;
    assert!(
        bearer(&valid.token).opens(&fresh).await.is_ok(),
        "also where it was never seen"
    );

    // Somebody stole the old key before it was destroyed.
    let now = chrono::Utc::now().timestamp();
    valid
        .fixture
        .run("update signing_key set retired_at = now() - interval '1 minute' where state = 'retired'")
        .await;
    let resolver = valid.fixture.resolver().await;
    let mut claims = valid.claims.clone();
    claims["iat"] = json!(now);
    let stolen = valid.sign(&valid.header, &claims);
    assert_eq!(bearer(&stolen).opens(&resolver).await, Err(ResolveError::BadToken));
}
