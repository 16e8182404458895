//! Log-in, tokens, and what ends them.

use serde_json::{Value, json};

use crate::harness::{App, PASSWORD};

#[tokio::test]
async fn logging_in_gives_tokens_for_the_only_tenant() {
    let app = App::start().await;
    for tenant in &app.tenants {
        let tokens = app.log_in(&tenant.email, PASSWORD, None).await.expect(200);
        assert_eq!(tokens["token_type"], "Bearer");
        assert_eq!(tokens["tenant"]["id"], tenant.id);
        assert_eq!(tokens["memberships"].as_array().unwrap().len(), 1);
        assert!(tokens["expires_in"].as_u64().unwrap() > 0);
        let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
        let me = client.get("/v1/auth/me").await.expect(200);
        assert_eq!(
            (&me["email"], &me["tenant"]["role"]),
            (&json!(tenant.email), &json!("owner"))
        );
        client.get("/app/contacts").await.expect(200);
    }
}

#[tokio::test]
async fn whoever_does_not_exist_is_refused_like_a_wrong_password() {
    let app = App::start().await;
    let email = &app.tenants[0].email;
    let wrong = app
        .log_in(email, "not the password", None)
        .await
        .refused(401, "bad-credentials");
    let nobody = app
        .log_in("nobody@example.com", "not the password", None)
        .await
        .refused(401, "bad-credentials");
    let no_email = app
        .log_in("nonsense", "not the password", None)
        .await
        .refused(401, "bad-credentials");
    assert_eq!(wrong["detail"], nobody["detail"]);
    assert_eq!(wrong["detail"], no_email["detail"]);
    app.log_in(email, PASSWORD, Some(&app.tenants[1].slug))
        .await
        .refused(403, "forbidden");
    app.log_in(email, PASSWORD, Some("no-such-tenant"))
        .await
        .refused(403, "forbidden");
}

#[tokio::test]
async fn what_is_no_valid_credential_is_refused() {
    let app = App::small().await;
    let tokens = app.log_in(&app.tenants[0].email, PASSWORD, None).await.expect(200);
    let token = tokens["access_token"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
    let flipped: String = signature.chars().rev().collect();
    for bad in [
        "x",
        "tno_0000",
        &format!("tno_{}", "0".repeat(64)),
        &format!("tna_{}", "0".repeat(64)),
        tokens["refresh_token"].as_str().unwrap(),
        &format!("{none}.{claims}."),
        &format!("{none}.{claims}.{signature}"),
        &format!("{header}.{claims}.{flipped}"),
        &format!("{header}.{claims}"),
        &format!("{token}x"),
        &"a".repeat(8_000),
    ] {
        let client = app.anonymous.bearer(bad);
        for path in ["/app/contacts", "/v1/tenants", "/v1/auth/me"] {
            client.get(path).await.refused(401, "bad-token");
        }
    }
    let basic = app.anonymous.with("authorization", "Basic eDp5");
    assert_eq!(basic.get("/app/contacts").await.status, 401);
    let twice = app.anonymous.get("/app/contacts").await;
    assert_eq!(twice.headers["www-authenticate"], "Bearer");
    twice.refused(401, "unauthenticated");
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_stolen_one_ends_the_log_in() {
    let app = App::small().await;
    let first = app.log_in(&app.tenants[0].email, PASSWORD, None).await.expect(200);
    let refresh = async |token: &Value| {
        app.anonymous
            .post("/v1/auth/refresh", json!({ "refresh_token": token }))
            .await
    };
    let second = refresh(&first["refresh_token"]).await.expect(200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let client = app.anonymous.bearer(second["access_token"].as_str().unwrap());
    client.get("/app/contacts").await.expect(200);

    refresh(&first["refresh_token"]).await.refused(401, "bad-token");
    refresh(&second["refresh_token"]).await.refused(401, "bad-token");
    app.within_a_second(async || client.get("/app/contacts").await.status == 401)
        .await;
    refresh(&json!("nonsense")).await.refused(401, "bad-token");
}

#[tokio::test]
async fn logging_out_ends_the_tokens() {
    let app = App::small().await;
    let tokens = app.log_in(&app.tenants[0].email, PASSWORD, None).await.expect(200);
    let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
    client.post("/v1/auth/logout", json!({})).await.expect(204);
    app.within_a_second(async || client.get("/app/contacts").await.status == 401)
        .await;
    client.get("/v1/auth/me").await.refused(401, "bad-token");
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    app.anonymous
        .post("/v1/auth/refresh", body)
        .await
        .refused(401, "bad-token");
}

#[tokio::test]
async fn the_own_password_can_be_changed() {
    const NEW: &str = "a quite new password";
    let app = App::small().await;
    let email = &app.tenants[0].email;
    let tokens = app.log_in(email, PASSWORD, None).await.expect(200);
    let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
    let change = async |old: &str, new: &str| {
        let body = json!({ "password": old, "new_password": new });
        client.post("/v1/auth/password", body).await
    };
    change("not the password", NEW).await.refused(401, "bad-credentials");
    for bad in ["short", "password1", email, &"x".repeat(129)] {
        let pointers = change(PASSWORD, bad).await.refused_fields(422, "invalid-field");
        assert_eq!(pointers, ["/new_password"], "{bad}");
    }
    change(PASSWORD, NEW).await.expect(204);
    app.log_in(email, PASSWORD, None).await.refused(401, "bad-credentials");
    app.log_in(email, NEW, None).await.expect(200);
    // The log-in that changed it goes on, every other one has ended.
    client.get("/v1/auth/me").await.expect(200);
    app.tenants[0].client.get("/v1/auth/me").await.refused(401, "bad-token");
}

#[tokio::test]
async fn an_operator_offers_a_new_password_that_only_its_person_learns() {
    const NEW: &str = "a quite new password";
    let app = App::small().await;
    let owner = &app.tenants[0];
    let tokens = app.log_in(&owner.email, PASSWORD, None).await.expect(200);
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let offer = async || {
        let body = json!({ "email": owner.email });
        let made = app.operator.post("/v1/password-resets", body).await.expect(201);
        assert_eq!(made["account_id"], owner.account);
        made["token"].as_str().unwrap().to_owned()
    };
    let reset = async |token: &str, password: &str| {
        let body = json!({ "token": token, "new_password": password });
        app.anonymous.post("/v1/auth/reset-password", body).await
    };
    let replaced = offer().await;
    let token = offer().await;
    // From the offer on, the old password and every log-in are worth nothing.
    app.log_in(&owner.email, PASSWORD, None)
        .await
        .refused(401, "bad-credentials");
    app.within_a_second(async || owner.client.get("/v1/auth/me").await.status == 401)
        .await;
    app.anonymous
        .post("/v1/auth/refresh", refresh)
        .await
        .refused(401, "bad-token");
    // A token is no credential, a later one replaces it, and a bad password uses nothing up.
    let bearer = app.anonymous.bearer(&token);
    bearer.get("/v1/auth/me").await.refused(401, "bad-token");
    for bad in [
        replaced.as_str(),
        "x",
        "",
        &format!("tnp_{}", "0".repeat(64)),
        &token.to_uppercase(),
    ] {
        reset(bad, NEW).await.refused(401, "bad-token");
    }
    for bad in ["short", "password1", &owner.email] {
        let pointers = reset(&token, bad).await.refused_fields(422, "invalid-field");
        assert_eq!(pointers, ["/new_password"], "{bad}");
    }
    // Of many at once, one counts.
    let (one, two) = tokio::join!(reset(&token, NEW), reset(&token, NEW));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401]);
    reset(&token, "another new password").await.refused(401, "bad-token");
    let tokens = app.log_in(&owner.email, NEW, None).await.expect(200);
    assert_eq!(tokens["tenant"]["id"], owner.id);
    // Who is not there is told to operators, and nobody else may ask.
    let nobody = json!({ "email": "nobody@example.com" });
    app.operator
        .post("/v1/password-resets", nobody)
        .await
        .refused(404, "not-found");
    let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
    let own = json!({ "email": owner.email });
    client.post("/v1/password-resets", own).await.refused(403, "forbidden");
    // One that has expired sets nothing.
    let late = offer().await;
    app.in_catalog("update password_reset set expires_at = now() - interval '1 second'")
        .await;
    reset(&late, NEW).await.refused(401, "bad-token");
}

#[tokio::test]
async fn a_person_of_two_tenants_accepts_chooses_and_switches() {
    let app = App::start().await;
    let (home, other, third) = (&app.tenants[0], &app.tenants[1], &app.tenants[2]);
    let members = format!("/v1/tenants/{}/members", other.id);
    let invited = json!({ "email": home.email, "role": "member", "password": "another password 7", "name": "Not me" });
    let member = other.client.post(&members, invited.clone()).await.expect(201);
    assert_eq!(member["status"], "invited");
    other
        .client
        .post(&members, invited)
        .await
        .refused(409, "already-member");

    // Invited, not accepted: opens nothing.
    let switch = json!({ "tenant": other.slug });
    home.client
        .post("/v1/auth/switch", switch.clone())
        .await
        .refused(403, "forbidden");
    home.client
        .post("/v1/auth/accept", json!({ "tenant": third.slug }))
        .await
        .refused(404, "not-found");
    let place = home.client.post("/v1/auth/accept", switch.clone()).await.expect(200);
    assert_eq!(
        (&place["slug"], &place["status"], &place["role"]),
        (&json!(other.slug), &json!("active"), &json!("member"))
    );

    // The password that the inviter wrote is ignored.
    app.log_in(&home.email, "another password 7", None)
        .await
        .refused(401, "bad-credentials");
    let tokens = app.log_in(&home.email, PASSWORD, None).await.expect(200);
    assert_eq!(
        (&tokens["tenant"], tokens["memberships"].as_array().unwrap().len()),
        (&Value::Null, 2)
    );
    let open = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
    open.get("/v1/auth/me").await.expect(200);
    open.get("/app/contacts").await.refused(400, "tenant-unresolved");
    open.with("x-tenant-id", &other.slug)
        .post("/app/contacts", json!({ "name": "by header" }))
        .await
        .expect(201);
    let stranger = open.with("x-tenant-id", &third.slug).get("/app/contacts").await;
    assert_eq!(stranger.status, 403, "{}", stranger.text);

    let switched = open.post("/v1/auth/switch", switch).await.expect(200);
    assert_eq!(switched["tenant"]["id"], other.id);
    let switched = app.anonymous.bearer(switched["access_token"].as_str().unwrap());
    let seen = switched.get("/app/contacts").await.expect(200);
    assert_eq!(seen["items"][0]["name"], "by header");
    switched
        .with("x-tenant-id", &home.slug)
        .get("/app/contacts")
        .await
        .refused(403, "tenant-mismatch");
    let named = app.log_in(&home.email, PASSWORD, Some(&home.slug)).await.expect(200);
    assert_eq!(named["tenant"]["slug"], home.slug);
}

#[tokio::test]
async fn suspension_bites_within_a_second_and_resume_opens_again() {
    let app = App::start().await;
    for tenant in &app.tenants {
        tenant
            .client
            .post("/app/contacts", json!({ "name": "kept" }))
            .await
            .expect(201);
        app.operator
            .post(&format!("/v1/tenants/{}/suspend", tenant.id), json!({}))
            .await
            .expect(200);
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 403)
            .await;
        tenant
            .client
            .get("/app/contacts")
            .await
            .refused(403, "tenant-suspended");
        tenant
            .client
            .post("/app/contacts", json!({ "name": "x" }))
            .await
            .refused(403, "tenant-suspended");
        app.log_in(&tenant.email, PASSWORD, Some(&tenant.slug))
            .await
            .refused(403, "tenant-suspended");
        app.operator
            .post(&format!("/v1/tenants/{}/resume", tenant.id), json!({}))
            .await
            .expect(200);
        app.within_a_second(async || tenant.client.get("/app/contacts").await.status == 200)
            .await;
        let list = tenant.client.get("/app/contacts").await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_end_of_a_membership_bites_within_a_second() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let member = app.member(tenant, "member").await;
    member.post("/app/contacts", json!({ "name": "x" })).await.expect(201);
    let account = member.get("/v1/auth/me").await.expect(200)["account_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/tenants/{}/members/{account}", tenant.id);
    tenant
        .client
        .patch(&path, json!({ "role": "viewer" }))
        .await
        .expect(200);
    app.within_a_second(async || member.post("/app/contacts", json!({ "name": "y" })).await.status == 403)
        .await;
    tenant.client.delete(&path).await.expect(204);
    app.within_a_second(async || member.get("/app/contacts").await.status == 403)
        .await;
    member.get("/app/contacts").await.refused(403, "forbidden");
}

#[tokio::test]
async fn too_many_failed_log_ins_are_slowed_down() {
    let app = App::start_with(|options| options.login_failures_max = 3).await;
    let email = &app.tenants[0].email;
    for _ in 0..3 {
        app.log_in(email, "wrong password", None)
            .await
            .refused(401, "bad-credentials");
    }
    app.log_in(email, "wrong password", None)
        .await
        .refused(429, "rate-limited");
    app.log_in(email, PASSWORD, None).await.refused(429, "rate-limited");
}

#[tokio::test]
async fn published_keys_hold_nothing_secret() {
    let app = App::small().await;
    let keys = app.anonymous.get("/.well-known/jwks.json").await.expect(200);
    let keys = keys["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert!(key.get("d").is_none());
    }
}

#[tokio::test]
async fn a_token_of_another_installation_opens_nothing() {
    let (app, foreign) = tokio::join!(App::start(), App::start());
    let tokens = foreign
        .log_in(&foreign.tenants[0].email, PASSWORD, None)
        .await
        .expect(200);
    let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
    // Issuer, audience, slugs and e-mails are the same; only the keys differ.
    client.get("/app/contacts").await.refused(401, "bad-token");
    client.get("/v1/auth/me").await.refused(401, "bad-token");
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    app.anonymous
        .post("/v1/auth/refresh", refresh)
        .await
        .refused(401, "bad-token");
}

#[tokio::test]
async fn a_change_counts_from_the_next_request_on() {
    let app = App::small().await;
    let tenant = &app.tenants[0];
    let member = app.member(tenant, "viewer").await;
    let account = member.get("/v1/auth/me").await.expect(200)["account_id"].clone();
    let path = format!("/v1/tenants/{}/members/{}", tenant.id, account.as_str().unwrap());
    for _ in 0..10 {
        app.operator.patch(&path, json!({ "role": "member" })).await.expect(200);
        member.post("/app/contacts", json!({ "name": "x" })).await.expect(201);
        app.operator.patch(&path, json!({ "role": "viewer" })).await.expect(200);
        member
            .post("/app/contacts", json!({ "name": "x" }))
            .await
            .refused(403, "forbidden");
    }
    for _ in 0..3 {
        let tenant_path = format!("/v1/tenants/{}", tenant.id);
        app.operator
            .post(&format!("{tenant_path}/suspend"), json!({}))
            .await
            .expect(200);
        member.get("/app/contacts").await.refused(403, "tenant-suspended");
        app.operator
            .post(&format!("{tenant_path}/resume"), json!({}))
            .await
            .expect(200);
        member.get("/app/contacts").await.expect(200);
    }
}

#[tokio::test]
async fn logging_in_on_the_host_of_a_tenant_of_ones_own_opens_that_tenant() {
    let app = App::start_with(|options| options.isolations = &["shared", "schema"]).await;
    let (first, second) = (&app.tenants[0], &app.tenants[1]);
    let log_in = async |host: &str, body: Value| {
        app.anonymous
            .with("host", &format!("{host}.example.com"))
            .post("/v1/auth/login", body)
            .await
    };
    let body = |email: &str| json!({ "email": email, "password": PASSWORD });
    let named = |tokens: &Value| tokens["tenant"]["slug"].clone();

    // No member, or only invited: the host says nothing, whether or not there is such a tenant.
    let members = format!("/v1/tenants/{}/members", second.id);
    app.operator
        .post(&members, json!({ "email": first.email, "role": "viewer" }))
        .await
        .expect(201);
    for (host, email, own) in [
        (&second.slug, &first.email, &first.slug),
        (&first.slug, &second.email, &second.slug),
        (&"no-such-tenant".to_owned(), &second.email, &second.slug),
    ] {
        let tokens = log_in(host, body(email)).await.expect(200);
        assert_eq!(named(&tokens), **own, "{email} on {host}");
    }
    let wrong = json!({ "email": first.email, "password": "not the password" });
    let here = log_in(&second.slug, wrong.clone())
        .await
        .refused(401, "bad-credentials");
    let nowhere = log_in("no-such-tenant", wrong).await.refused(401, "bad-credentials");
    assert_eq!(here["detail"], nowhere["detail"]);

    first
        .client
        .post("/v1/auth/accept", json!({ "tenant": second.slug }))
        .await
        .expect(200);
    for tenant in [first, second] {
        let tokens = log_in(&tenant.slug, body(&first.email)).await.expect(200);
        assert_eq!(named(&tokens), tenant.slug);
        let client = app.anonymous.bearer(tokens["access_token"].as_str().unwrap());
        client
            .with("host", &format!("{}.example.com", tenant.slug))
            .get("/app/contacts")
            .await
            .expect(200);
    }
    let nowhere = log_in("no-such-tenant", body(&first.email)).await.expect(200);
    assert_eq!(nowhere["tenant"], Value::Null);
    // What the log-in says itself counts more.
    let mut said = body(&first.email);
    said["tenant"] = json!(first.slug);
    assert_eq!(named(&log_in(&second.slug, said).await.expect(200)), first.slug);
}
